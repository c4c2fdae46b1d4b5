//! Asks the conditions of consequences, and converts the consequences that are not asked to entries of a report.

use crate::behaviour::cache::MeasurementCache;
use crate::behaviour::condition::{UnmetCondition, unmet_conditions};
use crate::behaviour::expectation::{Expectation, UnrunnablePrompt};
use crate::diagnostics::{Place, Sources};
use crate::model::Tokens;
use crate::pipeline::Base;
use crate::progress::Progress;
use crate::report::{NotAsked, Token};
use crate::store::Store;

/// Asks the base the conditions of all consequences, and returns for each expectation the condition that it does not
/// meet. The measurements of the base are cached in the store.
///
/// # Errors
/// If the prompt of a condition cannot be run; the error lists all of these prompts.
pub fn unmet<'p>(
    base: &Base,
    store: &Store,
    expectations: &[Expectation<'p>],
    progress: &dyn Progress,
) -> Result<Vec<Option<UnmetCondition<'p>>>, Vec<UnrunnablePrompt>> {
    let cache = MeasurementCache::new(store, base.locked.digest, None, None);
    unmet_conditions(&base.model, &base.tokens, &cache, expectations, progress)
}

/// Creates the entry of a consequence that is not asked. `sources` are those of the project that states it. Returns
/// `None` if the expectation is not a consequence.
pub fn not_asked(
    tokens: &Tokens,
    sources: &Sources,
    one: &Expectation<'_>,
    unmet: &UnmetCondition<'_>,
) -> Option<NotAsked> {
    let (consequence, _) = one.consequence?;
    let token = |(id, probability): (u32, f64)| Token { text: tokens.piece(id), probability };
    Some(NotAsked {
        id: one.id.to_owned(),
        kind: consequence.kind,
        prompt: one.display_prompt(),
        condition: unmet.condition.prompt.clone(),
        answer: unmet.condition.answer.clone(),
        says: unmet.says.map(token),
        place: Some(Place::new(one.file, &one.span, sources)),
    })
}
