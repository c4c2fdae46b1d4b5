use std::convert::Infallible;

use crate::cli::context::Context;
use crate::pipeline::Base;
use crate::progress::{NoProgress, Progress as _};
use crate::research::trace::{FactTrace, KnownFact, Noise, Skipped, TracePlan, trace};

/// The traced facts, and the ids of the facts that could not be traced, each with the reason.
type Results = (Vec<FactTrace>, Vec<(String, Skipped)>);

/// Traces all facts on the base. The progress bar counts restored states if there is only one fact, and otherwise
/// facts.
pub(super) fn trace_all(
    context: &Context,
    base: &Base,
    facts: Vec<KnownFact>,
    noise: &Noise,
    plan: &TracePlan,
) -> Results {
    if let [fact] = facts.as_slice() {
        return match trace(&base.model, &base.tokens, fact, noise, plan, &context.ui) {
            Ok(one) => (vec![one], Vec::new()),
            Err(error) => (Vec::new(), vec![(fact.id.clone(), error)]),
        };
    }
    let one = |fact: &KnownFact| Ok::<_, Infallible>(trace(&base.model, &base.tokens, fact, noise, plan, &NoProgress));
    let Ok(traced) = trace_each(context, facts, one);
    traced
}

/// Traces all facts with the function `one`, and reports the progress. If `one` returns [`Skipped`] for a fact, the
/// fact is listed with this reason, and the next facts are traced.
///
/// # Errors
/// If `one` fails with an error other than [`Skipped`]. The remaining facts are then not traced.
pub(super) fn trace_each<E>(
    context: &Context,
    facts: Vec<KnownFact>,
    one: impl Fn(&KnownFact) -> Result<Result<FactTrace, Skipped>, E>,
) -> Result<Results, E> {
    let (mut traced, mut left) = (Vec::new(), Vec::new());
    context.ui.begin("facts to trace", facts.len() as u64);
    for (index, fact) in facts.into_iter().enumerate() {
        match one(&fact).inspect_err(|_| context.ui.end())? {
            Ok(one) => {
                context.ui.line(&progress_line(&one));
                traced.push(one);
            }
            Err(error) => left.push((fact.id, error)),
        }
        context.ui.set_position(index as u64 + 1);
    }
    context.ui.end();
    Ok((traced, left))
}

fn progress_line(one: &FactTrace) -> String {
    format!("{}: {:?} {:.3}, corrupted {:.3}", one.fact.id, one.answer, one.clean, one.corrupted)
}
