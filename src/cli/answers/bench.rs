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
    /// The model that the editors change, by name and digest.
    pub base: NamedBase,
    /// The name of the dataset that defines the schema of the records, as on the command line.
    pub dataset: &'static str,
    /// The path of the file with the records, as on the command line.
    pub file: String,
    /// The edited layer, from 0.
    pub layer: usize,
    /// The indices, in the file from 0, of the records that were used.
    pub records: &'a [u64],
    /// The records that were left out: malformed, not readable by the model, or with the same prompt as another record.
    pub left_out: Vec<RejectedEntry<'a>>,
    /// The edits that an editor could not make, each with the reason.
    pub failed: Vec<&'a FailedEdit>,
    /// The settings of the run, some of which the project or the command line can change.
    pub settings: &'a BenchSettings,
    /// The metrics of records that are edited one at a time, one row per editor; null if no record is edited alone.
    pub alone: Option<Vec<GridRow<'a>>>,
    /// The metrics of sets of records that are edited at once, one row per set size and editor; null without `--batch`.
    pub together: Option<Vec<GridRow<'a>>>,
    /// The metrics of each record edited alone, per editor, and on the unedited base.
    pub rows: Vec<&'a RecordResult>,
    /// The metrics of each set of records edited at once, per editor.
    pub sets: Vec<&'a BatchResult>,
}

/// The settings of a run of `bench`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct BenchSettings {
    /// The seed for the sampling of records and of generated text.
    pub seed: u64,
    /// The maximum number of records, sampled with the seed; null if all are used.
    pub limit: Option<u32>,
    /// Whether only records are used whose true answer the base gives.
    pub known: bool,
    /// The interval N at which text is generated: for every Nth record; 0 if no text is generated.
    pub generate: usize,
    /// Whether the published code is reproduced where it is believed to be wrong: one attempt per value, targets of FT
    /// and KN.
    pub published: bool,
    /// The settings of editors that `--set` or the project changed, by name, such as `rome.refine-steps`.
    pub set: Overrides,
}
