use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::NamedBase;
use super::project::RejectedEntry;
use crate::behaviour::protocol::Protocol;
use crate::digest::Digest;
use crate::research::bench::editors::Overrides;
use crate::research::bench::metrics::said::SaidForm;
use crate::research::bench::run::{BatchResult, FailedEdit, RecordResult};
use crate::research::bench::sequence::SequenceResult;
use crate::research::bench::table::GridRow;

/// The JSON that `bench --format json` prints, without the fields that all commands print. It is also written to
/// `bench.json` in the folder of `--out`, if that option is set.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct BenchAnswer<'a> {
    /// The model that the editing methods change, with its digest.
    pub base: NamedBase,
    /// The name of the dataset, as on the command line, such as `counterfact`. It determines the schema of the records.
    pub dataset: &'static str,
    /// The path of the file with the records, as on the command line.
    pub file: String,
    /// The index of the edited layer, from 0.
    pub layer: usize,
    /// The indices of the used records in `file`, from 0.
    pub records: &'a [u64],
    /// The records that could not be used, each with the reason, such as a malformed record or a repeated prompt.
    pub left_out: Vec<RejectedEntry<'a>>,
    /// The edits that an editing method could not make, each with the reason.
    pub failed: Vec<&'a FailedEdit>,
    /// The settings of the run, from the command line and from the project.
    pub settings: &'a BenchSettings,
    /// How each trained editor was trained: its name, the training data, the steps and its address in the store.
    pub trained: Vec<String>,
    /// The protocol of each column of the tables: how its numbers are made. Numbers of different protocols
    /// are not comparable.
    pub protocols: BTreeMap<&'static str, Protocol>,
    /// The metrics of records that are edited one at a time, with one row per editing method and one row for the
    /// unedited base; null if no record is edited alone.
    pub alone: Option<Vec<GridRow<'a>>>,
    /// The metrics of sets of records that are edited at once, with one row per set size and editing method; null
    /// without `--batch`.
    pub together: Option<Vec<GridRow<'a>>>,
    /// The metrics of records that are edited in batches, one batch after the other, measured right after each batch, with
    /// one row per batch size and editing method; null without `--sequence`.
    pub after_each: Option<Vec<GridRow<'a>>>,
    /// The metrics of the same records on the model after the last batch; null without `--sequence`.
    pub after_all: Option<Vec<GridRow<'a>>>,
    /// The metrics of each record, on the unedited base and after each editing method has edited the record alone.
    pub rows: Vec<&'a RecordResult>,
    /// The metrics of each set of records, after an editing method has edited all records of the set at once.
    pub sets: Vec<&'a BatchResult>,
    /// The metrics of each record that is edited in batches.
    pub sequences: Vec<&'a SequenceResult>,
}

/// The settings that a `bench` run used. Together with the records and the editing methods, they determine the metrics.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct BenchSettings {
    /// The seed for the sampling of records and of generated text.
    pub seed: u64,
    /// The maximum number of records, sampled with the seed; null if all are used.
    pub limit: Option<u32>,
    /// Whether the run used only records whose true answer the unedited base gives.
    pub known: bool,
    /// The interval N of text generation: text is generated for every Nth record, or for no record if N is 0.
    pub generate: usize,
    /// How prompts were asked for the texts that are judged; null if no text was judged.
    pub said: Option<SaidForm>,
    /// Whether the editing methods reproduce presumed errors of their published code, such as the tokenization of the
    /// answers in `kn` (knowledge neurons).
    pub published: bool,
    /// The numeric settings of editing methods that `--set` or the project changed, by name, such as
    /// `rome.refine-steps`.
    pub set: Overrides,
}

/// The JSON that `bench train --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct TrainAnswer {
    /// The trained editor.
    pub editor: ListedEditor,
    /// Whether the store had the editor already, so that nothing was trained.
    pub stored: bool,
    /// The losses on the validation facts during the training.
    pub curve: Vec<ValidationLoss>,
    /// The records of the training file that could not be used, or that another file excludes, each with the reason.
    pub left_out: Vec<String>,
    /// The mean size of an edit as a patch, in bytes: the two factors of each edited matrix. Such a patch cannot be
    /// built; the size is for comparison.
    pub edit_bytes: u64,
}

/// The losses of a trained editor on the validation facts after some steps.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct ValidationLoss {
    /// The number of training steps.
    pub step: usize,
    /// The negative log-likelihood of the target in nats.
    pub edit: f64,
    /// The KL divergence on unrelated text in nats.
    pub divergence: f64,
    /// The weighted sum of `edit` and `divergence`.
    pub total: f64,
}

/// The JSON that `bench trained ls --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct TrainedList {
    /// The trained editors in the store.
    pub editors: Vec<ListedEditor>,
    /// The entries that cannot be used, each with the reason.
    pub unusable: Vec<String>,
}

/// A trained editor in the store.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct ListedEditor {
    /// The name of the editor, as in `--editors`.
    pub name: String,
    /// The address of the editor in the store: the digest of the base model, the data and all settings.
    pub address: Digest,
    /// The base model for which the editor was trained, with the digest of its files.
    pub base: NamedBase,
    /// The name of the file with the facts.
    pub file: String,
    /// The number of facts in the training steps.
    pub facts: usize,
    /// The number of training steps.
    pub steps: usize,
    /// The step whose parameters are stored: that with the lowest validation loss.
    pub best: usize,
    /// The validation loss at this step.
    pub loss: f64,
    /// The seed of the training.
    pub seed: u32,
    /// All numeric settings of the training.
    pub settings: Overrides,
    /// The size of the file in bytes.
    pub size: u64,
}
