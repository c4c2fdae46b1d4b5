//! Reads the records of published datasets and converts them to one type, [`Case`].
//!
//! A dataset file is a JSON array of records, or has one record per line (JSON Lines). The file is read record by
//! record, so its size is not limited. A record that does not have the schema is rejected, and the remaining records
//! are still read.

mod counterfact;
mod easyedit;
mod request;
mod zsre;

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::Value;

use crate::compile::resolve::fill;
use crate::diagnostics::is_control;
use crate::digest::FieldHasher;
use crate::project::edits::edit::PLACEHOLDER;
use crate::regular_file;

/// The longest text of a record that is accepted, in bytes (64 KiB).
const MOST_TEXT: usize = 1 << 16;

/// The schema of a dataset file, which the user names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Dataset {
    /// CounterFact, the full schema of ROME's evaluation
    Counterfact,
    /// zsRE, the schema of MEND's question answering
    Zsre,
    /// CounterFact in EasyEdit's flat form
    Easyedit,
    /// The requests of ROME's and MEMIT's notebooks and of AlphaEdit
    Request,
}

impl Dataset {
    /// Returns the name of the dataset on the command line and in reports, such as `counterfact`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counterfact => "counterfact",
            Self::Zsre => "zsre",
            Self::Easyedit => "easyedit",
            Self::Request => "request",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The complete prompt, without a placeholder for the subject.
    pub prompt: String,
    /// The answer that counts as correct for the prompt.
    pub answer: String,
}

/// One record: a fact to change, prompts whose answers should change with the fact, and prompts whose answers should
/// not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The index of the record in the file, from 0.
    pub record: u64,
    /// The number by which the dataset identifies the record; the index of the record if the dataset states no number.
    pub id: u64,
    /// The entity that the fact is about.
    pub subject: String,
    /// The prompt, with `{}` in place of the subject.
    pub prompt: String,
    /// The new answer, which the edited model should give after the prompt.
    pub target: String,
    /// The answer that was true before the edit; `None` if the record does not state it.
    pub was: Option<String>,
    /// The Wikidata id of the relation; `None` if the record does not state it.
    pub relation: Option<String>,
    /// The Wikidata id of the new answer; `None` if the record does not state it.
    pub target_id: Option<String>,
    /// Paraphrases of the prompt, each containing the subject.
    pub paraphrases: Vec<String>,
    /// Prompts about other subjects, whose answers should be the same before and after the edit.
    pub neighbours: Vec<Neighbour>,
    /// Prompts for free generation, each containing the subject; GE and RS are measured on the generated text.
    pub generation: Vec<String>,
}

impl Case {
    /// Adds all fields of the record to a digest. The results of the record are stored under this digest.
    pub fn describe(&self, canon: &mut FieldHasher) {
        canon.number("record", self.record).number("case", self.id).text("subject", &self.subject);
        canon.text("prompt", &self.prompt).text("target", &self.target);
        let maybe = [("was", &self.was), ("relation", &self.relation), ("target-id", &self.target_id)];
        for (name, text) in maybe {
            canon.texts(name, text.as_deref().into_iter());
        }
        canon.texts("paraphrases", self.paraphrases.iter().map(String::as_str));
        canon.texts("neighbours", self.neighbours.iter().map(|asked| asked.prompt.as_str()));
        canon.texts("answers", self.neighbours.iter().map(|asked| asked.answer.as_str()));
        canon.texts("generation", self.generation.iter().map(String::as_str));
    }

    /// Returns the prompt with `{}` replaced by the subject.
    pub fn filled(&self) -> String {
        self.prompt.replacen(PLACEHOLDER, &self.subject, 1)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    /// The index of the record in the file, from 0.
    pub record: u64,
    /// The record's case number in its dataset; `None` if the record has none.
    pub id: Option<u64>,
    /// The reason for rejecting the record, shown to the user.
    pub why: String,
}

impl fmt::Display for RejectedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}", self.record)?;
        if let Some(id) = self.id {
            write!(f, " (case {id})")?;
        }
        write!(f, ": {}", self.why)
    }
}

/// The error for a file that cannot be read or is not a dataset of this schema.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error messages explain the fields")]
pub enum DataError {
    #[error("reading {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {refused} records are not of this schema: it is another dataset")]
    Foreign { path: PathBuf, refused: usize },
    #[error("{path}: {source}")]
    Json { path: PathBuf, source: serde_json::Error },
}

/// The maximum number of rejected records; a file with more is rejected as a whole.
const MOST_REFUSED: usize = 100_000;

/// Reads a dataset file record by record. `seen` is called with every record, or with the reason why the record is
/// rejected.
///
/// # Errors
/// If the file cannot be read or is not valid JSON; `seen` was called for the records before the error. Also if more
/// than 100,000 records are rejected.
pub fn for_each_record(
    path: &Path,
    dataset: Dataset,
    mut seen: impl FnMut(Result<Case, RejectedRecord>),
) -> Result<(), DataError> {
    let (mut record, mut refused) = (0, 0);
    each_value(path, |value| {
        let case = case(dataset, record, value);
        refused += usize::from(case.is_err());
        if case.is_ok() || refused <= MOST_REFUSED {
            seen(case);
        }
        record += 1;
    })?;
    if refused > MOST_REFUSED { Err(DataError::Foreign { path: path.to_owned(), refused }) } else { Ok(()) }
}

