use super::*;
use crate::diagnostics::{Findings, RenderStyle, render};
use crate::project::Project;
use crate::project::edits::parse_files;

const EDIT: &str = "format = 1\n[[edit]]\nid = \"rome.pope\"\nsubject = \"The Pope\"\naliases = [\"Francis\"]\n\
    prompt = \"{} lives in\"\ntarget = \"Avignon\"\nreason = \"  \"\nexpires = 2026-11-24\n";

fn project(policy: &str, edit: &str) -> Result<Project, Findings> {
    let settings = format!("format = 1\nmodel.path = \"m\"\n{policy}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("edits")).expect("a folder for edits");
    for (path, text) in [("corrigenda.toml", settings.as_str()), ("edits/a.toml", edit)] {
        std::fs::write(folder.path().join(path), text).expect("a file of the project");
    }
    Project::load(folder.path())
}

fn drawn(result: Result<Project, Findings>) -> String {
    let (findings, sources) = match result {
        Ok(project) => (project.warnings, project.edits.sources),
        Err(findings) => (findings.diagnostics, findings.sources),
    };
    let drawn = findings.iter().map(|finding| render(finding, &sources, RenderStyle::default()));
    drawn.collect::<Vec<_>>().join("\n\n")
}

#[test]
fn a_broken_rule_is_shown_with_its_reason() {
    let policy = "[policy]\nrequire = [\"reason\", \"source\", \"expires\"]\n[[policy.protected]]\nsubject = \"the pope*\"\n\
        reason = \"Not ours to change.\"\n[policy.reasons]\nrequire = \"An auditor asks.\"\n";
    insta::assert_snapshot!(drawn(project(policy, EDIT)));
    let two = format!("{EDIT}\n[[edit]]\nid = \"b\"\nsubject = \"B\"\nprompt = \"{{}} is\"\ntarget = \"c\"\n");
    insta::assert_snapshot!(drawn(project("[policy]\nmax-edits = 1\n", &two)));
}

#[test]
fn a_past_state_is_not_checked_by_its_policy() {
    let settings = "format = 1\nmodel.path = \"m\"\n[policy]\nrequire = [\"source\"]\n";
    let files = [("corrigenda.toml", settings), ("edits/a.toml", EDIT)];
    let files = files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()));
    assert!(Project::of_files(std::path::Path::new("."), "main:", BTreeMap::from(files)).is_ok());
    assert!(project("[policy]\nrequire = [\"source\"]\n", EDIT).is_err());
}

#[test]
fn levels_change_the_severity_of_findings() {
    let bidi = EDIT.replace("Avignon", "Avignon\u{202e}");
    let codes = |policy: &str| match project(policy, &bidi) {
        Ok(project) => (true, project.warnings),
        Err(findings) => (false, findings.diagnostics),
    };
    let (built, found) = codes("");
    assert!(built && found.iter().any(|one| one.code == Code::BidiCharacter));
    let (built_allowed, found_allowed) = codes("[policy.levels]\nbidi-character = \"allow\"\n");
    assert!(built_allowed && found_allowed.is_empty());
    let (built_denied, found_denied) = codes("[policy.levels]\nbidi-character = \"deny\"\n");
    assert!(!built_denied && found_denied.iter().all(|one| one.code.is_adjustable()));
    let (built_warned, found_warned) = codes("[policy]\nrequire = [\"source\"]\nlevels.field-required = \"warn\"\n");
    assert!(built_warned && found_warned.iter().any(|one| one.code == Code::FieldRequired && !one.is_error()));
}

#[test]
fn all_rules_of_a_policy_are_read() {
    let policy = "[policy]\nrequires = 1\nrequire = [\"raeson\", 1]\nmax-edits = 0\nmin-efficacy = 2\nmax-damage = \"x\"\n\
        [[policy.protected]]\nreason = \"r\"\n[policy.levels]\nsyntax = \"warn\"\nedit-expird = \"deny\"\n\
        edit-expired = \"never\"\nnot-a-thing-at-all = \"deny\"\n[policy.reasons]\nmax-edit = \"r\"\nmax-edits = 3\n";
    insta::assert_snapshot!(drawn(project(policy, EDIT)));
}

#[test]
fn an_edit_expires_on_its_day() {
    let day = |text: &str| text.parse::<Date>().expect("a day");
    let project = project("", EDIT).expect("valid");
    let expired = |on| project.config.policy.expired(&project.edits, day(on));
    assert!(expired("2026-11-23").is_empty());
    assert_eq!(expired("2026-11-24")[0].message, "edit `rome.pope` expired on 2026-11-24");
    assert!(!expired("2027-01-01")[0].is_error());
    assert!(parse_files(vec![("a.toml".into(), EDIT.replace("2026-11-24", "2026-13-01").into())]).is_err());
}

/// Returns whether a pattern with `*` matches `name`, by plain recursion. The tests compare `is_like` with this simple
/// but slow function.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
        Some((letter, rest)) => name.first() == Some(letter) && matches(rest, &name[1..]),
    }
}

proptest::proptest! {
    #[test]
    fn a_pattern_is_its_definition(pattern in "[ab*]{0,6}", name in "[ab]{0,8}") {
        proptest::prop_assert_eq!(is_like(&pattern, &name), matches(pattern.as_bytes(), name.as_bytes()));
    }
}

#[test]
fn patterns() {
    for (pattern, name) in
        [("a", "A"), ("the *", "The Pope"), ("*pope", "the Pope"), ("t*e*p*e", "the pope"), ("*", "")]
    {
        assert!(is_like(&usual(pattern), &usual(name)), "{pattern} {name}");
    }
    for (pattern, name) in [("a", "ab"), ("the *", "Then"), ("*x", "xy"), ("a*a", "a"), ("a*b*c", "acb")] {
        assert!(!is_like(&usual(pattern), &usual(name)), "{pattern} {name}");
    }
}

#[test]
fn a_protected_subject_is_found_in_the_prompt() {
    let about = |head: &str, name: &str| is_about("Marie Curie", head, name);
    assert!(about("", "Marie Curie") && about("", "marie  curie") && about("", "Marie\u{a0}Curie"));
    assert!(about("The mother tongue of Marie ", "Curie") && about("The mother tongue of ", "Marie Curie"));
    assert!(!about("", "Curie") && !about("Rosemarie ", "Curie") && !about("", "Marie Curie-Sklodowska"));
    assert!(!about("Unlike Marie Curie, ", "Bohr"));
}
