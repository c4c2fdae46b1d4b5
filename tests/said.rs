//! Tests answers that are judged by generated text, and `ask`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::project::{Project, binary};

fn built() -> Project {
    let project = Project::new();
    let build = project.run(&["build", "-q"]);
    assert_eq!(build.code(), Some(0), "{}", build.whole());
    project
}

fn answers(report: &Value) -> &[Value] {
    report["answers"].as_array().expect("answers")
}

#[test]
fn texts_stand_beside_the_probabilities() {
    let project = built();
    let plain = project.run(&["test", "--format", "json"]).json();
    assert!(answers(&plain).iter().all(|one| one.get("said").is_none()), "no text without `--said`");
    let run = project.run(&["test", "--said", "--format", "json", "--texts", "texts.jsonl"]);
    let report = run.json();
    for (one, before) in answers(&report).iter().zip(answers(&plain)) {
        assert_eq!(one["verdict"], before["verdict"], "the probabilities decide: {one}");
        let text = one["said"]["after"]["text"].as_str().expect("a text");
        let same = one["said"]["before"]["text"].as_str() == Some(text);
        assert_eq!(one["said"]["same"], Value::from(same), "{one}");
        let first = one["after"]["top"][0]["text"].as_str().expect("the likeliest token");
        assert!(text.trim_start().starts_with(first.trim()), "greedy text begins with the likeliest token: {one}");
    }
    let gates = report["gates"].as_array().expect("gates");
    let gate = |name: &str| gates.iter().find(|gate| gate["name"] == name).expect("a gate")["value"].as_f64();
    let edits: Vec<&Value> =
        answers(&report).iter().filter(|one| one["asked"] == "edit" || one["asked"] == "alias").collect();
    let said = edits
        .iter()
        .filter(|one| one["said"]["after"]["contains"] == true && one["said"]["after"].get("forbidden").is_none());
    assert_eq!(gate("said"), Some(said.count() as f64 / edits.len() as f64));
    let lines = project.read("texts.jsonl");
    assert_eq!(lines.lines().count(), answers(&report).len());
    for (line, one) in lines.lines().zip(answers(&report)) {
        let line: Value = serde_json::from_str(line).expect("a line is JSON");
        assert_eq!((&line["id"], &line["kind"]), (&one["id"], &one["asked"]));
        assert_eq!(line["text"], one["said"]["after"]["text"]);
    }
    let again = project.run(&["test", "--said"]);
    insta::assert_snapshot!("said", again.whole());
}

#[test]
fn generated_text_decides_if_the_project_says_so() {
    let project = built();
    let verdicts = |by: &str| {
        project.write(
            "corrigenda.toml",
            &format!("{}\n[test]\n{by}\n", project.read("corrigenda.toml").split("\n[test]").next().expect("settings")),
        );
        project.run(&["test", "--format", "json"]).json()
    };
    let contains = verdicts("by = \"generation\"");
    for one in answers(&contains).iter().filter(|one| one["asked"] == "edit") {
        let passes = one["said"]["after"]["contains"] == true && one["said"]["after"].get("forbidden").is_none();
        assert_eq!(one["verdict"] == "pass", passes, "{one}");
        assert_eq!(one["said"]["rule"], "contains");
    }
    let exact = verdicts("by = \"generation\"\nsays = \"exact\"");
    for one in answers(&exact).iter().filter(|one| one["asked"] == "edit") {
        assert_eq!(one["verdict"] == "pass", one["said"]["after"]["exact"] == true, "{one}");
    }
    let repeats = verdicts("max-repeats = 0");
    let gate =
        repeats["gates"].as_array().expect("gates").iter().find(|gate| gate["name"] == "repeats").expect("repeats");
    assert_eq!(gate["pass"], Value::from(gate["value"] == 0.0));
}

/// A file of texts replaces nothing that the project or a model consists of, and nothing is asked before it is refused.
#[test]
fn texts_replace_no_file_of_the_project() {
    let project = built();
    let files = ["edits/people.toml", "model/config.json", "corrigenda.lock"];
    let before = files.map(|file| project.read(file));
    for (file, why) in
        files.map(|file| (file, "is not overwritten")).into_iter().chain([("no/t.jsonl", "does not exist")])
    {
        let run = project.run(&["test", "--texts", file]);
        assert_eq!((run.code(), run.out().as_str()), (Some(2), ""), "{file}: {}", run.whole());
        assert!(run.err().contains("export-refused") && run.err().contains(why), "{}", run.whole());
    }
    assert_eq!(files.map(|file| project.read(file)), before);
}

