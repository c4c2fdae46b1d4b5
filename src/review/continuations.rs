//! Generates continuations of prompts with the two models of a comparison, for `corrigenda diff`.
//!
//! Both models sample with the same seed, or decode greedily if no seed is set.

use super::side::{DiffContext, Side};
use crate::behaviour::ask::PredictionPair;
use crate::behaviour::continuation::{ContinuationOptions, continuation};
use crate::behaviour::expectation::Expectation;
use crate::behaviour::word_diff::words;
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::pipeline::Base;
use crate::report::{Continuation, ContinuationSettings};

/// The maximum number of prompts for which continuations are generated.
const MAX_CONTINUED: usize = 24;

/// The generated continuations, each with the texts of both models.
pub(super) struct SideTexts {
    pub continuations: Vec<Continuation>,
    /// The settings of the generation, for the report; `None` if no text was generated.
    pub drawn: Option<ContinuationSettings>,
}

/// Continues the first [`MAX_CONTINUED`] prompts with both models. Returns no texts if `generation.tokens` is 0.
pub(super) fn side_texts(
    before: &Side,
    after: &Side,
    context: DiffContext<'_>,
    prompts: &[(&Expectation<'_>, &PredictionPair)],
    generation: ContinuationOptions,
) -> Result<SideTexts, Failure> {
    let continued_prompts = if generation.tokens == 0 { &[] } else { &prompts[..prompts.len().min(MAX_CONTINUED)] };
    let continuations = continue_all(before, after, context, continued_prompts, generation)?;
    let drawn = ContinuationSettings {
        tokens: generation.tokens,
        seed: generation.seed,
        left_out: prompts.len() - continued_prompts.len(),
    };
    let drawn = (!continuations.is_empty()).then_some(drawn);
    Ok(SideTexts { continuations, drawn })
}

/// Continues every prompt with both models. Skips a prompt that fills the whole context of the model.
fn continue_all(
    before: &Side,
    after: &Side,
    context: DiffContext<'_>,
    prompts: &[(&Expectation<'_>, &PredictionPair)],
    generation: ContinuationOptions,
) -> Result<Vec<Continuation>, Failure> {
    let mut out = Vec::new();
    context.progress.begin_short("prompts that both sides continue", prompts.len() as u64);
    for (done, (one, pair)) in prompts.iter().enumerate() {
        let found = continue_prompt(before, after, context, one, generation);
        if found.is_err() {
            context.progress.end();
        }
        out.extend(found?.map(|found| Continuation {
            note: disagreement_note(one, pair, &found, generation, context.base),
            ..found
        }));
        context.progress.set_position(done as u64 + 1);
    }
    context.progress.end();
    Ok(out)
}

/// Returns a note if the generated text of the later model contradicts the model's answer in the report. This is the
/// case if the text does not start with the most probable next token, or if the answer is right and the text contains
/// the old answer.
fn disagreement_note(
    one: &Expectation<'_>,
    pair: &PredictionPair,
    found: &Continuation,
    generation: ContinuationOptions,
    base: &Base,
) -> Option<String> {
    // Greedy decoding always starts with the likeliest token, so only sampled text can start with another token.
    let first =
        pair.after.top.first().filter(|_| generation.seed.is_some()).map(|(token, _)| base.tokens.piece(*token));
    let text = found.after.trim_start();
    let departs = first.filter(|first| !first.trim().is_empty() && !text.starts_with(first.trim()));
    let old = one.edit.and_then(|edit| edit.was.as_ref()).filter(|was| pair.after.holds() && text.contains(was.trim()));
    match (departs, old) {
        (Some(likeliest), _) => Some(format!("the later side's likeliest answer, {likeliest:?}, was not sampled")),
        (None, Some(was)) => Some(format!("the later side gives the right answer, but later also says {was:?}")),
        (None, None) => None,
    }
}

/// Continues one prompt with both models; `None` if the prompt fills the whole context of the model.
fn continue_prompt(
    before: &Side,
    after: &Side,
    context: DiffContext<'_>,
    one: &Expectation<'_>,
    generation: ContinuationOptions,
) -> Result<Option<Continuation>, Failure> {
    let base = context.base;
    let stop = |message: String| Failure::from(Diagnostic::new(Code::SideUnusable, message));
    let row = base.tokens.encode_prompt(one.model_input()).map_err(|error| stop(error.to_string()))?.encoded.ids;
    let generation = ContinuationOptions {
        tokens: generation.tokens.min(base.model.spec().max_positions.saturating_sub(row.len())),
        ..generation
    };
    if generation.tokens == 0 {
        return Ok(None);
    }
    let text = |side: &Side| {
        let cache = side.cache(context);
        let known = cache.text(&row, generation);
        let made =
            || continuation(&side.model, &base.tokens, &row, generation).map_err(|error| stop(error.to_string()));
        let text = known.map_or_else(made, Ok)?;
        cache.store_text(&row, generation, &text);
        Ok::<_, Failure>(text)
    };
    let (was, is) = (text(before)?, text(after)?);
    let (id, prompt, words) = (one.id.to_owned(), one.display_prompt(), words(&was, &is));
    Ok(Some(Continuation { id, prompt, before: was, after: is, words, note: None }))
}
