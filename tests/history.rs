//! Tests `log` on repositories with fixed names and times.

use std::path::Path;
use std::process::Command;

use crate::support::project::Project;

#[path = "../src/history/samples.rs"]
mod samples;

use samples::{PROJECT, SampleRepository, damage, edit, lock};

/// Returns the exit code and both streams of a run in a folder, with the folder's path replaced.
fn run_in(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corrigenda"));
    let output = command.current_dir(folder).args(arguments).env_remove("COLUMNS").output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let code = output.status.code().map_or_else(|| "none".to_owned(), |code| code.to_string());
    let whole = format!("exit code: {code}\n----- stdout\n{out}----- stderr\n{err}");
    let real = folder.canonicalize().expect("a folder");
    whole.replace(&*real.to_string_lossy(), "[FOLDER]")
}

/// Does the same as [`run_in`] in a sample repository, with the id of the newest commit replaced, because that commit
/// contains a lock and its id changes with the lock format.
fn run(sample: &SampleRepository, arguments: &[&str]) -> String {
    let run = run_in(&sample.project(), arguments);
    let Ok(head) = sample.git.revparse_single("main") else { return run };
    let head = head.id().to_string();
    run.replace(&head, "[HEAD]").replace(&head[..12], "[HEAD]")
}

fn json(sample: &SampleRepository, arguments: &[&str]) -> serde_json::Value {
    let run = run(sample, arguments);
    let out = run.split("----- stdout\n").nth(1).and_then(|rest| rest.split("----- stderr").next()).expect("an answer");
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {run}"))
}

/// Returns a day of the year 2026, in days since 1970.
const fn day(of_the_year: i64) -> i64 {
    20_453 + of_the_year
}

/// Returns a repository with edits that are added, changed, renamed and removed on two branches.
fn story() -> SampleRepository {
    let mut sample = SampleRepository::new();
    sample.prefix = "models/atlas/".to_owned();
    std::fs::create_dir_all(sample.project()).expect("a folder");
    let expect = "source = \"an atlas\"\n[edit.expect]\nunchanged = [\"Paris is in\", \"Lyon is in\"]";
    let tower = edit("tower", "The Eiffel Tower", "Paris", expect);
    let root = sample.commit(day(1), "Start with the tower", &[("edits/tower.toml", &tower)], &[]);
    let moved = tower.replace("\"Paris\"", "\"Rome\"").replace("\"Lyon is in\"", "\"Nice is in\", \"Metz is in\"");
    let message = "The tower moved\n\nIt was seen there.\n\nFixes: #12\nReviewed-by: Grace <grace@example.org>\n";
    let ours = sample.commit(day(5), message, &[("edits/tower.toml", &moved)], &[root]);
    let bridge = edit("bridge", "Tower Bridge", "London", "reason = \"It was forgotten.\"");
    sample.author = ("Grace".to_owned(), "grace@example.org".to_owned());
    let files = [("edits/tower.toml", tower.as_str()), ("edits/bridge.toml", &bridge)];
    let theirs = sample.commit(day(6), "A bridge", &files, &[root]);
    let merged_files = [("edits/tower.toml", moved.as_str()), ("edits/bridge.toml", &bridge)];
    let merge = sample.commit(day(7), "Merge the bridge", &merged_files, &[ours, theirs]);
    let named = moved.replace("\"tower\"", "\"eiffel-tower.city\"");
    let renamed_files = [("edits/tower.toml", named.as_str()), ("edits/bridge.toml", &bridge)];
    let renamed = sample.commit(day(8), "Ids say what they are about", &renamed_files, &[merge]);
    let lock = lock("1a");
    let locked_files = [("edits/tower.toml", named.as_str()), ("corrigenda.lock", &lock)];
    sample.commit(day(40), "The bridge needs no edit; built", &locked_files, &[renamed]);
    sample
}

#[test]
fn a_history_for_people() {
    let sample = story();
    insta::assert_snapshot!("help_log", run(&sample, &["log", "--help"]));
    insta::assert_snapshot!("log", run(&sample, &["log"]));
    insta::assert_snapshot!("log_of_one_fact", run(&sample, &["log", "eiffel-tower.city"]));
    insta::assert_snapshot!("log_in_full", run(&sample, &["log", "-v", "--limit", "1"]));
    assert!(run(&sample, &["log", "tower"]).contains("Ids say what they are about"), "an old id is followed too");
    sample.git.set_head_detached(sample.git.revparse_single("HEAD~1").expect("a commit").id()).expect("detached");
    assert!(!run(&sample, &["log"]).contains("built") && run(&sample, &["log"]).contains("exit code: 0"));
}

#[test]
fn a_history_for_programs() {
    let sample = story();
    insta::assert_snapshot!("log_as_csv", run(&sample, &["log", "--format", "csv"]));
    let log = json(&sample, &["log", "--format", "json", "--as-of", "2026-12-31"]);
    insta::assert_snapshot!("log_as_json", serde_json::to_string_pretty(&log).expect("JSON"));
}

