//! Implements in-context editing (IKE, Zheng et al. 2023) without demonstrations: the model is not changed, and the
//! facts are before every prompt that it reads. The form of a fact and of a prompt is that of EasyEdit's evaluation:
//! `New Fact: {fact}`, a line break, and `Prompt: {prompt}`. For a set of facts, there is one line per fact, in the
//! order of the set.

use super::{EditError, Edited, Editor};
use crate::model::text::tokens::target_text;
use crate::progress::Progress;
use crate::research::bench::eval_context::{EvalContext, PreparedCase};

pub(crate) struct InContext;

impl Editor for InContext {
    fn edit(&self, context: &EvalContext<'_>, facts: &[&PreparedCase], _: &dyn Progress) -> Result<Edited, EditError> {
        let prefix = prefix(facts);
        let (tokens, limit) = (&context.base.tokens, context.base.model.spec().max_positions);
        let before = tokens.encode(&prefix).map_err(|error| EditError::Facts(error.to_string()))?.ids.len();
        let longest = |stated: &&PreparedCase| stated.resolved.rows[0].ids.len() + stated.resolved.target.len() - 1;
        let needed = before + facts.iter().map(longest).max().unwrap_or(0);
        if needed > limit {
            return Err(EditError::Facts(format!(
                "ike: {} facts and a prompt after them are {needed} tokens long; the model's context is {limit}",
                facts.len()
            )));
        }
        Ok(Edited { prefix, ..Edited::new(context.base.model.clone(), None) })
    }
}

/// Returns the text that is put before every prompt.
fn prefix(facts: &[&PreparedCase]) -> String {
    let fact = |stated: &&PreparedCase| {
        let filled = stated.case.filled();
        let target = target_text(&filled, &stated.case.target);
        format!("New Fact: {filled}{target}\n")
    };
    facts.iter().map(fact).chain(["Prompt: ".to_owned()]).collect()
}
