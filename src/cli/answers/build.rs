//! Defines the answer of `build`.

use schemars::JsonSchema;
use serde::Serialize;

use super::NamedBase;
use crate::digest::Digest;
use crate::pipeline::record::{AnswerRecord, TensorRecord};
use crate::project::EditChange;
use crate::project::edits::diff::ChangeKind;

/// The answer of `build`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct BuildAnswer<'a> {
    /// The base model that the patch belongs to.
    pub base: NamedBase,
    /// The edited layer, from 0.
    pub layer: usize,
    /// The statistics of the edited layers.
    pub statistics: Vec<UsedStatistics>,
    /// The edits of the set, one entry for each name of a subject.
    pub edits: Vec<BuiltEdit<'a>>,
    /// The ids of the edits that the previous lock had and this one does not have.
    pub removed: Vec<&'a str>,
    /// The tensors that the patch changes.
    pub tensors: &'a [TensorRecord],
    /// The patch.
    pub patch: BuiltPatch,
    /// The number of entries of `edits` whose target the patched model gives.
    pub holding: usize,
    /// The number of edits that were compiled; the others came from the store.
    pub compiled: usize,
    /// Whether the build wrote the lock.
    pub lock: LockState,
}

/// The statistics of one layer, as the lock names them.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct UsedStatistics {
    /// The layer, from 0.
    pub layer: u64,
    /// The digest of the statistics' content.
    pub digest: Digest,
    /// The digest of the corpus.
    pub corpus: Digest,
    /// The number of keys in the sum.
    pub keys: u64,
    /// The ridge, as a share of the mean diagonal; 0 if none was needed.
    pub ridge: f64,
}

/// An edit with one name of its subject, and its measurements.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct BuiltEdit<'a> {
    /// The id of the edit.
    pub id: &'a str,
    /// The alias; null for the subject itself.
    pub alias: Option<&'a str>,
    /// The file that declares the edit.
    pub file: &'a str,
    /// The line of the edit's id, from 1.
    pub line: usize,
    /// How the edit differs from the previous lock.
    pub change: LockChange,
    /// The digest of subject, prompt and target.
    pub meaning: Digest,
    /// The probabilities of the target.
    pub target: ScoredText<'a>,
    /// The probabilities of the old answer; null if the edit has no `was`.
    pub was: Option<ScoredText<'a>>,
    /// The norm of the edit's part of the patch.
    pub norm: f64,
    /// The share of the norm that survives rounding if the edit is applied alone.
    pub surviving: f64,
}

/// How an edit differs from the previous lock.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub(in crate::cli) enum LockChange {
    /// The edit is the same.
    #[serde(rename = "")]
    Unchanged,
    /// The edit is new.
    #[serde(rename = "+")]
    Added,
    /// The edit has other contents.
    #[serde(rename = "~")]
    Changed,
    /// The edit is gone.
    #[serde(rename = "-")]
    Removed,
}

impl LockChange {
    /// Returns the change of the edit `id`.
    pub(in crate::cli) fn of(changes: &[EditChange], id: &str) -> Self {
        match changes.iter().find(|change| change.id == id).map(|change| change.kind) {
            None => Self::Unchanged,
            Some(ChangeKind::Added) => Self::Added,
            Some(ChangeKind::Changed) => Self::Changed,
            Some(ChangeKind::Removed) => Self::Removed,
        }
    }
}

/// An answer and its probabilities on the base and on the patched model.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct ScoredText<'a> {
    /// The text of the answer.
    pub text: &'a str,
    /// The probability with the base.
    pub before: f64,
    /// The probability with the patched model.
    pub after: f64,
    /// Whether the base gives the answer.
    pub held: bool,
    /// Whether the patched model gives the answer.
    pub holds: bool,
}

impl<'a> ScoredText<'a> {
    pub(in crate::cli) fn new(text: &'a str, answer: &AnswerRecord) -> Self {
        let AnswerRecord { before, after, held, holds } = *answer;
        Self { text, before, after, held, holds }
    }
}

/// A patch that was built.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct BuiltPatch {
    /// The digest of its bytes.
    pub id: Digest,
    /// The size in bytes.
    pub size: u64,
}

/// Whether a build wrote the lock.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum LockState {
    /// The lock was written.
    Written,
    /// The existing lock had the same content.
    Unchanged,
}
