//! Defines `corrigenda.lock`, a committed file with the digests of all inputs and of the result of a build.
//!
//! Equal locks have equal texts, so a build without changes leaves the file unchanged. [`compare`] compares a lock with
//! the lock of a fresh build and with the current edits.

pub mod accepted;
pub mod compare;
pub(crate) mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::edits::EditSet;
use super::edits::prefaces::Prefaces;
use crate::digest::{Digest, FieldHasher};

/// The name of the lock file, which has one lock per model of the project.
pub const LOCK_FILE: &str = "corrigenda.lock";
/// The only value of `version` in a lock file that this version of the program writes and accepts.
pub const LOCK_VERSION: i64 = 1;

/// The digests of the inputs of a build, and the id of the patch that the build made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The name of the floating-point arithmetic of the build, for example `portable-1`.
    pub numerics: String,
    pub base: LockedBase,
    /// The digests of the second moments of the MLP keys, one entry per layer that the patch changes.
    pub statistics: Vec<LockedStatistics>,
    /// The edits in the patch. Every edit has one entry for its subject and one entry for each alias.
    pub edits: Vec<LockedEdit>,
    /// The id of the patch, and the digests of its settings and of its edits.
    pub patch: LockedPatch,
}

/// The content of `corrigenda.lock`: one lock without a model name, or one lock per named model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockFile {
    /// The locks by model name. If the project's only model has no name, the only key is `None`.
    pub entries: BTreeMap<Option<String>, Lock>,
}

impl LockFile {
    /// Returns the lock of `model`; `None` if the file has no lock of this model. The argument `None` means the model
    /// without a name.
    pub fn of(&self, model: Option<&str>) -> Option<&Lock> {
        self.entries.get(&model.map(str::to_owned))
    }

    /// Returns the lock of `model`. If the file has no such lock, but has exactly one lock, that lock is returned in
    /// two cases: it has no model name, or `model` is `None`. The lock of a project's only model therefore stays in use
    /// after the model is given a name, or its name is removed.
    pub fn nearest(&self, model: Option<&str>) -> Option<&Lock> {
        let only = self.entries.iter().next().filter(|_| self.entries.len() == 1);
        self.of(model).or(only.filter(|(name, _)| model.is_none() || name.is_none()).map(|(_, lock)| lock))
    }

    /// Returns the lock file in which `lock` is the lock of `model`. The locks of other models are kept only if their
    /// names are in `names`, the current names of the project's models.
    #[must_use]
    pub fn with(mut self, model: Option<&str>, lock: Lock, names: &[&str]) -> Self {
        self.entries.retain(|name, _| name.as_deref().is_some_and(|name| names.contains(&name)));
        self.entries.insert(model.map(str::to_owned), lock);
        self
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedBase {
    /// The digest over the paths, sizes and content digests of `files`.
    pub digest: Digest,
    /// The files of the base that determine its output: configuration, tokenizer and weights.
    #[serde(default, rename = "file")]
    pub files: Vec<LockedFile>,
}

impl LockedBase {
    /// Returns whether the lock lists a file of the base model with the path `name`.
    pub fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.path == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// The path of a file of the base model, relative to the model's folder.
    pub path: String,
    pub size: u64,
    pub digest: Digest,
}

/// The digests that identify the second moments of the MLP keys at one layer, and the corpus from which they were
/// computed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedStatistics {
    pub digest: Digest,
    pub corpus: Digest,
    /// The index of the layer, from 0.
    pub layer: u64,
    /// The number of MLP keys from which the second moments were computed.
    pub count: u64,
    /// The digest of the imported statistics file; `None` if the statistics were computed.
    pub imported: Option<Digest>,
}

/// The entry of an edit for its subject or for one alias, with the tokens and digests of the last build.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedEdit {
    pub id: String,
    /// The alias that this entry describes; `None` if the entry describes the subject of the edit.
    pub alias: Option<String>,
    /// The text that is put before the prompt, because the subject would otherwise be at an attention sink; `None` if
    /// no such text is needed.
    pub preface: Option<String>,
    /// The digest of subject, prompt, target and `chat` ([`Edit::meaning`](super::Edit::meaning)).
    pub meaning: Digest,
    /// The digest of the old answer and the expectations ([`Edit::expectation`](super::Edit::expectation)).
    pub expectation: Digest,
    /// The digest of the fields that only document the fact, such as `reason` and `owner`
    /// ([`Edit::record`](super::Edit::record)).
    pub record: Digest,
    /// The tokens of the prompt with the subject filled in and without a context template, one text per token.
    pub tokens: Vec<String>,
    /// The tokens of the target as it follows the prompt. Each token is decoded to one text, for example `" Rome"`.
    pub target_tokens: Vec<String>,
    /// The index of the subject's last token in `tokens`, from 0.
    pub position: u64,
    /// The layers that the patch changes, ascending.
    pub layers: Vec<u64>,
    /// The address of the compiled edit in the store, which is the digest of all inputs of the compilation.
    pub object: Digest,
}

impl LockedEdit {
    /// Returns the id of the edit for messages, followed by `as` and the alias if there is one.
    pub(super) fn name(&self) -> String {
        match &self.alias {
            None => self.id.clone(),
            Some(alias) => format!("{} as {alias:?}", self.id),
        }
    }
}

/// The id of the patch that a build made, and the digests of the settings and of the edits from which it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedPatch {
    pub settings: Digest,
    /// The digest of the subjects, prompts, targets and `chat` values of all edits in the patch. If git has merged two
    /// locks, this digest does not match the edits that the lock lists.
    pub set: Digest,
    pub id: Digest,
}

impl LockedEdit {
    /// Returns the id of the edit, the name that replaces `{}` in its prompt, and the preface; `None` if the entry has
    /// no preface. The name is the alias of this entry, or `subject` if the entry has no alias.
    fn stated<'l>(&'l self, subject: &'l str) -> Option<(&'l str, &'l str, &'l str)> {
        Some((&self.id, self.alias.as_deref().unwrap_or(subject), self.preface.as_deref()?))
    }
}

impl Lock {
    /// Returns the prefaces that the lock has for the edits in `edits`.
    pub fn prefaces(&self, edits: &EditSet) -> Prefaces {
        let subject = |one: &LockedEdit| edits.get(&one.id).map(|edit| edit.subject.as_str());
        self.edits.iter().filter_map(|one| one.stated(subject(one)?)).collect()
    }

    /// Returns the first entry of the edit with this id. An edit has one entry for its subject and one entry per alias.
    pub fn edit(&self, id: &str) -> Option<&LockedEdit> {
        self.edits.iter().find(|edit| edit.id == id)
    }

    /// Returns the digest of the `meaning` digests of a set of edits. The result does not depend on the order of the
    /// edits.
    pub fn set_of(edits: &[LockedEdit]) -> Digest {
        let meanings: BTreeSet<Digest> = edits.iter().map(|edit| edit.meaning).collect();
        let mut canon = FieldHasher::new("edit-set/1");
        canon.number("edits", meanings.len() as u64);
        for meaning in &meanings {
            canon.digest("meaning", meaning);
        }
        canon.finish()
    }

    /// Returns whether git has merged two locks and the project has not been built since then. In this case,
    /// `patch.set` does not match the edits in the lock.
    pub fn is_merged(&self) -> bool {
        self.patch.set != Self::set_of(&self.edits)
    }
}
