//! Generates continuations of prompts, greedily or by sampling with a seed, with a KV cache and in batches.
//!
//! Of equally likely tokens, greedy decoding takes the one with the lowest id. All numbers are computed in
//! `portable-1`, so a prompt has the same continuation on every machine. It does not depend on the other prompts.

use super::sampler::Sampler;
use super::top;
use crate::model::run::generation::Generation;
use crate::model::{Model, ModelError, Tokens};
use crate::progress::Progress;

/// The maximum number of texts that are generated together.
const BATCH: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContinuationOptions {
    /// The maximum number of generated tokens.
    pub tokens: usize,
    /// The seed for sampling, the same for both models. If it is `None`, the text is decoded greedily.
    pub seed: Option<u64>,
}

/// The reason why a continuation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The model gave a special token or an end token.
    EndToken,
    /// The continuation has the maximum number of tokens.
    Limit,
    /// The text fills the context of the model.
    Context,
}

/// A continuation of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedText {
    /// The generated tokens, without the token that ended the text.
    pub ids: Vec<u32>,
    pub end: EndReason,
}

/// Generates the continuation of `row`, the token ids of a prompt. The text ends before a special token, at the end of
/// the context, or after `options.tokens` tokens.
///
/// # Errors
/// If the logits are not finite.
pub fn continuation(
    model: &Model,
    tokens: &Tokens,
    row: &[u32],
    options: ContinuationOptions,
) -> Result<String, ModelError> {
    let texts = generate(model, tokens, &[row], options, &mut |_, _| {})?;
    Ok(tokens.decode(&texts[0].ids))
}

/// Generates the continuations of several prompts, given as token ids, and decodes them. Reports the number of finished
/// prompts to `progress`.
///
/// # Errors
/// If the logits are not finite.
pub fn continuations(
    model: &Model,
    tokens: &Tokens,
    rows: &[&[u32]],
    options: ContinuationOptions,
    progress: &dyn Progress,
) -> Result<Vec<String>, ModelError> {
    let mut out = Vec::with_capacity(rows.len());
    for batch in rows.chunks(BATCH) {
        let texts = generate(model, tokens, batch, options, &mut |_, _| {})?;
        out.extend(texts.iter().map(|text| tokens.decode(&text.ids)));
        progress.set_position(out.len() as u64);
    }
    Ok(out)
}

/// Generates the continuations of prompts, given as token ids, in one batch. Calls `seen` for every generated token,
/// with the index of its text. A text ends before a special token, at the end of the context, or after `options.tokens`
/// tokens; the batch then continues without it.
///
/// # Errors
/// If the logits are not finite.
///
/// # Panics
/// If a prompt is empty or longer than the context.
pub fn generate(
    model: &Model,
    tokens: &Tokens,
    rows: &[&[u32]],
    options: ContinuationOptions,
    seen: &mut dyn FnMut(usize, u32),
) -> Result<Vec<GeneratedText>, ModelError> {
    let (vocabulary, context) = (model.spec().vocabulary, model.spec().max_positions);
    let ends = tokens.end_tokens();
    let mut texts = vec![GeneratedText { ids: Vec::new(), end: EndReason::Limit }; rows.len()];
    if options.tokens == 0 {
        return Ok(texts);
    }
    let mut samplers: Vec<Option<Sampler>> = rows.iter().map(|_| options.seed.map(Sampler::new)).collect();
    let mut running: Vec<usize> = (0..rows.len()).collect();
    let mut generation = Generation::new(model, rows.len());
    let mut logits = if rows.is_empty() { Vec::new() } else { generation.push(rows) };
    while !running.is_empty() {
        let (mut kept, mut next) = (Vec::with_capacity(running.len()), Vec::with_capacity(running.len()));
        for ((index, row), length) in running.iter().zip(logits.chunks(vocabulary)).zip(generation.lengths()) {
            if !row.iter().all(|logit| logit.is_finite()) {
                return Err(ModelError::Overflow);
            }
            let token = samplers[*index].as_mut().map_or_else(|| top(row), |sampler| sampler.sample(row));
            let text = &mut texts[*index];
            let end = if tokens.is_special(token) || ends.contains(&token) {
                Some(EndReason::EndToken)
            } else {
                text.ids.push(token);
                seen(*index, token);
                match text.ids.len() {
                    count if count == options.tokens => Some(EndReason::Limit),
                    _ if *length == context => Some(EndReason::Context),
                    _ => None,
                }
            };
            kept.push(end.is_none());
            match end {
                Some(end) => text.end = end,
                None => next.push([token]),
            }
        }
        generation.retain(&kept);
        let mut flags = kept.iter();
        running.retain(|_| *flags.next().expect("one flag per running text"));
        if !running.is_empty() {
            logits = generation.push(&next.iter().map(<[u32; 1]>::as_slice).collect::<Vec<_>>());
        }
    }
    Ok(texts)
}
