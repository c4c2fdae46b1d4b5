//! Runs prompts and expected answers on two models, usually the base model and the patched model, and compares the
//! results.

use super::cache::{MeasurementCache, bytes_of};
use super::{AnswerScore, NextTokenDistribution, Question, answer_score, prompt};
use crate::digest::FieldHasher;
use crate::model::{Model, ModelError, Prompt, Tokens};
use crate::progress::{NoProgress, Progress};

/// The number of likeliest next tokens in a [`Prediction`].
pub const TOP: usize = 3;
/// The maximum number of token rows in a batch, which bounds the logits in memory. A row is a prompt with one answer.
/// The results do not depend on this number.
const BATCH_ROWS: usize = 32;

/// A prompt to run, and the accepted answers to score after it, as token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    prompt: Vec<u32>,
    answers: Vec<Question>,
}

/// The output of one model for one prompt: the likeliest next tokens and the scores of the accepted answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The [`TOP`] likeliest next tokens with their probabilities, in descending order.
    pub top: Vec<(u32, f64)>,
    /// The scores of the accepted answers, in the order of the answers in the [`Inquiry`].
    pub scores: Vec<AnswerScore>,
}

/// What two models predict for one prompt, and how far their next-token distributions differ.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictionPair {
    /// The predictions of the earlier model, usually the base model.
    pub before: Prediction,
    /// The predictions of the later model, usually the patched model.
    pub after: Prediction,
    /// The KL divergence of the next-token distributions after the prompt, KL(before ‖ after), in nats.
    pub divergence: f64,
    /// The texts that both models generate after the prompt; `None` if no text was generated.
    pub texts: Option<TextPair>,
}

/// The texts that two models generate after a prompt, decoded greedily.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPair {
    /// The text of the earlier model.
    pub before: String,
    /// The text of the later model.
    pub after: String,
}

impl Prediction {
    /// Returns whether the model predicts at least one accepted answer; false if the prompt has no accepted answers.
    pub fn holds(&self) -> bool {
        self.scores.iter().any(|score| score.holds)
    }

    fn is_finite(&self) -> bool {
        let mut numbers = self.top.iter().map(|(_, p)| *p).chain(self.scores.iter().map(|score| score.nll));
        numbers.all(f64::is_finite)
    }

    /// Returns the probability of the likeliest accepted answer; `None` if the prompt has no accepted answers.
    pub fn probability(&self) -> Option<f64> {
        self.scores.iter().map(|score| score.probability).max_by(f64::total_cmp)
    }
}

impl PredictionPair {
    /// Returns whether all numbers of both predictions are finite. The forward pass may overflow although every weight
    /// is finite.
    pub fn is_finite(&self) -> bool {
        self.before.is_finite() && self.after.is_finite() && self.divergence.is_finite()
    }
}

impl Inquiry {
    /// Tokenizes a prompt and its accepted answers.
    ///
    /// # Errors
    /// If the tokenizer rejects a text, or the prompt with an answer exceeds `limit`, the context length in tokens.
    pub fn new<'t>(
        tokens: &Tokens,
        text: Prompt<'_>,
        answers: impl IntoIterator<Item = &'t str>,
        limit: usize,
    ) -> Result<Self, ModelError> {
        let answers = answers.into_iter().map(|answer| Question::new(tokens, text, answer, limit));
        Ok(Self { prompt: prompt(tokens, text, limit)?, answers: answers.collect::<Result<_, _>>()? })
    }

    /// Returns one token row per answer: the prompt, followed by the answer without its last token. The number in each
    /// pair is the number of positions at the end of the row that need logits. Without answers, the only row is the
    /// prompt.
    fn rows(&self) -> Vec<(&[u32], usize)> {
        if self.answers.is_empty() {
            return vec![(&self.prompt, 1)];
        }
        self.answers.iter().map(|question| (question.row.as_slice(), question.answer.len())).collect()
    }

    /// Creates an inquiry from token ids. Does not check that the prompt and the answers fit the context.
    #[cfg(test)]
    pub(super) fn of_tokens(prompt: &[u32], answers: &[&[u32]]) -> Self {
        let question = |answer: &&[u32]| Question { row: prompt.to_vec(), answer: answer.to_vec() };
        Self { prompt: prompt.to_vec(), answers: answers.iter().map(question).collect() }
    }

    /// Returns the token ids of the prompt.
    pub fn prompt(&self) -> &[u32] {
        &self.prompt
    }

    /// Returns the number of accepted answers; 0 if only the distribution of the next token is compared.
    pub(super) fn answers(&self) -> usize {
        self.answers.len()
    }

    /// Adds the token ids of the prompt and of the answers to `hasher`, for the address of a cached measurement.
    pub(super) fn address(&self, hasher: &mut FieldHasher) {
        hasher.field("prompt", &bytes_of(&self.prompt)).number("answers", self.answers.len() as u64);
        for Question { row, answer } in &self.answers {
            hasher.field("row", &bytes_of(row)).field("answer", &bytes_of(answer));
        }
    }
}

