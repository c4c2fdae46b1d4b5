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
    /// The layer to which the statistics belong, from 0.
    pub layer: usize,
    /// Whether the store has the statistics.
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
    /// The names of the parts of the edit that differ from the lock.
    pub changed: Vec<&'static str>,
    /// The file that declares the edit.
    pub file: &'a str,
    /// The line of the edit's id, from 1.
    pub line: usize,
    /// The tokens of the filled prompt.
    pub tokens: Vec<String>,
    /// The tokens of the target.
    pub target_tokens: Vec<String>,
    /// The text that precedes the prompt because the subject would otherwise end at an attention sink; null if no text
    /// is needed.
    pub preface: Option<String>,
    /// The position of the subject's last token, from 0.
    pub position: u64,
    /// The layers that the edit changes, from 0.
    pub layers: Vec<u64>,
    /// The address of the compiled edit in the store.
    pub object: Digest,
    /// The most probable token after the prompt on the base.
    pub says: TopToken<'a>,
    /// How well the base gives the target.
    pub target: ScoredAnswer,
    /// How well the base gives the old answer; null if the edit has no `was`.
    pub was: Option<ScoredAnswer>,
    /// The compiled form of the edit for each alias of the subject.
    pub aliases: Vec<PlanAlias>,
}

/// How an edit differs from the lock.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub(in crate::cli) enum PlannedChange {
    /// The lock has the same edit.
    #[serde(rename = "=")]
    Unchanged,
    /// The lock does not have the edit.
    #[serde(rename = "+")]
    Added,
    /// The lock has the edit with different contents.
    #[serde(rename = "~")]
    Changed,
    /// The lock has the edit, but the project does not.
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
    /// The alias, as the edit declares it.
    pub alias: Option<String>,
    /// The tokens of the filled prompt.
    pub tokens: Vec<String>,
    /// The text that precedes the prompt; null if no text is needed.
    pub preface: Option<String>,
    /// The position of the alias's last token, from 0.
    pub position: u64,
    /// The address of the compiled edit in the store.
    pub object: Digest,
}

/// The answer of `plan --base`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct OtherBaseAnswer<'a> {
    /// The model given with `--base`: its name, digest and shape.
    pub base: ModelShape,
    /// The layer that a build would edit; null if no layer can be chosen.
    pub layer: Option<usize>,
    /// The facts whose prompts were run on the model, one entry for each name of a subject.
    pub edits: Vec<OtherBaseEdit<'a>>,
    /// The facts that cannot be tokenized, or for which the model's output is not finite.
    pub unreadable: Vec<LeftOutEntry<'a>>,
}

/// The name, the digest and the shape of a model.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct ModelShape {
    /// The name on the Hub if the model is in the Hub's cache, else the name of its folder.
    pub name: String,
    /// The digest of the model's files.
    pub digest: Digest,
    /// The `model_type` of its configuration.
    pub family: &'static str,
    /// The number of layers.
    pub layers: usize,
    /// The size of the hidden states.
    pub width: usize,
}

/// A fact under one name of its subject, with the answers of the model of `--base`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct OtherBaseEdit<'a> {
    /// The id of the edit.
    pub id: &'a str,
    /// The alias; null for the subject's own name.
    pub alias: Option<&'a str>,
    /// Whether the model needs the edit.
    pub standing: Standing,
    /// The tokens of the filled prompt.
    pub tokens: &'a [String],
    /// The position of the subject's last token, from 0.
    pub position: usize,
    /// The tokens and the position in the lock; null if the model has the same ones or the lock does not have the edit.
    pub moved: Option<LockedTokens<'a>>,
    /// The most probable token after the prompt on the model.
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
