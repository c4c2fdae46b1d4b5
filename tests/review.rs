//! Tests `test`: thresholds, policies, acceptances, aliases, probes, report formats.

mod bisect;
mod diff;
mod sides;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::project::{EDITS, Project, Run};

/// An environment without `CI`, because `test --update` is refused in CI, where these tests may run.
const AT_HOME: &[(&str, &str)] = &[("CI", "")];

/// Returns a built project; its only failing expectation is the neighbour of `ada.born`.
fn built() -> Project {
    let project = Project::new();
    let build = project.run(&["build", "-q"]);
    assert_eq!(build.code(), Some(0), "{}", build.whole());
    project
}

/// Returns a built project whose edit `ada.born` then gets other expectations, which do not change the weights.
fn expecting(expect: &str) -> Project {
    let project = built();
    let (edit, _) = EDITS[0].1.split_once("[edit.expect]").expect("a table");
    project.write("edits/people.toml", &format!("{edit}[edit.expect]\n{expect}"));
    project
}

/// Appends lines to the project file.
fn set(project: &Project, lines: &str) {
    project.write("corrigenda.toml", &format!("{}\n{lines}\n", project.read("corrigenda.toml")));
}

/// Runs the binary once with additional lines at the end of the project file.
fn with(project: &Project, lines: &str, arguments: &[&str]) -> Run {
    let before = project.read("corrigenda.toml");
    set(project, lines);
    let run = project.run(arguments);
    project.write("corrigenda.toml", &before);
    run
}

/// Returns the lines of a text that contain a word.
fn lines(text: &str, word: &str) -> Vec<String> {
    text.lines().filter(|line| line.contains(word)).map(|line| line.trim().to_owned()).collect()
}

/// Returns everything in the project's folder: paths and bytes.
fn folder(project: &Project) -> Vec<(PathBuf, Vec<u8>)> {
    Project::files(&project.path(""))
}

#[test]
fn an_edit_sets_its_own_thresholds() {
    let project = expecting(
        "paraphrase = [\"The people live in Ada Bellini\", \"In the city of Ada Bellini\"]\n\
         unchanged = [\"We saw the city of Oslo\", \"The capital of Italy is\"]\nmin-probability = 0.95\n",
    );
    insta::assert_snapshot!("thresholds_that_are_not_met", project.run(&["test"]).whole());
    for (from, to) in [
        ("min-probability = 0.95", "min-probability = 0.9\nmin-paraphrase = 0.5\nunchanged-kl = 0.2"),
        ("min-paraphrase = 0.5", "min-paraphrase = 0.51"),
        ("min-paraphrase = 0.51", "min-paraphrase = 0.5\naccept = [\"Rome\"]"),
        ("unchanged-kl = 0.2", "unchanged-kl = 0.17"),
    ] {
        project.replace("edits/people.toml", from, to);
        let run = project.run(&["test"]);
        let code = i32::from(to.contains("0.51") || to.contains("0.17"));
        assert_eq!(run.code(), Some(code), "{to}: {}", run.whole());
    }
    assert_eq!(
        lines(&project.run(&["test"]).out(), "is required"),
        ["\"Å\" 88.8% → \"Å\" 96.7%, KL 0.176: less than 0.17 is required"]
    );
    for wrong in ["min-probability = 1.1", "min-paraphrase = -1", "unchanged-kl = 0", "unchanged-kl = nan"] {
        project.replace("edits/people.toml", "unchanged-kl = 0.17", wrong);
        let run = project.run(&["test"]);
        assert!(run.code() == Some(2) && run.err().contains("edits/people.toml:17"), "{wrong}: {}", run.whole());
        project.replace("edits/people.toml", wrong, "unchanged-kl = 0.17");
    }
}

