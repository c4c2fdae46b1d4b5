//! Implements fine-tuning as an editing method (FT and FT+L in Meng et al. 2022). FT trains the MLP down-projection of
//! one layer, with its bias, to predict the new answer after the prompt. Training stops when the mean loss is below
//! 0.01 nats. FT+L also limits the change of each weight (Zhu et al. 2020).
//!
//! The published code scores every token of an answer with the prediction for the first token after the prompt. The
//! result is not the likelihood of the answer if the answer has several tokens. [`AnswerLoss::AfterPrompt`] selects
//! this behaviour.
//!
//! LocFT-BF (Yang et al. 2026, ICLR) is breadth-first fine-tuning as in ordinary training: shuffled mini-batches over
//! all facts, only the matrix of the down-projection, and answers that end with the model's end token. Its layer comes
//! from a sweep per model; the published layers are 22 for Llama 3 8B and 6 for Qwen2.5 7B. Here the default is the
//! layer of the project. For Mistral 7B, the publication trains a whole block at rate 5e-5; here it is one matrix.

use super::{EditError, Edited, Editor, refused};
use crate::compile::optimiser::Adam;
use crate::model::Model;
use crate::model::run::weight_pass::{LayerGradient, WeightPass};
use crate::numeric::random::NumpyRandomState;
use crate::numeric::rows::softmax;
use crate::numeric::{View, matmul};
use crate::progress::Progress;
use crate::research::bench::eval_context::{EvalContext, PreparedCase};
use crate::safetensors::Layout;

/// The learning rate of Adam in the published code.
pub(crate) const RATE: f64 = 5e-4;
/// The published limits of FT+L on the absolute change of a weight, by the number of layers of the model: 48 for GPT-2
/// XL, 36 for GPT-2 large.
const BOUNDS: [(usize, f64); 2] = [(48, 5e-4), (36, 1e-3)];
/// The limit of FT+L on the absolute change of a weight, for all models except GPT-J and the models in [`BOUNDS`].
const SMALL: f64 = 2e-3;
/// The published limit of FT+L on the absolute change of a weight of GPT-J.
const GPT_J: f64 = 5e-5;
/// The maximum number of passes over the facts. Training stops earlier if the mean loss is below [`ENOUGH`].
const EPOCHS: usize = 25;
/// The maximum number of facts per step of the optimiser in the ROME paper's FT.
const BATCH: usize = 128;
/// The maximum number of facts per step of the optimiser in LocFT-BF.
const BREADTH_FIRST_BATCH: usize = 100;
/// The seed of the order of the facts. The published code of LocFT-BF sets no seed.
const SEED: u32 = 1;
/// The mean loss of one pass over the facts, in nats, below which training stops.
const ENOUGH: f64 = 1e-2;

pub(crate) const NO_END: &str =
    "ft-bf: config.json of the model has no usable `eos_token_id`, but this method trains answers with an end token";

pub(crate) struct FineTuning {
    /// The learning rate of the Adam optimiser. The published code uses [`RATE`].
    pub rate: f64,
    /// The maximum number of passes over the facts.
    pub epochs: usize,
    /// The maximum number of facts per step of the optimiser.
    pub batch: usize,
    /// Whether the facts are in a new random order in every pass. The order matters only if there are several batches.
    pub shuffled: bool,
    /// Whether the bias of the down-projection is trained too.
    pub bias: bool,
    /// The layer to fine-tune; `None` means the layer in the project's settings.
    pub layer: Option<usize>,
    pub bound: Bound,
    pub loss: AnswerLoss,
}

/// The tokens that are scored, and the predictions that they are scored with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerLoss {
    /// Every token of the answer with the prediction for the first token after the prompt, as in the published code of
    /// FT.
    AfterPrompt,
    /// Every token of the answer with the prediction after the prompt and the earlier tokens of the answer.
    Answer,
    /// As [`AnswerLoss::Answer`], with the model's end token as the last token of the answer.
    AnswerWithEnd,
}

/// The limit on the difference between a weight and its original value.
pub(crate) enum Bound {
    /// No limit, as in plain fine-tuning (FT).
    None,
    /// The maximum absolute difference between a weight and its original value (FT+L). `None` means the published limit
    /// for the model.
    Of(Option<f64>),
}

