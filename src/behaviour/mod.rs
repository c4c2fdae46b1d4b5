//! Measures the answers of models, their probabilities, and whether a patch changes them.
//!
//! An answer *holds* if each of its tokens is the arg-max under teacher forcing. The probability *P* of an answer is
//! the product of the probabilities of its tokens. A prompt is *unchanged* if both models have the same top token and
//! KL(base ‖ patched) of the next token is below a threshold. All commands use these definitions.
//!
//! The result for a prompt does not depend on the other prompts in its batch.

pub mod ask;
pub mod cache;
mod cache_bytes;
pub mod condition;
pub mod continuation;
pub mod damage;
pub mod expectation;
mod me_ppl;
mod prompt_kind;
pub mod protocol;
pub mod said;
mod sampler;
pub mod task;
pub mod word_diff;

pub use cache_bytes::CacheHeader;
pub use prompt_kind::PromptKind;

use crate::model::{Model, ModelError, Prompt, Tokens};
use crate::numeric::elementary::exp64;
use crate::numeric::rows::softmax;

/// The default threshold of the KL divergence of the next token, in nats. At or above this value, a prompt counts as
/// changed.
pub const UNCHANGED_KL: f64 = 0.1;

/// A prompt and one answer to score after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The token ids that the model reads: the prompt, followed by the answer without its last token.
    pub(crate) row: Vec<u32>,
    pub(crate) answer: Vec<u32>,
}

/// The probability of an answer after a prompt, and whether the model predicts it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnswerScore {
    /// Whether every token of the answer is the arg-max under teacher forcing.
    pub holds: bool,
    /// The product of the probabilities of the answer's tokens, between 0 and 1.
    pub probability: f64,
    /// The mean negative log-likelihood per token of the answer, in nats. Published benchmarks compare answers by this
    /// number.
    pub nll: f64,
}

/// A model's distribution of the next token after a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct NextTokenDistribution {
    /// The most probable token; of equally probable tokens, the token with the lowest id.
    pub top: u32,
    pub probability: f64,
    /// The log-probability of every token (natural logarithm); the index is the token id.
    log: Vec<f64>,
}

impl AnswerScore {
    /// Returns whether the score is finite. The forward pass may overflow to infinite logits although every weight is
    /// finite.
    pub fn is_finite(&self) -> bool {
        self.nll.is_finite()
    }
}

impl Question {
    /// Tokenizes a prompt and the answer that continues it.
    ///
    /// # Errors
    /// If the tokenizer rejects a text, or prompt and answer exceed `limit`, the context length in tokens.
    pub fn new(tokens: &Tokens, prompt: Prompt<'_>, answer: &str, limit: usize) -> Result<Self, ModelError> {
        let framed = tokens.encode_prompt(prompt)?;
        let answer = tokens.continuation(&framed.answer(answer))?;
        let mut row = framed.encoded.ids;
        row.extend(answer.iter().take(answer.len().saturating_sub(1)));
        check_length(prompt.text, row.len(), limit)?;
        Ok(Self { row, answer })
    }
}

fn check_length(text: &str, tokens: usize, limit: usize) -> Result<(), ModelError> {
    match tokens {
        0 => Err(ModelError::Encode { text: text.to_owned(), problem: "it has no token".into() }),
        _ if tokens > limit => Err(ModelError::TooLong { text: text.to_owned(), tokens, limit }),
        _ => Ok(()),
    }
}

/// The maximum number of token rows in a batch, which bounds the logits in memory. The results do not depend on this
/// number.
const BATCH_ROWS: usize = 64;

/// Scores the answers of all questions with `model`, in the order of the questions.
pub fn scores(model: &Model, questions: &[Question]) -> Vec<AnswerScore> {
    questions.chunks(BATCH_ROWS).flat_map(|some| scores_of(model, some)).collect()
}