#[test]
fn a_set_has_thresholds_too() {
    let project = built();
    let gated = with(&project, "[test]\nmin-efficacy = 1\nmin-paraphrase = 1\nmin-unchanged = 0", &["test"]);
    insta::assert_snapshot!("a_share_that_may_fall_short", gated.whole());
    for (lines, code) in [
        ("min-unchanged = 0.1", 1),
        ("min-probability = 0.9\nmin-unchanged = 0", 1),
        ("min-probability = 0.9\nmin-unchanged = 0\nmin-efficacy = 0.6", 0),
        ("min-probability = 0.9\nmin-unchanged = 0\nmin-efficacy = 0.7", 1),
    ] {
        let run = with(&project, &format!("[test]\n{lines}"), &["test"]);
        assert_eq!(run.code(), Some(code), "{lines}: {}", run.whole());
    }
    // With `--only`, the minimum shares of `[test]` do not apply, so every failing expectation fails the test.
    let part = with(&project, "[test]\nmin-unchanged = 0", &["test", "--only", "ada.born"]);
    assert!(part.code() == Some(1) && !part.out().contains("damage"), "{}", part.whole());
}

#[test]
fn an_edit_may_be_answered_in_other_words() {
    let project = expecting("paraphrase = [\"I live in Lisbon\"]\n");
    let run = project.run(&["test"]);
    assert_eq!(lines(&run.out(), "the model says"), ["<0.1% →  <0.1%, the model says \" Vienna\" 96.7%"]);
    project.replace("edits/people.toml", "Lisbon\"]\n", "Lisbon\"]\naccept = [\"Oslo\", \"Vienna\"]\n");
    let accepted = project.run(&["test", "-v", "--only", "ada.born"]);
    assert_eq!((accepted.code(), lines(&accepted.out(), "96.7%").len()), (Some(0), 1), "{}", accepted.whole());
}

#[test]
fn damage_is_measured_on_neutral_text() {
    let project = built();
    project.replace("edits/people.toml", "unchanged = [\"I live in Lisbon\"]", "");
    project.write("neutral.txt", "Oslo is the capital of Norway and a port of many ships.\n");
    let broken = with(&project, "[test]\nneutral = \"neutral.txt\"\nmax-damage = 0.1\nmax-perplexity = 0.5", &["test"]);
    insta::assert_snapshot!("too_much_damage", broken.whole());
    assert_eq!(with(&project, "[test]\nmax-damage = 5\nmax-perplexity = 5", &["test"]).code(), Some(0));
    // A limit with the level `warn` is reported, but does not fail the test.
    let lines = "[test]\nmax-damage = 0.1\n[policy.levels]\nmax-damage = \"warn\"";
    let warned = with(&project, lines, &["test"]);
    assert!(warned.code() == Some(0) && warned.out().contains("\nwarn  damage 0."), "{}", warned.whole());
    // A neutral text without a token to predict is an error, not a measurement of no damage.
    project.write("empty.txt", "");
    project.write("blank.txt", " \n\n\t\n");
    project.write("short.txt", "a\nb\n");
    std::fs::write(project.path("latin.txt"), b"Oslo\nS\xe3o Tom\xe9\n").expect("the file is written");
    let mut said = String::new();
    for name in ["missing.txt", "edits", "empty.txt", "blank.txt", "short.txt", "latin.txt"] {
        let run = with(&project, &format!("[test]\nneutral = \"{name}\"\nmax-damage = 5"), &["test"]);
        assert_eq!((run.code(), run.out().as_str()), (Some(2), ""), "{name}: {}", run.whole());
        said += &run.err();
    }
    insta::assert_snapshot!("neutral_texts_that_cannot_be_used", said);
    // A missing corpus is an error only if there is a limit on damage.
    std::fs::remove_file(project.path("corpus.txt")).expect("the file is removed");
    let run = project.run(&["test"]);
    assert!(run.code() == Some(0) && run.out().contains("damage was not measured"), "{}", run.whole());
    assert_eq!(with(&project, "[test]\nmax-damage = 5", &["test"]).code(), Some(2));
}