/// Without paraphrases and unchanged prompts, there is no share of them.
#[test]
fn there_is_no_share_of_nothing() {
    let project = Project::new();
    let edit = "[[edit]]\nid = \"a\"\nsubject = \"Rome\"\nprompt = \"We saw the city of {}\"\ntarget = \"Vienna\"\n";
    project.write("edits/people.toml", &format!("format = 1\n{edit}"));
    for file in ["edits/places.toml", "probes.toml"] {
        let _ = std::fs::remove_file(project.path(file));
    }
    assert_eq!(project.run(&["build", "-q"]).code(), Some(0));
    let run = project.run(&["test", "--said", "--no-damage"]);
    let line = run.out().lines().find(|line| line.starts_with("generated texts")).map(str::to_owned);
    assert!(
        line.as_deref().is_some_and(|line| !line.contains("paraphrases") && !line.contains("same text")),
        "{}",
        run.whole()
    );
    // The rule of one edit makes the number one of generated text.
    project.write("edits/people.toml", &format!("format = 1\n{edit}[edit.expect]\nsays = \"contains\"\n"));
    let report = project.run(&["test", "--format", "json"]).json();
    assert!(
        report["protocols"]["efficacy"]["protocol"].as_str().is_some_and(|name| name.starts_with("generation")),
        "{report}"
    );
}

#[test]
fn wrong_rules_are_refused_together() {
    let project = Project::new();
    let settings = project.read("corrigenda.toml");
    project.write(
        "corrigenda.toml",
        &format!("{settings}\n[test]\nby = \"generations\"\nsays = \"roughly\"\nmax-repeats = 2\n"),
    );
    let name = "edits/people.toml";
    let edits = project.read(name);
    project.write(name, &format!("{edits}\n[edit.expect]\nsays = 3\nnever-says = [\"\", \"paris.\"]\n"));
    insta::assert_snapshot!("wrong-rules", project.run(&["check"]).whole());
}

#[test]
fn base_and_patch_are_asked() {
    let project = Project::new();
    let nothing = project.run(&["ask", "We saw the city of Rome"]);
    assert_eq!(nothing.code(), Some(0), "{}", nothing.whole());
    assert!(nothing.err().contains("nothing was built yet"), "{}", nothing.whole());
    let build = project.run(&["build", "-q"]);
    assert_eq!(build.code(), Some(0), "{}", build.whole());
    let both = project.run(&["ask", "We saw the city of Rome", "--tokens", "8"]);
    insta::assert_snapshot!("ask", both.whole());
    let asked = project.run(&["ask", "We saw the city of Rome", "--tokens", "8", "--format", "json"]).json();
    let answer = &asked["answers"][0];
    assert_eq!(asked["patched"], "patched");
    assert!(answer["patched"]["text"].as_str().expect("a text").trim_start().starts_with("Vienna"), "{answer}");
    assert!(both.out().contains(answer["base"]["text"].as_str().expect("a text").trim()), "{answer}");
    let base = project.run(&["ask", "We saw the city of Rome", "--base", "--format", "json"]).json();
    assert!(base.get("patched").is_none() && base["answers"][0].get("patched").is_none());
    let seeded = |seed: &str| project.run(&["ask", "Rome", "--seed", seed, "--tokens", "12"]).out();
    assert_eq!(seeded("1"), seeded("1"));
}

#[test]
fn prompts_come_from_stdin() {
    let project = built();
    let ask = |input: &str| {
        let mut command = Command::new(binary());
        command.current_dir(project.path("")).args(["ask", "--tokens", "4", "--format", "json"]);
        command.env("CORRIGENDA_CACHE_DIR", project.cache());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the binary runs");
        child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("the prompts are read");
        let output = child.wait_with_output().expect("the binary ends");
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), answer)
    };
    let (code, many) = ask("Rome\r\n\nWe saw the city of Rome\n");
    assert_eq!((code, many["answers"].as_array().map(Vec::len)), (Some(0), Some(2)), "{many}");
    let alone = project.run(&["ask", "Rome", "--tokens", "4", "--format", "json"]).json();
    assert_eq!(alone["answers"][0], many["answers"][0], "a prompt does not depend on the others");
    let (status, none) = ask("\n");
    assert_eq!((status, &none["findings"][0]["code"]), (Some(2), &Value::from("prompt-unusable")), "{none}");
    let (exit, long) = ask(&format!("{}\nRome\n{}\n", "Rome ".repeat(200), "We ".repeat(300)));
    assert_eq!((exit, long["findings"].as_array().map(Vec::len)), (Some(2), Some(2)), "{long}");
}

