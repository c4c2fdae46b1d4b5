//! `corrigenda.lock`: what went into the patch and what came out, in a file that is committed.
//!
//! The lock is only ever compared: with a fresh build ([`Lock::differences`]), and with the edits as they are
//! written now ([`Lock::changes`]). Its bytes are made in one way (see `lock_text`), so that a build that
//! changes nothing changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::edits::EditSet;
use super::prefaces::Prefaces;
use crate::digest::{Canon, Digest};

/// The name of the lock file.
pub const LOCK_FILE: &str = "corrigenda.lock";
/// The version of the lock that this version writes and reads.
pub const LOCK_VERSION: i64 = 1;

/// Everything that a build depends on and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The arithmetic, for example `portable-1`.
    pub numerics: String,
    /// The base model.
    pub base: LockedBase,
    /// The second moments, one per edited layer.
    pub statistics: Vec<LockedStatistics>,
    /// The edits.
    pub edits: Vec<LockedEdit>,
    /// What came out.
    pub patch: LockedPatch,
}

/// The lock file: one lock, or one for each named model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockFile {
    /// By the names of the models; without a name, it is the only one.
    pub entries: BTreeMap<Option<String>, Lock>,
}

impl LockFile {
    /// The lock of a model.
    pub fn of(&self, model: Option<&str>) -> Option<&Lock> {
        self.entries.get(&model.map(str::to_owned))
    }

    /// The same, or that of the only model from before it had a name; where no model is meant, the only one there is.
    pub fn nearest(&self, model: Option<&str>) -> Option<&Lock> {
        let only = self.entries.iter().next().filter(|_| self.entries.len() == 1);
        self.of(model).or(only.filter(|(name, _)| model.is_none() || name.is_none()).map(|(_, lock)| lock))
    }

    /// The file with another lock of a model, and nothing of models that are not among `names`.
    #[must_use]
    pub fn with(mut self, model: Option<&str>, lock: Lock, names: &[&str]) -> Self {
        self.entries.retain(|name, _| name.as_deref().is_some_and(|name| names.contains(&name)));
        self.entries.insert(model.map(str::to_owned), lock);
        self
    }
}

/// The base model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedBase {
    /// The digest of the table of files.
    pub digest: Digest,
    /// Its files.
    pub files: Vec<LockedFile>,
}

impl LockedBase {
    /// Whether a file of this name decides what the model says.
    pub fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.path == name)
    }
}

/// A file of the base model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedFile {
    /// The path below the model's folder.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// The second moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedStatistics {
    /// The digest of the artefact's content.
    pub digest: Digest,
    /// The digest of the corpus.
    pub corpus: Digest,
    /// The layer that they are of.
    pub layer: u64,
    /// The number of keys that they sum up.
    pub count: u64,
    /// The file that they were imported from, where they were not summed.
    pub imported: Option<Digest>,
}

/// An edit, as it was resolved and compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedEdit {
    /// The id.
    pub id: String,
    /// Under which other name of its subject; none for the subject itself.
    pub alias: Option<String>,
    /// The text after which the fact is stated, where its subject begins the prompt at an attention sink.
    pub preface: Option<String>,
    /// The digest of subject, prompt and target.
    pub meaning: Digest,
    /// The digest of the expectations.
    pub expectation: Digest,
    /// The digest of the record.
    pub record: Digest,
    /// The filled prompt, as the tokenizer cuts it.
    pub tokens: Vec<String>,
    /// The target, as the tokenizer cuts it.
    pub target_tokens: Vec<String>,
    /// The position of the subject's last token.
    pub position: u64,
    /// The layers that are edited, ascending.
    pub layers: Vec<u64>,
    /// The address of the compiled object: the digest of everything that it depends on.
    pub object: Digest,
}

/// A digest, or that there is none.
fn said(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "none".to_owned(), |digest| digest.to_string())
}

impl LockedStatistics {
    /// The layer as a name.
    fn name(&self) -> String {
        self.layer.to_string()
    }
}

impl LockedEdit {
    /// The edit as a name.
    pub(super) fn name(&self) -> String {
        match &self.alias {
            None => self.id.clone(),
            Some(alias) => format!("{} as {alias:?}", self.id),
        }
    }
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedPatch {
    /// The digest of the settings.
    pub settings: Digest,
    /// The digest of the set of edits that were linked: their blocks may be merged, this line is of one build.
    pub set: Digest,
    /// The digest of the patch's bytes.
    pub id: Digest,
}

/// A field that is not as the lock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Of what: `"edit eiffel-tower.city"`, `"base file config.json"`, `"patch"`.
    pub place: String,
    /// The field, or `"presence"`.
    pub field: &'static str,
    /// What the lock says.
    pub locked: String,
    /// What was found.
    pub found: String,
}

impl Difference {
    /// Whether weights depend on it: expectations and records may be newer than the lock.
    pub fn changes_weights(&self) -> bool {
        !matches!(self.field, "expectation" | "record")
    }
}

/// How an edit differs from the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is not in the lock.
    Added,
    /// It is in the lock, with other digests.
    Changed,
    /// It is only in the lock.
    Removed,
}

impl ChangeKind {
    /// The sign for it.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Added => "+",
            Self::Changed => "~",
            Self::Removed => "-",
        }
    }
}

/// A part of an edit that has a digest of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Subject, prompt and target.
    Meaning,
    /// The old answer and the expectations.
    Expectation,
    /// The reason, the source, the owner and the ticket.
    Record,
}

impl Part {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Meaning => "meaning",
            Self::Expectation => "expectation",
            Self::Record => "record",
        }
    }
}

/// An edit that is not as it was locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// Which edit.
    pub id: String,
    /// Which parts of it; empty unless it is changed.
    pub fields: Vec<Part>,
}

const PRESENT: &str = "present";
const ABSENT: &str = "absent";

/// Collects differences of one place after another.
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

    /// Walks two lists by key; what is in both is given to `compare`.
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
    /// The text after which its fact is stated, with the id and the name that it is of; `subject` is the edit's own.
    fn stated<'l>(&'l self, subject: &'l str) -> Option<(&'l str, &'l str, &'l str)> {
        Some((&self.id, self.alias.as_deref().unwrap_or(subject), self.preface.as_deref()?))
    }
}

impl Lock {
    /// The texts after which the facts of a set are stated.
    pub fn prefaces(&self, edits: &EditSet) -> Prefaces {
        let subject = |one: &LockedEdit| edits.get(&one.id).map(|edit| edit.subject.as_str());
        self.edits.iter().filter_map(|one| one.stated(subject(one)?)).collect()
    }

    /// The edit with this id.
    pub fn edit(&self, id: &str) -> Option<&LockedEdit> {
        self.edits.iter().find(|edit| edit.id == id)
    }

    /// The digest of a set of edits by what they mean, in whatever order they are given.
    pub fn set_of(edits: &[LockedEdit]) -> Digest {
        let meanings: BTreeSet<Digest> = edits.iter().map(|edit| edit.meaning).collect();
        let mut canon = Canon::new("edit-set/1");
        canon.number("edits", meanings.len() as u64);
        for meaning in &meanings {
            canon.digest("meaning", meaning);
        }
        canon.finish()
    }

    /// Whether the patch was built from other edits than the lock lists: two locks were merged, and nobody built the
    /// set that came of it.
    pub fn is_merged(&self) -> bool {
        self.patch.set != Self::set_of(&self.edits)
    }

    /// Everything in which a fresh build differs from this lock, in the order of the file.
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

    /// How the edits as written differ from those that were locked, by id. Without a lock, all are new.
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
