//! Generates a continuation of a prompt, greedily or by sampling with a seed.
//!
//! Sampling uses candle's `LogitsProcessor`. Sampled text may differ between machines; no bytes of a patch depend on
//! it.

use candle_core::{Device, Tensor};
use candle_transformers::generation::LogitsProcessor;

use super::top;
use crate::model::run::generation::Generation;
use crate::model::{Model, ModelError, Tokens};

/// The settings of a generated continuation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContinuationOptions {
    /// The maximum number of generated tokens.
    pub tokens: usize,
    /// The sampling seed, the same for both models; `None` decodes greedily.
    pub seed: Option<u64>,
}

/// The sampling temperature; below 1, it makes likely tokens more likely.
pub const TEMPERATURE: f64 = 0.7;
/// The probability mass for top-p sampling: only the likeliest tokens whose probabilities add up to it are sampled.
pub const TOP_P: f64 = 0.9;

/// Generates the continuation of `row`, the token ids of a prompt. The text ends before a special token, at the end of
/// the context, or after `generation.tokens` tokens.
///
/// # Errors
/// If the logits are not finite or cannot be sampled from.
pub fn continuation(
    model: &Model,
    tokens: &Tokens,
    row: &[u32],
    generation: ContinuationOptions,
) -> Result<String, ModelError> {
    let fail = |error: candle_core::Error| ModelError::Draw { problem: error.to_string() };
    let mut sampler = generation.seed.map(|seed| LogitsProcessor::new(seed, Some(TEMPERATURE), Some(TOP_P)));
    let mut text = Generation::new(model);
    let mut drawn = Vec::new();
    let mut logits = text.push(row);
    while drawn.len() < generation.tokens {
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
