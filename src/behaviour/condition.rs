//! Asks the base model the conditions of consequences.
//!
//! A consequence can depend on facts that the edit does not state. For example, the country of a moved tower follows
//! from its new city only if the base knows the country of that city. Such a fact is a condition. If the base does not
//! meet a condition, the consequence says nothing about the edit and is not asked.

use super::ask::ask_earlier;
use super::cache::MeasurementCache;
use super::expectation::{Expectation, UnrunnablePrompt, groups, inquiries};
use crate::model::{Model, Tokens};
use crate::progress::Progress;
use crate::project::edits::consequence::Condition;

/// A condition that the base model does not meet.
#[derive(Clone, Debug, PartialEq)]
pub struct UnmetCondition<'p> {
    pub condition: &'p Condition,
    /// The likeliest next token of the base after the prompt of the condition, with its probability.
    pub says: Option<(u32, f64)>,
}

/// Returns the conditions of all consequences as expectations on the base, each with the index of its consequence in
/// `expectations`.
fn conditions<'p>(expectations: &[Expectation<'p>]) -> Vec<(usize, &'p Condition, Expectation<'p>)> {
    let of_one = |(index, one): (usize, &Expectation<'p>)| {
        let (consequence, spans) = one.consequence?;
        let asked = consequence.condition.iter().zip(&spans.conditions).map(move |(condition, span)| {
            let (prompt, answers) = (condition.prompt.clone(), condition.answers().collect());
            let asked =
                Expectation { prompt, preface: 0, answers, consequence: None, span: span.clone(), ..one.clone() };
            (index, condition, asked)
        });
        Some(asked.collect::<Vec<_>>())
    };
    expectations.iter().enumerate().filter_map(of_one).flatten().collect()
}

/// Returns the conditions of all consequences as expectations on the base, in the order of `expectations`.
pub fn condition_prompts<'p>(expectations: &[Expectation<'p>]) -> Vec<Expectation<'p>> {
    conditions(expectations).into_iter().map(|(.., asked)| asked).collect()
}

/// Asks the base all conditions. Returns, for each expectation, the first condition that the base does not meet; `None`
/// if the base meets all conditions, or if there are none. `cache` is the cache of measurements of the base.
///
/// # Errors
/// If prompts of conditions cannot be tokenized or exceed the context; the error lists all of them.
pub fn unmet_conditions<'p>(
    base: &Model,
    tokens: &Tokens,
    cache: &MeasurementCache<'_>,
    expectations: &[Expectation<'p>],
    progress: &dyn Progress,
) -> Result<Vec<Option<UnmetCondition<'p>>>, Vec<UnrunnablePrompt>> {
    let mut unmet = vec![None; expectations.len()];
    let conditions = conditions(expectations);
    if conditions.is_empty() {
        return Ok(unmet);
    }
    let asked: Vec<Expectation<'p>> = conditions.iter().map(|(.., asked)| asked.clone()).collect();
    let inquiries = inquiries(tokens, base.spec().max_positions, &asked)?;
    progress.begin_short("conditions evaluated by the base", inquiries.len() as u64);
    let predictions = ask_earlier(cache, base, &groups(&inquiries, &asked), progress);
    progress.end();
    for ((index, condition, _), prediction) in conditions.into_iter().zip(predictions) {
        if !prediction.holds() && unmet[index].is_none() {
            unmet[index] = Some(UnmetCondition { condition, says: prediction.top.first().copied() });
        }
    }
    Ok(unmet)
}
