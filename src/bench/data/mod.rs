//! Records of published datasets, as one kind of value.
//!
//! A file is one JSON array of records, or has one record after the other (JSON Lines). It is read record by record: no file is too large, and what is wrong with one
//! record is said of that record and does not end the reading.

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
use crate::digest::Canon;
use crate::plain;
use crate::project::edit::PLACEHOLDER;
use crate::project::render::is_control;

/// The longest text of a record, in bytes.
const MOST_TEXT: usize = 1 << 16;

/// In which schema a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Dataset {
    /// CounterFact, the full schema of ROME's evaluation
    Counterfact,
    /// zsRE, the schema of MEND's question answering
    Zsre,
    /// The flat form of EasyEdit
    Easyedit,
    /// The requests of ROME's and MEMIT's notebooks and of AlphaEdit
    Request,
}

impl Dataset {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counterfact => "counterfact",
            Self::Zsre => "zsre",
            Self::Easyedit => "easyedit",
            Self::Request => "request",
        }
    }
}

/// A prompt, and what is true behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The prompt, written out.
    pub prompt: String,
    /// Its answer.
    pub answer: String,
}

/// One record: a fact to change, and what should and should not change with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its place in the file, from zero.
    pub record: u64,
    /// The number of the record in its dataset.
    pub id: u64,
    /// Whom or what the fact is about.
    pub subject: String,
    /// The relation as a sentence with one `{}`.
    pub prompt: String,
    /// The answer that is asked for.
    pub target: String,
    /// The answer that is true, where the record says it.
    pub was: Option<String>,
    /// The relation's name in Wikidata, where the record says it.
    pub relation: Option<String>,
    /// The new answer's name in Wikidata, where the record says it.
    pub target_id: Option<String>,
    /// Other words for the prompt, written out.
    pub paraphrases: Vec<String>,
    /// Prompts whose answers should stay.
    pub neighbours: Vec<Asked>,
    /// Prompts to go on from freely.
    pub generation: Vec<String>,
}

impl Case {
    /// Writes everything of it into a digest.
    pub fn describe(&self, canon: &mut Canon) {
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

    /// The prompt with its subject.
    pub fn filled(&self) -> String {
        self.prompt.replacen(PLACEHOLDER, &self.subject, 1)
    }
}

/// A record that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the file, from zero.
    pub record: u64,
    /// Its number, where it has one.
    pub id: Option<u64>,
    /// Why.
    pub why: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}", self.record)?;
        if let Some(id) = self.id {
            write!(f, " (case {id})")?;
        }
        write!(f, ": {}", self.why)
    }
}

/// A file that is no dataset.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it; the fields are their parts")]
pub enum DataError {
    #[error("reading {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {refused} records are not of this schema: it is another dataset")]
    Foreign { path: PathBuf, refused: usize },
    #[error("{path}: {source}")]
    Json { path: PathBuf, source: serde_json::Error },
}

/// Records that cannot be used, at most: no dataset has as many, and each is told with its reason.
const MOST_REFUSED: usize = 100_000;

/// Reads a file record by record; `seen` is given every record, or why it cannot be used.
///
/// # Errors
/// The file cannot be read, or is no JSON array. What was read until then has been seen.
pub fn each(path: &Path, dataset: Dataset, mut seen: impl FnMut(Result<Case, Refused>)) -> Result<(), DataError> {
    let (mut record, mut refused) = (0, 0);
    each_value(path, |value| {
        let case = case(dataset, record, value);
        refused += usize::from(case.is_err());
        if case.is_ok() || refused <= MOST_REFUSED {
            seen(case);
        }
        record += 1;
    })?;
    match refused > MOST_REFUSED {
        true => Err(DataError::Foreign { path: path.to_owned(), refused }),
        false => Ok(()),
    }
}