#[test]
fn aliases_are_asked_like_subjects() {
    let project = Project::new();
    project.replace("edits/people.toml", "\"Ada Bellini\"\nprompt", "\"Ada Bellini\"\naliases = [\"Ada\"]\nprompt");
    project.replace("edits/places.toml", "\"Rome\"\n", "\"the Holy City\"\naliases = [\"Rome\"]\n");
    project.run(&["build", "-q"]);
    insta::assert_snapshot!("an_alias_that_does_not_hold", project.run(&["test"]).whole());
    let json = project.run(&["test", "--format", "json"]).json();
    let verdicts: Vec<_> =
        json["answers"].as_array().expect("answers").iter().map(|one| (&one["asked"], &one["verdict"])).collect();
    assert_eq!(
        verdicts.iter().filter(|(asked, _)| *asked == "alias").map(|(_, verdict)| verdict.as_str()).collect::<Vec<_>>(),
        [Some("pass"), Some("fail")]
    );
    for (aliases, code) in [
        ("\"Ada Bellini\"", "duplicate-alias"),
        ("\"Ada\", \"Ada\"", "duplicate-alias"),
        ("\" Ada\"", "subject-whitespace"),
        ("\"\"", "empty-text"),
    ] {
        project.replace("edits/people.toml", "[\"Ada\"]", &format!("[{aliases}]"));
        let run = project.run(&["test"]);
        assert!(run.code() == Some(2) && run.err().contains(code), "{aliases}: {}", run.whole());
        project.replace("edits/people.toml", &format!("[{aliases}]"), "[\"Ada\"]");
    }
    // Two edits with one alias require two answers to the same prompt, of which the model can give only one.
    project.replace("edits/places.toml", "We saw the city of {}", "I live in {}");
    project.replace("edits/places.toml", "[\"Rome\"]", "[\"Ada\"]");
    insta::assert_snapshot!("an_alias_of_two_edits", project.run(&["test"]).whole());
}

#[test]
fn a_shortfall_can_be_accepted() {
    let project = built();
    let refused = project.run_with(&["test", "--update"], &[("CI", "true")]);
    insta::assert_snapshot!("an_update_where_nobody_decides", refused.whole());
    assert!(!project.path("corrigenda.accepted").exists());
    let update = project.run_with(&["test", "--update"], AT_HOME);
    insta::assert_snapshot!("an_update", update.whole());
    insta::assert_snapshot!("accepted", project.read("corrigenda.accepted"));
    let again = project.run_with(&["test", "--update"], &[("CI", "false")]);
    assert!(again.err().starts_with("corrigenda.accepted is unchanged: 1 accepted\n"), "{}", again.whole());
    assert_eq!((project.run(&["test"]).code(), project.run(&["test"]).err().as_str()), (Some(0), ""));
    // An answer that differs from the accepted answer fails, and the acceptance is reported as unused.
    let accepted = project.read("corrigenda.accepted");
    project.replace("corrigenda.accepted", "Vienna", "Wien");
    insta::assert_snapshot!("another_answer_than_the_accepted_one", project.run(&["test"]).whole());
    // An acceptance of a met expectation is reported as unused, except with `--only`.
    project.write("corrigenda.accepted", &accepted);
    project.replace("edits/people.toml", "unchanged = [\"I live in Lisbon\"]", "");
    insta::assert_snapshot!("an_entry_that_is_left_over", project.run(&["test"]).whole());
    assert_eq!(project.run(&["test", "--only", "ada.born"]).code(), Some(0));
    let json = project.run(&["test", "--format", "json"]).json();
    assert_eq!(json["findings"][0]["place"]["file"], "corrigenda.accepted");
    assert_eq!(with(&project, "[policy.levels]\naccepted-orphan = \"warn\"", &["test"]).code(), Some(0));
    let none = project.run_with(&["test", "--update"], AT_HOME);
    assert!(none.code() == Some(0) && none.err().contains("written: 0 accepted"), "{}", none.whole());
    std::fs::remove_file(project.path("corrigenda.accepted")).expect("the file is removed");
    let nothing = project.run_with(&["test", "--update"], AT_HOME);
    assert_eq!(nothing.err(), "nothing fails: there is nothing to accept\n");
    assert!(!project.path("corrigenda.accepted").exists());
}

