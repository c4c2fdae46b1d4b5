//! Generates continuations of a prompt from two models, greedily or by sampling with one seed.
//!
//! Sampling uses candle's `LogitsProcessor`. It is not covered by the promise of identical bytes on every machine,
//! and nothing in a patch depends on it.

use candle_core::{Device, Tensor};
use candle_transformers::generation::LogitsProcessor;
use similar::{ChangeTag, TextDiff};

use super::top;
use crate::model::run::generation::Generation;
use crate::model::{Model, ModelError, Tokens};
use crate::report::Word;

/// The settings of a generated continuation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// The maximum number of generated tokens.
    pub tokens: usize,
    /// The sampling seed, the same for both models; `None` decodes greedily.
    pub seed: Option<u64>,
}

/// The sampling temperature; below 1, it makes likely tokens more likely.
pub const TEMPERATURE: f64 = 0.7;
/// The share of the probability mass for top-p sampling: only the likeliest tokens that reach it are sampled.
pub const TOP_P: f64 = 0.9;

/// Generates the continuation of `row`. It ends before a special token, at the end of the context, or after
/// `draw.tokens` tokens.
///
/// # Errors
/// If the logits are not finite or cannot be sampled from.
pub fn continuation(model: &Model, tokens: &Tokens, row: &[u32], draw: Draw) -> Result<String, ModelError> {
    let fail = |error: candle_core::Error| ModelError::Draw { problem: error.to_string() };
    let mut sampler = draw.seed.map(|seed| LogitsProcessor::new(seed, Some(TEMPERATURE), Some(TOP_P)));
    let mut text = Generation::new(model);
    let mut drawn = Vec::new();
    let mut logits = text.push(row);
    while drawn.len() < draw.tokens {
        let next = match &mut sampler {
            Some(sampler) => {
                let logits = Tensor::new(logits.as_slice(), &Device::Cpu);
                logits.and_then(|logits| sampler.sample(&logits)).map_err(fail)?
            }
            None if logits.iter().all(|logit| logit.is_finite()) => top(&logits),
            None => return Err(ModelError::Overflow),
        };
        if tokens.is_special(next) {
            break;
        }
        drawn.push(next);
        if text.length() == model.spec().max_positions {
            break;
        }
        logits = text.push(&[next]);
    }
    Ok(tokens.decode(&drawn))
}

/// Compares two texts word by word. Adjacent words that differ are merged: first the removed ones, then the added
/// ones.
pub fn words(before: &str, after: &str) -> Vec<Word> {
    let difference = TextDiff::from_words(before, after);
    let mut run = Run::default();
    for change in difference.iter_all_changes() {
        run.add(change.tag(), change.value());
    }
    run.end();
    run.words
}

/// Collects adjacent words that differ, until an equal word follows.
#[derive(Default)]
struct Run {
    words: Vec<Word>,
    before: String,
    after: String,
    /// White space that both texts have; it belongs to the run only if further different words follow.
    space: String,
}

impl Run {
    fn add(&mut self, tag: ChangeTag, text: &str) {
        let open = !self.before.is_empty() || !self.after.is_empty();
        match tag {
            ChangeTag::Equal if open && text.trim().is_empty() => self.space.push_str(text),
            ChangeTag::Equal => {
                self.end();
                push(&mut self.words, "=", text);
            }
            ChangeTag::Delete | ChangeTag::Insert => {
                self.before.push_str(&self.space);
                self.after.push_str(&self.space);
                self.space.clear();
                if tag == ChangeTag::Delete { &mut self.before } else { &mut self.after }.push_str(text);
            }
        }
    }

    fn end(&mut self) {
        for (sign, text) in [("-", &mut self.before), ("+", &mut self.after), ("=", &mut self.space)] {
            push(&mut self.words, sign, &std::mem::take(text));
        }
    }
}

fn push(words: &mut Vec<Word>, sign: &str, text: &str) {
    match words.last_mut().filter(|last| last.change == sign) {
        _ if text.is_empty() => {}
        Some(last) => last.text.push_str(text),
        None => words.push(Word { change: sign.to_owned(), text: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_differ_in_a_row_stand_together() {
        let shown = |before: &str, after: &str| {
            words(before, after).iter().map(|word| format!("{}{}|", word.change, word.text)).collect::<String>()
        };
        assert_eq!(shown(" You can find it", " She is here it"), "= |-You can find|+She is here|= it|");
        assert_eq!(shown(" Paris.", " Rome."), "= |-Paris.|+Rome.|");
        assert_eq!(shown("a b", "a b"), "=a b|");
        assert_eq!(shown("a b", "a"), "=a|- b|");
        assert_eq!(shown("", "x y"), "+x y|");
    }

    #[test]
    fn words_are_told_apart_and_nothing_is_lost() {
        let (before, after) = (" in Paris, France, where it", " in Rome, Italy, where it");
        let words = words(before, after);
        let side =
            |skip: &str| words.iter().filter(|word| word.change != skip).map(|word| &*word.text).collect::<String>();
        assert_eq!((side("+").as_str(), side("-").as_str()), (before, after));
        assert!(words.iter().any(|word| word.change == "=" && word.text.contains("where")));
        assert!(words.iter().any(|word| word.change == "-" && word.text.contains("Paris")));
    }
}
