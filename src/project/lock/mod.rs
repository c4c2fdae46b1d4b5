//! Defines the lock, `corrigenda.lock`: the inputs and the result of a build, in a file that is committed.
//!
//! The lock is only compared: with a fresh build ([`Lock::differences`]), and with the current edits
//! ([`Lock::changes`]). Each lock has exactly one text (see `text`), so a build without changes leaves the file
//! as it is.

pub mod accepted;
pub(crate) mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::edits::EditSet;
use super::edits::prefaces::Prefaces;
use crate::digest::{Canon, Digest};

/// The name of the file with the locks of all models, in the root folder of the project.
pub const LOCK_FILE: &str = "corrigenda.lock";
/// The version of the lock format that this program writes and reads.
pub const LOCK_VERSION: i64 = 1;

/// The inputs and the result of one build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The name of the floating-point arithmetic of the build, for example `portable-1`.
    pub numerics: String,
    /// The base model that was edited, with the digests of its files.
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

/// The base model and its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedBase {
    /// The digest of the list of files.
    pub digest: Digest,
    /// The files that determine the model's output.
    pub files: Vec<LockedFile>,
}

impl LockedBase {
    /// Returns whether a file of this name is one of the recorded files.
    pub fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.path == name)
    }
}

/// A file of the base model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedFile {
    /// The path relative to the model's folder.
    pub path: String,
    /// The size in bytes.
    pub size: u64,
    /// The digest of the content.
    pub digest: Digest,
}

/// The second moments of the keys at one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedStatistics {
    /// The digest of the statistics' content.
    pub digest: Digest,
    /// The digest of the corpus.
    pub corpus: Digest,
    /// The layer, from 0.
    pub layer: u64,
    /// The number of keys that the sum contains.
    pub count: u64,
    /// The digest of the file that they were imported from; `None` if they were computed.
    pub imported: Option<Digest>,
}

/// An edit under one name of its subject, as it was tokenized and compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedEdit {
    /// The id of the edit.
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

/// Formats a digest, or "none".
fn said(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "none".to_owned(), |digest| digest.to_string())
}

impl LockedStatistics {
    /// Returns the key that matches the entries of two locks: the layer.
    fn name(&self) -> String {
        self.layer.to_string()
    }
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
    /// The digest of the settings that the build depends on.
    pub settings: Digest,
    /// The digest of the set of linked edits. It detects a merge of two locks: git merges the blocks of the edits, but
    /// this line still belongs to one build.
    pub set: Digest,
    /// The digest of the patch file.
    pub id: Digest,
}

/// A field in which a fresh build differs from the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The part of the lock: `"edit eiffel-tower.city"`, `"base file config.json"`, `"patch"`.
    pub place: String,
    /// The name of the field, or `"presence"` if the whole entry is only on one side.
    pub field: &'static str,
    /// The value in the lock.
    pub locked: String,
    /// The value of the fresh build.
    pub found: String,
}

impl Difference {
    /// Returns whether the weights depend on the field: all fields but expectations and records.
    pub fn changes_weights(&self) -> bool {
        !matches!(self.field, "expectation" | "record")
    }
}

/// The kind of a change of an edit relative to the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// The edit is not in the lock.
    Added,
    /// The edit is in the lock with other digests.
    Changed,
    /// The edit is only in the lock.
    Removed,
}

impl ChangeKind {
    /// Returns the sign for output: `+`, `~` or `-`.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Added => "+",
            Self::Changed => "~",
            Self::Removed => "-",
        }
    }
}

/// A part of an edit with its own digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Subject, prompt, target and `chat`.
    Meaning,
    /// The old answer and the expectations.
    Expectation,
    /// Id, reason, source, owner, ticket and expiry date.
    Record,
}

impl Part {
    /// Returns the lower-case name, as output shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Meaning => "meaning",
            Self::Expectation => "expectation",
            Self::Record => "record",
        }
    }
}

/// An edit that differs from the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whether it was added, changed or removed.
    pub kind: ChangeKind,
    /// The id of the edit.
    pub id: String,
    /// The changed parts; empty if the edit was added or removed.
    pub fields: Vec<Part>,
}

const PRESENT: &str = "present";
const ABSENT: &str = "absent";

/// Collects the differences between a lock and a fresh build. `place` is the part that is compared at present.
struct Comparison {
    place: String,
    found: Vec<Difference>,
}

impl Comparison {
    fn at(&mut self, place: impl Into<String>) -> &mut Self {
        self.place = place.into();
        self
    }

    fn field<T: PartialEq + Display>(&mut self, field: &'static str, locked: &T, fresh: &T) -> &mut Self {
        if locked != fresh {
            self.push(field, locked.to_string(), fresh.to_string());
        }
        self
    }

    fn texts(&mut self, field: &'static str, locked: &[String], fresh: &[String]) -> &mut Self {
        if locked != fresh {
            self.push(field, format!("{locked:?}"), format!("{fresh:?}"));
        }
        self
    }

    fn numbers(&mut self, field: &'static str, locked: &[u64], fresh: &[u64]) -> &mut Self {
        if locked != fresh {
            self.push(field, format!("{locked:?}"), format!("{fresh:?}"));
        }
        self
    }