#[test]
fn a_damaged_acceptances_file_is_rewritten() {
    let project = built();
    project.run_with(&["test", "--update"], AT_HOME);
    let sound = project.read("corrigenda.accepted");
    let merged = format!("<<<<<<< ours\n{sound}=======\n{sound}>>>>>>> theirs\n");
    let mut said = String::new();
    for wrong in [merged.as_str(), "version = 2\n", "version = 1\n[[accepted]]\nid = \"a\"\nsay = 1\n", "", "\u{0}"] {
        project.write("corrigenda.accepted", wrong);
        let run = project.run(&["test"]);
        assert_eq!((run.code(), run.out().as_str()), (Some(2), ""), "{wrong}: {}", run.whole());
        said += &run.err();
        assert_eq!(project.run_with(&["test", "--update"], AT_HOME).code(), Some(0), "{wrong}");
        assert_eq!(project.read("corrigenda.accepted"), sound, "{wrong}");
    }
    insta::assert_snapshot!("damaged_acceptances", said);
    std::fs::remove_file(project.path("corrigenda.accepted")).expect("the file is removed");
    std::fs::create_dir(project.path("corrigenda.accepted")).expect("a folder");
    for arguments in [&["test"][..], &["test", "--update"]] {
        let run = project.run_with(arguments, AT_HOME);
        assert!(run.code() == Some(2) && run.err().contains("corrigenda.accepted"), "{}", run.whole());
    }
}

#[test]
fn a_part_of_the_set() {
    let project = built();
    insta::assert_snapshot!("an_edit_that_is_not_there", project.run(&["test", "--only", "ada.borm"]).whole());
    let two = project.run(&["test", "--only", "x", "--only", "rome.country", "--only", "y"]);
    assert!(two.code() == Some(2) && two.err().contains("`x`") && two.err().contains("`y`"), "{}", two.whole());
    let one = project.run(&["test", "--only", "rome.country", "--only", "rome.country"]);
    insta::assert_snapshot!("a_part_that_passes", one.whole());
    assert_eq!(project.run_with(&["test", "--only", "ada.born", "--update"], AT_HOME).code(), Some(2));
}

#[test]
fn probes_are_tested() {
    let project = built();
    project.replace("edits/people.toml", "unchanged = [\"I live in Lisbon\"]", "");
    let probe =
        |id: &str, prompt: &str, more: &str| format!("\n[[probe]]\nid = \"{id}\"\nprompt = \"{prompt}\"\n{more}");
    let kept = probe("italy", "The capital of Italy is", "");
    let watched = probe("lisbon", "I live in Lisbon", "unchanged = false\nreason = \"It is near.\"\n");
    project.write("probes.toml", &format!("format = 1\n{kept}{watched}"));
    insta::assert_snapshot!("probes_that_are_kept", project.run(&["test", "-v"]).whole());
    project.replace("probes.toml", "unchanged = false", "unchanged = true");
    insta::assert_snapshot!("a_probe_that_changes", project.run(&["test"]).whole());
    assert_eq!(project.run(&["test", "--only", "ada.born"]).code(), Some(0), "a part of the set asks no probe");
    assert_eq!(with(&project, "[test]\nmin-unchanged = 0.5", &["test"]).code(), Some(0));
    project.run_with(&["test", "--update"], AT_HOME);
    assert!(project.read("corrigenda.accepted").contains("asked = \"probe\""));
    assert_eq!(project.run(&["test"]).code(), Some(0));
    let long = probe("long", &"Oslo is far. ".repeat(40), "");
    project.write("probes.toml", &format!("format = 1\n{}{long}", probe("long", "x", "")));
    let run = project.run(&["test"]);
    assert!(run.code() == Some(2) && run.err().contains("duplicate-id"), "{}", run.whole());
    project.write("probes.toml", &format!("format = 1\n{}", long.replace("far. \"", "far.\"")));
    let too_long = project.run(&["test"]);
    assert!(too_long.code() == Some(2) && too_long.err().contains("probes.toml:5:10"), "{}", too_long.whole());
}

