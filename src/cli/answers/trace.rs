use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{LeftOutEntry, NamedBase};
use crate::behaviour::expectation::Share;
use crate::numeric::Mean;
use crate::research::layers::coarse_search::Round;
use crate::research::trace::Noise;

/// The JSON that `trace --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct TraceAnswer<'a> {
    /// The folder to which the figures were written; null without `--out`.
    pub out: Option<String>,
    #[serde(flatten)]
    pub numbers: TraceNumbers<'a>,
}

/// The settings and the measured effects of `trace`. They are also written to `trace.json` in the folder of `--out`, if
/// that option is set.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct TraceNumbers<'a> {
    /// The name and the digest of the traced model.
    pub base: NamedBase,
    /// The noise that is added to the embeddings of the subject's tokens.
    pub noise: NoiseUsed,
    /// The number of consecutive layers whose MLP or attention outputs are restored together.
    pub window: usize,
    /// The noise of the runs in which MLP or attention outputs are fixed at the values of a corrupted run (a run with
    /// noise). `same` is the noise of that corrupted run, and `next` is the next noise of the random stream.
    pub severed_noise: &'static str,
    /// The mean effects of noise and of restored hidden states, over all traced facts.
    pub effects: MeanEffects<'a>,
    /// The traced facts, with the probabilities of their answers.
    pub facts: Vec<TracedFact<'a>>,
    /// The facts that were not traced, each with the reason.
    pub left_out: Vec<LeftOutEntry<'a>>,
}

/// The noise that is added to the embeddings of the subject's tokens.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct NoiseUsed {
    /// The rule for the distribution and the strength of the noise, for example `s3` (normal, 3 standard deviations of
    /// the subjects' embeddings), `0.1` (normal, standard deviation 0.1) or `u0.2` (uniform between -0.2 and 0.2).
    pub rule: String,
    /// The scale of the noise: the standard deviation of normal noise, or the largest absolute value of uniform noise.
    pub scale: f64,
    /// The number of noise samples per subject.
    pub samples: usize,
    /// The seed of the random number generator that draws the noise.
    pub seed: u32,
}

impl From<&Noise> for NoiseUsed {
    fn from(noise: &Noise) -> Self {
        Self { rule: noise.rule.to_string(), scale: noise.scale, samples: noise.samples, seed: noise.seed }
    }
}

/// Mean effects of noise and of restored hidden states on the probability of the answer, over all traced facts.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct MeanEffects<'a> {
    /// The number of facts over which the effects are averaged.
    pub facts: usize,
    /// The mean probability of the answer without noise.
    pub clean: Mean,
    /// The mean probability of the answer with noise on the subject.
    pub corrupted: Mean,
    /// The mean total effect: the probability of the answer without noise minus its probability with noise.
    pub total: Mean,
    /// The mean indirect effects: the probability of the answer with a hidden state restored minus its probability with
    /// noise only.
    pub indirect: Vec<IndirectEffect<'a>>,
}

/// The mean indirect effects of restoring one kind of hidden state at one class of tokens.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct IndirectEffect<'a> {
    /// The restored hidden state, such as the residual stream after one layer or the MLP outputs of a window of layers.
    pub kind: &'static str,
    /// The class of the tokens at which the hidden state is restored, such as the subject's last token.
    pub token: String,
    /// The mean effect of restoring the hidden state at each layer, from layer 0.
    pub layers: &'a [Mean],
}

/// A fact that was traced, with the probabilities of its answer.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct TracedFact<'a> {
    /// The id of the edit or of the record in the file of `--facts`; `prompt` for the prompt of `--prompt`.
    pub id: &'a str,
    /// The prompt, with its subject filled in.
    pub prompt: &'a str,
    /// The subject, as it is written in the prompt.
    pub subject: &'a str,
    /// The tokens of the prompt, in order.
    pub tokens: &'a [String],
    /// The range of the subject's tokens in `tokens`: the position of the first one, and the position after the last
    /// one.
    pub subject_tokens: [usize; 2],
    /// The first token of the answer. All probabilities of the fact are probabilities of this token.
    pub answer: &'a str,
    /// The number of tokens of the whole answer; null if the fact states no answer.
    pub answer_tokens: Option<usize>,
    /// The probability of the answer's first token without noise.
    pub clean: f64,
    /// The probability of the answer's first token with noise on the subject.
    pub corrupted: f64,
    /// The probability of the answer's first token with one hidden state restored, by the kind of hidden state. Each
    /// kind has one list per token of the prompt, with one number per layer.
    pub restored: BTreeMap<&'static str, &'a [Vec<f64>]>,
}

