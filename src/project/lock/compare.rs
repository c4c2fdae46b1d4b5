//! Compares the lock in `corrigenda.lock` with the lock of a fresh build, and with the current edits of the project.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use super::{Lock, LockedEdit};
use crate::digest::Digest;
use crate::project::edits::EditSet;
use crate::project::edits::diff::ChangeKind;

/// A part of `corrigenda.lock` that [`Lock::differences`] compares between two locks. The variants are in the order of
/// the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockItem {
    Lock,
    Base,
    /// A file of the base model. The text is the path of the file, relative to the model's folder.
    BaseFile(String),
    /// The second moments of the MLP keys at the layer with this index, from 0.
    Statistics(u64),
    /// The entry of an edit for its subject or for one alias. The text is the id of the edit; for an alias, `as ALIAS`
    /// follows.
    Edit(String),
    Patch,
}

impl Display for LockItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock => f.write_str("lock"),
            Self::Base => f.write_str("base"),
            Self::BaseFile(path) => write!(f, "base file {path}"),
            Self::Statistics(layer) => write!(f, "statistics of layer {layer}"),
            Self::Edit(name) => write!(f, "edit {name}"),
            Self::Patch => f.write_str("patch"),
        }
    }
}

/// Declares the enum `LockField`, and the name of each variant for messages.
macro_rules! fields {
    ($($variant:ident $name:literal)*) => {
        /// A field of a [`LockItem`] that can differ between two locks. `Presence` means that only one of the two locks
        /// has the item.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum LockField { $($variant,)* }

        impl Display for LockField {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $name,)* })
            }
        }
    };
}

fields! {
    Presence "presence"
    Numerics "numerics"
    Digest "digest"
    Size "size"
    Corpus "corpus"
    Count "count"
    Imported "imported"
    Meaning "meaning"
    Preface "preface"
    Expectation "expectation"
    Record "record"
    Tokens "tokens"
    TargetTokens "target-tokens"
    Position "position"
    Layers "layers"
    Object "object"
    Settings "settings"
    Set "set"
    Id "id"
}

/// A field of `corrigenda.lock` whose value differs in the lock of a fresh build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub item: LockItem,
    pub field: LockField,
    /// The value of the field in `corrigenda.lock`, as text.
    pub locked: String,
    /// The value of the field in the lock of the fresh build, as text.
    pub fresh: String,
}

impl Difference {
    pub fn is(&self, item: &LockItem, field: LockField) -> bool {
        self.item == *item && self.field == field
    }

    /// Returns whether a build may make another patch because of this difference. The result is false only for the
    /// fields `expectation` and `record`, which do not influence the weights.
    pub fn changes_weights(&self) -> bool {
        !matches!(self.field, LockField::Expectation | LockField::Record)
    }
}

/// A group of fields of an edit for which the lock has one digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EditPart {
    /// The fields `subject`, `prompt`, `target` and `chat`.
    Meaning,
    /// The fields `was` and `expect`.
    Expectation,
    /// The fields `id`, `reason`, `source`, `owner`, `ticket` and `expires`.
    Record,
}

impl EditPart {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Meaning => "meaning",
            Self::Expectation => "expectation",
            Self::Record => "record",
        }
    }
}

/// An edit that differs between the lock and the edit files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditChange {
    pub kind: ChangeKind,
    pub id: String,
    /// The groups of fields that changed; empty if the edit was added or removed.
    pub parts: Vec<EditPart>,
}

const PRESENT: &str = "present";
const ABSENT: &str = "absent";

struct LockComparison(Vec<Difference>);

impl LockComparison {
    fn item(&mut self, item: LockItem) -> ItemComparison<'_> {
        ItemComparison { item, differences: &mut self.0 }
    }

    /// Compares the entries of two lists. Two entries are a pair if `item` returns the same [`LockItem`] for both, and
    /// `compare` is called for every pair. An entry that is in only one list gives a difference of the field
    /// `Presence`.
    fn lists<'l, T>(
        &mut self,
        item: impl Fn(&T) -> LockItem,
        locked: &'l [T],
        fresh: &'l [T],
        compare: impl Fn(&mut ItemComparison<'_>, &T, &T),
    ) {
        let locked: BTreeMap<LockItem, &T> = locked.iter().map(|entry| (item(entry), entry)).collect();
        let fresh: BTreeMap<LockItem, &T> = fresh.iter().map(|entry| (item(entry), entry)).collect();
        let keys: BTreeSet<&LockItem> = locked.keys().chain(fresh.keys()).collect();
        for key in keys {
            let mut comparison = self.item(key.clone());
            match (locked.get(key), fresh.get(key)) {
                (Some(locked), Some(fresh)) => compare(&mut comparison, locked, fresh),
                (Some(_), None) => comparison.push(LockField::Presence, PRESENT.into(), ABSENT.into()),
                (None, _) => comparison.push(LockField::Presence, ABSENT.into(), PRESENT.into()),
            }
        }
    }
}

struct ItemComparison<'c> {
    item: LockItem,
    differences: &'c mut Vec<Difference>,
}

