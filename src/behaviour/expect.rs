//! What the edits of a project expect, asked of the base and of the patched model.

use super::{Comparison, Question, Score, compare, prompt, scores};
use crate::model::{Model, ModelError, Tokens};
use crate::project::Edit;

/// What one edit expects, and what was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict<'e> {
    /// The edit.
    pub edit: &'e Edit,
    /// The new answer behind the edit's own prompt.
    pub target: Asked,
    /// The new answer behind each `expect.paraphrase`.
    pub paraphrases: Vec<Asked>,
    /// Each `expect.unchanged`.
    pub unchanged: Vec<Comparison>,
    threshold: f64,
}

/// An answer on the base and on the patched model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// The base.
    pub before: Score,
    /// The patched model.
    pub after: Score,
}

impl Verdict<'_> {
    /// Whether an `expect.unchanged` is met.
    pub fn kept(&self, comparison: &Comparison) -> bool {
        comparison.unchanged(self.threshold)
    }

    /// Whether everything that the edit expects is met.
    pub fn passes(&self) -> bool {
        let asked = self.paraphrases.iter().chain([&self.target]).all(|asked| asked.after.holds);
        asked && self.unchanged.iter().all(|comparison| self.kept(comparison))
    }
}

/// A text of an edit that cannot be asked: its edit, the byte range in the edit's file, and why.
pub struct Unasked<'e> {
    /// The edit.
    pub edit: &'e Edit,
    /// Where the text stands.
    pub span: std::ops::Range<usize>,
    /// Why it cannot be asked.
    pub error: ModelError,
}

/// Asks for everything that `edits` expect; `threshold` is the divergence from which a prompt counts as changed.
///
/// # Errors
/// Texts that the tokenizer refuses or that do not fit the context: all of them.
pub fn verdicts<'e>(
    base: &Model,
    patched: &Model,
    tokens: &Tokens,
    edits: &[&'e Edit],
    threshold: f64,
) -> Result<Vec<Verdict<'e>>, Vec<Unasked<'e>>> {
    let limit = base.spec().positions;
    let (mut questions, mut prompts, mut unasked) = (Vec::new(), Vec::new(), Vec::new());
    for &edit in edits {
        let place = &edit.place;
        let filled = edit.filled_prompt();
        let asked = [(&filled, &place.prompt)].into_iter();
        for (text, span) in asked.chain(edit.expect.paraphrase.iter().zip(&place.paraphrase)) {
            match Question::new(tokens, text, &edit.target, limit) {
                Ok(question) => questions.push(question),
                Err(error) => unasked.push(Unasked { edit, span: span.clone(), error }),
            }
        }
        for (text, span) in edit.expect.unchanged.iter().zip(&place.unchanged) {
            match prompt(tokens, text, limit) {
                Ok(row) => prompts.push(row),
                Err(error) => unasked.push(Unasked { edit, span: span.clone(), error }),
            }
        }
    }
    if !unasked.is_empty() {
        return Err(unasked);
    }
    let (before, after) = (scores(base, &questions), scores(patched, &questions));
    let mut asked = before.into_iter().zip(after).map(|(before, after)| Asked { before, after });
    let mut compared = compare(base, patched, &prompts).into_iter();
    let verdict = |&edit: &&'e Edit| Verdict {
        edit,
        target: asked.next().expect("a score per question"),
        paraphrases: asked.by_ref().take(edit.expect.paraphrase.len()).collect(),
        unchanged: compared.by_ref().take(edit.expect.unchanged.len()).collect(),
        threshold,
    };
    Ok(edits.iter().map(verdict).collect())
}
