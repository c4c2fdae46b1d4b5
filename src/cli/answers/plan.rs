use schemars::JsonSchema;
use serde::Serialize;

use super::{LeftOutEntry, NamedBase, ScoredAnswer, TopToken};
use crate::digest::Digest;
use crate::project::EditChange;
use crate::project::edits::diff::ChangeKind;

/// The JSON that `plan --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct PlanAnswer<'a> {
    /// The base model that a build would edit.
    pub base: NamedBase,
    /// Whether `corrigenda.lock` names this base; null without that file.
    pub locked: Option<bool>,
    /// The second moment of the MLP keys that a build needs.
    pub statistics: PlannedStatistics,
    /// The edits that `--only` selects; without that option, all edits.
    pub edits: Vec<PlanEntry<'a>>,
    /// The ids of the edits that a build would remove from `corrigenda.lock`.
    pub removed: Vec<&'a str>,
}

/// The second moment of the MLP keys that a build needs.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct PlannedStatistics {
    /// The index of the layer from whose MLP keys the second moment is computed, counted from 0.
    pub layer: usize,
    /// Whether the store already has the second moment, so that a build does not compute it.
    pub built: bool,
}

/// An edit as a build would compile it, and the base's answer to its prompt.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) struct PlanEntry<'a> {
    /// The id of the edit, as its edit file declares it.
    pub id: &'a str,
    /// How the edit differs from the edit with the same id in `corrigenda.lock`.
    pub change: PlannedChange,
    /// The parts of the edit that differ from the edit in `corrigenda.lock`: `meaning` (what determines the weights),
    /// `expectation` (what is tested) or `record` (the documentation of the fact).
    pub changed: Vec<&'static str>,
    /// The path of the edit file that declares the edit.
    pub file: &'a str,
    /// The line in `file` that contains the edit's id, from 1.
    pub line: usize,
    /// The tokens of the prompt after the subject is filled in.
    pub tokens: Vec<String>,
    /// The tokens of the target as a continuation of the prompt.
    pub target_tokens: Vec<String>,
    /// The text that a build puts before the prompt, so that the subject's last token is not at an attention sink; null
    /// if no such text is needed.
    pub preface: Option<String>,
    /// The index of the subject's last token in `tokens`, from 0.
    pub position: u64,
    /// The indices of the layers that the edit changes, from 0.
    pub layers: Vec<u64>,
    /// The key of the compiled edit in the store. The entry exists once a build has compiled the edit.
    pub object: Digest,
    /// The most probable next token of the base after the prompt.
    pub says: TopToken<'a>,
    /// Whether the base already gives the target, and the probability of the target.
    pub target: ScoredAnswer,
    /// Whether the base gives the old answer, and its probability; null if the edit has no `was`.
    pub was: Option<ScoredAnswer>,
    /// The edit as a build would compile it for each alias of the subject.
    pub aliases: Vec<PlanAlias>,
}

/// The difference between an edit and the edit with the same id in `corrigenda.lock`.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub(in crate::cli) enum PlannedChange {
    /// The existing `corrigenda.lock` has the same edit.
    #[serde(rename = "=")]
    Unchanged,
    /// The existing `corrigenda.lock` does not have the edit.
    #[serde(rename = "+")]
    Added,
    /// The existing `corrigenda.lock` has the edit with different contents.
    #[serde(rename = "~")]
    Changed,
    /// The existing `corrigenda.lock` has the edit, but the project does not.
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

/// An alias of an edit's subject, with the tokenized prompt for which a build would compile the edit.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct PlanAlias {
    /// The alias, as the edit declares it.
    pub alias: Option<String>,
    /// The tokens of the prompt after the alias is filled in.
    pub tokens: Vec<String>,
    /// The text that a build puts before the prompt, so that the alias's last token is not at an attention sink; null
    /// if no such text is needed.
    pub preface: Option<String>,
    /// The index of the alias's last token in `tokens`, from 0.
    pub position: u64,
    /// The key of the store entry with the edit compiled for this alias. The entry exists once a build has compiled the
    /// edit for the alias.
    pub object: Digest,
}

/// The JSON that `plan --base --format json` prints, without the fields that all commands print.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct OtherBaseAnswer<'a> {
    /// The model given with `--base`: its name, digest and shape.
    pub base: ModelShape,
    /// The layer that a build on this model would edit, from 0; null if no layer can be chosen.
    pub layer: Option<usize>,
    /// The facts whose prompts were run on the model. Each fact has one element for the subject's own name, and one for
    /// each alias.
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
    /// The `model_type` in the model's `config.json`, such as `llama`.
    pub family: &'static str,
    /// The number of transformer blocks.
    pub layers: usize,
    /// The number of elements of a hidden state.
    pub width: usize,
}

/// A fact, one name of its subject (the subject's own name or an alias), and the answers of the model of `--base`.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct OtherBaseEdit<'a> {
    /// The id of the edit, as its edit file declares it.
    pub id: &'a str,
    /// The alias that is used in the prompt; null for the subject's own name.
    pub alias: Option<&'a str>,
    /// Whether this model needs the edit, or already gives the target.
    pub standing: Standing,
    /// The tokens of the prompt after the subject is filled in.
    pub tokens: &'a [String],
    /// The index of the subject's last token in `tokens`, from 0.
    pub position: usize,
    /// The tokens and the subject's position that `corrigenda.lock` records, if they differ from those of this model;
    /// otherwise null.
    pub moved: Option<LockedTokens<'a>>,
    /// The most probable next token of the model after the prompt.
    pub says: TopToken<'a>,
    /// Whether the model gives the target, and the probability of the target.
    pub target: ScoredAnswer,
    /// Whether the model gives the old answer, and its probability; null if the edit has no `was`.
    pub was: Option<ScoredAnswer>,
}

/// Whether a model needs an edit, or already gives the edit's target.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub(in crate::cli) enum Standing {
    /// The model already gives the target.
    #[serde(rename = "already true")]
    AlreadyTrue,
    /// The model does not give the target.
    #[serde(rename = "needed")]
    Needed,
}

/// The tokens of a prompt and the position of its subject's last token, as `corrigenda.lock` records them.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct LockedTokens<'a> {
    /// The tokens of the prompt after the subject is filled in.
    pub tokens: &'a [String],
    /// The index of the subject's last token in `tokens`, from 0.
    pub position: usize,
}