/// The predictions of an earlier model, computed once and compared with those of several later models.
pub struct BaselineRun(Vec<FullPrediction>);

/// A prediction with the whole next-token distribution.
struct FullPrediction {
    prediction: Prediction,
    next: NextTokenDistribution,
}

impl FullPrediction {
    /// Compares this prediction with the prediction of a later model for the same prompt.
    fn compare(&self, later: Self) -> PredictionPair {
        PredictionPair {
            divergence: self.next.divergence(&later.next),
            before: self.prediction.clone(),
            after: later.prediction,
            texts: None,
        }
    }
}

impl BaselineRun {
    /// Runs the earlier model on every prompt and its accepted answers, without a cache.
    pub fn of(model: &Model, inquiries: &[Inquiry]) -> Self {
        Self(batches(inquiries).flat_map(|batch| predict_all(model, batch)).collect())
    }

    /// Returns the number of log-probabilities in memory, prompts × vocabulary size, so that callers can bound the
    /// memory.
    pub fn numbers(&self) -> usize {
        self.0.iter().map(|one| one.next.numbers()).sum()
    }

    /// Runs the later model `after` on the inquiries and compares the predictions. `inquiries` must be those that
    /// [`BaselineRun::of`] received.
    pub fn against(&self, after: &Model, inquiries: &[Inquiry]) -> Vec<PredictionPair> {
        let later = batches(inquiries).flat_map(|batch| predict_all(after, batch));
        self.0.iter().zip(later).map(|(earlier, later)| earlier.compare(later)).collect()
    }
}

/// Runs the inquiries on both models and returns the predictions in the order of the inquiries, without a cache.
pub fn ask(before: &Model, after: &Model, inquiries: &[Inquiry]) -> Vec<PredictionPair> {
    let one_by_one: Vec<&[Inquiry]> = inquiries.chunks(1).collect();
    ask_cached(&MeasurementCache::disabled(), before, after, &one_by_one, &NoProgress)
}

/// Runs groups of inquiries on both models and returns the predictions in the order of the inquiries. The predictions
/// of each group are cached together, under one address.
pub fn ask_cached(
    cache: &MeasurementCache<'_>,
    before: &Model,
    after: &Model,
    groups: &[&[Inquiry]],
    progress: &dyn Progress,
) -> Vec<PredictionPair> {
    let mut out = Vec::new();
    for batch in group_batches(groups) {
        out.extend(run_batch(cache, before, after, batch));
        progress.set_position(out.len() as u64);
    }
    out
}

/// Runs groups of inquiries on the earlier model only, and returns the predictions in the order of the inquiries. The
/// hidden states of each group are cached.
pub fn ask_earlier(
    cache: &MeasurementCache<'_>,
    before: &Model,
    groups: &[&[Inquiry]],
    progress: &dyn Progress,
) -> Vec<Prediction> {
    let mut out = Vec::new();
    for batch in group_batches(groups) {
        out.extend(run_earlier(cache, before, batch).into_iter().map(|full| full.prediction));
        progress.set_position(out.len() as u64);
    }
    out
}

/// Splits groups into batches of at most [`BATCH_ROWS`] token rows. A batch has at least one group, even if that group
/// has more rows than the limit.
fn group_batches<'g, 'i>(groups: &'g [&'i [Inquiry]]) -> impl Iterator<Item = &'g [&'i [Inquiry]]> {
    let rows = |group: &[Inquiry]| group.iter().map(|one| one.answers.len().max(1)).sum::<usize>();
    let mut rest = groups;
    std::iter::from_fn(move || {
        let mut batch_rows = 0;
        let fits = |group: &&&[Inquiry]| {
            batch_rows += rows(group);
            batch_rows <= BATCH_ROWS
        };
        let (batch, remaining) = rest.split_at(rest.iter().take_while(fits).count().max(1).min(rest.len()));
        rest = remaining;
        (!batch.is_empty()).then_some(batch)
    })
}

