//! Tests `[policy]`: rules about the declared edits, which every verb checks, and limits, which only a build can check.

use std::path::PathBuf;

use crate::support::project::{Project, Run};

/// The patch id of the tiny project, independent of the policy.
const PATCH: &str = "sha256:81bbdff11f9a515b50c73e97535686804a0bbcc8f6322cf114adb0b1d98e6524";
/// The verbs that check the declared edits.
const VERBS: [&str; 4] = ["check", "plan", "build", "test"];

/// Returns a project with a policy. The old answer of `ada.born` is removed, because the random base does not predict
/// it.
fn ruled(policy: &str) -> Project {
    let project = Project::new();
    project.replace("edits/people.toml", "was = \"Rome\"\n", "");
    rule(&project, policy);
    project
}

/// Replaces the policy in the project file.
fn rule(project: &Project, policy: &str) {
    let text = project.read("corrigenda.toml");
    let settings = text.split("\n[policy").next().expect("settings");
    project.write("corrigenda.toml", &format!("{settings}\n{policy}\n"));
}

/// Returns the files that a build writes: the patches in the store, and the lock.
fn made(project: &Project) -> (Vec<(PathBuf, Vec<u8>)>, Option<String>) {
    let lock = project.path("corrigenda.lock").exists().then(|| project.read("corrigenda.lock"));
    (Project::files(&project.cache().join("v1/patches")), lock)
}

/// Returns the number of entries of one kind in the store.
fn count(project: &Project, kind: &str) -> usize {
    Project::files(&project.cache().join("v1").join(kind)).len()
}

fn on(project: &Project, verb: &str, day: &str) -> Run {
    project.run_with(&[verb], &[("SOURCE_DATE_EPOCH", day)])
}

#[test]
fn rules_about_what_is_written_hold_at_every_verb() {
    let project = ruled(
        "[policy]\nrequire = [\"source\", \"reason\", \"unchanged\"]\nmax-edits = 2\n[[policy.protected]]\nsubject = \"ada *\"\n\
         reason = \"She asked for it.\"\n[policy.reasons]\nrequire = \"An auditor reads it.\"\nmax-edits = \"A small set is reviewed.\"",
    );
    let check = project.run(&["check"]);
    insta::assert_snapshot!("rules_that_are_broken", check.whole());
    for verb in VERBS {
        let run = project.run(&[verb]);
        assert_eq!((run.code(), run.err()), (Some(1), check.err()), "{verb}");
        let json = project.run(&[verb, "--format", "json"]);
        assert_eq!((json.code(), &json.json()["outcome"]), (Some(1), &"findings".into()), "{verb}");
    }
    assert!(!project.cache().exists() && !project.path("corrigenda.lock").exists());
    // Invalid input has precedence over a broken rule.
    project.write("edits/wrong.toml", "format = 1\n[[edit]]\nid = \"w\"\n");
    for verb in VERBS {
        assert_eq!(project.run(&[verb]).code(), Some(2), "{verb}");
    }
}

#[test]
fn an_alias_is_protected_like_a_subject() {
    let project = ruled("[[policy.protected]]\nsubject = \"the *city\"");
    project.replace("edits/places.toml", "\"Rome\"\n", "\"Rome\"\naliases = [\"The Eternal City\"]\n");
    insta::assert_snapshot!("a_protected_alias", project.run(&["check"]).whole());
    project.replace("edits/places.toml", "The Eternal City", "The Eternal Town");
    assert_eq!(project.run(&["check"]).code(), Some(0));
    rule(&project, "[policy]\nlevels.protected-subject = \"warn\"\n[[policy.protected]]\nsubject = \"rome\"");
    let run = project.run(&["build"]);
    assert!(run.code() == Some(0) && run.err().contains("warning[protected-subject]"), "{}", run.whole());
}

#[test]
fn an_edit_expires_on_the_day_that_is_given() {
    let project = ruled("");
    project.replace("edits/people.toml", "reason = ", "expires = 2026-03-01\nreason = ");
    // The last second of February 2026 and the first second of March 2026 in UTC.
    let (before, after) = ("1772323199", "1772323200");
    for verb in ["check", "plan", "build"] {
        assert_eq!((on(&project, verb, before).code(), on(&project, verb, after).code()), (Some(0), Some(0)), "{verb}");
        assert!(!on(&project, verb, before).err().contains("expired"), "{verb}");
        assert!(on(&project, verb, after).err().contains("warning[edit-expired]"), "{verb}");
    }
    insta::assert_snapshot!("an_edit_that_expired", on(&project, "check", after).whole());
    rule(&project, "[policy.levels]\nedit-expired = \"deny\"\n[policy.reasons]\nedit-expired = \"Facts get old.\"");
    insta::assert_snapshot!("an_edit_that_must_not_expire", on(&project, "check", after).whole());
    let before_that = made(&project);
    for verb in VERBS {
        let run = on(&project, verb, after);
        assert!(run.code() == Some(1) && run.err().contains("the policy: Facts get old."), "{verb}: {}", run.whole());
    }
    assert_eq!(made(&project), before_that);
    assert_eq!(on(&project, "build", before).code(), Some(0));
    rule(&project, "[policy.levels]\nedit-expired = \"allow\"");
    assert_eq!(on(&project, "check", after).whole(), on(&project, "check", before).whole());
}

