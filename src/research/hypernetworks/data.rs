//! Builds the data of a training from dataset records or from text.

use rayon::prelude::*;

use super::settings::TrainingNumbers;
use super::train::{FactText, TrainingData, TrainingFact, below};
use crate::digest::{Digest, FieldHasher};
use crate::model::run::generation::Generation;
use crate::model::{Model, ModelError, Tokens};
use crate::numeric::random::NumpyRandomState;
use crate::numeric::rows::softmax;
use crate::research::bench::data::{Case, RejectedRecord};

/// The minimum number of words in a text that is used as unrelated text or as a passage.
const WORDS: usize = 30;
/// The number of tokens of a passage, without the sampled tokens.
const PASSAGE_TOKENS: usize = 24;
/// The maximum number of bytes of a text that are tokenized.
const MOST_BYTES: usize = 1500;

/// The data of a training, with what identifies the facts.
#[derive(Clone, Debug, Default)]
pub struct PreparedData {
    pub data: TrainingData,
    /// For each fact from a record, in ascending order: [`seen_digest`] of the record. Validation facts are included,
    /// because they choose the best step.
    pub seen: Vec<Digest>,
    /// The records that cannot be used, each with the reason.
    pub left: Vec<RejectedRecord>,
}

/// Returns a digest that identifies the question of a record: its subject and its prompt.
pub fn seen_digest(case: &Case) -> Digest {
    FieldHasher::new("seen/1").text("subject", &case.subject).text("prompt", &case.prompt).finish()
}

/// Converts records to facts. The seed determines which facts are used for validation only.
pub fn facts_of_cases(
    tokens: &Tokens,
    limit: usize,
    cases: &[Case],
    numbers: &TrainingNumbers,
    seed: u32,
) -> PreparedData {
    let mut out = PreparedData::default();
    let mut facts = Vec::new();
    for case in cases {
        match fact(tokens, limit, case) {
            Ok(fact) => {
                facts.push(fact);
                out.seen.push(seen_digest(case));
            }
            Err(why) => out.left.push(RejectedRecord { record: case.record, id: Some(case.id), why }),
        }
    }
    out.seen.sort();
    (out.data.facts, out.data.validation) = split(facts, numbers["validation"] as usize, seed);
    out
}

fn fact(tokens: &Tokens, limit: usize, case: &Case) -> Result<TrainingFact, String> {
    let text = |prompt: &str| FactText::new(tokens, prompt, &case.target, limit).map_err(|error| error.to_string());
    let rephrased: Vec<FactText> = case.paraphrases.iter().map(|prompt| text(prompt)).collect::<Result<_, _>>()?;
    if rephrased.is_empty() {
        return Err("it has no paraphrase".to_owned());
    }
    Ok(TrainingFact { stated: text(&case.filled())?, rephrased })
}

/// Splits facts into those for training and those for validation, in an order that the seed determines. At most a fifth
/// of the facts is used for validation.
fn split(mut facts: Vec<TrainingFact>, validation: usize, seed: u32) -> (Vec<TrainingFact>, Vec<TrainingFact>) {
    let mut numbers = NumpyRandomState::from_key(&[seed, 2]);
    for index in (1..facts.len()).rev() {
        facts.swap(index, below(&mut numbers, index + 1));
    }
    let rest = facts.split_off(validation.min(facts.len() / 5));
    (rest, facts)
}

/// Returns the token ids of the beginnings of texts: of those with at least [`WORDS`] words and `length` tokens.
///
/// # Errors
/// If the tokenizer rejects a text.
pub fn beginnings(
    tokens: &Tokens,
    texts: impl Iterator<Item = String>,
    length: usize,
    most: usize,
) -> Result<Vec<Vec<u32>>, ModelError> {
    let mut out = Vec::new();
    for text in texts.filter(|text| text.split_whitespace().count() >= WORDS) {
        if out.len() == most {
            break;
        }
        let end = text.floor_char_boundary(MOST_BYTES.max(8 * length));
        let mut ids = tokens.encode(&text[..end])?.ids;
        if ids.len() >= length {
            ids.truncate(length);
            out.push(ids);
        }
    }
    Ok(out)
}

/// Creates facts from passages of text: each passage is continued with `count` tokens that are sampled from the base at
/// temperature 1, and these tokens are the target. A paraphrase is the same text without some tokens at its beginning:
/// at most half of the passage.
pub fn facts_of_passages(
    base: &Model,
    tokens: &Tokens,
    passages: &[Vec<u32>],
    numbers: &TrainingNumbers,
    seed: u32,
) -> TrainingData {
    let count = numbers["tokens"] as usize;
    let one = |(index, passage): (usize, &Vec<u32>)| {
        let mut random = NumpyRandomState::from_key(&[seed, 3, index as u32]);
        let mut text = passage.clone();
        let mut generation = Generation::new(base, 1);
        let mut logits = generation.push(&[passage]);
        for number in 0..count {
            let next = sample(&mut logits, random.double());
            text.push(next);
            if number + 1 < count {
                logits = generation.push(&[&[next]]);
            }
        }
        let special = text.iter().take_while(|id| tokens.is_special(**id)).count();
        let cut = |cut: usize| [&text[..special], &text[special + cut..]].concat();
        let most = (passage.len() - special) / 2;
        let rephrased = (0..=most).map(|start| FactText { tokens: cut(start), labels: count }).collect();
        TrainingFact { stated: FactText { tokens: text.clone(), labels: count }, rephrased }
    };
    let facts: Vec<TrainingFact> = passages.par_iter().enumerate().map(one).collect();
    let (facts, validation) = split(facts, numbers["validation"] as usize, seed);
    TrainingData { facts, validation, ..TrainingData::default() }
}

/// Returns the number of tokens of a passage for a model with a context of `limit` tokens.
pub fn passage_tokens(limit: usize, numbers: &TrainingNumbers) -> usize {
    PASSAGE_TOKENS.min(limit.saturating_sub(numbers["tokens"] as usize)).max(2)
}

/// Samples a token from the softmax of `logits`. `at` is a random number from 0 to 1 (exclusive).
fn sample(logits: &mut [f32], at: f64) -> u32 {
    softmax(logits);
    let mut before = 0.0;
    for (token, probability) in logits.iter().enumerate() {
        before += f64::from(*probability);
        if at < before {
            return token as u32;
        }
    }
    // The probabilities add up to slightly less than 1. The last token that is possible is then sampled.
    logits.iter().rposition(|probability| *probability > 0.0).unwrap_or(0) as u32
}

/// Returns the digest of all texts of a training, as token ids.
pub fn digest_of(data: &TrainingData) -> Digest {
    let mut canon = FieldHasher::new("training-data/1");
    let bytes = |ids: &[u32]| ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>();
    for (name, facts) in [("facts", &data.facts), ("validation", &data.validation)] {
        canon.number(name, facts.len() as u64);
        for fact in facts {
            canon.number("paraphrases", fact.rephrased.len() as u64);
            for text in fact.rephrased.iter().chain([&fact.stated]) {
                canon.number("labels", text.labels as u64).field("text", &bytes(&text.tokens));
            }
        }
    }
    for (name, texts) in [("unrelated", &data.unrelated), ("validation-unrelated", &data.validation_unrelated)] {
        canon.number(name, texts.len() as u64);
        for text in texts {
            canon.field("text", &bytes(text));
        }
    }
    canon.finish()
}