/// Splits inquiries into batches of at most [`BATCH_ROWS`] token rows; a batch has at least one inquiry.
fn batches(inquiries: &[Inquiry]) -> impl Iterator<Item = &[Inquiry]> {
    let mut rest = inquiries;
    std::iter::from_fn(move || {
        let mut rows = 0;
        let fits = |one: &&Inquiry| {
            rows += one.answers.len().max(1);
            rows <= BATCH_ROWS
        };
        let (batch, remaining) = rest.split_at(rest.iter().take_while(fits).count().max(1).min(rest.len()));
        rest = remaining;
        (!batch.is_empty()).then_some(batch)
    })
}

/// Runs groups of prompts on both models as one batch, and caches the predictions of each group.
fn run_batch(
    cache: &MeasurementCache<'_>,
    before: &Model,
    after: &Model,
    groups: &[&[Inquiry]],
) -> Vec<PredictionPair> {
    let earlier = run_earlier(cache, before, groups);
    let all: Vec<&Inquiry> = groups.iter().copied().flatten().collect();
    let (tokens, tails): (Vec<&[u32]>, Vec<usize>) = groups.iter().flat_map(|group| rows(group)).unzip();
    let later = predict(&all, after.logits(&tokens, &tails), before.spec().vocabulary);
    let pairs: Vec<PredictionPair> = earlier.iter().zip(later).map(|(earlier, later)| earlier.compare(later)).collect();
    let mut rest = pairs.as_slice();
    for group in groups {
        let (own, remaining) = rest.split_at(group.len());
        cache.store_answers(group, own);
        rest = remaining;
    }
    pairs
}

/// Runs groups of prompts on the earlier model as one batch. The hidden states are read from the cache if possible.
fn run_earlier(cache: &MeasurementCache<'_>, before: &Model, groups: &[&[Inquiry]]) -> Vec<FullPrediction> {
    let group_rows: Vec<Vec<(&[u32], usize)>> = groups.iter().map(|group| rows(group)).collect();
    let states = cache.states(before, &group_rows);
    let all: Vec<&Inquiry> = groups.iter().copied().flatten().collect();
    let vocabulary = before.spec().vocabulary;
    let logits = before.lm_head(&states);
    let mut first = 0;
    let split = group_rows.iter().flatten().map(|(_, tail)| {
        let from = first * vocabulary;
        first += tail;
        logits[from..first * vocabulary].to_vec()
    });
    predict(&all, split.collect(), vocabulary)
}

fn rows(group: &[Inquiry]) -> Vec<(&[u32], usize)> {
    group.iter().flat_map(Inquiry::rows).collect()
}

/// Runs a model on prompts with their accepted answers, and returns predictions that include the whole next-token
/// distribution.
fn predict_all(model: &Model, inquiries: &[Inquiry]) -> Vec<FullPrediction> {
    let (tokens, tails): (Vec<&[u32]>, Vec<usize>) = rows(inquiries).into_iter().unzip();
    let all: Vec<&Inquiry> = inquiries.iter().collect();
    predict(&all, model.logits(&tokens, &tails), model.spec().vocabulary)
}

/// Computes the predictions from the logits of every token row; the rows are in the order of [`Inquiry::rows`].
fn predict(inquiries: &[&Inquiry], logits: Vec<Vec<f32>>, vocabulary: usize) -> Vec<FullPrediction> {
    let mut logits = logits.into_iter();
    let full_prediction = |inquiry: &&Inquiry| {
        let mut scores = Vec::with_capacity(inquiry.answers.len());
        let mut next = None;
        for index in 0..inquiry.answers.len().max(1) {
            let logits = logits.next().expect("every row has logits");
            // In every token row of an inquiry, the first position with logits is the last token of the prompt.
            next.get_or_insert_with(|| NextTokenDistribution::new(logits[..vocabulary].to_vec()));
            if let Some(question) = inquiry.answers.get(index) {
                scores.push(answer_score(logits, question, vocabulary));
            }
        }
        let next = next.expect("every inquiry has a row");
        FullPrediction { prediction: Prediction { top: next.likeliest(TOP), scores }, next }
    };
    inquiries.iter().map(full_prediction).collect()
}
