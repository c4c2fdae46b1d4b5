//! Tests the consequences of edits in `test`, `diff` and `build`: conditions, counts by kind, and limits.

use crate::support::project::{Project, Run};

/// Returns a prompt that the random base continues with a token that begins with a space, and this token without the
/// space.
fn known_word(project: &Project) -> (String, String) {
    let starts = ["I live in", "We saw the city of", "The capital of", "They go to", "The people live in", "It is"];
    let places = ["Lisbon", "Oslo", "Norway", "Rome", "Vienna", "Paris", "Italy", "the sea", "a city", "Ada"];
    let prompts = starts.iter().flat_map(|start| places.map(|place| format!("{start} {place}")));
    let probe = |(index, prompt): (usize, String)| {
        format!("[[probe]]\nid = \"p{index}\"\nprompt = \"{prompt}\"\nunchanged = false\n")
    };
    let probes: String = prompts.enumerate().map(probe).collect();
    project.write("probes.toml", &format!("format = 1\n{probes}"));
    let json = project.run(&["test", "--format", "json"]).json();
    std::fs::remove_file(project.path("probes.toml")).expect("the file is removed");
    let answers = json["answers"].as_array().expect("answers").clone();
    let said = |answer: &serde_json::Value| {
        let word = answer["before"]["top"][0]["text"].as_str()?.strip_prefix(' ')?;
        let usable =
            answer["asked"] == "probe" && word.chars().any(char::is_alphanumeric) && !word.contains(['"', '\\']);
        usable.then(|| (word.to_owned(), answer["prompt"].as_str().unwrap_or_default().to_owned()))
    };
    let tops: Vec<_> = answers.iter().map(|answer| &answer["before"]["top"][0]["text"]).collect();
    answers.iter().find_map(said).unwrap_or_else(|| panic!("no token of {tops:?} begins with a space"))
}

/// Returns a built project whose edit `ada.born` has four consequences: one that holds, one that does not, one with a
/// condition that the base meets, and one with a condition that it does not meet.
fn project() -> Project {
    let project = Project::new();
    project.replace("edits/people.toml", "unchanged = [\"I live in Lisbon\"]\n", "");
    project.replace("edits/people.toml", "was = \"Rome\"\n", "");
    assert_eq!(project.run(&["build", "-q"]).code(), Some(0));
    let (word, known) = known_word(&project);
    let consequence = |prompt: &str, answer: &str, kind: &str, condition: &str| {
        format!(
            "[[edit.expect.consequence]]\nprompt = \"{prompt}\"\nanswer = \"{answer}\"\naccept = [\"Paris\"]\nkind = \"{kind}\"\n{condition}"
        )
    };
    let condition = |answer: &str| format!("condition = [{{ prompt = \"{known}\", answer = \"{answer}\" }}]\n");
    let text = [
        consequence("The people live in Ada Bellini", "Oslo", "alias", ""),
        consequence("The capital of Norway is", "Oslo", "hop", ""),
        consequence("The capital of Peru is", "Oslo", "hop", &condition(&word)),
        consequence("The capital of Chile is", "Oslo", "logic", &condition("Vienna of the north")),
    ]
    .concat();
    project.write("edits/people.toml", &format!("{}\n{text}", project.read("edits/people.toml")));
    project
}

fn with(project: &Project, lines: &str, arguments: &[&str]) -> Run {
    let before = project.read("corrigenda.toml");
    project.write("corrigenda.toml", &format!("{before}\n{lines}\n"));
    let run = project.run(arguments);
    project.write("corrigenda.toml", &before);
    run
}

/// Returns the kinds with the numbers of consequences that hold, are asked, and are not asked.
fn counts(run: &Run) -> Vec<(String, u64, u64, u64)> {
    let json = run.json();
    let kinds = json["consequences"]["kinds"].as_array().expect("kinds").clone();
    let count = |kind: &serde_json::Value, key: &str| kind[key].as_u64().expect("a count");
    let row = |kind: &serde_json::Value| {
        let name = kind["kind"].as_str().expect("a name").to_owned();
        (name, count(kind, "after"), count(kind, "asked"), count(kind, "not-asked"))
    };
    kinds.iter().map(row).collect()
}

