//! Defines the consequences of an edit, and reads them from `[[edit.expect.consequence]]`.
//!
//! A consequence is a prompt whose answer follows from the edit, for example the country of a city to which the edit
//! moves a tower.

use std::ops::Range;

use schemars::JsonSchema;
use serde::Serialize;

use super::{MOST_EXPECTATIONS, values};
use crate::diagnostics::{Code, Diagnostic, list_in_words, nearest, shorten};
use crate::digest::FieldHasher;
use crate::project::read::rules;
use crate::project::read::toml_reader::{TomlReader, TomlTable, TomlText};

/// The maximum number of conditions of one consequence.
pub const MOST_CONDITIONS: usize = 16;

pub(crate) const CONSEQUENCE_KEYS: &[&str] = &["prompt", "answer", "accept", "kind", "condition"];
pub(crate) const CONDITION_KEYS: &[&str] = &["prompt", "answer", "accept"];

/// How a consequence follows from its edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConsequenceKind {
    /// The edited fact, with another name of the subject.
    Alias,
    /// The inverse relation: the prompt contains the new answer, and the answer is the subject.
    Reversal,
    /// A fact that is reached from the edited fact by one or more relations.
    Hop,
    /// A fact that follows from the edited fact by logic, such as the symmetry of a relation.
    Logic,
    /// Another fact about the subject, which the edit does not change.
    RelationSpecific,
    /// Another answer to a relation with several answers, which remains true after the edit.
    Forgetting,
}

impl ConsequenceKind {
    pub const ALL: [Self; 6] =
        [Self::Alias, Self::Reversal, Self::Hop, Self::Logic, Self::RelationSpecific, Self::Forgetting];

    /// Returns the value of `kind` in an edit file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alias => "alias",
            Self::Reversal => "reversal",
            Self::Hop => "hop",
            Self::Logic => "logic",
            Self::RelationSpecific => "relation-specific",
            Self::Forgetting => "forgetting",
        }
    }
}

/// A prompt with the answers that count as correct.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ConditionTable", title = "condition", deny_unknown_fields)]
pub struct Condition {
    /// The full prompt, without `{}`.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    pub prompt: String,
    /// The answer that the base must give.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    pub answer: String,
    /// Answers that count as correct in addition to `answer`.
    #[schemars(default, length(max = 256), inner(length(min = 1, max = 4096), regex(pattern = r"\S")))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<String>,
}

impl Condition {
    /// Returns the answers that count as correct: `answer` first, then those in `accept`.
    pub fn answers(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.answer.as_str()).chain(self.accept.iter().map(String::as_str))
    }

    fn describe(&self, canon: &mut FieldHasher) {
        let answers: Vec<&str> = self.answers().collect();
        canon.text("prompt", &self.prompt).texts("answers", answers.into_iter());
    }

    /// Formats the prompt and the answers on one line.
    fn shown(&self) -> String {
        let accept = self.accept.iter().map(|text| format!(" or {text:?}")).collect::<String>();
        format!("{:?} → {:?}{accept}", self.prompt, self.answer)
    }
}

/// A prompt whose answer follows from the edit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ConsequenceTable", title = "consequence", deny_unknown_fields)]
pub struct Consequence {
    /// The full prompt, without `{}`.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    pub prompt: String,
    /// The answer that the patched model should give.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    pub answer: String,
    /// Answers that count as correct in addition to `answer`.
    #[schemars(default, length(max = 256), inner(length(min = 1, max = 4096), regex(pattern = r"\S")))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<String>,
    /// How the consequence follows from the edit.
    pub kind: ConsequenceKind,
    /// What the base must already answer. If the base does not meet one of the conditions, the consequence is not
    /// asked.
    #[schemars(default, length(min = 1, max = 16))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub condition: Vec<Condition>,
}

impl Consequence {
    /// Returns the answers that count as correct: `answer` first, then those in `accept`.
    pub fn answers(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.answer.as_str()).chain(self.accept.iter().map(String::as_str))
    }

    /// Adds all fields to the digest of the expectations of an edit.
    pub(super) fn describe(&self, canon: &mut FieldHasher) {
        let answers: Vec<&str> = self.answers().collect();
        canon.text("kind", self.kind.as_str()).text("prompt", &self.prompt).texts("answers", answers.into_iter());
        canon.number("conditions", self.condition.len() as u64);
        self.condition.iter().for_each(|condition| condition.describe(canon));
    }

    /// Formats all fields on one line, for the comparison of two sets of edits.
    pub(crate) fn shown(&self) -> String {
        let Self { prompt, answer, accept, .. } = self.clone();
        let asked = Condition { prompt, answer, accept }.shown();
        let conditions: Vec<String> = self.condition.iter().map(Condition::shown).collect();
        let given = if conditions.is_empty() { String::new() } else { format!(", if {}", conditions.join(" and ")) };
        format!("{}: {asked}{given}", self.kind.as_str())
    }
}

/// The byte ranges of a consequence in its edit file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsequenceSpans {
    pub prompt: Range<usize>,
    /// The byte range of the prompt of each condition.
    pub conditions: Vec<Range<usize>>,
}