fn scores_of(model: &Model, questions: &[Question]) -> Vec<AnswerScore> {
    let rows: Vec<&[u32]> = questions.iter().map(|question| question.row.as_slice()).collect();
    let tails: Vec<usize> = questions.iter().map(|question| question.answer.len()).collect();
    let logits = model.logits(&rows, &tails);
    let vocabulary = model.spec().vocabulary;
    logits.into_iter().zip(questions).map(|(logits, question)| answer_score(logits, question, vocabulary)).collect()
}

/// Computes the score of an answer. `logits` are the logits at the positions that predict the tokens of the answer,
/// `[answer tokens, vocabulary]`.
fn answer_score(mut logits: Vec<f32>, question: &Question, vocabulary: usize) -> AnswerScore {
    let (mut holds, mut log) = (true, 0.0);
    for (row, &label) in logits.chunks_mut(vocabulary).zip(&question.answer) {
        holds &= top(row) == label;
        let logit = f64::from(row[label as usize]);
        log += logit - softmax(row);
    }
    AnswerScore { holds, probability: exp64(log), nll: -log / question.answer.len().max(1) as f64 }
}

/// The comparison of the next-token distributions of the base model and the patched model after one prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NextTokenComparison {
    /// The id and the probability of the base model's top token.
    pub before: (u32, f64),
    /// The id and the probability of the patched model's top token.
    pub after: (u32, f64),
    /// The KL divergence of the next-token distributions, KL(base ‖ patched), in nats.
    pub divergence: f64,
}

impl NextTokenComparison {
    /// Returns whether both models have the same top token and the divergence is below `threshold`.
    pub fn unchanged(&self, threshold: f64) -> bool {
        self.before.0 == self.after.0 && self.divergence < threshold
    }
}

/// Returns the token ids of a prompt, with the chat template applied if `prompt.chat` is true. `limit` is the context
/// length in tokens.
///
/// # Errors
/// If the tokenizer rejects the text, or the text exceeds `limit`.
pub fn prompt(tokens: &Tokens, prompt: Prompt<'_>, limit: usize) -> Result<Vec<u32>, ModelError> {
    let row = tokens.encode_prompt(prompt)?.encoded.ids;
    check_length(prompt.text, row.len(), limit)?;
    Ok(row)
}

/// Rejects a model whose output is not finite, which is possible although every weight is finite. Runs the first of
/// `texts` that can be tokenized and fits the context; accepts the model if there is no such text.
///
/// # Errors
/// If the logits are not finite.
pub fn check_finite_output<'t>(
    model: &Model,
    tokens: &Tokens,
    texts: impl IntoIterator<Item = Prompt<'t>>,
) -> Result<(), ModelError> {
    let limit = model.spec().max_positions;
    let row = texts.into_iter().find_map(|text| prompt(tokens, text, limit).ok());
    if row.is_none_or(|row| next(model, &[row])[0].probability.is_finite()) {
        Ok(())
    } else {
        Err(ModelError::Overflow)
    }
}

/// Runs the model on each prompt, given as token ids, and returns the distributions of the next token.
pub fn next(model: &Model, prompts: &[Vec<u32>]) -> Vec<NextTokenDistribution> {
    let rows: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    model.logits(&rows, &vec![1; rows.len()]).into_iter().map(NextTokenDistribution::new).collect()
}

/// Compares the next-token distributions of both models after each prompt, given as token ids. At most 64 prompts run
/// at a time, which bounds the logits in memory.
pub fn compare(base: &Model, patched: &Model, prompts: &[Vec<u32>]) -> Vec<NextTokenComparison> {
    let mut comparisons = Vec::with_capacity(prompts.len());
    for batch in prompts.chunks(BATCH_ROWS) {
        for (before, after) in next(base, batch).iter().zip(next(patched, batch)) {
            comparisons.push(NextTokenComparison {
                before: (before.top, before.probability),
                after: (after.top, after.probability),
                divergence: before.divergence(&after),
            });
        }
    }
    comparisons
}