/// The same of any records.
pub(super) fn each_value(path: &Path, mut seen: impl FnMut(Value)) -> Result<(), DataError> {
    let failed = |source| DataError::Read { path: path.to_owned(), source };
    let file = plain::open(path).and_then(plain::Text::new).map_err(failed)?;
    let mut reader = BufReader::new(file);
    let read = match begins_with_object(&mut reader).map_err(failed)? {
        true => serde_json::Deserializer::from_reader(reader).into_iter().try_for_each(|value| value.map(&mut seen)),
        false => {
            let mut text = serde_json::Deserializer::from_reader(reader);
            Records(seen).deserialize(&mut text).and_then(|()| text.end())
        }
    };
    read.map_err(|source| match source.is_io() {
        true => DataError::Read { path: path.to_owned(), source: source.into() },
        false => DataError::Json { path: path.to_owned(), source },
    })
}

/// Whether the text begins with an object, in what the reader has at once: then it has one record after the other.
fn begins_with_object(reader: &mut impl BufRead) -> std::io::Result<bool> {
    Ok(reader.fill_buf()?.trim_ascii_start().starts_with(b"{"))
}

/// All records of a file, and those that cannot be used.
///
/// # Errors
/// As [`each`].
pub fn all(path: &Path, dataset: Dataset) -> Result<(Vec<Case>, Vec<Refused>), DataError> {
    let (mut cases, mut refused) = (Vec::new(), Vec::new());
    each(path, dataset, |one| match one {
        Ok(case) => cases.push(case),
        Err(why) => refused.push(why),
    })?;
    Ok((cases, refused))
}

/// Calls a function with every element of an array.
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

/// An answer, or several of which the first is taken.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an answer is a text, or a list of texts")]
enum Answers {
    One(String),
    Several(Vec<String>),
}

impl Answers {
    /// The first that says something.
    fn first(self) -> Option<String> {
        let all = match self {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        };
        all.into_iter().find(|text| !text.trim().is_empty())
    }
}

/// One record of a schema.
trait Schema: DeserializeOwned {
    /// The record as a case; `record` is its place in the file, for those that have no number.
    fn case(self, record: u64) -> Result<Case, String>;
}

fn case(dataset: Dataset, record: u64, value: Value) -> Result<Case, Refused> {
    let id = value.get("case_id").and_then(Value::as_u64);
    let read = match dataset {
        Dataset::Counterfact => read::<counterfact::Record>(record, value),
        Dataset::Zsre => read::<zsre::Record>(record, value),
        Dataset::Easyedit => read::<easyedit::Record>(record, value),
        Dataset::Request => read::<request::Record>(record, value),
    };
    read.and_then(|case| sound(&case).map(|()| case)).map_err(|why| Refused { record, id, why })
}

fn read<S: Schema>(record: u64, value: Value) -> Result<Case, String> {
    S::deserialize(value).map_err(|error| error.to_string())?.case(record)
}

/// What every case must be, whatever its schema.
fn sound(case: &Case) -> Result<(), String> {
    fill(&case.prompt, &case.subject).map_err(|error| error.to_string())?;
    let answers = case.neighbours.iter().flat_map(|asked| [&asked.prompt, &asked.answer]);
    let texts = [&case.subject, &case.prompt, &case.target].into_iter().chain(&case.was).chain(answers);
    for text in texts.chain(&case.paraphrases).chain(&case.generation) {
        if text.trim().is_empty() {
            return Err("a text of it is empty".to_owned());
        }
        if text.len() > MOST_TEXT {
            return Err(format!("a text of it has {} bytes; at most {MOST_TEXT} are read", text.len()));
        }
    }
    if let Some(text) = [&case.subject, &case.prompt, &case.target].into_iter().find(|text| text.contains(is_control)) {
        return Err(format!("{text:?} holds a control character"));
    }
    Ok(())
}

/// The prompt with `{}` where the subject stands.
fn placed(prompt: &str, subject: &str) -> Result<String, String> {
    if prompt.contains(['{', '}']) {
        return Err(format!("there are braces in {prompt:?}"));
    }
    match prompt.matches(subject).count() {
        _ if subject.trim().is_empty() => Err("its subject is empty".to_owned()),
        1 => Ok(prompt.replacen(subject, PLACEHOLDER, 1)),
        0 => Err(format!("its subject {subject:?} does not stand in its prompt {prompt:?}")),
        count => Err(format!("its subject {subject:?} stands {count} times in its prompt {prompt:?}")),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