    fn push(&mut self, field: &'static str, locked: String, found: String) {
        self.found.push(Difference { place: self.place.clone(), field, locked, found });
    }

    /// Matches two lists by key; calls `compare` for items in both, and records the others as differences of presence.
    fn lists<'l, T>(
        &mut self,
        noun: &str,
        key: impl Fn(&T) -> String,
        locked: &'l [T],
        fresh: &'l [T],
        compare: impl Fn(&mut Self, &T, &T),
    ) {
        let locked: BTreeMap<String, &T> = locked.iter().map(|item| (key(item), item)).collect();
        let fresh: BTreeMap<String, &T> = fresh.iter().map(|item| (key(item), item)).collect();
        let names: BTreeSet<&String> = locked.keys().chain(fresh.keys()).collect();
        for name in names {
            self.at(format!("{noun} {name}"));
            match (locked.get(name), fresh.get(name)) {
                (Some(locked), Some(fresh)) => compare(self, locked, fresh),
                (Some(_), None) => self.push("presence", PRESENT.into(), ABSENT.into()),
                _ => self.push("presence", ABSENT.into(), PRESENT.into()),
            }
        }
    }
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
        let mut canon = Canon::new("edit-set/1");
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

    /// Returns all differences between this lock and a fresh build, in the order of the file.
    pub fn differences(&self, fresh: &Self) -> Vec<Difference> {
        let mut comparison = Comparison { place: String::new(), found: Vec::new() };
        comparison.at("lock").field("numerics", &self.numerics, &fresh.numerics);
        comparison.at("base").field("digest", &self.base.digest, &fresh.base.digest);
        comparison.lists(
            "base file",
            |file| file.path.clone(),
            &self.base.files,
            &fresh.base.files,
            |all, locked, fresh| {
                all.field("size", &locked.size, &fresh.size).field("digest", &locked.digest, &fresh.digest);
            },
        );
        comparison.lists(
            "statistics of layer",
            LockedStatistics::name,
            &self.statistics,
            &fresh.statistics,
            |all, locked, fresh| {
                all.field("digest", &locked.digest, &fresh.digest)
                    .field("corpus", &locked.corpus, &fresh.corpus)
                    .field("count", &locked.count, &fresh.count)
                    .field("imported", &said(locked.imported), &said(fresh.imported));
            },
        );
        comparison.lists("edit", LockedEdit::name, &self.edits, &fresh.edits, |all, locked, fresh| {
            let preface =
                |edit: &LockedEdit| edit.preface.as_ref().map_or("none".to_owned(), |text| format!("{text:?}"));
            all.field("meaning", &locked.meaning, &fresh.meaning)
                .field("preface", &preface(locked), &preface(fresh))
                .field("expectation", &locked.expectation, &fresh.expectation)
                .field("record", &locked.record, &fresh.record)
                .texts("tokens", &locked.tokens, &fresh.tokens)
                .texts("target-tokens", &locked.target_tokens, &fresh.target_tokens)
                .field("position", &locked.position, &fresh.position)
                .numbers("layers", &locked.layers, &fresh.layers)
                .field("object", &locked.object, &fresh.object);
        });
        comparison
            .at("patch")
            .field("settings", &self.patch.settings, &fresh.patch.settings)
            .field("set", &self.patch.set, &fresh.patch.set)
            .field("id", &self.patch.id, &fresh.patch.id);
        comparison.found
    }

    /// Returns how the current edits differ from the locked ones, sorted by id. Without a lock, all edits are new.
    pub fn changes(locked: Option<&Self>, edits: &EditSet) -> Vec<Change> {
        let mut before: BTreeMap<&str, Vec<&LockedEdit>> = BTreeMap::new();
        for edit in locked.into_iter().flat_map(|lock| &lock.edits) {
            before.entry(&edit.id).or_default().push(edit);
        }
        let mut changes = Vec::new();
        for edit in &edits.edits {
            let Some(locked) = before.get(edit.id.as_str()) else {
                changes.push(Change { kind: ChangeKind::Added, id: edit.id.clone(), fields: Vec::new() });
                continue;
            };
            let meanings: BTreeSet<Digest> = locked.iter().map(|locked| locked.meaning).collect();
            let (expectation, record) = (edit.expectation(), edit.record());
            let parts = [
                (Part::Meaning, meanings == edit.names().map(|(name, _)| edit.meaning_of(name)).collect()),
                (Part::Expectation, locked.iter().all(|locked| locked.expectation == expectation)),
                (Part::Record, locked.iter().all(|locked| locked.record == record)),
            ];
            let fields: Vec<Part> = parts.into_iter().filter_map(|(part, same)| (!same).then_some(part)).collect();
            if !fields.is_empty() {
                changes.push(Change { kind: ChangeKind::Changed, id: edit.id.clone(), fields });
            }
        }
        let gone = before.keys().filter(|id| edits.get(id).is_none());
        changes.extend(gone.map(|id| Change { kind: ChangeKind::Removed, id: (*id).to_owned(), fields: Vec::new() }));
        changes.sort_by(|a, b| a.id.cmp(&b.id));
        changes
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
