//! Compares two sets of edits, edit by edit and field by field.
//!
//! Edits are matched by id. An edit with a new id, but the same subject, aliases, prompt, target and `chat`, counts as
//! renamed. It is reported as a change of the field `id`, not as a removal and an addition.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::EditSet;
use super::edit::Edit;
use crate::diagnostics::Place;
use crate::digest::Digest;

/// The name of the changed field in the [`FieldChange`] of a renamed edit.
pub const ID: &str = "id";

/// The kind of change of a fact between an earlier and a later set of edits, or between the lock and the edit files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ChangeKind {
    /// The fact is only in the later set of edits.
    #[serde(rename = "+")]
    Added,
    #[serde(rename = "~")]
    Changed,
    /// The fact is only in the earlier set of edits.
    #[serde(rename = "-")]
    Removed,
}

impl ChangeKind {
    /// Returns the sign that reports show: `+`, `~` or `-`.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Added => "+",
            Self::Changed => "~",
            Self::Removed => "-",
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// A fact that differs between an earlier and a later set of edits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Fact")]
pub struct FactChange {
    /// The kind of the change: + added, ~ changed, - removed.
    #[schemars(with = "String")]
    pub change: ChangeKind,
    /// The id of the edit. If a patch contains the edit and its id is unknown, the text is `meaning` and the beginning
    /// of the digest of the edit's subject, prompt, target and `chat`.
    pub id: String,
    /// The fields that differ; all fields with a value if the fact was added or removed.
    pub fields: Vec<FieldChange>,
    /// The place where the fact is declared in the later set of edits; for a removed fact, in the earlier set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// A field of a fact that differs between an earlier and a later set of edits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Field")]
pub struct FieldChange {
    /// The name of the field as in the edit file, for example `target` or `expect.paraphrase`.
    pub name: String,
    /// The texts of the field in the earlier set of edits; empty if the field is not set.
    pub before: Vec<String>,
    /// The texts of the field in the later set of edits; empty if the field is not set.
    pub after: Vec<String>,
}

/// Compares two sets of edits and returns the facts that differ, sorted by id. A renamed fact is listed under its new
/// id.
pub fn compare(before: &EditSet, after: &EditSet) -> Vec<FactChange> {
    let renamed = renamed(before, after);
    let old: BTreeSet<&str> = renamed.values().map(|edit| edit.id.as_str()).collect();
    let mut facts = Vec::new();
    let (earlier, later) = (before.written(), after.written());
    for (id, edit) in &later {
        let was = earlier.get(id).copied().or_else(|| renamed.get(id).copied());
        let fields = differences(was, Some(*edit));
        let kind = if was.is_some() { ChangeKind::Changed } else { ChangeKind::Added };
        // A new fact with `status = "parked"` does not change what is built, so it is not reported.
        if !fields.is_empty() && (was.is_some() || edit.parked.is_none()) {
            facts.push(fact(kind, edit, fields, after));
        }
    }
    let gone = earlier.values().filter(|edit| !later.contains_key(edit.id.as_str()) && !old.contains(edit.id.as_str()));
    let gone = gone.filter(|edit| edit.parked.is_none());
    facts.extend(gone.map(|edit| fact(ChangeKind::Removed, edit, differences(Some(*edit), None), before)));
    facts.sort_by(|a, b| a.id.cmp(&b.id));
    facts
}

/// Returns the changes that are in both lists: the facts that both lists contain, each with the fields that changed in
/// both. If the lists compare a merge commit with each of its two parents, the result is what the merge itself changed.
///
/// The values are those of `first`. For a fact that is added in `first` and changed in `second`, the values are those
/// of `second`.
pub fn common(first: Vec<FactChange>, second: &[FactChange]) -> Vec<FactChange> {
    let others: BTreeMap<&str, &FactChange> = second.iter().map(|fact| (fact.id.as_str(), fact)).collect();
    let both = first.into_iter().filter_map(|fact| {
        let other = *others.get(fact.id.as_str())?;
        let changed = |one: &FactChange| one.change == ChangeKind::Changed;
        // A fact that is added in one list and changed in the other list already exists in one of the two earlier sets.
        // The result therefore has it as changed.
        let (mut merged, other) =
            if changed(other) && !changed(&fact) { (other.clone(), &fact) } else { (fact, other) };
        if changed(other) {
            merged.fields.retain(|field| other.fields.iter().any(|one| one.name == field.name));
        }
        (!merged.fields.is_empty()).then_some(merged)
    });
    both.collect()
}

/// Maps the new id of every renamed edit to the edit with the old id. Both edits have the same subject, aliases,
/// prompt, target and `chat`.
fn renamed<'a>(before: &'a EditSet, after: &'a EditSet) -> BTreeMap<&'a str, &'a Edit> {
    let (earlier, later) = (before.written(), after.written());
    let gone = earlier.values().copied().filter(|edit| !later.contains_key(edit.id.as_str()));
    // Two edits of a set have the same digest only if one of them is parked, that is, not built. The map then keeps the
    // edit whose id sorts last.
    let gone: BTreeMap<Digest, &Edit> = gone.map(|edit| (edit.meaning(), edit)).collect();
    if gone.is_empty() {
        return BTreeMap::new();
    }
    let new = later.values().copied().filter(|edit| !earlier.contains_key(edit.id.as_str()));
    let was = |edit: &Edit| gone.get(&edit.meaning()).copied().filter(|was| was.aliases == edit.aliases);
    new.filter_map(|edit| Some((edit.id.as_str(), was(edit)?))).collect()
}

/// Returns the fields that differ between two versions of an edit. If one version is `None`, returns all fields that
/// the other version sets.
fn differences(before: Option<&Edit>, after: Option<&Edit>) -> Vec<FieldChange> {
    let fields = |edit: Option<&Edit>| edit.map_or_else(Vec::new, Edit::fields);
    let (old, new) = (fields(before), fields(after));
    let names = if new.is_empty() { &old } else { &new };
    let texts = |side: &[(&str, Vec<String>)], at: usize| side.get(at).map_or_else(Vec::new, |one| one.1.clone());
    let named = |(at, (name, _)): (usize, &(&'static str, Vec<String>))| FieldChange {
        name: (*name).to_owned(),
        before: texts(&old, at),
        after: texts(&new, at),
    };
    let renamed = before.zip(after).filter(|(before, after)| before.id != after.id).map(|(before, after)| {
        FieldChange { name: ID.to_owned(), before: vec![before.id.clone()], after: vec![after.id.clone()] }
    });
    let others = names.iter().enumerate().map(named).filter(|field| field.before != field.after);
    renamed.into_iter().chain(others).collect()
}

fn fact(kind: ChangeKind, edit: &Edit, fields: Vec<FieldChange>, set: &EditSet) -> FactChange {
    let place = Place::new(edit.spans.file, &edit.spans.id, &set.sources);
    FactChange { change: kind, id: edit.id.clone(), fields, place: Some(place) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::parse_files;

    /// Builds a set of edits. Each item has the id, the subject, the target, and further TOML lines of one edit.
    fn set(edits: &[(&str, &str, &str, &str)]) -> EditSet {
        let mut text = "format = 1\n".to_owned();
        for (id, subject, target, more) in edits {
            text += &format!(
                "[[edit]]\nid = \"{id}\"\nsubject = \"{subject}\"\nprompt = \"{{}} is in\"\ntarget = \"{target}\"\n{more}\n"
            );
        }
        parse_files(vec![("edits/a.toml".to_owned(), text.into_bytes())]).expect("valid edits").0
    }

    /// Formats each change as one line, for example `~ b: target x→y`.
    fn lines(facts: &[FactChange]) -> Vec<String> {
        let field =
            |field: &FieldChange| format!("{} {}→{}", field.name, field.before.join("|"), field.after.join("|"));
        let fields = |fact: &FactChange| fact.fields.iter().map(field).collect::<Vec<_>>().join(", ");
        facts.iter().map(|fact| format!("{} {}: {}", fact.change.sign(), fact.id, fields(fact))).collect()
    }

    #[test]
    fn added_changed_and_removed_by_id() {
        let before = set(&[("a", "A", "x", ""), ("b", "B", "x", "owner = \"me\""), ("c", "C", "x", "")]);
        let after = set(&[("d", "D", "z", ""), ("a", "A", "x", ""), ("b", "B", "y", "expect.accept = [\"v\", \"w\"]")]);
        let facts = compare(&before, &after);
        assert_eq!(
            lines(&facts),
            [
                "~ b: target x→y, owner me→, expect.accept →v|w",
                "- c: subject C→, prompt {} is in→, target x→",
                "+ d: subject →D, prompt →{} is in, target →z",
            ]
        );
        let place = facts[2].place.as_ref().expect("a place");
        assert_eq!((place.file.as_str(), place.line, place.column), ("edits/a.toml", Some(3), Some(6)));
        assert!(compare(&before, &before).is_empty());
        assert_eq!(compare(&EditSet::default(), &after).len(), 3);
    }

    #[test]
    fn a_renamed_edit_is_one_change() {
        let before = set(&[("a", "A", "x", ""), ("b", "B", "x", "aliases = [\"Bee\"]")]);
        let after = set(&[("new", "A", "x", "owner = \"me\""), ("other", "B", "x", "")]);
        assert_eq!(
            lines(&compare(&before, &after)),
            [
                // The aliases differ, so this is a removal and an addition, not a rename.
                "- b: subject B→, aliases Bee→, prompt {} is in→, target x→",
                "~ new: id a→new, owner →me",
                "+ other: subject →B, prompt →{} is in, target →x",
            ]
        );
        let swapped = set(&[("b", "A", "x", ""), ("a", "B", "x", "aliases = [\"Bee\"]")]);
        let facts = compare(&before, &swapped);
        assert!(
            facts.iter().all(|fact| fact.change == ChangeKind::Changed && fact.fields[0].name == "subject"),
            "{facts:?}"
        );
    }

    #[test]
    fn a_merge_changed_what_differs_from_both_parents() {
        let base = &[("a", "A", "x", ""), ("b", "B", "x", "")][..];
        let ours = set(&[("a", "A", "y", ""), ("b", "B", "x", ""), ("c", "C", "x", "")]);
        let theirs = set(&[("a", "A", "x", "owner = \"me\""), ("b", "B", "x", ""), ("d", "D", "x", "")]);
        let clean =
            set(&[("a", "A", "y", "owner = \"me\""), ("b", "B", "x", ""), ("c", "C", "x", ""), ("d", "D", "x", "")]);
        let merged = |after: &EditSet| common(compare(&ours, after), &compare(&theirs, after));
        assert!(merged(&clean).is_empty(), "both sides were taken");
        let evil = set(&[("a", "A", "z", ""), ("c", "C", "v", ""), ("e", "E", "x", "")]);
        assert_eq!(
            lines(&merged(&evil)),
            [
                "~ a: target y→z",
                "- b: subject B→, prompt {} is in→, target x→",
                "~ c: target x→v",
                "+ e: subject →E, prompt →{} is in, target →x",
            ]
        );
        assert_eq!(lines(&common(compare(&set(base), &evil), &compare(&set(base), &evil))).len(), 4);
    }
}
