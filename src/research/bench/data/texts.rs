//! Reads the answers and the consequences of a record whose form varies between the files of a dataset. A text that
//! cannot be used is left out and listed with its field and the reason.

use serde_json::Value;

use crate::project::edits::consequence::{Condition, Consequence, ConsequenceKind};

/// A text of a record that is left out of the edit, while the record itself is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOutText {
    /// The field of the record or of the edit that the text belongs to, for example `portability.Reasoning`.
    pub field: String,
    pub text: String,
    pub why: String,
}

impl LeftOutText {
    pub(crate) fn new(field: &str, text: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.to_owned(), text: text.into(), why: why.into() }
    }
}

/// Returns the texts in a JSON value: a text, a number, or a list of texts, numbers and lists. Returns `None` if the
/// value contains anything else.
pub(super) fn all_texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::String(text) => Some(vec![text.clone()]),
        Value::Number(number) => Some(vec![number.to_string()]),
        Value::Array(items) => items.iter().map(all_texts).collect::<Option<Vec<_>>>().map(|all| all.concat()),
        Value::Bool(_) | Value::Object(_) => None,
    }
}

/// Splits texts into an answer, which is the first text that is not blank, and other accepted answers. A text that is
/// blank or repeats an earlier answer is added to `left`. Returns `None` if all texts are blank.
pub(super) fn answers(field: &str, texts: Vec<String>, left: &mut Vec<LeftOutText>) -> Option<(String, Vec<String>)> {
    let mut kept: Vec<String> = Vec::new();
    for text in texts {
        if text.trim().is_empty() {
            left.push(LeftOutText::new(field, text, "it is blank"));
        } else if kept.first().is_some_and(|answer| answer.trim() == text.trim()) {
            left.push(LeftOutText::new(field, text, "it equals the answer"));
        } else if kept.iter().any(|other| other.trim() == text.trim()) {
            left.push(LeftOutText::new(field, text, "it repeats an accepted answer"));
        } else {
            kept.push(text);
        }
    }
    let mut kept = kept.into_iter();
    Some((kept.next()?, kept.collect()))
}

/// Returns a consequence without conditions, or `None` if its prompt is blank or it has no answer. What is left out is
/// added to `left`.
pub(super) fn consequence(
    field: &str,
    kind: ConsequenceKind,
    prompt: String,
    texts: Vec<String>,
    left: &mut Vec<LeftOutText>,
) -> Option<Consequence> {
    let Condition { prompt, answer, accept } = asked(field, prompt, texts, left)?;
    Some(Consequence { prompt, answer, accept, kind, condition: Vec::new() })
}

/// Returns a prompt with its answers, or `None` if the prompt is blank or has no answer. What is left out is added to
/// `left`.
pub(super) fn asked(field: &str, prompt: String, texts: Vec<String>, left: &mut Vec<LeftOutText>) -> Option<Condition> {
    if prompt.trim().is_empty() {
        left.push(LeftOutText::new(field, prompt, "the prompt is blank"));
        return None;
    }
    match answers(field, texts, left) {
        Some((answer, accept)) => Some(Condition { prompt, answer, accept }),
        None => {
            left.push(LeftOutText::new(field, prompt, "the prompt has no answer"));
            None
        }
    }
}