#[test]
fn facts_in_force_at_a_time() {
    let sample = story();
    insta::assert_snapshot!("log_as_of", run(&sample, &["log", "--as-of", "2026-01-07"]));
    // The id of the fact changes at 2026-01-08T01:00:00Z.
    let at = |time: &str| run(&sample, &["log", "--as-of", time]);
    assert!(!at("2026-01-08T00:59:59Z").contains("eiffel-tower.city"));
    assert!(at("2026-01-08T02:00:00+01:00").contains("  eiffel-tower.city  The Eiffel Tower is in → Rome\n"));
    let one = run(&sample, &["log", "bridge", "--as-of", "2026-01-09", "--limit", "1"]);
    assert!(one.contains("bridge  Tower Bridge is in → London") && !one.contains("Eiffel"), "{one}");
    insta::assert_snapshot!("log_before_the_beginning", run(&sample, &["log", "--as-of", "2025-12-31"]));
    insta::assert_snapshot!("log_at_no_time", run(&sample, &["log", "--as-of", "1 April"]));
}

#[test]
fn ids_and_forms_that_are_not_known() {
    let sample = story();
    insta::assert_snapshot!("log_of_an_unknown_fact", run(&sample, &["log", "eifel-tower.city"]));
    insta::assert_snapshot!("csv_of_another_verb", run(&sample, &["check", "--format", "csv"]));
    let refused = json(&sample, &["log", "none", "--format", "json"]);
    assert_eq!((&refused["outcome"], &refused["findings"][0]["code"]), (&"error".into(), &"unknown-id".into()));
}

#[test]
fn log_without_git_history_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    insta::assert_snapshot!("log_without_a_repository", run_in(folder.path(), &["log"]));
    let mut sample = SampleRepository::new();
    insta::assert_snapshot!("log_without_a_commit", run(&sample, &["log"]));
    sample.commit(day(1), "elsewhere", &[], &[]);
    assert!(run(&sample, &["log"]).contains("No commit changes a fact."));
    sample.prefix = "new/".to_owned();
    std::fs::create_dir(sample.project()).expect("a folder");
    insta::assert_snapshot!("log_of_a_project_that_is_not_committed", run(&sample, &["log"]));
}

#[test]
fn a_shallow_clone_says_so() {
    let sample = story();
    let second = sample.git.revparse_single("HEAD~2").expect("a commit").id();
    std::fs::write(sample.git.path().join("shallow"), format!("{second}\n")).expect("the file is written");
    insta::assert_snapshot!("log_of_a_shallow_clone", run(&sample, &["log"]));
    let log = json(&sample, &["log", "--format", "json"]);
    assert_eq!((&log["outcome"], &log["findings"][0]["code"]), (&"ok".into(), &"history-shallow".into()));
}

#[test]
fn unreadable_revisions_are_reported() {
    let sample = SampleRepository::new();
    let text = edit("a", "A", "x", "");
    let mut id = sample.commit(day(1), "good", &[("edits/a.toml", &text)], &[]);
    id = sample.commit(day(2), "broken", &[("edits/a.toml", "format = 1\n[[edit]]\nid = 3\n")], &[id]);
    let lost = edit("a", "A", "y", "");
    sample.commit(day(3), "lost", &[("edits/a.toml", &lost), ("corrigenda.lock", "<<<<<<<\n")], &[id]);
    damage(&sample, sample.git.blob(lost.as_bytes()).expect("a blob"));
    insta::assert_snapshot!("log_with_gaps", run(&sample, &["log", "--as-of", "2026-12-31"]));
    damage(&sample, id);
    insta::assert_snapshot!("log_without_an_ancestor", run(&sample, &["log"]));
}

#[test]
fn control_characters_in_git_texts_are_escaped() {
    let mut sample = SampleRepository::new();
    sample.author = ("Eve \u{1b}[2J\u{202e}".to_owned(), "=cmd()@example.org".to_owned());
    let order = "::error::x ##[error]x";
    let fact = edit("a", order, "=1+1", &format!("[edit.expect]\nunchanged = [\"b\", \"{order}\"]"));
    let message = format!("{order} \u{9b}31m\u{7}\n\nReviewed-by: \u{1b}]0;title\u{7} {order}\n");
    let tree = [("corrigenda.toml", 0o100_644, PROJECT), ("edits/a.toml", 0o100_644, &*fact)];
    let mut id = sample.commit_tree(day(1), &message, sample.tree(&tree), &[]);
    // The target of the fact and the name of its file contain a control character, which the output must escape.
    let broken = fact.replace("=1+1", "\\u001b[31m");
    let link_tree = [("corrigenda.toml", 0o100_644, PROJECT), ("edits/\u{1b}[31m.toml", 0o120_000, &*broken)];
    id = sample.commit_tree(day(2), "a link", sample.tree(&link_tree), &[id]);
    sample.commit(day(3), "control", &[("edits/a.toml", &broken)], &[id]);
    for arguments in [&["log"][..], &["log", "-v"], &["log", "--format", "csv"], &["log", "--as-of", "2026-12-31"]] {
        let run = run(&sample, arguments);
        assert!(run.contains("exit code: 0") && run.contains("\\u{1b}[2J"), "{run}");
        assert!(!run.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{run:?}");
        let ordered = |line: &str| line.trim_start().starts_with("::") || line.contains("##[");
        assert!(!run.lines().any(ordered), "{run}");
    }
    insta::assert_snapshot!("log_of_a_stranger", run(&sample, &["log", "-v"]));
    let json = run(&sample, &["log", "--format", "json"]);
    assert!(!json.contains('\u{1b}'), "JSON escapes them: {json}");
}

#[test]
fn log_writes_no_file() {
    let sample = story();
    let before = Project::files(sample.folder.path());
    assert!(before.len() > 20, "the repository");
    run(&sample, &["log", "--as-of", "2026-01-07"]);
    assert!(Project::files(sample.folder.path()) == before, "a file of the repository changed");
}
