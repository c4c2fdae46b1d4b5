//! Tokenizes the prompts of an edit, and finds the last token of the subject in each prompt.

use std::ops::Range;

use crate::model::text::tokens::EncodedPrompt;
use crate::model::{ModelError, Prompt, Tokens};
use crate::project::EndMark;

/// The fact that an edit states: after `prompt`, in which `subject` replaces `{}`, the model should continue with
/// `target`.
#[derive(Clone, Copy, Debug)]
pub struct Fact<'a> {
    /// The person or thing that the fact is about.
    pub subject: &'a str,
    /// The text before the target, with one `{}` in place of the subject.
    pub prompt: &'a str,
    /// The text with which the edited model should continue the prompt.
    pub target: &'a str,
    /// Whether the prompt is formatted as a user's message with the model's chat template; otherwise it is plain text.
    pub chat: bool,
    /// What the edited model should give directly after the target.
    pub end: EndMark,
}

/// A tokenized text that contains the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptRow {
    /// The text that was tokenized, including the subject. For an edit in a chat, it includes the chat template.
    pub text: String,
    /// The token ids of `text`. The target is not included.
    pub ids: Vec<u32>,
    /// The index of the last token that covers the subject's last character.
    pub position: usize,
    /// Whether the token at `position` also covers characters after the subject.
    pub merged: bool,
}

/// The token ids of an edit: the input of [`compile`](super::compile).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The tokenized prompts, without the target: first the prompt without a context template, then the prompt in each
    /// context template.
    pub rows: Vec<PromptRow>,
    /// The prompt `"{subject} is a"`. The KL divergence from the base model is measured at the last token of its
    /// subject.
    pub drift: PromptRow,
    /// The token ids of the target, with a leading space if the prompt needs one before the target, and those of the
    /// end mark.
    pub target: Vec<u32>,
}

/// The reason why an edit cannot be resolved: an invalid template, a subject or a target without a token, a text that
/// is longer than the model's context, or an error of the tokenizer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error messages describe the variants and their fields")]
pub enum ResolveError {
    #[error("{text:?} has {found} places `{{}}` for the subject; one was expected")]
    Places { text: String, found: usize },
    #[error("no token of {text:?} covers the subject {subject:?}")]
    NoToken { subject: String, text: String },
    #[error("the target {0:?} has no token")]
    EmptyTarget(String),
    #[error("`end` is \"eos\", but config.json of the model has no usable `eos_token_id`")]
    NoEndToken,
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{text:?} and its target are {found} tokens long; the model's context is {limit}")]
    TooLong { text: String, found: usize, limit: usize },
}

impl Resolved {
    /// Tokenizes all texts of `fact`. Each context template has one `{}` for the prompt; `limit` is the model's context
    /// length in tokens.
    ///
    /// # Errors
    /// If the prompt or a context template does not have exactly one `{}`, no token covers the subject, the target has
    /// no token, a prompt with its target is longer than `limit`, or the tokenizer fails.
    pub fn new(tokens: &Tokens, templates: &[String], fact: Fact, limit: usize) -> Result<Self, ResolveError> {
        let chat = fact.chat;
        let (prompt, subject) = fill(fact.prompt, fact.subject)?;
        let said = tokens.encode_prompt(Prompt { text: &prompt, chat })?;
        let mut target = tokens.continuation(&said.answer(fact.target))?;
        if target.is_empty() {
            return Err(ResolveError::EmptyTarget(fact.target.to_owned()));
        }
        match fact.end {
            // A target with a full stop at its end already has the mark.
            EndMark::FullStop if !fact.target.trim_end().ends_with('.') => {
                target = tokens.continuation(&[said.answer(fact.target.trim_end()).as_str(), "."].concat())?;
            }
            EndMark::Eos => target.push(tokens.end_token().ok_or(ResolveError::NoEndToken)?),
            EndMark::FullStop | EndMark::None => {}
        }
        // In a chat, the text that a context template puts before the prompt is part of the user's message.
        let row = |template: &String| {
            let (text, place) = fill(template, &prompt)?;
            let subject = place.start + subject.start..place.start + subject.end;
            cut(tokens, Prompt { text: &text, chat }, &subject, target.len() - 1, limit)
        };
        let rows = templates.iter().map(row).collect::<Result<_, _>>()?;
        // Even for an edit in a chat, `"{subject} is a"` is not formatted with the chat template. As published, the
        // drift is measured on plain text.
        let (text, place) = fill("{} is a", fact.subject)?;
        let drift = cut(tokens, text.as_str().into(), &place, 0, limit)?;
        Ok(Self { rows, drift, target })
    }
}

/// Replaces the only `{}` of `template`, and returns the text with the byte range of the replacement.
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

/// Tokenizes a prompt and finds the last token of its subject, which is at the byte range `subject` of the prompt.
/// Returns an error if the prompt and `more` further tokens do not fit into `limit` tokens.
fn cut(
    tokens: &Tokens,
    prompt: Prompt<'_>,
    subject: &Range<usize>,
    more: usize,
    limit: usize,
) -> Result<PromptRow, ResolveError> {
    let framed = tokens.encode_prompt(prompt)?;
    let subject = framed.place(subject);
    let EncodedPrompt { text, encoded, .. } = framed;
    let Some(position) = encoded.subject_last(&subject) else {
        return Err(ResolveError::NoToken { subject: text[subject].to_owned(), text });
    };
    let found = encoded.ids.len() + more;
    if found > limit {
        return Err(ResolveError::TooLong { text, found, limit });
    }
    let merged = encoded.spans[position].end > subject.end;
    Ok(PromptRow { text, ids: encoded.ids, position, merged })
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