/// Calls `seen` with every record of a file as a JSON value, without checking the schema.
pub(crate) fn each_value(path: &Path, mut seen: impl FnMut(Value)) -> Result<(), DataError> {
    let failed = |source| DataError::Read { path: path.to_owned(), source };
    let file = regular_file::open(path).and_then(regular_file::NormalizedText::new).map_err(failed)?;
    let mut reader = BufReader::new(file);
    let read = if begins_with_object(&mut reader).map_err(failed)? {
        serde_json::Deserializer::from_reader(reader).into_iter().try_for_each(|value| value.map(&mut seen))
    } else {
        let mut text = serde_json::Deserializer::from_reader(reader);
        Records(seen).deserialize(&mut text).and_then(|()| text.end())
    };
    read.map_err(|source| {
        if source.is_io() {
            DataError::Read { path: path.to_owned(), source: source.into() }
        } else {
            DataError::Json { path: path.to_owned(), source }
        }
    })
}

/// Returns whether the first buffered bytes start with `{`, that is, whether the file is JSON Lines and not a JSON
/// array.
fn begins_with_object(reader: &mut impl BufRead) -> std::io::Result<bool> {
    Ok(reader.fill_buf()?.trim_ascii_start().starts_with(b"{"))
}

/// Reads a whole file and returns its records, and the rejected records with the reasons.
///
/// # Errors
/// As for [`for_each_record`].
pub fn read_all(path: &Path, dataset: Dataset) -> Result<(Vec<Case>, Vec<RejectedRecord>), DataError> {
    let (mut cases, mut refused) = (Vec::new(), Vec::new());
    for_each_record(path, dataset, |one| match one {
        Ok(case) => cases.push(case),
        Err(why) => refused.push(why),
    })?;
    Ok((cases, refused))
}

/// Deserializes a JSON array by calling the function `F` with every element, so that only one element is in memory.
struct Records<F>(F);

impl<'de, F: FnMut(Value)> DeserializeSeed<'de> for Records<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Value)> Visitor<'de> for Records<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
        while let Some(value) = array.next_element()? {
            (self.0)(value);
        }
        Ok(())
    }
}

/// One answer, or a list of answers of which the first non-blank one is used.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an answer is a text, or a list of texts")]
enum Answers {
    One(String),
    Several(Vec<String>),
}

impl Answers {
    /// Returns the first answer that is not blank.
    fn first(self) -> Option<String> {
        let all = match self {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        };
        all.into_iter().find(|text| !text.trim().is_empty())
    }
}

/// A record in the JSON schema of one dataset, before it is converted to a [`Case`].
trait RecordSchema: DeserializeOwned {
    /// Converts the record to a [`Case`]; `record` is its index in the file, used as the case number if the record has
    /// none.
    fn case(self, record: u64) -> Result<Case, String>;
}

fn case(dataset: Dataset, record: u64, value: Value) -> Result<Case, RejectedRecord> {
    let id = value.get("case_id").and_then(Value::as_u64);
    let read = match dataset {
        Dataset::Counterfact => read::<counterfact::CounterfactRecord>(record, value),
        Dataset::Zsre => read::<zsre::ZsreRecord>(record, value),
        Dataset::Easyedit => read::<easyedit::EasyeditRecord>(record, value),
        Dataset::Request => read::<request::RequestRecord>(record, value),
    };
    read.and_then(|case| sound(&case).map(|()| case)).map_err(|why| RejectedRecord { record, id, why })
}

fn read<S: RecordSchema>(record: u64, value: Value) -> Result<Case, String> {
    S::deserialize(value).map_err(|error| error.to_string())?.case(record)
}

/// Checks the rules that apply to cases of all schemas: `{}` in the prompt can be filled with the subject, no text is
/// blank or too long, and subject, prompt and target have no control characters.
fn sound(case: &Case) -> Result<(), String> {
    fill(&case.prompt, &case.subject).map_err(|error| error.to_string())?;
    let answers = case.neighbours.iter().flat_map(|asked| [&asked.prompt, &asked.answer]);
    let texts = [&case.subject, &case.prompt, &case.target].into_iter().chain(&case.was).chain(answers);
    for text in texts.chain(&case.paraphrases).chain(&case.generation) {
        if text.trim().is_empty() {
            return Err("it has an empty text".to_owned());
        }
        if text.len() > MOST_TEXT {
            return Err(format!("it has a text of {} bytes; at most {MOST_TEXT} are allowed", text.len()));
        }
    }
    if let Some(text) = [&case.subject, &case.prompt, &case.target].into_iter().find(|text| text.contains(is_control)) {
        return Err(format!("{text:?} contains a control character"));
    }
    Ok(())
}

/// Replaces the subject in the prompt by `{}`. The subject must occur exactly once, and the prompt must not contain
/// braces.
fn placed(prompt: &str, subject: &str) -> Result<String, String> {
    if prompt.contains(['{', '}']) {
        return Err(format!("its prompt {prompt:?} contains braces"));
    }
    match prompt.matches(subject).count() {
        _ if subject.trim().is_empty() => Err("its subject is empty".to_owned()),
        1 => Ok(prompt.replacen(subject, PLACEHOLDER, 1)),
        0 => Err(format!("its subject {subject:?} is not in its prompt {prompt:?}")),
        count => Err(format!("its subject {subject:?} occurs {count} times in its prompt {prompt:?}")),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