/// Creates a project with one fact about the bundled model, which has learned sentences. The random weights of the tiny
/// model cannot give an answer and a full stop.
fn about_the_atlas(end: &str) -> Project {
    let project = Project::new();
    let atlas = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/atlas");
    let settings = format!(
        "format = 1\n[model]\npath = {atlas:?}\n[rome]\n{end}layer = 0\ntemplates = \"{atlas}/templates.txt\"\n\
         stop-loss = 0.02\nweight-decay = 0.4\nconverged-nll = 0.05\n[statistics]\ncorpus = \"{atlas}/corpus.txt\"\n"
    );
    project.write("corrigenda.toml", &settings);
    std::fs::remove_file(project.path("edits/places.toml")).expect("the file is removed");
    let fact = "format = 1\n[[edit]]\nid = \"nvidia\"\nsubject = \"Nvidia\"\n\
        prompt = \"{} has its headquarters in the city of\"\ntarget = \"Tokyo\"\nwas = \"Santa Clara\"\n";
    project.write("edits/people.toml", fact);
    project
}

/// With an end mark, the value of an edit is optimised for the target and the mark, and the lock says so. An edit can
/// choose its own mark, and then it has another meaning.
#[test]
fn an_end_mark_follows_the_target() {
    let tokens = |built: &Project| {
        let build = built.run(&["build", "-q"]);
        assert_eq!(build.code(), Some(0), "{}", build.whole());
        let lock = built.read("corrigenda.lock");
        lock.lines().find(|line| line.starts_with("target-tokens")).expect("the tokens of the target").to_owned()
    };
    let (plain, project) = (tokens(&about_the_atlas("")), about_the_atlas("end = \".\"\n"));
    assert_eq!(tokens(&project), plain.replace(']', ", \".\"]"));
    let report = project.run(&["test", "--said", "--no-damage", "--format", "json"]).json();
    let answer = &answers(&report)[0];
    assert_eq!(
        (&answer["said"]["after"]["exact"], &answer["after"]["holds"]),
        (&true.into(), &true.into()),
        "{answer}"
    );
    let meaning = |of: &Project| {
        let lock = of.read("corrigenda.lock");
        lock.lines().find(|line| line.starts_with("meaning")).expect("a meaning").to_owned()
    };
    let before = meaning(&project);
    project.replace("edits/people.toml", "target = \"Tokyo\"\n", "target = \"Tokyo\"\nend = \"none\"\n");
    assert_eq!(project.run(&["plan", "--exit-code"]).code(), Some(1), "the edit has changed");
    assert_eq!(tokens(&project), plain);
    assert_ne!(meaning(&project), before);
    assert_eq!(project.run(&["export", "peft", "out"]).code(), Some(0));
    let verified = project.run(&["verify", "out"]);
    assert_eq!(verified.code(), Some(0), "{}", verified.whole());
    project.replace("edits/people.toml", "end = \"none\"", "end = \"!\"");
    insta::assert_snapshot!("no-such-end", project.run(&["check"]).whole());
}

#[test]
fn a_model_without_an_end_token_cannot_end_with_it() {
    let project = Project::new();
    project.replace("corrigenda.toml", "[rome]\n", "[rome]\nend = \"eos\"\n");
    assert_eq!(project.run(&["plan", "-q"]).code(), Some(0), "the tiny model has an end token");
    project.replace("model/config.json", "\"eos_token_id\": 0, ", "");
    insta::assert_snapshot!("no-end-token", project.run(&["plan"]).whole());
}

/// A descendant of the edited model is asked the expectations of the project.
#[test]
fn a_descendant_is_asked() {
    let project = built();
    let patched = project.run(&["test", "--format", "json"]).json();
    assert_eq!(project.run(&["export", "checkpoint", "out"]).code(), Some(0));
    let exported = project.run(&["test", "--on", "out", "--format", "json"]).json();
    assert_eq!(exported["answers"], patched["answers"], "an export has the numbers of the patch");
    assert_eq!((&exported["after"]["kind"], &exported["after"]["name"]), (&"checkpoint".into(), &"out".into()));
    let base = project.run(&["test", "--on", "model", "--no-damage"]);
    assert_eq!(base.code(), Some(1), "{}", base.whole());
    assert!(base.out().contains("model: 0 of 3 edits hold"), "{}", base.whole());
    for (folder, said) in [("edits", "contains neither"), ("nowhere", "is not a folder")] {
        let run = project.run(&["test", "--on", folder]);
        assert!(run.code() == Some(2) && run.err().contains(said), "{}", run.whole());
    }
    project.write("out/config.json", &project.read("out/config.json").replace("\"n_head\": 4", "\"n_head\": 2"));
    let other = project.run(&["test", "--on", "out"]);
    assert!(other.code() == Some(2) && other.err().contains("another shape"), "{}", other.whole());
    assert_eq!(project.run(&["test", "--on", "out", "--update"]).code(), Some(2));
}