impl ItemComparison<'_> {
    fn field<T: PartialEq + Display>(&mut self, field: LockField, locked: &T, fresh: &T) -> &mut Self {
        if locked != fresh {
            self.push(field, locked.to_string(), fresh.to_string());
        }
        self
    }

    fn list<T: PartialEq + fmt::Debug>(&mut self, field: LockField, locked: &[T], fresh: &[T]) -> &mut Self {
        if locked != fresh {
            self.push(field, format!("{locked:?}"), format!("{fresh:?}"));
        }
        self
    }

    fn push(&mut self, field: LockField, locked: String, fresh: String) {
        self.differences.push(Difference { item: self.item.clone(), field, locked, fresh });
    }
}

/// Returns an optional value of a lock as text for messages. A missing value is shown as `none`.
fn or_none(value: Option<String>) -> String {
    value.unwrap_or_else(|| "none".to_owned())
}

impl Lock {
    /// Returns all differences between this lock and the lock of a fresh build, in the order of the file.
    pub fn differences(&self, fresh: &Self) -> Vec<Difference> {
        use LockField::{Corpus, Count, Digest, Imported, Numerics, Size};
        let mut comparison = LockComparison(Vec::new());
        comparison.item(LockItem::Lock).field(Numerics, &self.numerics, &fresh.numerics);
        comparison.item(LockItem::Base).field(Digest, &self.base.digest, &fresh.base.digest);
        comparison.lists(
            |file| LockItem::BaseFile(file.path.clone()),
            &self.base.files,
            &fresh.base.files,
            |file, locked, fresh| {
                file.field(Size, &locked.size, &fresh.size).field(Digest, &locked.digest, &fresh.digest);
            },
        );
        comparison.lists(
            |statistics| LockItem::Statistics(statistics.layer),
            &self.statistics,
            &fresh.statistics,
            |statistics, locked, fresh| {
                let [before, after] = [locked, fresh].map(|one| or_none(one.imported.map(|digest| digest.to_string())));
                statistics
                    .field(Digest, &locked.digest, &fresh.digest)
                    .field(Corpus, &locked.corpus, &fresh.corpus)
                    .field(Count, &locked.count, &fresh.count)
                    .field(Imported, &before, &after);
            },
        );
        comparison.lists(|edit| LockItem::Edit(edit.name()), &self.edits, &fresh.edits, compare_edit);
        comparison
            .item(LockItem::Patch)
            .field(LockField::Settings, &self.patch.settings, &fresh.patch.settings)
            .field(LockField::Set, &self.patch.set, &fresh.patch.set)
            .field(LockField::Id, &self.patch.id, &fresh.patch.id);
        comparison.0
    }

    /// Returns the edits that differ between the lock and the edit files, sorted by id. Without a lock, all edits are
    /// new.
    pub fn changes(lock: Option<&Self>, edits: &EditSet) -> Vec<EditChange> {
        let mut before: BTreeMap<&str, Vec<&LockedEdit>> = BTreeMap::new();
        for edit in lock.into_iter().flat_map(|lock| &lock.edits) {
            before.entry(&edit.id).or_default().push(edit);
        }
        let mut changes = Vec::new();
        for edit in &edits.edits {
            let Some(locked) = before.get(edit.id.as_str()) else {
                changes.push(EditChange { kind: ChangeKind::Added, id: edit.id.clone(), parts: Vec::new() });
                continue;
            };
            let meanings: BTreeSet<Digest> = locked.iter().map(|locked| locked.meaning).collect();
            let (expectation, record) = (edit.expectation(), edit.record());
            let same = [
                (EditPart::Meaning, meanings == edit.names().map(|(name, _)| edit.meaning_of(name)).collect()),
                (EditPart::Expectation, locked.iter().all(|locked| locked.expectation == expectation)),
                (EditPart::Record, locked.iter().all(|locked| locked.record == record)),
            ];
            let parts: Vec<EditPart> = same.into_iter().filter_map(|(part, same)| (!same).then_some(part)).collect();
            if !parts.is_empty() {
                changes.push(EditChange { kind: ChangeKind::Changed, id: edit.id.clone(), parts });
            }
        }
        let gone = before.keys().filter(|id| edits.get(id).is_none());
        changes.extend(gone.map(|id| EditChange {
            kind: ChangeKind::Removed,
            id: (*id).to_owned(),
            parts: Vec::new(),
        }));
        changes.sort_by(|a, b| a.id.cmp(&b.id));
        changes
    }
}

fn compare_edit(edit: &mut ItemComparison<'_>, locked: &LockedEdit, fresh: &LockedEdit) {
    let [before, after] = [locked, fresh].map(|one| or_none(one.preface.as_ref().map(|text| format!("{text:?}"))));
    edit.field(LockField::Meaning, &locked.meaning, &fresh.meaning)
        .field(LockField::Preface, &before, &after)
        .field(LockField::Expectation, &locked.expectation, &fresh.expectation)
        .field(LockField::Record, &locked.record, &fresh.record)
        .list(LockField::Tokens, &locked.tokens, &fresh.tokens)
        .list(LockField::TargetTokens, &locked.target_tokens, &fresh.target_tokens)
        .field(LockField::Position, &locked.position, &fresh.position)
        .list(LockField::Layers, &locked.layers, &fresh.layers)
        .field(LockField::Object, &locked.object, &fresh.object);
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
