//! Tests that fixed defects stay fixed.

use crate::support::project::{Project, commit};

fn built(project: &Project) -> String {
    let run = project.run(&["build", "--format", "json"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    run.json()["patch"]["id"].as_str().expect("an id").to_owned()
}

/// Returns the number of patches in the store.
fn patches(project: &Project) -> usize {
    let list = project.run(&["store", "ls", "--format", "json"]).json();
    let kinds = list["entries"].as_array().expect("entries").iter();
    kinds.filter(|entry| entry["kind"] == "patch" || entry["kind"] == "patches").count()
}

fn policy(project: &Project, text: &str) {
    let before = project.read("corrigenda.toml");
    project.write("corrigenda.toml", &format!("{before}\n{text}"));
}

#[test]
fn a_patch_is_compared_with_an_older_revision() {
    let project = Project::new();
    built(&project);
    commit(&project, "first");
    let added = "format = 1\n[[edit]]\nid = \"zzz\"\nsubject = \"Lisbon\"\nprompt = \"We saw the city of {}\"\ntarget = \"Rome\"\n";
    project.write("edits/zzz.toml", added);
    let id = built(&project);
    for arguments in [["diff", "HEAD", &id], ["diff", &id, "HEAD"]] {
        let run = project.run(&arguments);
        assert_eq!(run.code(), Some(0), "{}", run.whole());
        assert!(run.out().contains("zzz  edits/zzz.toml:3"), "{}", run.out());
    }
}

#[test]
fn a_denied_warning_stores_no_patch() {
    let project = Project::new();
    project.replace("edits/people.toml", "was = \"Rome\"", "was = \"Vienna\"");
    policy(&project, "[policy.levels]\nbase-disagrees = \"deny\"\n");
    let run = project.run(&["build"]);
    assert_eq!((run.code(), patches(&project)), (Some(1), 0), "{}", run.whole());
    assert!(!project.path("corrigenda.lock").exists());
}

#[test]
fn a_comparison_stores_no_patch() {
    let project = Project::new();
    built(&project);
    commit(&project, "first");
    project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
    let before = patches(&project);
    assert_eq!(project.run(&["diff", "HEAD"]).code(), Some(0));
    assert_eq!((before, patches(&project)), (1, 1));
}

#[test]
fn another_corpus_is_another_patch() {
    let project = Project::new();
    built(&project);
    commit(&project, "first");
    project.write("corpus.txt", &project.read("corpus.txt").lines().rev().skip(3).collect::<Vec<_>>().join("\n"));
    let run = project.run(&["diff", "--exit-code"]);
    assert_eq!(run.code(), Some(1), "{}", run.whole());
    assert!(run.out().contains("is not what a build would write"), "{}", run.out());
}

#[test]
fn a_limit_that_only_warns_is_reported() {
    let project = Project::new();
    policy(&project, "[policy]\nmax-relative-norm = 0.000001\nlevels.max-relative-norm = \"warn\"\n");
    let run = project.run(&["build"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    assert!(run.err().contains("warning[max-relative-norm]"), "{}", run.err());
}

#[test]
fn aliases_in_any_order_and_each_of_them_shown() {
    let project = Project::new();
    project.replace(
        "edits/people.toml",
        "subject = \"Ada Bellini\"",
        "subject = \"Ada Bellini\"\naliases = [\"The people\", \"A city\"]",
    );
    let first = project.run(&["build"]);
    assert!(first.out().contains("as The people") && first.out().contains("as A city"), "{}", first.whole());
    let second = project.run(&["build"]);
    assert!(second.out().contains("corrigenda.lock unchanged"), "{}", second.whole());
}

#[test]
fn reports_never_replace_project_files() {
    let project = Project::new();
    built(&project);
    for file in ["corrigenda.toml", "corrigenda.lock", "edits/people.toml", "./edits/new.toml", "corrigenda.accepted"] {
        let before = Project::files(&project.path(""));
        let report = project.run(&["check", "--report", &format!("json={file}")]);
        let provenance = project.run(&["build", "--provenance", file]);
        assert_eq!((report.code(), provenance.code()), (Some(2), Some(2)), "{file}: {}", report.whole());
        assert_eq!(Project::files(&project.path("")), before, "{file}");
    }
}

#[test]
fn revisions_against_todays_rules_can_be_compared() {
    let project = Project::new();
    built(&project);
    commit(&project, "first");
    policy(&project, "[policy]\nrequire = [\"reason\"]\n");
    project.replace("edits/places.toml", "target = \"Paris\"", "target = \"Paris\"\nreason = \"r\"");
    project.replace("edits/places.toml", "target = \"Vienna\"", "target = \"Vienna\"\nreason = \"r\"");
    built(&project);
    commit(&project, "second");
    let run = project.run(&["diff", "HEAD~1", "HEAD"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
}
