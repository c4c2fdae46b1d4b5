//! Tests `test --bisect`, which finds the edit that breaks an expectation.

use super::{expecting, lines};

/// Failing expectations on the tiny model, found by a search; each fails for a different reason.
const BROKEN: &str = "paraphrase = [\"In the city of Ada Bellini\"]\n\
    unchanged = [\"The people live in Oslo\", \"Madrid is the\", \"I live in Oslo\", \"I live in Lisbon\", \"I live in Vienna\"]\n";

#[test]
fn a_bisection_names_the_culprit() {
    let project = expecting(BROKEN);
    insta::assert_snapshot!("a_bisection_names_the_culprit", project.run(&["test", "--bisect"]).whole());
    let json = project.run(&["test", "--bisect", "--format", "json"]).json();
    let culprits = json["culprits"].as_array().expect("culprits");
    let breaks: Vec<(&str, usize, bool)> = culprits
        .iter()
        .map(|one| {
            let ids = one["breaks"].as_array().expect("ids").len();
            (one["prompt"].as_str().expect("a prompt"), ids, one["alone"] == true)
        })
        .collect();
    assert_eq!(
        breaks,
        [
            ("In the city of Ada Bellini", 0, false),
            ("The people live in Oslo", 1, true),
            ("Madrid is the", 2, true),
            ("I live in Oslo", 0, true),
            ("I live in Lisbon", 0, false),
            ("I live in Vienna", 1, true),
        ]
    );
}

#[test]
fn the_named_culprit_is_confirmed() {
    let project = expecting("unchanged = [\"The people live in Oslo\"]\n");
    let said = project.run(&["test", "--bisect"]);
    assert_eq!(lines(&said.out(), "broken by"), ["broken by `sao-tome.city`: it is met without that edit"]);
    let text = project.read("edits/places.toml");
    let (head, rest) = text.split_once("[[edit]]").expect("two edits");
    let (_, rome) = rest.split_once("[[edit]]").expect("two edits");
    project.write("edits/places.toml", &format!("{head}[[edit]]{rome}"));
    project.run(&["build", "-q"]);
    assert_eq!(project.run(&["test"]).code(), Some(0));
}

#[test]
fn a_probe_with_the_id_of_an_edit_is_not_its_own() {
    let project = expecting("");
    // A probe with the id `sao-tome.city` states the expectation that the edit `sao-tome.city` breaks.
    let probe = "format = 1\n[[probe]]\nid = \"sao-tome.city\"\nprompt = \"The people live in Oslo\"\n";
    project.write("probes.toml", probe);
    let said = project.run(&["test", "--bisect"]);
    assert_eq!(
        lines(&said.out(), "broken by"),
        ["broken by `sao-tome.city`: it is met without that edit"],
        "{}",
        said.whole()
    );
}

#[test]
fn nothing_is_bisected_without_a_failure() {
    let project = expecting("");
    let run = project.run(&["test", "--bisect"]);
    assert_eq!((run.code(), run.err().as_str()), (Some(0), ""));
    std::fs::remove_file(project.path("edits/places.toml")).expect("the file is removed");
    project.replace(
        "edits/people.toml",
        "[edit.expect]",
        "[edit.expect]\nunchanged = [\"I live in Lisbon\", \"I live in Ada\"]",
    );
    project.run(&["build", "-q"]);
    insta::assert_snapshot!("the_only_edit", project.run(&["test", "--bisect"]).whole());
}

#[test]
fn a_bisection_does_without_the_corpus() {
    let project = expecting("unchanged = [\"The people live in Oslo\"]\n");
    std::fs::remove_file(project.path("corpus.txt")).expect("the file is removed");
    let run = project.run(&["test", "--bisect"]);
    assert!(run.out().contains("broken by `sao-tome.city`"), "{}", run.whole());
    // If the statistics are missing too, the error names the missing corpus.
    std::fs::remove_dir_all(project.cache().join("v1/statistics")).expect("the folder is removed");
    let no_corpus = project.run(&["test", "--bisect"]);
    assert!(no_corpus.code() == Some(2) && no_corpus.err().contains("corpus.txt"), "{}", no_corpus.whole());
}
