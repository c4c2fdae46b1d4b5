//! Tests projects with several models.

use std::path::Path;

use crate::support::project::{PROJECT, Project, commit};
use crate::support::tiny;

/// Returns the tiny project with two models: `one` is the tiny model, `two` has other weights and another layer.
fn project() -> Project {
    let project = Project::new();
    let other = tiny::editable(|name, elements| {
        if name == "transformer.wpe.weight" {
            elements.iter_mut().for_each(|x| *x *= 0.5);
        }
    });
    tiny::write_model_with(&project.path("other"), &other);
    let two = "[model.two]\npath = \"other\"\n\n[model.two.rome]\nlayer = 0\n\n[model.one]\npath = \"model\"";
    project.write("corrigenda.toml", &PROJECT.replace("[model]\npath = \"model\"", two));
    project
}

fn block<'t>(lock: &'t str, name: &str) -> &'t str {
    let rest = lock.split_once(&format!("[model.{name}]\n")).map_or("", |(_, rest)| rest);
    let end = rest.match_indices("\n[model.").map(|(at, _)| at).find(|at| {
        let header = rest[at + 8..].lines().next().unwrap_or_default();
        !header.contains('.')
    });
    &rest[..end.unwrap_or(rest.len())]
}

#[test]
fn a_project_with_two() {
    let (project, plain) = (project(), Project::new());
    insta::assert_snapshot!("models_build", project.run(&["build"]).whole());
    let lock = project.read("corrigenda.lock");
    insta::assert_snapshot!("models_lock", lock);
    // The part of the lock for a named model has the content of the lock of a project with one model.
    assert_eq!(plain.run(&["build"]).code(), Some(0));
    let single = plain.read("corrigenda.lock");
    let body = single.split_once("version = 1\n").expect("a version").1;
    assert_eq!(block(&lock, "one").replace("model.one.", "").trim_end(), body.trim_end());
    assert_eq!(project.run(&["build", "--locked"]).code(), Some(0));
    insta::assert_snapshot!("models_plan", project.run(&["plan", "--only", "ada.born"]).whole());
    let tested = project.run(&["test"]);
    assert_eq!(tested.code(), Some(1), "{}", tested.whole());
    assert!(
        tested.out().starts_with("model one\n\n") && tested.out().contains("\n\nmodel two\n\n"),
        "{}",
        tested.out()
    );
    assert!(project.run(&["check"]).out().starts_with("3 edits"));
    // `store gc` keeps the entries that either model needs.
    assert_eq!(project.run(&["store", "gc"]).code(), Some(0));
    for name in ["one", "two"] {
        for verb in [&["verify"][..], &["diff", "base"], &["stats", "show"], &["export", "checkpoint", name]] {
            let run = project.run(&[verb, &["--model", name]].concat());
            assert_eq!(run.code(), Some(0), "{verb:?}: {}", run.whole());
        }
    }
    let weights = |folder: &str| std::fs::read(project.path(folder).join("model.safetensors")).expect("exported");
    assert_ne!(weights("one"), weights("two"));
}

/// A build for one model does not change the part of the lock for the other model.
#[test]
fn one_is_built_alone() {
    let project = project();
    assert_eq!(project.run(&["build", "--model", "two"]).code(), Some(0));
    let two = project.read("corrigenda.lock");
    assert!(block(&two, "one").is_empty() && !block(&two, "two").is_empty());
    let stale = project.run(&["verify", "--model", "one"]);
    assert_eq!(stale.code(), Some(3));
    assert!(stale.err().contains("there is no corrigenda.lock of the model `one`"), "{}", stale.err());
    // The worse outcome determines the exit code: `one` has no lock, and the lock of `two` is up to date.
    let both = project.run(&["build", "--locked"]);
    assert_eq!(both.code(), Some(3), "{}", both.whole());
    assert_eq!(project.run(&["build", "--model", "one"]).code(), Some(0));
    let lock = project.read("corrigenda.lock");
    assert_eq!(block(&lock, "two").trim_end(), block(&two, "two").trim_end());
    // A change of the settings of one model does not affect the lock of the other model.
    project.replace("corrigenda.toml", "[model.two.rome]\n", "[model.two.rome]\nclamp = 59\n");
    let run = project.run(&["build", "--locked"]);
    assert_eq!(run.code(), Some(3), "{}", run.whole());
    assert_eq!(project.run(&["build", "--locked", "--model", "one"]).code(), Some(0));
    assert_eq!(project.run(&["build"]).code(), Some(0));
    let after = project.read("corrigenda.lock");
    assert_eq!(block(&lock, "one"), block(&after, "one"));
    assert_ne!(block(&lock, "two"), block(&after, "two"));
    // A model that the project no longer has is removed from the lock.
    project.replace("corrigenda.toml", "[model.one]\npath = \"model\"\n", "");
    let removal = project.run(&["build"]);
    assert_eq!(removal.code(), Some(0), "{}", removal.whole());
    let last = project.read("corrigenda.lock");
    assert_eq!((block(&last, "one"), block(&last, "two").trim_end()), ("", block(&after, "two").trim_end()));
    assert!(!removal.out().contains("model two\n"), "nothing is to choose: {}", removal.out());
}