/// Reads all `[[edit.expect.consequence]]` tables of an edit. An invalid table gives findings and is left out.
pub(super) fn read(reader: &mut TomlReader, expect: &TomlTable<'_, '_>) -> (Vec<Consequence>, Vec<ConsequenceSpans>) {
    let entries = reader.tables(expect, "consequence", "this consequence");
    if entries.len() > MOST_EXPECTATIONS {
        let message = format!("there are {} consequences; at most {MOST_EXPECTATIONS} are allowed", entries.len());
        reader.note(Code::OutOfRange, message, &entries[MOST_EXPECTATIONS].span, "too many");
    }
    let mut prompts = Vec::new();
    let read = entries.iter().take(MOST_EXPECTATIONS).filter_map(|entry| read_one(reader, entry, &mut prompts));
    let read = read.collect::<Vec<_>>().into_iter().unzip();
    rules::expectations(reader, "consequence", &prompts);
    read
}

fn read_one(
    reader: &mut TomlReader,
    entry: &TomlTable<'_, '_>,
    prompts: &mut Vec<TomlText>,
) -> Option<(Consequence, ConsequenceSpans)> {
    reader.known_keys(entry, CONSEQUENCE_KEYS);
    let kind = reader.required_text(entry, "kind").and_then(|kind| read_kind(reader, &kind));
    let asked = read_asked(reader, entry);
    let (condition, conditions) = read_conditions(reader, entry);
    prompts.extend(asked.prompt.clone());
    let (prompt, answer) = (asked.prompt?, asked.answer?);
    let consequence =
        Consequence { prompt: prompt.value, answer: answer.value, accept: asked.accept, kind: kind?, condition };
    Some((consequence, ConsequenceSpans { prompt: prompt.span, conditions }))
}

fn read_kind(reader: &mut TomlReader, kind: &TomlText) -> Option<ConsequenceKind> {
    let known = ConsequenceKind::ALL.into_iter().find(|known| known.as_str() == kind.value);
    if known.is_none() {
        let names = ConsequenceKind::ALL.map(ConsequenceKind::as_str);
        let message = format!("`kind` is {:?}, which is not a kind of consequence", shorten(&kind.value));
        let finding = Diagnostic::new(Code::ConsequenceUnknown, message).at(reader.file, &kind.span, "unknown kind");
        let otherwise = format!("the kinds are {}", list_in_words(&names));
        reader.push(finding.suggest(nearest(&kind.value, &names), otherwise));
    }
    known
}

/// The prompt and the answers of a consequence or of a condition; a missing or invalid text is `None`.
struct AskedTexts {
    prompt: Option<TomlText>,
    answer: Option<TomlText>,
    accept: Vec<String>,
}

fn read_asked(reader: &mut TomlReader, entry: &TomlTable<'_, '_>) -> AskedTexts {
    let prompt = reader.required_text(entry, "prompt");
    let answer = reader.required_text(entry, "answer").inspect(|answer| rules::fact(reader, "answer", answer));
    let accept = reader.texts(entry, "accept", MOST_EXPECTATIONS);
    let mut seen: Vec<&TomlText> = answer.iter().collect();
    for text in &accept {
        rules::fact(reader, "accept", text);
        if let Some(first) = seen.iter().find(|other| other.value.trim() == text.value.trim()) {
            let finding = Diagnostic::new(Code::DuplicateEntry, "this answer already counts as correct")
                .at(reader.file, &text.span, "again here")
                .with(reader.file, &first.span, "first here");
            reader.push(finding);
        }
        seen.push(text);
    }
    AskedTexts { prompt, answer, accept: values(accept) }
}

fn read_conditions(reader: &mut TomlReader, entry: &TomlTable<'_, '_>) -> (Vec<Condition>, Vec<Range<usize>>) {
    let expected = "an array of `{ prompt = …, answer = … }`";
    let Some(items) = reader.array(entry, "condition", expected) else { return Default::default() };
    if items.is_empty() || items.len() > MOST_CONDITIONS {
        let span = entry.table.get("condition").map_or(0..0, toml::Spanned::span);
        let message = format!("`condition` must have from 1 to {MOST_CONDITIONS} entries, not {}", items.len());
        let finding = Diagnostic::new(Code::OutOfRange, message).at(reader.file, &span, "out of range");
        reader.push(if items.is_empty() { finding.help("remove `condition` to always ask it") } else { finding });
    }
    let read = items.iter().take(MOST_CONDITIONS).filter_map(|item| {
        let table = reader.as_table("every entry of `condition`", "this condition", item)?;
        reader.known_keys(&table, CONDITION_KEYS);
        let AskedTexts { prompt, answer, accept } = read_asked(reader, &table);
        rules::expectations(reader, "condition", prompt.as_slice());
        let prompt = prompt?;
        Some((Condition { prompt: prompt.value, answer: answer?.value, accept }, prompt.span))
    });
    read.collect::<Vec<_>>().into_iter().unzip()
}

#[cfg(test)]
#[path = "consequence_tests.rs"]
mod tests;
