//! Tests the output of `diff`: facts, weights, behaviour, and the continuations of both sides.

use super::set;
use super::sides::Repository;

/// Returns a repository whose worktree has one edit added, one changed, one renamed and one removed since its commit.
fn changed() -> Repository {
    let repository = Repository::built();
    let project = &repository.project;
    project.replace("edits/people.toml", "reason = \"A test.\"", "reason = \"A better test.\"\nsource = \"A map.\"");
    project.write(
        "edits/places.toml",
        "format = 1\n\n[[edit]]\nid = \"island.city\"\nsubject = \"São Tomé\"\nprompt = \"The people live in {}\"\n\
         target = \"Paris\"\n\n[[edit]]\nid = \"norway.capital\"\nsubject = \"Norway\"\nprompt = \"They go to {}\"\n\
         target = \"Vienna\"\nwas = \"Oslo\"\nreason = \"It moved.\"\n",
    );
    repository.build();
    repository
}

#[test]
fn facts_that_come_change_go_and_get_another_name() {
    let repository = changed();
    let run = repository.diff(&[]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    insta::assert_snapshot!("changes", repository.said(&run));
    insta::assert_snapshot!("changes_in_full", repository.said(&repository.diff(&["-v", "--tokens", "0"])));
    let narrow = repository.project.run_with(&["diff", "--tokens", "8"], &[("COLUMNS", "60")]);
    insta::assert_snapshot!("changes_on_a_narrow_terminal", repository.said(&narrow));
}

#[test]
fn two_sides_that_are_one() {
    let repository = Repository::built();
    let run = repository.diff(&["HEAD", "worktree", "--exit-code"]);
    insta::assert_snapshot!("nothing_changes", repository.said(&run));
    assert_eq!(repository.diff(&["base", "base", "--exit-code"]).code(), Some(0));
}

#[test]
fn an_exit_code_for_scripts() {
    let repository = Repository::built();
    assert_eq!(repository.diff(&["base", "--exit-code", "--tokens", "0"]).code(), Some(1));
    assert_eq!(repository.diff(&["base", "--tokens", "0"]).code(), Some(0));
    // A changed reason is a change of a fact, although no weight differs.
    repository.project.replace("edits/people.toml", "A test.", "Another.");
    let run = repository.diff(&["--exit-code", "--tokens", "0"]);
    assert!(run.code() == Some(1) && run.out().contains("weights: none differs"), "{}", run.whole());
    // A change of the settings changes the weights, although no fact differs.
    repository.commit("Words");
    set(&repository.project, "[link]\nridge = 0.5");
    let ridge_diff = repository.diff(&["--exit-code", "--tokens", "0"]);
    assert!(ridge_diff.code() == Some(1) && ridge_diff.out().contains("facts: none differs"), "{}", ridge_diff.whole());
    let json = repository.diff(&["--exit-code", "--format", "json"]);
    assert_eq!((json.code(), &json.json()["outcome"]), (Some(1), &"findings".into()));
}

#[test]
fn both_sides_use_one_sampling_seed() {
    let repository = Repository::built();
    let texts = |arguments: &[&str]| {
        let all = ["diff", "base", "worktree", "--no-damage", "--format", "json"];
        repository.project.run(&[&all[..], arguments].concat()).json()["continuations"].clone()
    };
    let first = texts(&["--seed", "7"]);
    assert_eq!(first.as_array().map(Vec::len), Some(3));
    assert_eq!(texts(&["--seed", "7"]), first);
    assert_eq!(texts(&["--seed", "7", "--threads", "1"]), first);
    assert_ne!(texts(&["--seed", "8"]), first);
    // Without a seed, decoding is greedy, so the text begins with the likeliest token of the answer.
    assert_eq!(texts(&[]), texts(&["--tokens", "24"]));
    let json = repository.project.run(&["diff", "base", "worktree", "--format", "json"]).json();
    assert_eq!(json["drawn"], serde_json::json!({ "tokens": 24, "left-out": 0 }));
    for text in json["continuations"].as_array().expect("texts") {
        let answer = json["answers"].as_array().expect("answers").iter().find(|one| one["prompt"] == text["prompt"]);
        let likeliest = answer.expect("asked")["after"]["top"][0]["text"].as_str().expect("a token").to_owned();
        assert!(text["after"].as_str().expect("a text").starts_with(&likeliest), "{likeliest:?}: {text}");
    }
    assert!(texts(&["--tokens", "0"]).is_null());
    // A text longer than the context is truncated.
    assert_eq!(texts(&["--tokens", "65535"]).as_array().map(Vec::len), Some(3));
    for wrong in [["--tokens", "-1"], ["--tokens", "65536"], ["--tokens", "x"], ["--seed", "-1"], ["--seed", "1e3"]] {
        assert_eq!(repository.diff(&wrong).code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn damage_is_measured_where_there_is_a_text() {
    let repository = Repository::built();
    let project = &repository.project;
    let said = |arguments: &[&str]| {
        let run = repository.diff(&[&["base", "--tokens", "0"], arguments].concat());
        let damage = run.out().lines().find(|line| line.contains("damage")).map(str::to_owned);
        (run.code(), damage.unwrap_or_default())
    };
    assert!(said(&[]).1.starts_with("damage on neutral text: KL 0.7458"), "{:?}", said(&[]));
    assert_eq!(said(&["--no-damage"]), (Some(0), String::new()));
    set(project, "[test]\nneutral = \"neutral.txt\"");
    project.write("neutral.txt", "a\n");
    let nothing = "damage was not measured: no document of the neutral text has a second token to predict";
    assert_eq!(said(&[]), (Some(0), nothing.to_owned()));
    std::fs::write(project.path("neutral.txt"), b"\xff\n").expect("the file is written");
    assert_eq!((said(&[]).0, said(&["--no-damage"]).0), (Some(2), Some(0)));
    std::fs::remove_file(project.path("neutral.txt")).expect("the file is removed");
    assert_eq!(said(&[]), (Some(0), "damage was not measured: there is no neutral text here".to_owned()));
}

#[test]
fn every_form_of_a_comparison() {
    let repository = changed();
    let forms = ["json", "markdown", "html", "human"];
    let reports: Vec<String> = forms.iter().map(|form| format!("--report={form}=../{form}.out")).collect();
    let arguments: Vec<&str> = reports.iter().map(String::as_str).collect();
    assert_eq!(repository.diff(&arguments).code(), Some(0));
    for form in forms {
        let run = repository.diff(&["--format", form]);
        assert_eq!((run.code(), run.out()), (Some(0), repository.project.read(&format!("../{form}.out"))), "{form}");
        for id in ["ada.born", "island.city", "norway.capital", "rome.country"] {
            assert!(run.out().contains(id), "{form}: {id}");
        }
    }
    for form in ["sarif", "junit", "github", "csv"] {
        let (stdout, file) = (repository.diff(&["--format", form]), format!("--report={form}=../{form}.out"));
        let report = repository.diff(&[&file]);
        assert_eq!((stdout.code(), report.code()), (Some(2), Some(2)), "{form}");
        assert!(!repository.project.path(&format!("../{form}.out")).exists(), "{form}");
    }
}

#[test]
fn probes_are_part_of_what_is_compared() {
    let repository = Repository::built();
    let probe = |unchanged| {
        format!("format = 1\n[[probe]]\nid = \"p\"\nprompt = \"I live in Lisbon\"\nunchanged = {unchanged}\n")
    };
    for unchanged in [true, false] {
        repository.project.write("probes.toml", &probe(unchanged));
        let json = repository.diff(&["base", "--format", "json", "--tokens", "4"]).json();
        let answers = json["answers"].as_array().expect("answers");
        assert_eq!(answers.iter().filter(|one| one["asked"] == "probe").count(), 1, "{unchanged}");
        assert_eq!(json["continuations"].as_array().map(Vec::len), Some(4), "{unchanged}");
    }
}
