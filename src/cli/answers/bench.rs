//! Defines the answer of `bench`.

use schemars::JsonSchema;
use serde::Serialize;

use super::NamedBase;
use super::project::RejectedEntry;
use crate::research::bench::editors::Overrides;
use crate::research::bench::run::{BatchResult, FailedEdit, RecordResult};
use crate::research::bench::table::GridRow;

/// The answer of `bench`, which is also written as `bench.json` to the folder of `--out`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct BenchAnswer<'a> {
    /// The edited model.
    pub base: NamedBase,
    /// The name of the dataset's schema.
    pub dataset: &'static str,
    /// The file of the records.
    pub file: String,
    /// The edited layer, from 0.
    pub layer: usize,
    /// The indices of the records in the file.
    pub records: &'a [u64],
    /// The records that were left out.
    pub left_out: Vec<RejectedEntry<'a>>,
    /// The edits that failed.
    pub failed: Vec<&'a FailedEdit>,
    /// The settings of the run.
    pub settings: &'a BenchSettings,
    /// The table for records that are edited alone; null if no record is edited alone.
    pub alone: Option<Vec<GridRow<'a>>>,
    /// The table for sets of records; null without `--batch`.
    pub together: Option<Vec<GridRow<'a>>>,
    /// The results of each record.
    pub rows: Vec<&'a RecordResult>,
    /// The results of each set.
    pub sets: Vec<&'a BatchResult>,
}

/// The settings of a run of `bench`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct BenchSettings {
    /// The seed for the sampling of records and text.
    pub seed: u64,
    /// The maximum number of records; null if all are used.
    pub limit: Option<u32>,
    /// Whether only records are used whose true answer the base gives.
    pub known: bool,
    /// The interval N at which text is generated: for every Nth record; 0 if no text is generated.
    pub generate: usize,
    /// Whether the published code is reproduced where it is believed to be wrong.
    pub published: bool,
    /// The settings of editors that `--set` or the project changed, by name.
    pub set: Overrides,
}