impl NextTokenDistribution {
    /// Computes the distribution from the logits of one position, `[vocabulary]`.
    pub fn of(logits: &[f32]) -> Self {
        Self::new(logits.to_vec())
    }

    fn new(mut logits: Vec<f32>) -> Self {
        let top = top(&logits);
        let before = logits.clone();
        let total = softmax(&mut logits);
        let log: Vec<f64> = before.into_iter().map(|logit| f64::from(logit) - total).collect();
        Self { top, probability: exp64(log[top as usize]), log }
    }

    /// Returns the number of log-probabilities in memory, which is the vocabulary size.
    pub(crate) fn numbers(&self) -> usize {
        self.log.len()
    }

    /// Returns the `most` tokens with the highest probabilities, in descending order; ties are in ascending order of
    /// token id.
    pub fn likeliest(&self, most: usize) -> Vec<(u32, f64)> {
        let mut found: Vec<(u32, f64)> = Vec::with_capacity(most + 1);
        for (token, &log) in self.log.iter().enumerate() {
            if found.len() == most && found.last().is_none_or(|(_, least)| log <= *least) {
                continue;
            }
            let at = found.partition_point(|(_, other)| *other >= log);
            found.insert(at, (token as u32, log));
            found.truncate(most);
        }
        found.into_iter().map(|(token, log)| (token, exp64(log))).collect()
    }

    /// Returns the KL divergence KL(self ‖ other) in nats, at least 0; NaN if a log-probability is NaN.
    pub fn divergence(&self, other: &Self) -> f64 {
        let mut total = 0.0;
        for (own, theirs) in self.log.iter().zip(&other.log) {
            total += exp64(*own) * (own - theirs);
        }
        // Rounding may give a value slightly below zero for equal distributions. The comparison `total < 0.0` is false
        // for NaN, so NaN is returned unchanged.
        if total < 0.0 { 0.0 } else { total }
    }
}

/// Returns the index of the largest element; of equal elements, the lowest index.
fn top(row: &[f32]) -> u32 {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_logits_is_the_top() {
        assert_eq!(top(&[1.0, 3.0, 3.0, -1.0]), 1);
        assert_eq!(top(&[f32::NAN, 3.0]), 0);
    }

    #[test]
    fn divergence_matches_its_formula() {
        let next = |logits: &[f32]| NextTokenDistribution::new(logits.to_vec());
        let (p, q) = (next(&[0.0, 1.0, 2.0]), next(&[2.0, 1.0, 0.0]));
        let probability = |one: &NextTokenDistribution| one.log.iter().map(|log| log.exp()).collect::<Vec<_>>();
        let want: f64 = probability(&p).iter().zip(probability(&q)).map(|(p, q)| p * (p / q).ln()).sum();
        assert!((p.divergence(&q) - want).abs() < 1e-6, "{} {want}", p.divergence(&q));
        assert_eq!(p.divergence(&p), 0.0);
        assert_eq!((p.top, q.top), (2, 0));
        assert!((p.probability - probability(&p)[2]).abs() < 1e-12);
        assert_eq!(p.likeliest(2).iter().map(|(token, _)| *token).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(next(&[1.0, 3.0, 3.0, 0.0]).likeliest(9).iter().map(|one| one.0).collect::<Vec<_>>(), [1, 2, 0, 3]);
    }

    #[test]
    fn unchanged_needs_the_same_top_and_a_small_kl() {
        let comparison = |after, divergence| NextTokenComparison { before: (7, 0.5), after: (after, 0.4), divergence };
        assert!(comparison(7, 0.05).unchanged(UNCHANGED_KL));
        assert!(!comparison(8, 0.05).unchanged(UNCHANGED_KL));
        assert!(!comparison(7, 0.1).unchanged(UNCHANGED_KL));
        assert!(!comparison(7, f64::NAN).unchanged(UNCHANGED_KL));
    }
}