#[test]
fn consequences_are_counted_and_fail_no_test() {
    let project = project();
    let run = project.run(&["test"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    let line = run.out().lines().find(|line| line.starts_with("consequences: ")).map(str::to_owned);
    assert_eq!(
        line.as_deref(),
        Some("consequences: 1 of 3 hold (before: 0): alias 1 of 1, hop 0 of 2; 1 not asked"),
        "{}",
        run.whole()
    );
    assert!(!run.out().contains("not asked: ada.born"), "{}", run.whole());
    let full = project.run(&["test", "-v"]).out();
    assert!(full.contains("not asked: ada.born (logic): The capital of Chile is"), "{full}");
    assert!(full.contains("with \"Vienna of the north\""), "{full}");
    let json = project.run(&["test", "--format", "json"]);
    let own = |name: &str, holds, asked, not| (name.to_owned(), holds, asked, not);
    assert_eq!(counts(&json), [own("alias", 1, 1, 0), own("hop", 0, 2, 0), own("logic", 0, 0, 1)]);
    assert!(json.json()["gates"].as_array().expect("gates").iter().any(|gate| gate["name"] == "consequence"));
    let verdicts = json.json()["answers"].as_array().expect("answers").clone();
    let unmet = verdicts.iter().filter(|answer| answer["verdict"] == "unmet");
    assert_eq!(unmet.map(|answer| answer["consequence"].as_str()).collect::<Vec<_>>(), [Some("hop"), Some("hop")]);
    let diff = project.run(&["diff", "base", "--tokens", "0", "--format", "json"]);
    assert_eq!(counts(&diff), counts(&json), "{}", diff.whole());
    // A second run reads the measurements of the first one.
    let store = || Project::files(&project.cache().join("v1"));
    let before = store();
    assert_eq!(counts(&project.run(&["test", "--format", "json"])), counts(&json));
    assert_eq!(store(), before);
}

#[test]
fn a_limit_can_require_consequences() {
    let project = project();
    for (table, share, code) in [("test", 0.5, 1), ("policy", 0.5, 1), ("test", 0.3, 0), ("policy", 0.3, 0)] {
        let run = with(&project, &format!("[{table}]\nmin-consequence = {share}"), &["test"]);
        assert_eq!(run.code(), Some(code), "{table} {share}: {}", run.whole());
        assert!(run.out().contains("consequence 0.3333, at least"), "{}", run.whole());
    }
    let build = with(&project, "[policy]\nmin-consequence = 0.5", &["build", "-q"]);
    assert_eq!(build.code(), Some(1), "{}", build.whole());
    assert!(build.err().contains("error[min-consequence]: 1 of 3 consequences hold: 0.333"), "{}", build.whole());
    let enough = with(&project, "[policy]\nmin-consequence = 0.3", &["build", "-q"]);
    assert_eq!(enough.code(), Some(0), "{}", enough.whole());
}

/// If the text decides, it decides about the counts too; and two consequences may have the same prompt.
#[test]
fn texts_decide_about_the_counts() {
    let project = project();
    let by_text = "[test]\nby = \"generation\"";
    let json = with(&project, by_text, &["test", "--no-damage", "--format", "json"]);
    let answers = json.json()["answers"].as_array().expect("answers").clone();
    let own: Vec<_> = answers.iter().filter(|answer| answer["asked"] == "consequence").collect();
    let passed = own.iter().filter(|answer| answer["verdict"] == "pass").count() as u64;
    assert!(own.iter().all(|answer| answer["said"]["rule"] == "contains"), "{own:?}");
    let held: u64 = counts(&json).iter().map(|(_, holds, ..)| holds).sum();
    assert_eq!((held, own.len()), (passed, 3), "{}", json.whole());
    let twice =
        "[[edit.expect.consequence]]\nprompt = \"The capital of Norway is\"\nanswer = \"Bergen\"\nkind = \"hop\"\n";
    project.write("edits/people.toml", &format!("{}\n{twice}", project.read("edits/people.toml")));
    let test = with(&project, by_text, &["test", "--no-damage", "--format", "json"]);
    let diff = with(&project, by_text, &["diff", "base", "--tokens", "0", "--format", "json"]);
    assert_eq!(counts(&diff), counts(&test), "{}", diff.whole());
    assert_eq!(counts(&test).iter().map(|(_, _, asked, _)| asked).sum::<u64>(), 4);
}

#[test]
fn a_condition_that_cannot_be_run_is_one_error() {
    let project = project();
    let long = "word ".repeat(800);
    project.replace("edits/people.toml", "Vienna of the north", long.trim());
    for verb in ["plan", "test"] {
        let run = project.run(&[verb]);
        assert_eq!(run.code(), Some(2), "{verb}: {}", run.whole());
        assert_eq!(run.err().matches("error[").count(), 1, "{verb}: {}", run.err());
        assert!(run.err().contains("prompt-too-long"), "{verb}: {}", run.err());
    }
}