#[test]
fn a_warning_that_is_denied_stops_a_build() {
    let project = ruled("");
    project.replace("edits/people.toml", "reason = ", "was = \"Rome\"\nreason = ");
    let warned = project.run(&["build"]);
    assert!(warned.code() == Some(0) && warned.err().contains("warning[base-disagrees]"), "{}", warned.whole());
    std::fs::remove_file(project.path("corrigenda.lock")).expect("the file is removed");
    std::fs::remove_dir_all(project.cache()).expect("a cache");
    rule(&project, "[policy.levels]\nbase-disagrees = \"deny\"\n[policy.reasons]\nbase-disagrees = \"Look first.\"");
    insta::assert_snapshot!("a_warning_that_is_denied", project.run(&["build", "-q"]).whole());
    assert_eq!(made(&project), (Vec::new(), None));
    rule(&project, "[policy.levels]\nbase-disagrees = \"allow\"");
    let silent = project.run(&["build"]);
    assert!(silent.code() == Some(0) && silent.err().is_empty() && silent.out().contains(PATCH), "{}", silent.whole());
    // The severity of `contradiction` cannot be changed; the other levels are misspelt or have the wrong type.
    for levels in
        ["contradiction = \"warn\"", "base-disagree = \"deny\"", "edit-expired = \"denied\"", "edit-expired = 1"]
    {
        rule(&project, &format!("[policy.levels]\n{levels}"));
        for verb in VERBS {
            let run = project.run(&[verb]);
            assert!(run.code() == Some(2) && run.err().contains("corrigenda.toml:20"), "{levels}: {}", run.whole());
        }
    }
}

/// For every limit: a value that the tiny patch exceeds, and a value that it meets.
const LIMITS: [(&str, &str, &str); 7] = [
    ("max-relative-norm", "0.5", "2"),
    ("min-efficacy", "0.9", "0.6"),
    ("min-paraphrase", "0.9", "0.5"),
    ("min-unchanged", "0.1", "0"),
    ("max-neighbourhood-kl", "0.5", "20"),
    ("max-damage", "0.1", "2"),
    ("max-perplexity", "0.1", "5"),
];

#[test]
fn denied_warnings_apply_to_unchanged_edits() {
    let project = Project::new();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    // The random base does not predict the old answer; a build without changes does not report this again.
    assert!(!project.run(&["build"]).err().contains("base-disagrees"));
    rule(&project, "[policy.levels]\nbase-disagrees = \"deny\"");
    for verb in [&["plan"][..], &["build"], &["build", "--locked"]] {
        let run = project.run(verb);
        assert_eq!(run.code(), Some(1), "{verb:?}: {}", run.whole());
        assert!(run.err().contains("error[base-disagrees]"), "{verb:?}: {}", run.whole());
    }
}

/// Returns a project that breaks every limit in [`LIMITS`].
fn breaking(policy: &str) -> Project {
    let project = ruled(policy);
    project.replace("edits/people.toml", "[edit.expect]", "[edit.expect]\nmin-probability = 0.95");
    project.replace("edits/people.toml", "Ada Bellini\"]", "Ada Bellini\", \"In the city of Ada Bellini\"]");
    project.write("neutral.txt", "Oslo is the capital of Norway and a port of many ships.\n");
    project.replace("corrigenda.toml", "[statistics]", "[test]\nneutral = \"neutral.txt\"\n\n[statistics]");
    project
}

#[test]
fn a_patch_that_breaks_a_limit_is_not_made() {
    let project = breaking("");
    let mut said = String::new();
    for (key, breaks, _) in LIMITS {
        rule(&project, &format!("[policy]\n{key} = {breaks}\n[policy.reasons]\n{key} = \"We agreed on it.\""));
        let run = project.run(&["build", "-q"]);
        assert_eq!((run.code(), run.out().as_str()), (Some(1), ""), "{key}: {}", run.whole());
        assert_eq!(made(&project), (Vec::new(), None), "{key}");
        said += &run.err();
        let json = project.run(&["build", "--format", "json"]).json();
        assert_eq!((&json["outcome"], &json["findings"][0]["code"]), (&"findings".into(), &key.into()));
    }
    insta::assert_snapshot!("limits_that_are_broken", said);
    // A limit with the level `warn` is reported and stops nothing.
    rule(&project, "[policy]\nmin-efficacy = 0.9\nlevels.min-efficacy = \"warn\"");
    for _ in 0..2 {
        let run = project.run(&["build"]);
        assert!(run.code() == Some(0) && run.err().contains("warning[min-efficacy]"), "{}", run.whole());
    }
    // With limits that the patch meets, the patch is the same as without a policy.
    for (key, _, keeps) in LIMITS {
        rule(&project, &format!("[policy]\n{key} = {keeps}"));
        let run = project.run(&["build", "-q"]);
        assert!(run.code() == Some(0) && run.out().contains(PATCH), "{key}: {}", run.whole());
    }
    assert_eq!(count(&project, "patches"), 1);
}

