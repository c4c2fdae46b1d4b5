//! Asks one model the questions of a task, and decides which answers are right.

use super::Protocol;
use super::encode::EncodedItem;
use crate::behaviour::Question;
use crate::behaviour::continuation::{ContinuationOptions, continuations};
use crate::model::{Model, ModelError, Tokens};
use crate::numeric::rows::softmax;
use crate::progress::NoProgress;

/// The maximum number of tokens that a model generates as the answer to a question.
pub(crate) const TEXT_TOKENS: usize = 32;
/// The maximum number of positions in a batch whose logits are computed, which bounds the logits in memory. The results
/// do not depend on this number.
const MOST_LOGITS: usize = 256;

/// What one model answers to some questions of a task. The lists have one element per question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answers {
    /// The log-likelihood of every choice: the sum of the log-probabilities of its tokens.
    Likelihoods(Vec<Vec<f64>>),
    /// The generated texts.
    Texts(Vec<String>),
}

impl Answers {
    /// Asks a model some questions of one task. All questions must have the same protocol.
    ///
    /// # Errors
    /// If the logits of the model are not finite.
    pub(super) fn of(model: &Model, tokens: &Tokens, questions: &[EncodedItem]) -> Result<Self, ModelError> {
        let choices: Vec<&[Question]> = questions.iter().filter_map(EncodedItem::answers).collect();
        if choices.len() == questions.len() {
            let found = likelihoods(model, &choices);
            let finite = found.iter().flatten().all(|sum| sum.is_finite());
            return if finite { Ok(Self::Likelihoods(found)) } else { Err(ModelError::Overflow) };
        }
        let greedy = ContinuationOptions { tokens: TEXT_TOKENS, seed: None };
        let rows: Vec<&[u32]> = questions.iter().filter_map(EncodedItem::row).collect();
        continuations(model, tokens, &rows, greedy, &NoProgress).map(Self::Texts)
    }

    /// Returns whether the answer to each question is right by the protocol.
    pub(super) fn marks(&self, protocol: Protocol, questions: &[EncodedItem]) -> Vec<bool> {
        let mark = |(index, question): (usize, &EncodedItem)| match (self, question) {
            (Self::Likelihoods(sums), EncodedItem::Choices { characters, right, .. }) => {
                best(protocol, &sums[index], characters) == *right
            }
            (Self::Texts(texts), EncodedItem::Text { wanted, .. }) => wanted.is_in(&texts[index]),
            _ => false,
        };
        questions.iter().enumerate().map(mark).collect()
    }
}

impl EncodedItem {
    /// Returns the choices after the prompt; `None` if the answer is read from generated text.
    pub(crate) fn answers(&self) -> Option<&[Question]> {
        match self {
            Self::Choices { answers, .. } => Some(answers),
            Self::Text { .. } => None,
        }
    }

    /// Returns the token ids of the prompt; `None` if the likelihoods of choices are compared.
    pub(crate) fn row(&self) -> Option<&[u32]> {
        match self {
            Self::Choices { .. } => None,
            Self::Text { row, .. } => Some(row),
        }
    }
}

/// Returns the log-likelihoods of all choices of all questions. Consecutive choices that the model reads as the same
/// tokens are run once, for example letters that have one token each.
fn likelihoods(model: &Model, questions: &[&[Question]]) -> Vec<Vec<f64>> {
    let all: Vec<&Question> = questions.iter().copied().flatten().collect();
    let runs: Vec<&[&Question]> = all.chunk_by(|one, other| one.row == other.row).collect();
    let mut sums = Vec::with_capacity(all.len());
    let mut rest = runs.as_slice();
    while !rest.is_empty() {
        let mut positions = 0;
        let fits = |run: &&&[&Question]| {
            positions += tail(run);
            positions <= MOST_LOGITS
        };
        let (batch, remaining) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        let rows: Vec<&[u32]> = batch.iter().map(|run| run[0].row.as_slice()).collect();
        let tails: Vec<usize> = batch.iter().map(|run| tail(run)).collect();
        let vocabulary = model.spec().vocabulary;
        for (run, logits) in batch.iter().zip(model.logits(&rows, &tails)) {
            let totals: Vec<f64> = logits.chunks(vocabulary).map(|row| softmax(&mut row.to_vec())).collect();
            sums.extend(run.iter().map(|question| likelihood(&logits, &totals, question, vocabulary)));
        }
        rest = remaining;
    }
    let mut sums = sums.into_iter();
    questions.iter().map(|choices| sums.by_ref().take(choices.len()).collect()).collect()
}

/// Returns the number of positions whose logits are needed for choices that the model reads as the same tokens.
fn tail(run: &[&Question]) -> usize {
    run.iter().map(|question| question.answer.len()).max().unwrap_or_default()
}

/// Returns the sum of the log-probabilities of the tokens of a choice. `logits` are those of the last positions of the
/// tokens that the model reads, `[positions, vocabulary]`, and `totals` has `log Σ e^x` of each position.
fn likelihood(logits: &[f32], totals: &[f64], question: &Question, vocabulary: usize) -> f64 {
    let first = totals.len() - question.answer.len();
    let log = |(index, label): (usize, &u32)| {
        let position = first + index;
        f64::from(logits[position * vocabulary + *label as usize]) - totals[position]
    };
    question.answer.iter().enumerate().map(log).sum()
}

/// Returns the index of the choice with the largest score; of equal scores, the first one.
fn best(protocol: Protocol, sums: &[f64], characters: &[usize]) -> usize {
    let score = |at: usize| match protocol {
        Protocol::PerCharacter => sums[at] / characters[at].max(1) as f64,
        _ => sums[at],
    };
    (1..sums.len()).fold(0, |best, at| if score(at) > score(best) { at } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_choices_is_the_answer() {
        assert_eq!(best(Protocol::Sum, &[-2.0, -1.0, -1.0], &[1, 1, 1]), 1);
        assert_eq!(best(Protocol::Letter, &[-1.0, -1.0], &[1, 1]), 0);
    }

    #[test]
    fn long_choices_gain_from_the_mean_per_character() {
        let (sums, characters) = ([-3.0, -4.0], [2, 8]);
        assert_eq!(best(Protocol::Sum, &sums, &characters), 0);
        assert_eq!(best(Protocol::PerCharacter, &sums, &characters), 1);
    }
}