/// The JSON that `trace --suggest-layer --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct LayerSearchAnswer<'a> {
    /// The name and the digest of the traced model.
    pub base: NamedBase,
    /// The ids of the edits that were built and tested at each layer.
    pub edits: &'a [String],
    /// The index of the layer with the highest score, from 0; null if the model gives the target of no edit at any layer.
    pub suggested: Option<usize>,
    /// The other layers whose scores are not significantly lower than that of `suggested`: the 95 % confidence interval
    /// of the difference includes zero.
    pub as_good: &'a [usize],
    /// The results of causal tracing on the facts that the edits in `edits` replace.
    pub traced: TraceSummary<'a>,
    /// The results of the edits at each layer that was tried, in ascending order of layers.
    pub layers: Vec<TriedLayer>,
    /// The rounds of the search for the best layer, in order. With `--layers`, there is only one round.
    pub rounds: Vec<SearchRound<'a>>,
}

/// The means of causal tracing over the facts whose edits were tried.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct TraceSummary<'a> {
    /// The number of facts that were traced.
    pub facts: usize,
    /// The mean total effect: the probability of the answer without noise minus its probability with noise.
    pub total: Mean,
    /// The number of consecutive layers whose MLP or attention outputs are restored together.
    pub window: usize,
    /// The noise that is added to the embeddings of the subject's tokens.
    pub noise: NoiseUsed,
    /// The facts that were not traced, each with the reason.
    pub left_out: Vec<LeftOutEntry<'a>>,
}

/// The results of edits at one layer. Each edit is built and tested alone.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct TriedLayer {
    /// The index of the layer, from 0.
    pub layer: usize,
    /// The share of edit prompts to which the edited model gives the target. Each edit has one such prompt for the
    /// subject's own name, and one for each alias.
    pub efficacy: Share,
    /// The share of paraphrased prompts to which the edited model gives the target.
    pub paraphrase: Share,
    /// The share of `unchanged` prompts whose answer stays the same.
    pub unchanged: Share,
    /// The score of the layer, from 0 to 1: the harmonic mean of `efficacy`, `paraphrase` and `unchanged`. A share is
    /// left out of the mean if the edits have no prompts of its kind.
    pub score: f64,
    /// The number of edits for which the optimisation found no MLP value at this layer. Their prompts and paraphrases
    /// count as failed, and their `unchanged` prompts are not counted.
    pub not_found: usize,
    /// The number of edits in `not_found` that were not tried, because the optimisation found no MLP value for any of
    /// the first eight edits.
    pub untried: usize,
    /// The mean indirect effects at the subject's last token, for the window of layers around this layer.
    pub traced: LayerEffects,
}

/// The mean indirect effects of restoring the outputs of a window of layers around one layer, at the subject's last
/// token.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct LayerEffects {
    /// The mean indirect effect of restoring the MLP outputs; null if it was not measured.
    pub mlp: Option<Mean>,
    /// The mean indirect effect of restoring the attention outputs; null if it was not measured.
    pub attention: Option<Mean>,
}

/// A round of the search for the best layer, which tries several layers.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct SearchRound<'a> {
    /// The indices of the layers that the round tried.
    pub layers: &'a [usize],
    /// The best layers of the earlier rounds; this round chose its layers around them. The list is empty in the first
    /// round, and also in later rounds until an edit holds at some layer.
    pub around: &'a [usize],
}

impl<'a> From<&'a Round> for SearchRound<'a> {
    fn from(round: &'a Round) -> Self {
        Self { layers: &round.layers, around: &round.around }
    }
}
