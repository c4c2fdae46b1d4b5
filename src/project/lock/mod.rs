//! Defines the lock, `corrigenda.lock`: the inputs and the result of a build, in a file that is committed.
//!
//! Each lock has exactly one text (see `text`), so a build without changes leaves the file as it is. A lock is compared
//! with a fresh build and with the current edits (see [`compare`]).

pub mod accepted;
pub mod compare;
pub(crate) mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::edits::EditSet;
use super::edits::prefaces::Prefaces;
use crate::digest::{Digest, FieldHasher};

/// The name of the file with the locks of all models, in the root folder of the project.
pub const LOCK_FILE: &str = "corrigenda.lock";
/// The version of the lock format that this program writes and reads.
pub const LOCK_VERSION: i64 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The name of the floating-point arithmetic of the build, for example `portable-1`.
    pub numerics: String,
    pub base: LockedBase,
    /// The second moments of the keys, one entry per edited layer.
    pub statistics: Vec<LockedStatistics>,
    /// The edits, one entry per name of a subject.
    pub edits: Vec<LockedEdit>,
    /// The patch that the build made, with the digests of its settings and its set.
    pub patch: LockedPatch,
}

/// The lock file: one lock, or one per named model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockFile {
    /// The locks by model name; a lock without a name is the only entry.
    pub entries: BTreeMap<Option<String>, Lock>,
}

impl LockFile {
    /// Returns the lock of a model; `None` as `model` is the model without a name.
    pub fn of(&self, model: Option<&str>) -> Option<&Lock> {
        self.entries.get(&model.map(str::to_owned))
    }

    /// Returns the lock of a model. If there is none, returns the only lock of the file, but only if no model is given
    /// or that lock has no name (it was written before the model got one).
    pub fn nearest(&self, model: Option<&str>) -> Option<&Lock> {
        let only = self.entries.iter().next().filter(|_| self.entries.len() == 1);
        self.of(model).or(only.filter(|(name, _)| model.is_none() || name.is_none()).map(|(_, lock)| lock))
    }

    /// Returns the file with the lock of `model` replaced. Locks of models that are not in `names` and locks without a
    /// name are removed.
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
    /// The digest of the list of files.
    pub digest: Digest,
    /// The files that determine the model's output.
    #[serde(default, rename = "file")]
    pub files: Vec<LockedFile>,
}

impl LockedBase {
    /// Returns whether a file of this name is one of the recorded files.
    pub fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.path == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// Relative to the folder of the model.
    pub path: String,
    pub size: u64,
    pub digest: Digest,
}

/// The second moments of the keys at one layer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedStatistics {
    pub digest: Digest,
    pub corpus: Digest,
    /// The layer, from 0.
    pub layer: u64,
    /// The number of keys that the sum contains.
    pub count: u64,
    /// The digest of the file that they were imported from; `None` if they were computed.
    pub imported: Option<Digest>,
}

/// An edit under one name of its subject, as it was tokenized and compiled.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedEdit {
    pub id: String,
    /// The alias; `None` for the subject itself.
    pub alias: Option<String>,
    /// The text that is put before the prompt if the subject would otherwise be at an attention sink at the beginning;
    /// `None` if it is not needed.
    pub preface: Option<String>,
    /// The digest of subject, prompt, target and `chat` ([`Edit::meaning`](super::Edit::meaning)).
    pub meaning: Digest,
    /// The digest of the expectations ([`Edit::expectation`](super::Edit::expectation)).
    pub expectation: Digest,
    /// The digest of the documentation ([`Edit::record`](super::Edit::record)).
    pub record: Digest,
    /// The tokens of the filled prompt, as texts.
    pub tokens: Vec<String>,
    /// The tokens of the target, as texts.
    pub target_tokens: Vec<String>,
    /// The position of the subject's last token in the prompt, from 0.
    pub position: u64,
    /// The edited layers, ascending.
    pub layers: Vec<u64>,
    /// The address of the compiled edit in the store: the digest of all its inputs.
    pub object: Digest,
}

impl LockedEdit {
    /// Returns the id, with the alias if there is one.
    pub(super) fn name(&self) -> String {
        match &self.alias {
            None => self.id.clone(),
            Some(alias) => format!("{} as {alias:?}", self.id),
        }
    }
}

/// The patch of a build and the digests that identify its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedPatch {
    pub settings: Digest,
    /// The digest of the set of linked edits. It detects a merge of two locks: git merges the blocks of the edits, but
    /// this line still belongs to one build.
    pub set: Digest,
    pub id: Digest,
}

impl LockedEdit {
    /// Returns id, name of the subject and preface; `None` without a preface. For an entry without an alias, the name
    /// is `subject`.
    fn stated<'l>(&'l self, subject: &'l str) -> Option<(&'l str, &'l str, &'l str)> {
        Some((&self.id, self.alias.as_deref().unwrap_or(subject), self.preface.as_deref()?))
    }
}

impl Lock {
    /// Returns the prefaces of the locked edits that are still in the set.
    pub fn prefaces(&self, edits: &EditSet) -> Prefaces {
        let subject = |one: &LockedEdit| edits.get(&one.id).map(|edit| edit.subject.as_str());
        self.edits.iter().filter_map(|one| one.stated(subject(one)?)).collect()
    }

    /// Returns the first entry of the edit with this id; an edit has one entry per name of its subject.
    pub fn edit(&self, id: &str) -> Option<&LockedEdit> {
        self.edits.iter().find(|edit| edit.id == id)
    }

    /// Returns the digest of a set of edits by their meanings, independent of their order.
    pub fn set_of(edits: &[LockedEdit]) -> Digest {
        let meanings: BTreeSet<Digest> = edits.iter().map(|edit| edit.meaning).collect();
        let mut canon = FieldHasher::new("edit-set/1");
        canon.number("edits", meanings.len() as u64);
        for meaning in &meanings {
            canon.digest("meaning", meaning);
        }
        canon.finish()
    }

    /// Returns whether the patch was built from other edits than the lock lists. This happens if git merges two locks
    /// and no build follows.
    pub fn is_merged(&self) -> bool {
        self.patch.set != Self::set_of(&self.edits)
    }
}
