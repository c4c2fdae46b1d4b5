use schemars::JsonSchema;
use serde::Serialize;

use crate::research::bench::data::{LeftOutText, RejectedRecord};
use crate::research::bench::import::LeftOutOfRecord;

/// The JSON that `init --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct InitAnswer<'a> {
    /// The files that `init` wrote, relative to the project's folder.
    pub wrote: &'a [&'static str],
    /// The files of the new project that already existed and were not changed.
    pub left: &'a [&'static str],
}

/// The JSON that `import --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct ImportAnswer<'a> {
    /// The folder of the new edits, relative to the project's folder.
    pub folder: &'a str,
    /// The number of edits that were written, one file per edit.
    pub edits: usize,
    /// The records that were not imported, each with the reason.
    pub rejected: Vec<RejectedEntry<'a>>,
    /// The texts that were left out of the edits, each with the reason.
    pub left_out: Vec<LeftOutEntry<'a>>,
    /// The number of neighbour prompts (`unchanged` prompts about other subjects) that were dropped because they name
    /// the subject of an imported edit.
    pub neighbours_dropped: usize,
}

/// A text of a record that was left out, while the record itself was imported. The fields are declared in alphabetical
/// order, as in [`RejectedEntry`].
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct LeftOutEntry<'a> {
    /// The case number of the record in its dataset.
    pub case_id: u64,
    /// The field of the record or of the edit that the text belongs to.
    pub field: &'a str,
    /// The index of the record in the file, from 0.
    pub record: u64,
    /// The text that was left out.
    pub text: &'a str,
    /// The reason why the text was left out, as a sentence.
    pub why: &'a str,
}

impl<'a> From<&'a LeftOutOfRecord> for LeftOutEntry<'a> {
    fn from(one: &'a LeftOutOfRecord) -> Self {
        let LeftOutText { field, text, why } = &one.text;
        Self { case_id: one.id, field, record: one.record, text, why }
    }
}

/// A record of a dataset that was left out. The fields are declared in alphabetical order, because `import` writes them
/// to its list of left-out records in the declared order.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct RejectedEntry<'a> {
    /// The case number of the record in its dataset; null if the record has none.
    pub case_id: Option<u64>,
    /// The index of the record in the file, from 0.
    pub record: u64,
    /// The reason why the record was left out, as a sentence.
    pub why: &'a str,
}

impl<'a> From<&'a RejectedRecord> for RejectedEntry<'a> {
    fn from(refused: &'a RejectedRecord) -> Self {
        Self { case_id: refused.id, record: refused.record, why: &refused.why }
    }
}
