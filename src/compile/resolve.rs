//! The texts of an edit as rows of tokens, and where its subject ends in each of them.

use std::ops::Range;

use crate::model::tokens::Framed;
use crate::model::{ModelError, Prompt, Tokens};

/// What an edit states: `subject` stands in `prompt` at `{}`, and the model shall go on with `target`.
#[derive(Clone, Copy, Debug)]
pub struct Fact<'a> {
    /// Who or what the fact is about.
    pub subject: &'a str,
    /// The relation as a sentence with one `{}`.
    pub prompt: &'a str,
    /// The new object.
    pub target: &'a str,
    /// Whether a user says the sentence, under the model's chat template.
    pub chat: bool,
}

/// A text with its subject, cut into tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The filled text.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// The last token that covers the subject's last character.
    pub position: usize,
    /// Whether that token also covers characters behind the subject.
    pub merged: bool,
}

/// An edit as the model reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The prompt under every context template, the bare one first; without the target.
    pub rows: Vec<Row>,
    /// `"{} is a"` with the subject: where its drift is measured.
    pub drift: Row,
    /// The target's tokens, its leading space included where one belongs.
    pub target: Vec<u32>,
}

/// An edit that the model cannot read as it is meant.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it; the fields are their parts")]
pub enum ResolveError {
    #[error("{text:?} has {found} places `{{}}` for the subject; one was expected")]
    Places { text: String, found: usize },
    #[error("the subject {subject:?} is covered by no token of {text:?}")]
    NoToken { subject: String, text: String },
    #[error("the target {0:?} has no token")]
    EmptyTarget(String),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{text:?} and its target are {found} tokens long; the model's context is {limit}")]
    TooLong { text: String, found: usize, limit: usize },
}

impl Resolved {
    /// Cuts all texts of `fact`; `templates` hold one `{}` each for the prompt; `limit` is the model's context.
    ///
    /// # Errors
    /// If a text lacks its place for the subject, has no token for it, or is too long.
    pub fn new(tokens: &Tokens, templates: &[String], fact: Fact, limit: usize) -> Result<Self, ResolveError> {
        let chat = fact.chat;
        let (prompt, subject) = fill(fact.prompt, fact.subject)?;
        let said = tokens.frame(Prompt { text: &prompt, chat })?;
        let target = tokens.continuation(&said.answer(fact.target))?;
        if target.is_empty() {
            return Err(ResolveError::EmptyTarget(fact.target.to_owned()));
        }
        // In a chat, what a template puts before the prompt is said by the user too.
        let row = |template: &String| {
            let (text, place) = fill(template, &prompt)?;
            let subject = place.start + subject.start..place.start + subject.end;
            cut(tokens, Prompt { text: &text, chat }, &subject, target.len() - 1, limit)
        };
        let rows = templates.iter().map(row).collect::<Result<_, _>>()?;
        // What the subject is, is asked of the model and not of the one who answers in its chats.
        let (text, place) = fill("{} is a", fact.subject)?;
        let drift = cut(tokens, text.as_str().into(), &place, 0, limit)?;
        Ok(Self { rows, drift, target })
    }
}

/// `template` with its one `{}` replaced, and the bytes that the replacement takes there.
pub fn fill(template: &str, replacement: &str) -> Result<(String, Range<usize>), ResolveError> {
    let found = template.matches("{}").count();
    match template.split_once("{}") {
        Some((before, after)) if found == 1 => {
            let place = before.len()..before.len() + replacement.len();
            Ok((format!("{before}{replacement}{after}"), place))
        }
        _ => Err(ResolveError::Places { text: template.to_owned(), found }),
    }
}

/// Cuts a prompt behind which `more` tokens follow.
fn cut(
    tokens: &Tokens,
    prompt: Prompt<'_>,
    subject: &Range<usize>,
    more: usize,
    limit: usize,
) -> Result<Row, ResolveError> {
    let framed = tokens.frame(prompt)?;
    let subject = framed.place(subject);
    let Framed { text, encoded, .. } = framed;
    let Some(position) = encoded.subject_last(&subject) else {
        return Err(ResolveError::NoToken { subject: text[subject].to_owned(), text });
    };
    let found = encoded.ids.len() + more;
    if found > limit {
        return Err(ResolveError::TooLong { text, found, limit });
    }
    let merged = encoded.spans[position].end > subject.end;
    Ok(Row { text, ids: encoded.ids, position, merged })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_has_one_place() {
        assert_eq!(fill("In {}.", "Rome").expect("one place"), ("In Rome.".to_owned(), 3..7));
        assert!(matches!(fill("In Rome.", "x"), Err(ResolveError::Places { found: 0, .. })));
        assert!(matches!(fill("{} {}", "x"), Err(ResolveError::Places { found: 2, .. })));
    }
}