#[test]
fn commands_for_one_model_need_its_name() {
    let project = project();
    let asks: [&[&str]; 13] = [
        &["diff", "base", "worktree"],
        &["export", "checkpoint", "out"],
        &["stats", "show"],
        &["verify"],
        &["verify", "--rebuild"],
        &["plan", "--format", "json"],
        &["build", "--format", "json"],
        &["build", "--provenance", "statement.json"],
        &["test", "--format", "junit"],
        &["test", "--report", "html=report.html"],
        &["test", "--texts", "texts.jsonl"],
        &["test", "--on", "model"],
        &["plan", "--model", "tow"],
    ];
    let mut said = String::new();
    for arguments in asks {
        let run = project.run(arguments);
        assert_eq!(run.code(), Some(2), "{arguments:?}: {}", run.whole());
        said += &format!("$ corrigenda {}\n{}\n", arguments.join(" "), run.whole());
    }
    insta::assert_snapshot!("models_asked", said);
    for absent in ["out", "statement.json", "report.html", "texts.jsonl", "corrigenda.lock"] {
        assert!(!Path::new(&project.path(absent)).exists(), "{absent}");
    }
    let unknown = project.run(&["check", "--model", "tow"]);
    assert_eq!(unknown.code(), Some(2), "{}", unknown.whole());
    assert!(unknown.err().contains("did you mean `two`?"), "{}", unknown.err());
    assert_eq!(project.run(&["check", "--model", "two"]).code(), Some(0));
    let unnamed = Project::new().run(&["plan", "--model", "two"]);
    assert_eq!(unnamed.code(), Some(2));
    assert!(unnamed.err().contains("its only model has no name"), "{}", unnamed.err());
}

/// An acceptance for one model does not apply to another.
#[test]
fn each_has_its_acceptances() {
    let project = project();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    let before = project.run_with(&["test", "--model", "two"], &[("CI", "")]).code();
    assert_eq!(before, Some(1));
    let accepted = project.run_with(&["test", "--model", "two", "--update"], &[("CI", "")]);
    assert_eq!(accepted.code(), Some(0), "{}", accepted.whole());
    assert!(project.path("corrigenda.two.accepted").is_file() && !project.path("corrigenda.accepted").exists());
    assert_eq!(project.run(&["test", "--model", "two"]).code(), Some(0));
    assert_eq!(project.run(&["test", "--model", "one"]).code(), Some(1));
    let json = project.run(&["test", "--model", "two", "--format", "json"]).json();
    assert_eq!(json["command"], "corrigenda test --model two");
    let own = project.run(&["test", "--model", "two", "--report", "json=corrigenda.two.accepted"]);
    assert!(own.err().contains("is a file of the project"), "{}", own.err());
}

/// If the folder of one model is missing, the other model is built, and the exit code is that of an error.
#[test]
fn the_worst_outcome_of_the_models_counts() {
    let project = project();
    std::fs::remove_dir_all(project.path("model")).expect("the folder is removed");
    let run = project.run(&["build"]);
    assert_eq!(run.code(), Some(2), "{}", run.whole());
    let lock = project.read("corrigenda.lock");
    assert!(block(&lock, "one").is_empty() && !block(&lock, "two").is_empty());
    project.replace("corrigenda.lock", "[model.two.base]", "[model.two.bose]");
    let damaged = project.run(&["plan", "--model", "two"]);
    assert_eq!(damaged.code(), Some(2));
    assert!(damaged.err().contains("the lock is damaged"), "{}", damaged.err());
}

/// A past revision in which the model had no name can be compared with the worktree, and its lock and patch are used.
#[test]
fn the_history_of_a_model() {
    let project = project();
    let today = project.read("corrigenda.toml");
    project.write("corrigenda.toml", PROJECT);
    assert_eq!(project.run(&["build"]).code(), Some(0));
    commit(&project, "a state");
    project.write("corrigenda.toml", &today);
    project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
    let run = project.run(&["build", "--model", "one"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    commit(&project, "a state");
    let asked = project.run(&["log"]);
    assert_eq!(asked.code(), Some(2), "{}", asked.whole());
    let log = project.run(&["log", "--model", "one", "--format", "json"]).json();
    let patches: Vec<&str> =
        log["commits"].as_array().into_iter().flatten().filter_map(|entry| entry["patch"].as_str()).collect();
    assert_eq!(patches.len(), 2, "{log}");
    let same = project.run(&["diff", "HEAD", "--model", "one", "--exit-code"]);
    assert_eq!(same.code(), Some(0), "{}", same.whole());
    let older = project.run(&["diff", "HEAD~1", "--model", "one", "--exit-code", "--no-damage"]);
    assert_eq!(older.code(), Some(1), "{}", older.whole());
    // The base of that revision is the model `one`, so the revision cannot be compared with `two`.
    let other = project.run(&["diff", "HEAD~1", "--model", "two"]);
    assert_eq!(other.code(), Some(3), "{}", other.whole());
}

/// A lock is stale if it still contains a model that the project no longer has.
#[test]
fn a_model_that_was_dropped_makes_the_lock_stale() {
    let project = project();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    project.replace("corrigenda.toml", "[model.two]\npath = \"other\"\n\n[model.two.rome]\nlayer = 0\n\n", "");
    let before = project.read("corrigenda.lock");
    let run = project.run(&["build", "--locked"]);
    assert_eq!(run.code(), Some(3), "{}", run.whole());
    assert!(run.err().contains("has models that the project does not have: `two`"), "{}", run.err());
    assert_eq!(project.read("corrigenda.lock"), before);
    assert_eq!(project.run(&["build"]).code(), Some(0));
    assert_eq!(project.run(&["build", "--locked"]).code(), Some(0));
}
