//! How two models go on with a prompt, drawn with one seed.
//!
//! The draw is candle's: it is outside the promise of the same bytes, and nothing that ships depends on it.

use candle_core::{Device, Tensor};
use candle_transformers::generation::LogitsProcessor;
use similar::{ChangeTag, TextDiff};

use crate::model::continued::Continued;
use crate::model::{Model, ModelError, Tokens};
use crate::report::Word;

/// How texts are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Tokens, at most.
    pub tokens: usize,
    /// The seed; both sides draw with it.
    pub seed: u64,
}

/// What is drawn from: cooler than the model, and without its long tail.
const TEMPERATURE: f64 = 0.7;
const TOP_P: f64 = 0.9;

/// The text with which a model goes on behind `row`. It ends before a special token and where the context ends.
///
/// # Errors
/// The logits hold no number that could be drawn by.
pub fn continuation(model: &Model, tokens: &Tokens, row: &[u32], draw: Draw) -> Result<String, ModelError> {
    let fail = |error: candle_core::Error| ModelError::Draw { problem: error.to_string() };
    let mut sampler = LogitsProcessor::new(draw.seed, Some(TEMPERATURE), Some(TOP_P));
    let mut text = Continued::new(model);
    let mut drawn = Vec::new();
    let mut logits = text.push(row);
    while drawn.len() < draw.tokens {
        let next =
            Tensor::new(logits.as_slice(), &Device::Cpu).and_then(|logits| sampler.sample(&logits)).map_err(fail)?;
        if tokens.is_special(next) {
            break;
        }
        drawn.push(next);
        if text.length() == model.spec().positions {
            break;
        }
        logits = text.push(&[next]);
    }
    Ok(tokens.decode(&drawn))
}

/// Two texts, word by word.
pub fn words(before: &str, after: &str) -> Vec<Word> {
    let difference = TextDiff::from_words(before, after);
    let mut words: Vec<Word> = Vec::new();
    for change in difference.iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Equal => "=",
            ChangeTag::Delete => "-",
            ChangeTag::Insert => "+",
        };
        match words.last_mut().filter(|last| last.change == sign) {
            Some(last) => last.text.push_str(change.value()),
            None => words.push(Word { change: sign.to_owned(), text: change.value().to_owned() }),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

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
