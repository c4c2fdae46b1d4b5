use super::super::text::tests::sample;
use super::super::{LockedBase, LockedPatch, LockedStatistics};
use super::*;
use crate::project::edits::parse_files;

#[test]
fn every_field_is_compared() {
    let lock = sample();
    assert!(lock.differences(&lock).is_empty());
    let other = Digest::of(b"other");
    let mut fresh = lock.clone();
    fresh.numerics = "portable-2".into();
    fresh.base = LockedBase { digest: other, files: vec![lock.base.files[0].clone()] };
    fresh.base.files[0].size += 1;
    fresh.base.files[0].digest = other;
    fresh.statistics = vec![LockedStatistics { layer: 0, digest: other, corpus: other, count: 9, imported: None }];
    fresh.edits[1] = LockedEdit {
        id: fresh.edits[1].id.clone(),
        alias: fresh.edits[1].alias.clone(),
        preface: None,
        meaning: other,
        expectation: other,
        record: other,
        tokens: vec!["\u{1b}".into()],
        target_tokens: Vec::new(),
        position: 9,
        layers: vec![9],
        object: other,
    };
    fresh.edits[0].id = "new".into();
    fresh.patch = LockedPatch { settings: other, set: other, id: other };
    let found: Vec<String> = lock.differences(&fresh).iter().map(|d| format!("{}: {}", d.item, d.field)).collect();
    insta::assert_snapshot!(found.join("\n"));
    fresh.statistics = Vec::new();
    assert!(lock.differences(&fresh).iter().any(|d| d.item == LockItem::Statistics(0) && d.fresh == "absent"));
}

#[test]
fn a_merged_lock_is_detected_by_its_set() {
    let mut lock = sample();
    lock.patch.set = Lock::set_of(&lock.edits);
    assert!(!lock.is_merged());
    lock.edits.reverse();
    assert!(!lock.is_merged());
    lock.edits[0].expectation = Digest::of(b"another");
    assert!(!lock.is_merged(), "a patch does not depend on expectations");
    lock.edits[0].meaning = Digest::of(b"another");
    assert!(lock.is_merged());
}

#[test]
fn a_changed_alias_changes_the_meaning() {
    let text =
        "format = 1\n[[edit]]\nid = \"a\"\nsubject = \"A\"\naliases = [\"B\"]\nprompt = \"{} is\"\ntarget = \"x\"\n";
    let set = parse_files(vec![("a.toml".into(), text.into())]).expect("the edits are valid").0;
    let edit = &set.edits[0];
    let locked = |alias: Option<&str>| LockedEdit {
        id: "a".into(),
        alias: alias.map(str::to_owned),
        preface: None,
        meaning: edit.meaning_of(alias.unwrap_or("A")),
        expectation: edit.expectation(),
        record: edit.record(),
        ..sample().edits[0].clone()
    };
    let mut lock = sample();
    lock.edits = vec![locked(None), locked(Some("B"))];
    assert!(Lock::changes(Some(&lock), &set).is_empty());
    lock.edits.pop();
    assert_eq!(Lock::changes(Some(&lock), &set)[0].parts, [EditPart::Meaning]);
}

#[test]
fn changes_name_the_changed_parts() {
    let entry = |id: &str, target: &str, rest: &str| {
        format!("[[edit]]\nid = \"{id}\"\nsubject = \"{id}\"\nprompt = \"{{}} is\"\ntarget = \"{target}\"\n{rest}\n")
    };
    let set = |entries: &[String]| {
        let text = format!("format = 1\n{}", entries.concat());
        parse_files(vec![("a.toml".into(), text.into_bytes())]).expect("the edits are valid").0
    };
    let before = set(&[entry("a", "x", ""), entry("b", "x", ""), entry("c", "x", ""), entry("d", "x", "")]);
    let mut lock = sample();
    lock.edits = before
        .edits
        .iter()
        .map(|edit| LockedEdit {
            id: edit.id.clone(),
            meaning: edit.meaning(),
            expectation: edit.expectation(),
            record: edit.record(),
            ..lock.edits[0].clone()
        })
        .collect();
    assert!(Lock::changes(Some(&lock), &before).is_empty());
    let after = set(&[
        entry("b", "y", "was = \"z\""),
        entry("c", "x", "reason = \"r\""),
        entry("d", "x", ""),
        entry("e", "x", ""),
    ]);
    let found: Vec<_> =
        Lock::changes(Some(&lock), &after).into_iter().map(|change| (change.id, change.kind, change.parts)).collect();
    assert_eq!(
        found,
        [
            ("a".to_owned(), ChangeKind::Removed, vec![]),
            ("b".to_owned(), ChangeKind::Changed, vec![EditPart::Meaning, EditPart::Expectation]),
            ("c".to_owned(), ChangeKind::Changed, vec![EditPart::Record]),
            ("e".to_owned(), ChangeKind::Added, vec![]),
        ]
    );
    assert_eq!(Lock::changes(None, &after).len(), 4);
}
