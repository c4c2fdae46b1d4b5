//! Defines the answers of `plan` and `plan --base`.

use schemars::JsonSchema;
use serde::Serialize;

use super::{LeftOutEntry, NamedBase, ScoredAnswer, TopToken};
use crate::digest::Digest;
use crate::project::EditChange;
use crate::project::edits::diff::ChangeKind;

/// The answer of `plan`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct PlanAnswer<'a> {
    /// The base model.
    pub base: NamedBase,
    /// Whether the base is the one that the lock names; null without a lock.
    pub locked: Option<bool>,
    /// The statistics that a build needs.
    pub statistics: PlannedStatistics,
    /// The selected edits.
    pub edits: Vec<PlanEntry<'a>>,
    /// The ids of the edits that a build would remove from the lock.
    pub removed: Vec<&'a str>,
}

/// The statistics that a build needs.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct PlannedStatistics {
    /// The layer, from 0.
    pub layer: usize,
    /// Whether the store has them.
    pub built: bool,
}

/// An edit as a build would compile it, and the base's answer to its prompt.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) struct PlanEntry<'a> {
    /// The id of the edit.
    pub id: &'a str,
    /// How the edit differs from the lock.
    pub change: PlannedChange,
    /// The parts that differ from the lock.
    pub changed: Vec<&'static str>,
    /// The file that declares the edit.
    pub file: &'a str,
    /// The line of the edit's id, from 1.
    pub line: usize,
    /// The tokens of the filled prompt.
    pub tokens: Vec<String>,
    /// The tokens of the target.
    pub target_tokens: Vec<String>,
    /// The text that is put before the prompt because the subject would start at an attention sink; null if it is not
    /// needed.
    pub preface: Option<String>,
    /// The position of the subject's last token, from 0.
    pub position: u64,
    /// The layers that are edited.
    pub layers: Vec<u64>,
    /// The address of the compiled edit in the store.
    pub object: Digest,
    /// The token that the base gives after the prompt.
    pub says: TopToken<'a>,
    /// How well the base gives the target.
    pub target: ScoredAnswer,
    /// How well the base gives the old answer; null if the edit has no `was`.
    pub was: Option<ScoredAnswer>,
    /// The same for the aliases of the subject.
    pub aliases: Vec<PlanAlias>,
}

/// How an edit differs from the lock.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub(in crate::cli) enum PlannedChange {
    /// The edit is the same.
    #[serde(rename = "=")]
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

impl From<Option<&EditChange>> for PlannedChange {
    fn from(change: Option<&EditChange>) -> Self {
        match change.map(|change| change.kind) {
            None => Self::Unchanged,
            Some(ChangeKind::Added) => Self::Added,
            Some(ChangeKind::Changed) => Self::Changed,
            Some(ChangeKind::Removed) => Self::Removed,
        }
    }
}

/// An alias of an edit's subject, as a build would compile it.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct PlanAlias {
    /// The alias.
    pub alias: Option<String>,
    /// The tokens of the filled prompt.
    pub tokens: Vec<String>,
    /// The text that is put before the prompt; null if it is not needed.
    pub preface: Option<String>,
    /// The position of the alias's last token, from 0.
    pub position: u64,
    /// The address of the compiled edit in the store.
    pub object: Digest,
}

/// The answer of `plan --base`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct OtherBaseAnswer<'a> {
    /// The other model.
    pub base: ModelShape,
    /// The layer that a build would edit; null if no layer can be chosen.
    pub layer: Option<usize>,
    /// The facts that the model was asked, one entry for each name of a subject.
    pub edits: Vec<OtherBaseEdit<'a>>,
    /// The facts that cannot be tokenized, or for which the model's output is not finite.
    pub unreadable: Vec<LeftOutEntry<'a>>,
}

/// A model with its name, digest and shape.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct ModelShape {
    /// The name on the Hub if the model is in the Hub's cache, else the name of its folder.
    pub name: String,
    /// The digest of its files.
    pub digest: Digest,
    /// The `model_type` of its configuration.
    pub family: &'static str,
    /// The number of layers.
    pub layers: usize,
    /// The size of the hidden states.
    pub width: usize,
}

/// A fact with one name of its subject, and the answers of the other model.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct OtherBaseEdit<'a> {
    /// The id of the edit.
    pub id: &'a str,
    /// The alias; null for the subject itself.
    pub alias: Option<&'a str>,
    /// Whether the model needs the edit.
    pub standing: Standing,
    /// The tokens of the filled prompt.
    pub tokens: &'a [String],
    /// The position of the subject's last token, from 0.
    pub position: usize,
    /// The tokens and the position in the lock; null if they are the same or the lock has no such edit.
    pub moved: Option<LockedTokens<'a>>,
    /// The token that the model gives after the prompt.
    pub says: TopToken<'a>,
    /// How well the model gives the target.
    pub target: ScoredAnswer,
    /// How well the model gives the old answer; null if the edit has no `was`.
    pub was: Option<ScoredAnswer>,
}

/// Whether a model needs an edit.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub(in crate::cli) enum Standing {
    /// The model already gives the target.
    #[serde(rename = "already true")]
    AlreadyTrue,
    /// The model does not give the target.
    #[serde(rename = "needed")]
    Needed,
}

/// The tokens of a prompt as the lock records them.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct LockedTokens<'a> {
    /// The tokens of the filled prompt.
    pub tokens: &'a [String],
    /// The position of the subject's last token, from 0.
    pub position: usize,
}
