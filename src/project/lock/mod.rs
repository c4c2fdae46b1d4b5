//! Defines the lock, `corrigenda.lock`: the inputs and the result of a build, in a file that is committed.
//!
//! Equal locks have equal texts (see `text`), so a build without changes leaves the file unchanged. [`compare`]
//! compares a lock with a fresh build and with the current edits.

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
    /// The records of the second moments of the MLP keys, one per changed layer.
    pub statistics: Vec<LockedStatistics>,
    /// The linked edits: one entry for the subject and one for each alias of every edit.
    pub edits: Vec<LockedEdit>,
    /// The patch that the build made, with the digests of its settings and its set.
    pub patch: LockedPatch,
}

/// The lock file: one lock, or one per named model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockFile {
    /// The locks by model name. The key `None` is the model without a name; it is then the only entry.
    pub entries: BTreeMap<Option<String>, Lock>,
}

impl LockFile {
    /// Returns the lock of `model`, where `None` is the model without a name; `None` if the file has no such lock.
    pub fn of(&self, model: Option<&str>) -> Option<&Lock> {
        self.entries.get(&model.map(str::to_owned))
    }

    /// Returns the lock of `model`. If the file has no such lock, returns its only lock, provided that `model` is
    /// `None` or the lock has no name because it was written before the model had a name.
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
    /// The digest of the list of files, over the path, the size and the digest of each file.
    pub digest: Digest,
    /// The files of the base that determine its output: configuration, tokenizer and weights.
    #[serde(default, rename = "file")]
    pub files: Vec<LockedFile>,
}

impl LockedBase {
    /// Returns whether the lock records a file with this path.
    pub fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.path == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// The path, relative to the folder of the model.
    pub path: String,
    pub size: u64,
    pub digest: Digest,
}

/// The record of the second moments of the MLP keys at one layer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedStatistics {
    pub digest: Digest,
    pub corpus: Digest,
    /// The index of the layer, from 0.
    pub layer: u64,
    /// The number of MLP keys in the sum.
    pub count: u64,
    /// The digest of the imported statistics file; `None` if the statistics were computed.
    pub imported: Option<Digest>,
}

/// An edit with one name of its subject, with the tokens and the digests of the last build.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedEdit {
    pub id: String,
    /// The alias for which this entry is; `None` for the subject itself.
    pub alias: Option<String>,
    /// The text that is put before the prompt to avoid an attention sink at the beginning of the text; `None` if the
    /// subject is not at a sink.
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
    /// The layers that the patch changes, ascending.
    pub layers: Vec<u64>,
    /// The address of the compiled edit in the store: the digest of all its inputs.
    pub object: Digest,
}

impl LockedEdit {
    /// Returns the id of the edit for messages, followed by the alias if the entry is for an alias.
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
    /// The digest of the meanings of all linked edits. It shows that git merged two locks: the merged lock lists the
    /// edits of both builds, but this line comes from only one of the builds.
    pub set: Digest,
    pub id: Digest,
}

impl LockedEdit {
    /// Returns the edit's id, the name of its subject (the alias, or else `subject`) and the preface; `None` without a
    /// preface.
    fn stated<'l>(&'l self, subject: &'l str) -> Option<(&'l str, &'l str, &'l str)> {
        Some((&self.id, self.alias.as_deref().unwrap_or(subject), self.preface.as_deref()?))
    }
}

impl Lock {
    /// Returns the prefaces of the locked edits whose ids are still in `edits`.
    pub fn prefaces(&self, edits: &EditSet) -> Prefaces {
        let subject = |one: &LockedEdit| edits.get(&one.id).map(|edit| edit.subject.as_str());
        self.edits.iter().filter_map(|one| one.stated(subject(one)?)).collect()
    }

    /// Returns the first entry of the edit with this id; an edit has one entry per name of its subject.
    pub fn edit(&self, id: &str) -> Option<&LockedEdit> {
        self.edits.iter().find(|edit| edit.id == id)
    }

    /// Hashes the `meaning` digests of all edits of a set; the order of the edits has no effect.
    pub fn set_of(edits: &[LockedEdit]) -> Digest {
        let meanings: BTreeSet<Digest> = edits.iter().map(|edit| edit.meaning).collect();
        let mut canon = FieldHasher::new("edit-set/1");
        canon.number("edits", meanings.len() as u64);
        for meaning in &meanings {
            canon.digest("meaning", meaning);
        }
        canon.finish()
    }

    /// Returns whether the patch was built from other edits than the lock lists, because git merged two locks and the
    /// project was not built again.
    pub fn is_merged(&self) -> bool {
        self.patch.set != Self::set_of(&self.edits)
    }
}