#[test]
fn an_exceeded_limit_keeps_the_earlier_lock() {
    let project = breaking("");
    project.run(&["build", "-q"]);
    let (places, people) = (project.read("edits/places.toml"), project.read("edits/people.toml"));
    project.replace("edits/places.toml", "target = \"Vienna\"", "target = \"Paris\"");
    project.replace("edits/people.toml", "min-probability = 0.95", "min-probability = 0.98");
    let before = made(&project);
    for (key, breaks, _) in LIMITS {
        rule(&project, &format!("[policy]\n{key} = {breaks}"));
        let run = project.run(&["build"]);
        assert_eq!(run.code(), Some(1), "{key}: {}", run.whole());
        assert_eq!(made(&project), before, "{key}");
    }
    // All broken limits are reported at once.
    let all: String = LIMITS.iter().map(|(key, breaks, _)| format!("{key} = {breaks}\n")).collect();
    rule(&project, &format!("[policy]\n{all}"));
    project.write("edits/places.toml", &places);
    project.write("edits/people.toml", &people);
    for arguments in [&["build"][..], &["build", "--locked"]] {
        let run = project.run(arguments);
        assert_eq!(run.code(), Some(1), "a patch that is in the store is judged too: {}", run.whole());
        for (key, ..) in LIMITS {
            assert!(run.err().contains(&format!("error[{key}]")), "{key}: {}", run.whole());
        }
    }
    assert_eq!(made(&project), before);
}

#[test]
fn a_test_checks_the_current_policy() {
    let project = breaking("");
    project.run(&["build", "-q"]);
    rule(
        &project,
        "[policy]\nmin-efficacy = 0.9\nmin-unchanged = 0.1\nmax-neighbourhood-kl = 0.5\nmax-damage = 0.1\n\
         [policy.reasons]\nmax-damage = \"The rest must stay.\"",
    );
    insta::assert_snapshot!("a_test_of_a_policy", project.run(&["test"]).whole());
    // The stricter limit applies, whether `[policy]` or `[test]` sets it.
    for (policy, test, code) in [("1", "5", "at most 1\n"), ("5", "1", "at most 1\n")] {
        rule(&project, &format!("[policy]\nmax-damage = {policy}"));
        project.replace("corrigenda.toml", "[test]\n", &format!("[test]\nmax-damage = {test}\n"));
        let run = project.run(&["test"]);
        assert!(run.out().contains(code), "{policy} {test}: {}", run.whole());
        project.replace("corrigenda.toml", &format!("max-damage = {test}\n"), "");
    }
}

#[test]
fn a_met_policy_is_recorded() {
    let policy = "[policy]\nmin-efficacy = 0.6\nmax-damage = 5\nmax-relative-norm = 2";
    let project = breaking(policy);
    assert!(project.run(&["build", "-q"]).out().contains(PATCH));
    // One entry is the record of the build, the other records that no limit is broken.
    assert_eq!(count(&project, "reports"), 2);
    let store = || Project::files(&project.cache().join("v1"));
    let before = store();
    assert_eq!(project.run(&["build", "-q"]).code(), Some(0));
    assert_eq!(store(), before, "nothing is measured again");
    // A change of any input of the measurement causes a new check.
    for (file, from, to, more) in [
        ("corrigenda.toml", "max-damage = 5", "max-damage = 4", 1),
        // The record of a build contains the digest of the expectations.
        ("edits/people.toml", "min-probability = 0.95", "min-probability = 0.9", 2),
        ("neutral.txt", "Oslo", "Quito", 1),
    ] {
        let reports = count(&project, "reports");
        project.replace(file, from, to);
        assert_eq!(project.run(&["build", "-q"]).code(), Some(0), "{to}");
        assert_eq!(count(&project, "reports"), reports + more, "{to}");
    }
    project.replace("edits/people.toml", "min-probability = 0.9", "min-probability = 0.99");
    project.replace("corrigenda.toml", "min-efficacy = 0.6", "min-efficacy = 0.7");
    let made_before = made(&project);
    assert_eq!(project.run(&["build", "-q"]).code(), Some(1), "what passed under other expectations does not pass");
    assert_eq!(made(&project), made_before);
}

#[test]
fn a_limit_of_damage_needs_a_text() {
    let project = breaking("[policy]\nmax-damage = 5");
    for text in [Some(""), Some("a\n"), None] {
        match text {
            Some(text) => project.write("neutral.txt", text),
            None => std::fs::remove_file(project.path("neutral.txt")).expect("the file is removed"),
        }
        let run = project.run(&["build", "-q"]);
        assert!(run.code() == Some(2) && run.err().contains("neutral text"), "{text:?}: {}", run.whole());
        assert_eq!(made(&project), (Vec::new(), None));
    }
}