#[test]
fn only_denied_findings_fail() {
    let project = built();
    for level in ["warn", "allow"] {
        let lines = format!("[policy.levels]\nexpectation-failed = \"{level}\"");
        let run = with(&project, &lines, &["test"]);
        assert_eq!((run.code(), run.out().contains("FAIL")), (Some(0), false), "{}", run.whole());
        let json = with(&project, &lines, &["test", "--format", "json"]).json();
        let found = if level == "warn" { "warning" } else { "" };
        assert_eq!(json["findings"][0]["severity"].as_str().unwrap_or_default(), found);
        assert_eq!(json["answers"][2]["verdict"], "accepted");
    }
}

#[test]
fn every_form_on_stdout_and_in_files() {
    let project = built();
    let forms = ["json", "markdown", "html", "sarif", "junit", "github", "human"];
    let reports: Vec<String> = forms.iter().map(|form| format!("--report={form}=../{form}.out")).collect();
    let arguments: Vec<&str> = ["test"].into_iter().chain(reports.iter().map(String::as_str)).collect();
    let before = folder(&project);
    assert_eq!(project.run(&arguments).code(), Some(1));
    assert_eq!(folder(&project), before);
    for form in forms {
        let run = project.run(&["test", "--format", form]);
        assert_eq!((run.code(), run.err().as_str()), (Some(1), ""), "{form}");
        assert_eq!(run.out(), project.read(&format!("../{form}.out")), "{form}");
        assert!(run.out().contains("Lisbon") || run.out().contains("edits/people.toml"), "{form}: {}", run.out());
    }
    // A run that ends in an error writes its reports too.
    project.write("edits/more.toml", "format = 1\n[[edit]]\n");
    for form in forms {
        let run = project.run(&["test", "--report", &format!("{form}=../{form}.out")]);
        assert_eq!((run.code(), run.out().as_str()), (Some(2), ""), "{form}");
        let said = project.read(&format!("../{form}.out"));
        assert!(said.contains("missing-key") || form == "human", "{form}: {said}");
    }
}

#[test]
fn reports_that_cannot_be_written() {
    let project = built();
    let mut said = String::new();
    for report in ["html", "xml=a", "csv=a", "html=", "html=nowhere/a.html", "html=edits", "html=edits/people.toml/a"] {
        let run = project.run(&["test", "--report", report]);
        assert_eq!(run.code(), Some(2), "{report}: {}", run.whole());
        said += &format!("{report}: {}", run.err());
    }
    insta::assert_snapshot!("reports_that_cannot_be_written", said);
    assert!(!project.path("nowhere").exists() && !project.path("a").exists());
    let csv = project.run(&["test", "--format", "csv"]);
    assert!(csv.code() == Some(2) && csv.out().is_empty() && csv.err().contains("junit"), "{}", csv.whole());
    assert_eq!(project.run(&["test", "--format", "xml"]).code(), Some(2));
}

#[test]
fn a_narrow_terminal_a_pipe_and_no_colour() {
    let project = built();
    let narrow = project.run_with(&["test"], &[("COLUMNS", "60"), ("NO_COLOR", "1")]);
    insta::assert_snapshot!("narrow", narrow.whole());
    let table = narrow.out().lines().take_while(|line| !line.is_empty()).all(|line| line.chars().count() <= 60);
    assert!(table, "{}", narrow.out());
    let coloured = project.run(&["test", "--only", "nobody", "--color", "always"]);
    assert!(coloured.err().contains('\u{1b}') && !project.run(&["test", "--color", "always"]).out().contains('\u{1b}'));
    // A closed output pipe does not change the exit code.
    let mut command = Command::new(env!("CARGO_BIN_EXE_corrigenda"));
    command.current_dir(project.path("")).arg("test").env("CORRIGENDA_CACHE_DIR", project.cache());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary runs");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
}

#[test]
fn a_test_writes_nothing_beside_the_store() {
    let project = built();
    let before = folder(&project);
    for arguments in [&["test"][..], &["test", "-v"], &["test", "--bisect"], &["test", "--format", "html"]] {
        assert_eq!(project.run(arguments).code(), Some(1));
    }
    assert_eq!(folder(&project), before);
}

#[test]
fn help_for_reviewers() {
    let project = Project::new();
    insta::assert_snapshot!("help_test", project.run(&["test", "--help"]).out());
    insta::assert_snapshot!("help_diff", project.run(&["diff", "--help"]).out());
}
