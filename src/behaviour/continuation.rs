//! Generates a continuation of a prompt, greedily or by sampling with a seed.

use super::sampler::Sampler;
use super::top;
use crate::model::run::generation::Generation;
use crate::model::{Model, ModelError, Tokens};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContinuationOptions {
    /// The maximum number of generated tokens.
    pub tokens: usize,
    /// The seed for sampling, the same for both models. If it is `None`, the text is decoded greedily.
    pub seed: Option<u64>,
}

/// Generates the continuation of `row`, the token ids of a prompt. The text ends before a special token, at the end of
/// the context, or after `generation.tokens` tokens.
///
/// # Errors
/// If the logits are not finite.
pub fn continuation(
    model: &Model,
    tokens: &Tokens,
    row: &[u32],
    generation: ContinuationOptions,
) -> Result<String, ModelError> {
    let mut sampler = generation.seed.map(Sampler::new);
    let mut text = Generation::new(model);
    let mut drawn = Vec::new();
    let mut logits = text.push(row);
    while drawn.len() < generation.tokens {
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Err(ModelError::Overflow);
        }
        let next = sampler.as_mut().map_or_else(|| top(&logits), |sampler| sampler.sample(&logits));
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
