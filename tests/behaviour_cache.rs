//! Tests the cache of measurements in the store: cached measurements do not change the output of `test` and `diff`, and
//! are computed again if they are missing or damaged.

use std::fs;
use std::path::PathBuf;

use corrigenda::store::{EntryKind, Store};

use crate::support::project::{Project, Run};

fn built() -> Project {
    let project = Project::new();
    let build = project.run(&["build", "-q"]);
    assert_eq!(build.code(), Some(0), "{}", build.whole());
    project
}

/// Returns the paths of the cached measurements.
fn kept(project: &Project) -> Vec<PathBuf> {
    let files = Project::files(&project.cache().join("v1/measured"));
    files.into_iter().map(|(path, _)| path).collect()
}

fn tested(project: &Project) -> Run {
    let run = project.run(&["test", "-v"]);
    assert_eq!(run.code(), Some(1), "one neighbour of the project changes: {}", run.whole());
    run
}

#[test]
fn a_second_test_measures_nothing() {
    let project = built();
    let first = tested(&project);
    let there = Project::files(&project.cache().join("v1/measured"));
    assert!(!there.is_empty());
    assert_eq!(tested(&project).whole(), first.whole());
    assert_eq!(Project::files(&project.cache().join("v1/measured")), there);
    let listed = project.run(&["store", "ls"]).out();
    assert_eq!(listed.lines().filter(|line| line.starts_with("measured ")).count(), there.len());
    // Without cached measurements, the output of `test` is the same, byte for byte.
    fs::remove_dir_all(project.cache().join("v1/measured")).expect("the folder is removed");
    assert_eq!(tested(&project).whole(), first.whole());
    assert_eq!(Project::files(&project.cache().join("v1/measured")), there, "the same bytes again");
    for arguments in [["--threads", "1"], ["--isa", "plain"]] {
        fs::remove_dir_all(project.cache().join("v1/measured")).expect("the folder is removed");
        let run = project.run(&[&["test", "-v"], &arguments[..]].concat());
        assert_eq!(run.whole(), first.whole());
        assert_eq!(Project::files(&project.cache().join("v1/measured")), there, "{arguments:?}");
    }
}

#[test]
fn cached_answers_equal_computed_ones() {
    let project = built();
    let asked = || project.run(&["test", "--format", "json"]).out();
    let first = asked();
    // Changed values under valid seals show that the measurements are read.
    let store = Store::open(project.cache());
    let measured = store.ls().expect("listed").into_iter().filter(|entry| entry.kind == EntryKind::Measured);
    for entry in measured {
        let mut bytes = store.get(EntryKind::Measured, &entry.key).expect("readable").expect("there");
        let at = bytes.len() - 3;
        bytes[at] ^= 1;
        store.replace_with(EntryKind::Measured, &entry.key, |out| out.write_all(&bytes)).expect("replaced");
    }
    assert_ne!(asked(), first, "nothing was recalled");
    fs::remove_dir_all(project.cache().join("v1/measured")).expect("the folder is removed");
    assert_eq!(asked(), first);
}

#[test]
fn damaged_cache_entries_are_replaced() {
    let project = built();
    let first = tested(&project);
    for path in kept(&project) {
        let mut bytes = fs::read(&path).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("the file is written");
    }
    assert_eq!(project.run(&["store", "verify"]).code(), Some(1));
    let again = tested(&project);
    assert_eq!(again.out(), first.out());
    assert!(again.err().contains("[store-damaged]"), "{}", again.err());
    assert_eq!(project.run(&["store", "verify"]).code(), Some(0), "every entry that was needed is whole again");
}

#[test]
fn only_new_prompts_are_measured() {
    let project = built();
    tested(&project);
    let before = kept(&project);
    project.replace("edits/people.toml", "paraphrase = [", "paraphrase = [\"We live in Ada Bellini\", ");
    tested(&project);
    let added = kept(&project).into_iter().filter(|path| !before.contains(path)).count();
    assert_eq!(added, 2, "states of the base, and the answers of the edit that asks more");
    // Another limit needs no new measurement.
    let measured = kept(&project);
    project.replace("edits/people.toml", "[edit.expect]", "[edit.expect]\nunchanged-kl = 99");
    project.run(&["test"]);
    assert_eq!(kept(&project), measured);
}

#[test]
fn gc_keeps_measurements_of_the_locked_patch() {
    let project = built();
    tested(&project);
    let before = kept(&project);
    assert_eq!(project.run(&["store", "gc", "--all"]).code(), Some(0));
    assert_eq!(kept(&project), before);
    project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
    assert_eq!(project.run(&["build", "-q"]).code(), Some(0));
    project.run(&["test"]);
    let both = kept(&project);
    assert!(both.len() > before.len());
    assert_eq!(project.run(&["store", "gc", "--all"]).code(), Some(0));
    let left = kept(&project);
    assert!(left.len() < both.len() && left.iter().any(|path| before.contains(path)), "the base's stay");
    let out = project.path("parcel");
    assert_eq!(project.run(&["store", "export", "parcel", "--statistics"]).code(), Some(0));
    assert!(!out.join("measured").exists(), "what can be measured anew does not travel");
}

#[test]
fn a_comparison_and_a_test_share_what_they_measure() {
    let project = built();
    tested(&project);
    let before = kept(&project);
    let first = project.run(&["diff", "base", "worktree", "--tokens", "0"]);
    assert_eq!(first.code(), Some(0), "{}", first.whole());
    assert_eq!(kept(&project), before);
    let texts = || project.run(&["diff", "base", "worktree", "--no-damage"]);
    let said = texts();
    let with_texts = kept(&project);
    assert_eq!(with_texts.len(), before.len() + 6, "three prompts, two sides");
    assert_eq!(texts().whole(), said.whole());
    // Sampled continuations are not cached, and nothing is cached for a model folder, which has no digest.
    project.run(&["diff", "base", "worktree", "--seed", "1"]);
    project.run(&["diff", "./model", "worktree"]);
    assert_eq!(kept(&project), with_texts);
}

#[test]
fn a_test_without_damage() {
    let project = built();
    let run = project.run(&["test", "--no-damage", "--format", "json"]);
    assert_eq!((run.code(), &run.json()["damage"]), (Some(1), &serde_json::Value::Null));
    assert!(run.json()["command"].as_str().is_some_and(|command| command.contains("--no-damage")), "{}", run.out());
    let said = project.run(&["test", "--no-damage"]).out();
    assert!(said.contains("damage was not measured because of `--no-damage`"), "{said}");
    project.write("corrigenda.toml", &format!("{}\n[test]\nmax-damage = 0.0000001\n", project.read("corrigenda.toml")));
    let limited = project.run(&["test", "--no-damage"]).out();
    assert!(limited.contains("and its limits were not checked"), "{limited}");
}