/// The trained parameters of one layer: their original values in `start`, and their current values in `now`. In both
/// vectors, the first `matrix` numbers are the down-projection matrix in the memory layout of the base model. The
/// remaining numbers are the bias, if it is trained.
struct TunedWeights {
    layer: usize,
    layout: Layout,
    matrix: usize,
    start: Vec<f64>,
    now: Vec<f64>,
}

impl Editor for FineTuning {
    fn edit(
        &self,
        context: &EvalContext<'_>,
        facts: &[&PreparedCase],
        progress: &dyn Progress,
    ) -> Result<Edited, EditError> {
        let layer = self.layer.unwrap_or(context.setup.layer);
        let answers = self.answers(context, facts)?;
        Ok(Edited::new(self.train(&context.model(), layer, &answers, progress), None))
    }
}

/// A prompt and its answer as token sequences.
struct PromptAnswer {
    prompt: Vec<u32>,
    /// The tokens of the answer, with the end token for [`AnswerLoss::AnswerWithEnd`].
    answer: Vec<u32>,
}

/// Puts the elements of `order` in a random order (Fisher-Yates).
fn shuffle(order: &mut [usize], random: &mut NumpyRandomState) {
    for index in (1..order.len()).rev() {
        order.swap(index, (random.double() * (index + 1) as f64) as usize);
    }
}

impl FineTuning {
    /// Returns FT as in the ROME paper, with answers that are scored by their likelihood.
    pub(super) fn rome() -> Self {
        Self {
            rate: RATE,
            epochs: EPOCHS,
            batch: BATCH,
            shuffled: false,
            bias: true,
            layer: None,
            bound: Bound::None,
            loss: AnswerLoss::Answer,
        }
    }

    /// Returns LocFT-BF with its published numbers.
    pub(super) fn breadth_first() -> Self {
        let batch = BREADTH_FIRST_BATCH;
        Self { batch, shuffled: true, bias: false, loss: AnswerLoss::AnswerWithEnd, ..Self::rome() }
    }

    /// Returns the prompts and the answers of `facts`.
    ///
    /// # Errors
    /// If the answers end with the end token, and the model has none or a fact with it is longer than the context.
    fn answers(&self, context: &EvalContext<'_>, facts: &[&PreparedCase]) -> Result<Vec<PromptAnswer>, EditError> {
        let end = match self.loss {
            AnswerLoss::AnswerWithEnd => {
                Some(context.base.tokens.end_token().ok_or_else(|| refused(NO_END.to_owned()))?)
            }
            _ => None,
        };
        let limit = context.base.model.spec().max_positions;
        let one = |stated: &&PreparedCase| {
            let prompt = stated.resolved.rows[0].ids.clone();
            let answer: Vec<u32> = stated.resolved.target.iter().copied().chain(end).collect();
            let length = prompt.len() + answer.len() - 1;
            if length > limit {
                let id = stated.case.id;
                let why =
                    format!("case {id} is {length} tokens long with its end token; the model's context is {limit}");
                return Err(EditError::Facts(why));
            }
            Ok(PromptAnswer { prompt, answer })
        };
        facts.iter().map(one).collect()
    }

    /// Trains the layer on the facts, and returns the changed model.
    fn train(&self, base: &Model, layer: usize, answers: &[PromptAnswer], progress: &dyn Progress) -> Model {
        let mut tuned = TunedWeights::new(base, layer, self.bias);
        let batches = |order: &[usize]| -> Vec<TrainingBatch> {
            order.chunks(self.batch).map(|some| self.training_batch(base, layer, answers, some)).collect()
        };
        let mut order: Vec<usize> = (0..answers.len()).collect();
        let mut random = Some(NumpyRandomState::new(SEED)).filter(|_| self.shuffled && answers.len() > self.batch);
        let mut current = batches(&order);
        let mut adam = Adam::new(tuned.now.len(), self.rate);
        for epoch in 0..self.epochs {
            if let Some(random) = &mut random {
                shuffle(&mut order, random);
                current = batches(&order);
            }
            let (mut total, mut count) = (0.0, 0);
            for batch in &current {
                let model = tuned.apply_to(base);
                let (loss, gradient) = batch.at(&model, &tuned);
                total += loss * batch.facts as f64;
                count += batch.facts;
                if loss >= ENOUGH {
                    adam.step(&mut tuned.now, &gradient);
                    self.limit_change(&mut tuned, base);
                }
            }
            let mean = total / count as f64;
            progress.line(&format!("epoch {}: loss {mean:.4}", epoch + 1));
            if mean < ENOUGH {
                break;
            }
        }
        tuned.apply_to(base)
    }

