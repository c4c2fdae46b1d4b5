//! Generates text after prompts as in the evaluation of Meng et al. 2022: top-5 sampling, up to 100 tokens including
//! the prompt.
//!
//! The published code sets no seed. Here the random numbers of a text depend only on the seed of the benchmark, the
//! prompt and the index of the prompt.

use rayon::prelude::*;
use unicode_normalization::UnicodeNormalization;

use crate::behaviour::NextTokenDistribution;
use crate::digest::{Digest, FieldHasher};
use crate::model::run::generation::Generation;
use crate::model::{Model, ModelError, Tokens};
use crate::numeric::random::NumpyRandomState;

/// The number of most likely tokens from which the next token is sampled.
const LIKELIEST: usize = 5;
/// The maximum length of a generated text in tokens, including the prompt.
const LENGTH: usize = 100;
/// The end-of-text marker of GPT-2, which the published evaluation removes from generated texts.
const END: &str = "<|endoftext|>";

/// Generates one text per prompt and returns the texts in the order of the prompts. The model reads the text `prefix`
/// before each prompt. The prefix is not part of the returned texts, and does not count towards their length.
///
/// # Errors
/// If the tokenizer rejects a prompt, or a prompt with its prefix has more tokens than the context of the model.
pub fn generate(
    model: &Model,
    tokens: &Tokens,
    prefix: &str,
    prompts: &[String],
    seed: u64,
) -> Result<Vec<String>, ModelError> {
    let one = |(index, prompt): (usize, &String)| {
        let digest = FieldHasher::new("generated/1")
            .number("seed", seed)
            .number("index", index as u64)
            .text("prompt", prompt)
            .finish();
        generate_one(model, tokens, (prefix, prompt), NumpyRandomState::new(number(&digest)))
    };
    prompts.par_iter().enumerate().map(one).collect()
}

fn number(digest: &Digest) -> u32 {
    // `NumpyRandomState` takes a seed of 32 bits, which are the first eight hexadecimal digits of the digest.
    u32::from_str_radix(&digest.to_string().trim_start_matches("sha256:")[..8], 16).unwrap_or(0)
}

fn generate_one(
    model: &Model,
    tokens: &Tokens,
    (prefix, prompt): (&str, &str),
    mut random: NumpyRandomState,
) -> Result<String, ModelError> {
    let limit = model.spec().max_positions;
    let read = |text: &str| crate::behaviour::prompt(tokens, text.into(), limit);
    let mut ids = read(&format!("{prefix}{prompt}"))?;
    let added = ids.len().saturating_sub(read(prompt)?.len());
    let length = (added + LENGTH).min(limit);
    let mut text = Generation::new(model, 1);
    let mut logits = text.push(&[&ids]);
    while ids.len() < length {
        let next = sample(&NextTokenDistribution::of(&logits).likeliest(LIKELIEST), random.double());
        ids.push(next);
        if ids.len() < length {
            logits = text.push(&[&[next]]);
        }
    }
    let whole = tokens.decode(&ids);
    Ok(plain(whole.strip_prefix(prefix).unwrap_or(&whole)))
}

/// Samples a token from `(token, probability)` pairs. `at` is a random number from 0 to 1 (exclusive). The
/// probabilities need not sum to 1, because they are divided by their sum.
fn sample(likeliest: &[(u32, f64)], at: f64) -> u32 {
    let mut total = 0.0;
    for (_, probability) in likeliest {
        total += probability;
    }
    let mut before = 0.0;
    for (token, probability) in likeliest {
        before += probability / total;
        if at < before {
            return *token;
        }
    }
    likeliest.last().map_or(0, |(token, _)| *token)
}

/// Normalises a text as the published evaluation does: applies Unicode normal form NFKD, replaces empty lines by
/// spaces, and removes `<|endoftext|>`.
fn plain(text: &str) -> String {
    text.nfkd().collect::<String>().replace("\n\n", " ").replace(END, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_sampled_by_probability() {
        let likeliest = [(7, 0.3), (3, 0.1)];
        assert_eq!([0.0, 0.74, 0.76, 0.999_999].map(|at| sample(&likeliest, at)), [7, 7, 3, 3]);
        assert_eq!(plain("ﬁne\n\nday<|endoftext|>"), "fine day");
    }
}
