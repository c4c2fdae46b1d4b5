//! Defines how an expectation is judged: by the probabilities of an answer, or by generated text.

use std::ops::Range;

use schemars::JsonSchema;
use serde::Serialize;

use crate::diagnostics::{Code, Diagnostic, list_in_words, nearest};
use crate::project::read::toml_reader::{TomlReader, TomlTable};

/// What the generated text after a prompt must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SaysRule {
    /// The first sentence of the text is an accepted answer and nothing else.
    Exact,
    /// The first sentence of the text contains an accepted answer as whole words. In a reply to a user message, any
    /// sentence may contain it.
    Contains,
}

impl SaysRule {
    const NAMES: [(&'static str, Self); 2] = [("exact", Self::Exact), ("contains", Self::Contains)];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Contains => "contains",
        }
    }

    /// Reads the optional rule `key` of a table.
    pub(crate) fn read(reader: &mut TomlReader, table: &TomlTable<'_, '_>, key: &str) -> Option<Self> {
        one_of(reader, table, key, &Self::NAMES).map(|(rule, _)| rule)
    }
}

/// What decides whether the answer to a prompt is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JudgedBy {
    /// Every token of the answer is the likeliest one after the prompt and the earlier tokens of the answer.
    #[default]
    TeacherForcing,
    /// The text that the model generates after the prompt.
    Generation,
}

impl JudgedBy {
    const NAMES: [(&'static str, Self); 2] =
        [("teacher-forcing", Self::TeacherForcing), ("generation", Self::Generation)];

    /// Reads the optional `by` of a table.
    pub(crate) fn read(reader: &mut TomlReader, table: &TomlTable<'_, '_>) -> Option<Self> {
        one_of(reader, table, "by", &Self::NAMES).map(|(by, _)| by)
    }
}

/// Reads an optional text that must be one of several names, and returns what the name stands for, with the byte range
/// of the text.
pub(crate) fn one_of<T: Copy>(
    reader: &mut TomlReader,
    table: &TomlTable<'_, '_>,
    key: &str,
    names: &[(&'static str, T)],
) -> Option<(T, Range<usize>)> {
    let text = reader.text(table, key)?;
    if let Some((_, found)) = names.iter().find(|(name, _)| *name == text.value) {
        return Some((*found, text.span));
    }
    let all: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    let message = format!("`{key}` must be one of {}", list_in_words(&all));
    let finding = Diagnostic::new(Code::OutOfRange, message).at(reader.file, &text.span, "unknown value");
    reader.push(match nearest(&text.value, &all) {
        Some(near) => finding.suggest(Some(near), ""),
        None => finding,
    });
    None
}