    /// Prepares the step of the optimiser on the facts with the indices `chosen` in `answers`.
    fn training_batch(&self, base: &Model, layer: usize, answers: &[PromptAnswer], chosen: &[usize]) -> TrainingBatch {
        let (mut rows, mut tails, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for &index in chosen {
            let PromptAnswer { prompt, answer } = &answers[index];
            let weight = 1.0 / (chosen.len() * answer.len()) as f64;
            if self.loss == AnswerLoss::AfterPrompt {
                rows.push(prompt.clone());
                tails.push(1);
                labels.push((answer.clone(), weight));
            } else {
                rows.push([&prompt[..], &answer[..answer.len() - 1]].concat());
                tails.push(answer.len());
                labels.extend(answer.iter().map(|label| (vec![*label], weight)));
            }
        }
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        TrainingBatch { facts: chosen.len(), upper: WeightPass::new(base, layer, &rows, &tails), labels }
    }

    fn limit_change(&self, tuned: &mut TunedWeights, base: &Model) {
        let Bound::Of(bound) = self.bound else { return };
        let spec = base.spec();
        let of_size = BOUNDS.iter().find(|(layers, _)| *layers == spec.layers).map_or(SMALL, |(_, size)| *size);
        let bound = bound.unwrap_or(if spec.family.model_type == "gptj" { GPT_J } else { of_size });
        for (now, start) in tuned.now.iter_mut().zip(&tuned.start) {
            *now = now.clamp(start - bound, start + bound);
        }
    }
}

impl TunedWeights {
    fn new(base: &Model, layer: usize, with_bias: bool) -> Self {
        let weight = base.checkpoint().edited(layer).to_f32();
        let bias = base.checkpoint().edited_bias(layer).filter(|_| with_bias);
        let bias = bias.map_or_else(Vec::new, |bias| bias.to_f32().into_owned());
        let start: Vec<f64> = weight.iter().chain(bias.iter()).map(|&x| f64::from(x)).collect();
        Self { layer, layout: base.spec().family.layout, matrix: weight.len(), now: start.clone(), start }
    }

