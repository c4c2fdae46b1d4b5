//! Reads the records of published datasets and converts them to one type, [`Case`].
//!
//! A dataset file is a JSON array of records, or has one record per line (JSON Lines). The file is read record by
//! record, so its size is not limited. A record that does not match the dataset's schema is rejected, and reading
//! continues with the next record.

mod counterfact;
mod easyedit;
mod halluedit;
mod knowedit;
mod mquake;
mod qaedit;
mod request;
mod rippleedits;
mod rows;
mod texts;
mod unke;
mod wikibigedit;
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
use crate::project::edits::consequence::Consequence;
use crate::project::edits::edit::PLACEHOLDER;
use crate::regular_file;

pub use texts::LeftOutText;

/// The maximum length of a text in a record, in bytes (64 KiB).
const MOST_TEXT: usize = 1 << 16;

/// The schema of a dataset file, as the user names it on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Dataset {
    /// CounterFact, in the schema published with ROME
    Counterfact,
    /// zsRE, in the schema published with MEND
    Zsre,
    /// CounterFact, in the schema of EasyEdit
    Easyedit,
    /// Edit requests, in the schema of the repositories of ROME, MEMIT and AlphaEdit
    Request,
    /// KnowEdit, in the schema published on the Hugging Face Hub
    Knowedit,
    /// RippleEdits, in its published schema
    Rippleedits,
    /// MQuAKE, in the schema of its version 2; each rewrite of a case is an edit
    Mquake,
    /// QAEdit, in the schema published with The Mirage of Model Editing
    Qaedit,
    /// WikiBigEdit, in its published schema or in that of the LocFT benchmark
    Wikibigedit,
    /// HalluEditBench, as published CSV files
    Halluedit,
    /// UnKEBench: its records have no subject, so that all of them are left out
    Unke,
}

impl Dataset {
    pub fn name(self) -> &'static str {
        match self {
            Self::Counterfact => "counterfact",
            Self::Zsre => "zsre",
            Self::Easyedit => "easyedit",
            Self::Request => "request",
            Self::Knowedit => "knowedit",
            Self::Rippleedits => "rippleedits",
            Self::Mquake => "mquake",
            Self::Qaedit => "qaedit",
            Self::Wikibigedit => "wikibigedit",
            Self::Halluedit => "halluedit",
            Self::Unke => "unke",
        }
    }

    /// Returns whether the records state the answer before the edit, so that a benchmark can compare the likelihoods of
    /// the old and the new answer.
    pub fn states_old_answer(self) -> bool {
        matches!(self, Self::Counterfact | Self::Easyedit | Self::Request | Self::Mquake)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The text of the prompt. Unlike [`Case::prompt`], it has no placeholder `{}`.
    pub prompt: String,
    /// The correct answer to the prompt. An edit should not change this answer.
    pub answer: String,
}

/// One record of a dataset: a fact to change, and the prompts on which the edited model is tested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// The index of the record in the dataset file, from 0.
    pub record: u64,
    /// The case number in the dataset (`case_id`), or the index of the record if the record has no case number.
    pub id: u64,
    /// The index of the edit in its record, from 0. Only a record of several edits has edits other than 0.
    pub part: u64,
    /// The entity that the fact is about, such as `Eiffel Tower`.
    pub subject: String,
    /// The prompt, with `{}` in place of the subject.
    pub prompt: String,
    /// The new answer, which the edited model should predict after the prompt.
    pub target: String,
    /// The answer before the edit; `None` if the record does not state the old answer.
    pub was: Option<String>,
    /// The Wikidata id of the relation, such as `P17`; `None` if the record has none.
    pub relation: Option<String>,
    /// The Wikidata id of the new answer, such as `Q419`; `None` if the record has none.
    pub target_id: Option<String>,
    /// Paraphrases of the prompt. Each contains the text of the subject.
    pub paraphrases: Vec<String>,
    /// Prompts about subjects that are not edited. The edit should not change the answers.
    pub neighbours: Vec<Neighbour>,
    /// Prompts for free text generation. Fluency (GE) and consistency (RS) are measured on the generated text.
    pub generation: Vec<String>,
    /// Prompts whose answers should not change, and whose answers the record does not state.
    pub watched: Vec<String>,
    /// Prompts whose answers follow from the edits of the record.
    pub consequences: Vec<Consequence>,
    /// The texts of the record that are left out, with the reasons.
    pub left_out: Vec<LeftOutText>,
}

