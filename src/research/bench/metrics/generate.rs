//! Generates text after a prompt as the published evaluation does: top-5 sampling, up to 100 tokens including the
//! prompt. The published code sets no seed. Here the seed of a text is derived from the seed of the run, the prompt and
//! the prompt's index.

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
/// The marker that the published evaluation removes from generated texts.
const END: &str = "<|endoftext|>";

/// Generates one text per prompt and returns the texts in the order of the prompts.
///
/// # Errors
/// If the tokenizer rejects a prompt, or a prompt does not fit the context.
pub fn generate(model: &Model, tokens: &Tokens, prompts: &[String], seed: u64) -> Result<Vec<String>, ModelError> {
    let one = |(index, prompt): (usize, &String)| {
        let digest = FieldHasher::new("generated/1")
            .number("seed", seed)
            .number("index", index as u64)
            .text("prompt", prompt)
            .finish();
        generate_one(model, tokens, prompt, NumpyRandomState::new(number(&digest)))
    };
    prompts.par_iter().enumerate().map(one).collect()
}

fn number(digest: &Digest) -> u32 {
    // The result is the first four bytes of the digest, which are its first eight hexadecimal digits.
    u32::from_str_radix(&digest.to_string().trim_start_matches("sha256:")[..8], 16).unwrap_or(0)
}

fn generate_one(
    model: &Model,
    tokens: &Tokens,
    prompt: &str,
    mut random: NumpyRandomState,
) -> Result<String, ModelError> {
    let mut ids = crate::behaviour::prompt(tokens, prompt.into(), model.spec().max_positions)?;
    let length = LENGTH.min(model.spec().max_positions);
    let mut text = Generation::new(model);
    let mut logits = text.push(&ids);
    while ids.len() < length {
        let next = sample(&NextTokenDistribution::of(&logits).likeliest(LIKELIEST), random.double());
        ids.push(next);
        if ids.len() < length {
            logits = text.push(&[next]);
        }
    }
    Ok(plain(&tokens.decode(&ids)))
}

/// Selects a token from `likeliest` in proportion to its probability; `at` is a random number in `[0, 1)`.
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

/// Normalises a text as the published evaluation does: applies NFKD, and removes empty lines and `<|endoftext|>`.
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