    fn apply_to(&self, base: &Model) -> Model {
        let narrow = |part: &[f64]| part.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let model = base.with_edited(self.layer, narrow(&self.now[..self.matrix]));
        let bias = &self.now[self.matrix..];
        if bias.is_empty() { model } else { model.with_edited_bias(self.layer, narrow(bias)) }
    }
}

/// The facts of one optimiser step as token sequences, and the tokens that are scored at the last positions of each
/// sequence.
struct TrainingBatch {
    /// The number of facts.
    facts: usize,
    upper: WeightPass,
    /// For each scored position: the tokens that are scored with the logits at this position, and the weight of each
    /// token in the loss.
    labels: Vec<(Vec<u32>, f64)>,
}

impl TrainingBatch {
    /// Returns the mean loss over the facts and its gradient: first for the down-projection matrix, then for the bias.
    fn at(&self, model: &Model, tuned: &TunedWeights) -> (f64, Vec<f64>) {
        let spec = model.spec();
        let passed = self.upper.forward(model);
        let (mut gradient, mut loss) = (passed.logits.clone(), 0.0);
        for (row, (labels, weight)) in gradient.chunks_mut(spec.vocabulary).zip(&self.labels) {
            let logits: Vec<f64> = labels.iter().map(|label| f64::from(row[*label as usize])).collect();
            let log = softmax(row);
            let whole = (weight * labels.len() as f64) as f32;
            row.iter_mut().for_each(|x| *x *= whole);
            for (label, logit) in labels.iter().zip(logits) {
                loss += weight * (log - logit);
                row[*label as usize] -= *weight as f32;
            }
        }
        let mut out = Vec::new();
        self.upper.reverse(model, &passed, &gradient, |slopes| {
            if slopes.layer == tuned.layer {
                out = by_matrix(model, tuned, &slopes);
            }
        });
        (loss, out)
    }
}

/// Returns the gradient of the loss for the down-projection matrix, then for the bias. `K` has the inputs of the
/// down-projection, and `G` has the gradients of the loss at its outputs; both have one row per token. The gradient for
/// the matrix is `Kᵀ G`, in the memory layout of the base model. The gradient for the bias is the sum of the rows of
/// `G`.
fn by_matrix(model: &Model, tuned: &TunedWeights, slopes: &LayerGradient<'_>) -> Vec<f64> {
    let spec = model.spec();
    let positions = slopes.keys.len() / spec.intermediate_size;
    let keys = View::new(slopes.keys, positions, spec.intermediate_size);
    let gradient = View::new(slopes.gradient, positions, spec.hidden_size);
    let product = match tuned.layout {
        Layout::Conv1d => matmul(model.isa(), keys.transposed(), gradient),
        Layout::Linear => matmul(model.isa(), gradient.transposed(), keys),
    };
    let mut out: Vec<f64> = product.into_iter().map(f64::from).collect();
    if tuned.start.len() > tuned.matrix {
        let mut bias = vec![0.0; spec.hidden_size];
        for row in slopes.gradient.chunks(spec.hidden_size) {
            bias.iter_mut().zip(row).for_each(|(sum, g)| *sum += f64::from(*g));
        }
        out.extend(bias);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::NoProgress;
    use crate::research::hypernetworks::toy::toy_model;

    fn answers() -> Vec<PromptAnswer> {
        let one = |prompt: &[u32], answer: &[u32]| PromptAnswer { prompt: prompt.to_vec(), answer: answer.to_vec() };
        vec![one(&[3, 7, 1], &[9, 2, 0]), one(&[5, 2], &[8, 0]), one(&[1, 4, 10], &[2, 0])]
    }

    fn loss(model: &Model, settings: &FineTuning) -> f64 {
        let tuned = TunedWeights::new(model, 1, settings.bias);
        settings.training_batch(model, 1, &answers(), &[0, 1, 2]).at(model, &tuned).0
    }

    #[test]
    fn breadth_first_training_keeps_the_bias() {
        let base = toy_model();
        let all = FineTuning { rate: 0.02, epochs: 60, ..FineTuning::breadth_first() };
        let edited = all.train(&base, 1, &answers(), &NoProgress);
        assert!(loss(&edited, &all) < 0.8 * loss(&base, &all), "{} {}", loss(&edited, &all), loss(&base, &all));
        let bias = |of: &Model| of.checkpoint().edited_bias(1).expect("a bias").to_f32().into_owned();
        let matrix = |of: &Model| of.checkpoint().edited(0).to_f32().into_owned();
        assert_eq!(bias(&edited), bias(&base));
        assert_eq!(matrix(&edited), matrix(&base));
        let with_bias = FineTuning { bias: true, ..all }.train(&base, 1, &answers(), &NoProgress);
        assert_ne!(bias(&with_bias), bias(&base));
    }

    #[test]
    fn small_batches_are_shuffled_and_reproducible() {
        let base = toy_model();
        let trained = |shuffled| {
            let settings = FineTuning { rate: 0.02, batch: 1, shuffled, epochs: 3, ..FineTuning::breadth_first() };
            settings.train(&base, 1, &answers(), &NoProgress).checkpoint().edited(1).to_f32().into_owned()
        };
        assert_eq!(trained(true), trained(true));
        assert_ne!(trained(true), trained(false));
        let mut order: Vec<usize> = (0..9).collect();
        shuffle(&mut order, &mut NumpyRandomState::new(SEED));
        assert_ne!(order, (0..9).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..9).collect::<Vec<_>>());
    }

    #[test]
    fn every_fact_and_every_token_of_its_answer_count_alike() {
        let (base, all) = (toy_model(), FineTuning::breadth_first());
        let labels = all.training_batch(&base, 1, &answers(), &[0, 1]).labels;
        let want = [(9, 1.0 / 6.0), (2, 1.0 / 6.0), (0, 1.0 / 6.0), (8, 0.25), (0, 0.25)];
        assert_eq!(labels, want.map(|(label, weight)| (vec![label], weight)));
    }
}