impl Case {
    /// Adds all fields that a benchmark reads to a hash. The hash identifies a benchmark in its results file.
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
    /// The index of the record in the dataset file, from 0.
    pub record: u64,
    /// The case number of the record (`case_id`); `None` if the record has none.
    pub id: Option<u64>,
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

#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error messages explain the fields")]
pub enum DataError {
    #[error("reading {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {refused} records are not of this schema: it is another dataset")]
    Foreign { path: PathBuf, refused: usize },
    #[error("{path}: {source}")]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{path}: {source}")]
    Csv { path: PathBuf, source: csv::Error },
}

/// The maximum number of rejected records in a dataset file. A file with more rejected records is rejected as a whole,
/// because it probably has a different schema.
const MOST_REFUSED: usize = 100_000;

/// Reads a dataset file. Calls `seen` once per record, with the edits of the record or with the reason why it is
/// rejected.
///
/// # Errors
/// If the file cannot be read, is not valid JSON or CSV, or has more than 100,000 rejected records. `seen` may already have
/// been called for some of the records.
pub fn for_each_record(
    path: &Path,
    dataset: Dataset,
    mut seen: impl FnMut(Result<Vec<Case>, RejectedRecord>),
) -> Result<(), DataError> {
    let (mut record, mut refused) = (0, 0);
    let mut one = |value: Result<Value, String>| {
        let cases = match value {
            Ok(value) => cases(dataset, record, value),
            Err(why) => Err(RejectedRecord { record, id: None, why }),
        };
        refused += usize::from(cases.is_err());
        if cases.is_ok() || refused <= MOST_REFUSED {
            seen(cases);
        }
        record += 1;
    };
    if dataset == Dataset::Halluedit {
        let failed = |source| DataError::Read { path: path.to_owned(), source };
        let file = regular_file::open(path).and_then(regular_file::NormalizedText::new).map_err(failed)?;
        rows::each_row(file, one).map_err(|source| DataError::Csv { path: path.to_owned(), source })?;
    } else {
        each_value(path, |value| one(Ok(value)))?;
    }
    if refused > MOST_REFUSED { Err(DataError::Foreign { path: path.to_owned(), refused }) } else { Ok(()) }
}

/// Calls `seen` with each record of a file, which is a JSON array or JSON Lines. The schema of the records is not
/// checked.
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

/// Returns whether the first character that is not white space is `{`. If so, the file is JSON Lines and not a JSON
/// array.
fn begins_with_object(reader: &mut impl BufRead) -> std::io::Result<bool> {
    Ok(reader.fill_buf()?.trim_ascii_start().starts_with(b"{"))
}

/// Reads a whole dataset file. Returns the accepted records, and the rejected records with the reasons. Of a record with
/// several edits, only the first edit is accepted.
///
/// # Errors
/// If the file cannot be read, is not valid JSON, or has more than 100,000 rejected records.
pub fn read_all(path: &Path, dataset: Dataset) -> Result<(Vec<Case>, Vec<RejectedRecord>), DataError> {
    let (mut cases, mut refused) = (Vec::new(), Vec::new());
    for_each_record(path, dataset, |one| match one {
        Ok(edits) => {
            for case in edits {
                let Case { record, id, part, .. } = case;
                if part == 0 {
                    cases.push(case);
                } else {
                    let why = format!("its edit {} is not measured: only the first edit of a record is", part + 1);
                    refused.push(RejectedRecord { record, id: Some(id), why });
                }
            }
        }
        Err(why) => refused.push(why),
    })?;
    Ok((cases, refused))
}

/// A deserializer of a JSON array that passes each element to a function of type `F`. Only one element is in memory at
/// a time.
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

/// One answer, or a list of answers. In a list, only the first answer that is not blank is used.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an answer is a text, or a list of texts")]
enum Answers {
    One(String),
    Several(Vec<String>),
}

impl Answers {
    fn first(self) -> Option<String> {
        let all = match self {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        };
        all.into_iter().find(|text| !text.trim().is_empty())
    }
}

/// A record of one dataset. The fields of the implementing type are the JSON fields of the record.
trait RecordSchema: DeserializeOwned {
    /// Converts the record to one [`Case`] per edit. `record` is the index of the record in the dataset file. The index
    /// becomes the case number if the record has none.
    fn cases(self, record: u64) -> Result<Vec<Case>, String>;
}

fn cases(dataset: Dataset, record: u64, value: Value) -> Result<Vec<Case>, RejectedRecord> {
    let id = value.get("case_id").or_else(|| value.get("id")).and_then(Value::as_u64);
    let read = match dataset {
        Dataset::Counterfact => read::<counterfact::CounterfactRecord>(record, value),
        Dataset::Zsre => read::<zsre::ZsreRecord>(record, value),
        Dataset::Easyedit => read::<easyedit::EasyeditRecord>(record, value),
        Dataset::Request => read::<request::RequestRecord>(record, value),
        Dataset::Knowedit => read::<knowedit::KnoweditRecord>(record, value),
        Dataset::Rippleedits => read::<rippleedits::RippleRecord>(record, value),
        Dataset::Mquake => read::<mquake::MquakeRecord>(record, value),
        Dataset::Qaedit => read::<qaedit::QaeditRecord>(record, value),
        Dataset::Wikibigedit => read::<wikibigedit::WikibigeditRecord>(record, value),
        Dataset::Halluedit => read::<halluedit::HallueditRow>(record, value),
        Dataset::Unke => read::<unke::UnkeRecord>(record, value),
    };
    let checked = read.and_then(|cases| cases.iter().try_for_each(sound).map(|()| cases));
    checked.map_err(|why| RejectedRecord { record, id, why })
}

fn read<S: RecordSchema>(record: u64, value: Value) -> Result<Vec<Case>, String> {
    S::deserialize(value).map_err(|error| error.to_string())?.cases(record)
}

/// Checks the rules that are the same for all datasets. Rejects a record if its prompt does not have exactly one `{}`,
/// if a text is blank or longer than [`MOST_TEXT`], or if the subject, the prompt or the target contains a control
/// character.
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

/// Replaces the subject in a prompt by `{}`. The subject must occur exactly once, and the prompt must not contain
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

#[cfg(test)]
#[path = "forms_tests.rs"]
mod forms_tests;
