use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::diagnostics::{RenderStyle, render};

const EIFFEL: &str = r#"
[[edit]]
id = "eiffel-tower.city"
subject = "The Eiffel Tower"
prompt = "{} is located in the city of"
target = "Rome"
was = "Paris"
reason = "example"

[edit.expect]
paraphrase = ["Where is the Eiffel Tower? It is in"]
unchanged = ["The Louvre is located in the city of"]
"#;

fn one(text: &str) -> Result<(EditSet, Vec<Diagnostic>), Findings> {
    many(&[("edits/a.toml", text)])
}

fn many(files: &[(&str, &str)]) -> Result<(EditSet, Vec<Diagnostic>), Findings> {
    parse_files(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect())
}

fn drawn(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let drawn = diagnostics.iter().map(|finding| render(finding, sources, RenderStyle::default()));
    drawn.collect::<Vec<_>>().join("\n\n")
}

fn refused(files: &[(&str, &str)]) -> String {
    let findings = many(files).expect_err("refused");
    drawn(&findings.diagnostics, &findings.sources)
}

fn codes(text: &str) -> Vec<&'static str> {
    let found = match one(text) {
        Ok((_, warnings)) => warnings,
        Err(findings) => findings.diagnostics,
    };
    found.iter().map(|finding| finding.code.as_str()).collect()
}

fn edit(id: &str, subject: &str, prompt: &str, target: &str) -> String {
    format!("[[edit]]\nid = {id:?}\nsubject = \"{subject}\"\nprompt = \"{prompt}\"\ntarget = \"{target}\"\n")
}

fn file(edits: &[String]) -> String {
    format!("format = 1\n{}", edits.concat())
}

#[test]
fn an_edit_is_read_with_its_spans() {
    let text = format!("#:schema x\nformat = 1\n{EIFFEL}");
    for written in [text.clone(), text.replace('\n', "\r\n"), format!("\u{feff}{text}")] {
        let (set, warnings) = one(&written).expect("valid");
        assert!(warnings.is_empty());
        let edit = set.get("eiffel-tower.city").expect("there");
        assert_eq!(edit.filled_prompt(), "The Eiffel Tower is located in the city of");
        assert_eq!(&edit.filled_prompt()[edit.subject_range()], "The Eiffel Tower");
        let source = set.sources.text(edit.spans.file);
        assert_eq!(&source[edit.spans.id.clone()], "\"eiffel-tower.city\"");
        assert_eq!(&source[edit.spans.target.clone()], "\"Rome\"");
        assert_eq!(&source[edit.spans.was.clone().expect("written")], "\"Paris\"");
        assert_eq!(&source[edit.spans.unchanged[0].clone()], "\"The Louvre is located in the city of\"");
        let entry = &source[edit.spans.entry.clone()];
        assert!(entry.starts_with("[[edit]]") && entry.ends_with("city of\"]"), "{entry}");
        assert_eq!(set.get("none"), None);
    }
}

#[test]
fn braces_are_not_special() {
    let text = file(&[edit("a", "A {}", "{{}} }} {{ is", "b")]);
    let (set, _) = one(&text).expect("valid");
    assert_eq!(set.edits[0].filled_prompt(), "{A {}} }} {{ is");
    assert_eq!(set.edits[0].subject_range(), 1..5);
}

#[test]
fn a_set_is_sorted_by_id() {
    let (a, b) = (edit("a", "A", "{} is", "x"), edit("b", "B", "{} is", "x"));
    let (one, two) = (file(&[b.clone(), a.clone()]), file(&[edit("0", "C", "{} is", "x")]));
    let (set, _) = many(&[("z.toml", &one), ("y.toml", &two)]).expect("valid");
    let ids: Vec<&str> = set.edits.iter().map(|edit| edit.id.as_str()).collect();
    assert_eq!(ids, ["0", "a", "b"]);
}

#[test]
fn all_types_and_ranges_are_checked() {
    let wrong = "format = 1\ntitle = \"x\"\n[[edit]]\nid = \"A Tower\"\nsubjct = \"x\"\nprompt = 3\ntarget = [\"Rome\"]\n\
        colour = \"red\"\nwas = 1\n[edit.expect]\nparaphrases = []\nunchanged = \"no\"\nparaphrase = [1, \"\"]\nreason = \"late\"\n";
    insta::assert_snapshot!(refused(&[("edits/a.toml", wrong)]));
    insta::assert_snapshot!(refused(&[
        ("edits/a.toml", "[edit]\nid = \"a\"\n"),
        ("edits/b.toml", "format = 9\nx = 1\n")
    ]));
    insta::assert_snapshot!(refused(&[
        (
            "edits/a.toml",
            "format = 1\n[[edit]]\nid = \"a\nsubject = = \"b\"\ntarget = \"x\"\ntarget = \"y\"\n[[edit]\n"
        ),
        ("edits/b.toml", "format = 1\n[[edit]]\nid = \"b\"\n"),
    ]));
}

#[test]
fn all_texts_are_checked() {
    let wrong = file(&[
        edit("a", " The Louvre", "The Louvre is in", "  "),
        edit("b", "The Louvre", "The Louvre \\\"is\\\" in", ""),
        edit("c", "", "{} and {} are in", "x\\ny"),
        edit("d", "A\\u001b[31m", "{} is in", "a\\u202eb"),
        edit("e", "Cafe\\u0301", "{} is in", "x\\u0000"),
        edit("f", "F", "there is", "x"),
    ]);
    insta::assert_snapshot!(refused(&[("edits/a.toml", &wrong)]));
}

#[test]
fn all_expectations_are_checked() {
    let text = format!("format = 1\n{EIFFEL}")
        .replace("\"Paris\"", "\" Rome\"")
        .replace("[\"The Louvre", "[\"The Eiffel Tower is located in the city of\", \"B is\", \"Where is the Eiffel Tower? It is in\", \"{} x\", \"{} x\", \"The Louvre");
    let other = file(&[edit("b", "B", "{} is", "x")]);
    insta::assert_snapshot!(refused(&[("edits/a.toml", &text), ("edits/b.toml", &other)]));
}

#[test]
fn accepting_the_old_answer_is_reported() {
    let with = |accept: &str| {
        let rest = format!("was = \"Paris, France\"\n[edit.expect]\naccept = [{accept}]\n");
        codes(&file(&[edit("a", "A", "{} is", "Rome"), rest]))
    };
    for old in ["\"Paris, France\"", "\"paris,  FRANCE \"", "\"Paris\""] {
        assert_eq!(with(old), ["accepts-old"], "{old}");
    }
    for other in ["\"Par\"", "\"Paris, France and more\"", "\"rome\"", "\"Roma\", \"roma\""] {
        assert_eq!(with(other), [""; 0], "{other}");
    }
    assert_eq!(with("\"Rome\", \"Roma\", \"Roma\""), ["duplicate-entry", "duplicate-entry"]);
    assert_eq!(with("\"Paris\", \"\""), ["accepts-old", "empty-text"]);
}

#[test]
fn a_paraphrase_gives_what_an_edit_of_it_asks_for() {
    let with = |accept: &str| {
        let rest = format!("[edit.expect]\nparaphrase = [\"B is\"]\naccept = [{accept}]\n");
        codes(&file(&[edit("a", "A", "{} is", "x"), rest, edit("b", "B", "{} is", "y")]))
    };
    assert_eq!((with(""), with("\"y\"")), (vec!["paraphrase-edited"], vec![]));
}

/// Returns the findings about edits of the subject "Lady Gaga", each as `code: message`. An element of `edits` is the
/// id and the prompt of one edit; `ridge` is true if the linear system has a ridge.
fn pairs_of(edits: &[(&str, &str)], ridge: bool) -> Vec<String> {
    let edits: Vec<String> = edits.iter().map(|(id, prompt)| edit(id, "Lady Gaga", prompt, "x")).collect();
    let (set, mut found) = one(&file(&edits)).expect("no error of a set");
    found.extend(conflicts::one_key(&set.edits, ridge));
    let mut messages: Vec<String> = found.iter().map(|one| format!("{}: {}", one.code, one.message)).collect();
    messages.sort();
    messages
}

#[test]
fn every_pair_of_edits_with_one_key_is_reported() {
    let facts =
        [("home", "{} lives in"), ("plays", "Today {} plays"), ("work", "{} works in"), ("born", "{} was born in")];
    let key = |a: &str, b: &str| format!("parallel-keys: `{a}` and `{b}` have the same key: both edits cannot be made");
    let alike = |a: &str, b: &str| format!("shared-subject: `{a}` and `{b}` edit the same subject");
    let want =
        [key("born", "home"), key("born", "work"), key("home", "work"), alike("born", "plays"), alike("plays", "work")];
    assert_eq!(pairs_of(&facts, false), want);
    let turned: Vec<_> = facts.into_iter().rev().collect();
    assert_eq!(pairs_of(&turned, false), want);
    // With a ridge, a build can satisfy both edits in part, so the finding is only the warning `shared-subject`.
    assert!(pairs_of(&facts, true).iter().all(|message| message.starts_with("shared-subject")));
    assert_eq!(pairs_of(&facts, true).len(), want.len());
    // In the prompt of `a`, the subject ends inside the word "Gaga's". A tokenizer may merge the last letters of the
    // subject with the letters that follow, so it is not certain that the MLP keys are equal.
    assert_eq!(pairs_of(&[("a", "{}'s home is"), ("b", "{} lives in")], false), [alike("a", "b")]);
    // The subjects differ, but the prompts are equal up to the end of the subjects.
    let cut = file(&[edit("a", "The Tower", "{} is in", "x"), edit("b", "Tower", "The {} was built by", "y")]);
    let (set, _) = one(&cut).expect("valid");
    assert_eq!(conflicts::one_key(&set.edits, false).len(), 1);
    // An alias of one edit can have the same MLP key as the subject of another edit. The same prompt has different MLP
    // keys with and without the chat template.
    let named = file(&[edit("a", "A", "{} is in", "x"), "aliases = [\"Aa\"]\n".into(), edit("b", "Aa", "{} has", "y")]);
    assert_eq!(conflicts::one_key(&one(&named).expect("valid").0.edits, false).len(), 1);
    let chat = file(&[edit("a", "A", "{} is in", "x"), "chat = true\n".into(), edit("b", "A", "{} has", "y")]);
    assert!(conflicts::one_key(&one(&chat).expect("valid").0.edits, false).is_empty());
}

#[test]
fn many_facts_of_one_subject_are_checked_fast() {
    let edits: Vec<String> = (0..3000).map(|n| edit(&format!("e{n}"), "A", &format!("{{}} is {n} of"), "x")).collect();
    let (set, _) = one(&file(&edits)).expect("valid");
    assert_eq!(conflicts::one_key(&set.edits, false).len(), 1001);
}

#[test]
fn edits_are_compared_with_one_another() {
    let one = file(&[edit("a", "A", "{} is", "x"), edit("b", "A", "{} is", "y")]);
    let two = file(&[edit("a", "C", "{} is", "x"), edit("d", "A", "{} is", "x"), edit("e", "A", "{} is", "y")]);
    insta::assert_snapshot!(refused(&[("edits/one.toml", &one), ("edits/two.toml", &two)]));
}

#[test]
fn codes_of_single_mistakes() {
    let long = "x".repeat(4097);
    assert_eq!(codes(&file(&[edit("a", "A", "{} is", &long)])), ["text-too-long"]);
    assert_eq!(codes(&file(&[edit(&"a".repeat(129), "A", "{} is", "b")])), ["bad-id"]);
    assert_eq!(codes("format = 1\n"), ["no-edits"]);
    assert_eq!(codes(""), ["missing-key"]);
    let many: Vec<String> = (0..257).map(|n| format!("\"{n}\"")).collect();
    let list = format!("expect.unchanged = [{}]\n", many.join(", "));
    assert_eq!(codes(&file(&[edit("a", "A", "{} is", "b"), list])), ["out-of-range"]);
    let reason = "reason = \"two\\nlines\"\n".to_owned();
    assert_eq!(codes(&file(&[edit("a", "A", "{} is", "b"), reason])), [""; 0]);
    let control = "reason = \"\\u001b\"\n".to_owned();
    assert_eq!(codes(&file(&[edit("a", "A", "{} is", "b"), control])), ["control-character"]);
    let deep = format!("format = 1\nx = {}{}\n", "[".repeat(10_000), "]".repeat(10_000));
    assert!(codes(&deep).contains(&"syntax"));
    assert_eq!(codes(&file(&[edit("a", "Cafe\\u0301", "{} is", "\\u202eb")])), ["not-normalised", "bidi-character"]);
}

#[test]
fn folders_are_read_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    let edits = root.join("edits");
    let missing = EditSet::load(&edits, root).expect_err("not there");
    assert_eq!(missing.diagnostics[0].message, "there is no folder `edits`");
    std::fs::create_dir_all(edits.join("deep/er")).expect("the folder is created");
    let empty = EditSet::load(&edits, root).expect_err("empty");
    assert_eq!(empty.diagnostics[0].code, Code::NoEdits);
    std::fs::write(edits.join("deep/er/a.toml"), file(&[edit("a", "A", "{} is", "x")])).expect("written");
    std::fs::write(edits.join("b.toml"), file(&[edit("b", "B", "{} is", "x")])).expect("the file is written");
    std::fs::write(edits.join("notes.md"), "not a fact").expect("the file is written");
    let (set, warnings) = EditSet::load(&edits, root).expect("valid");
    let paths: Vec<&str> = set.edits.iter().map(|edit| set.sources.path(edit.spans.file)).collect();
    assert_eq!((paths, warnings.len()), (vec!["edits/deep/er/a.toml", "edits/b.toml"], 0));
    std::fs::write(edits.join("c.toml"), b"format = 1\nx = \"\xff\"").expect("the file is written");
    std::fs::write(edits.join("d.toml"), vec![b'#'; (1 << 20) + 1]).expect("the file is written");
    let findings = EditSet::load(&edits, root).expect_err("refused");
    insta::assert_snapshot!(drawn(&findings.diagnostics, &findings.sources));
}

#[test]
fn digests_depend_on_their_fields_only() {
    let text = format!("format = 1\n{EIFFEL}");
    let read = |content: &str| one(content).expect("valid").0.edits.remove(0);
    let base = read(&text);
    let compare = |from: &str, to: &str| {
        let other = read(&text.replace(from, to));
        (base.meaning() == other.meaning(), base.expectation() == other.expectation(), base.record() == other.record())
    };
    assert_eq!(compare("eiffel-tower.city", "eiffel"), (true, true, false));
    assert_eq!(compare("example", "another"), (true, true, false));
    assert_eq!(compare("reason", "source"), (true, true, false));
    assert_eq!(compare("reason = \"example\"", ""), (true, true, false));
    assert_eq!(compare("Paris", "Lyon"), (true, false, true));
    assert_eq!(compare("The Louvre", "A Louvre"), (true, false, true));
    assert_eq!(compare("\"Rome\"", "\"Oslo\""), (false, true, true));
    assert_eq!(compare("located", "standing"), (false, false, true));
    assert_eq!(compare("\n\n", "\n# a comment\n\n"), (true, true, true));
    let lines = text.replace("\"example\"", "\"\"\"\nOne line.\nAnother.\"\"\"");
    assert_eq!(
        read(&lines).record(),
        read(&lines.replace('\n', "\r\n")).record(),
        "a record does not depend on line ends"
    );
    insta::assert_snapshot!(format!("{}\n{}\n{}", base.meaning(), base.expectation(), base.record()));
}

#[test]
fn a_thousand_edits_are_checked_at_once() {
    let edits = |from: usize| -> Vec<String> {
        let made = (from..from + 500).map(|n| {
            let rest = format!("[edit.expect]\nparaphrase = [\"Where is {n}? In\"]\nunchanged = [\"Not {n} is in\"]\n");
            edit(&format!("fact.{n}"), &format!("The tower {n}"), "{} stands in", "Rome") + &rest
        });
        made.collect()
    };
    let (one, two) = (file(&edits(0)), file(&edits(500)));
    // The limit applies to the shortest of five running times, because other processes may slow a run down.
    let best = (0..5).map(|_| {
        let start = Instant::now();
        let (set, _) = many(&[("a.toml", &one), ("b.toml", &two)]).expect("valid");
        assert_eq!(set.edits.len(), 1000);
        start.elapsed()
    });
    let best = best.min().expect("five runs");
    let limit = if cfg!(debug_assertions) { 1000 } else { 50 };
    assert!(best < Duration::from_millis(limit), "{best:?}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(findings) = parse_files(vec![("a.toml".into(), bytes)]) {
            prop_assert!(!drawn(&findings.diagnostics, &findings.sources).is_empty());
        }
    }

    #[test]
    fn any_fact_is_read_or_refused(subject in "\\PC{0,12}", prompt in ".{0,12}", target in "[\u{200b}-\u{2070}é漢🗼\u{1f3fb}]{0,6}") {
        let quoted = |text: &str| serde_json::to_string(text).expect("a string").replace('\u{7f}', "\\u007F");
        let text = format!(
            "format = 1\n[[edit]]\nid = \"a\"\nsubject = {}\nprompt = {}\ntarget = {}\nwas = {}\n",
            quoted(&subject), quoted(&prompt), quoted(&target), quoted(&target),
        );
        let findings = one(&text).expect_err("the target is the old answer");
        let escape = '\u{1b}';
        prop_assert!(!drawn(&findings.diagnostics, &findings.sources).contains(escape));
        prop_assert!(findings.diagnostics.iter().all(|finding| finding.code != Code::Syntax), "{text:?}");
    }

    #[test]
    fn any_tokens_are_read_or_refused(parts in prop::collection::vec(
        prop::sample::select(vec!["[[edit]]", "[edit]", "[edit.expect]", "\n", "id", " = ", "\"a\"", "\"", "{", "}", "[", "]",
            ",", ".", "1", "format = 1\n", "é", "\r", "\u{1b}", "'''", "#", "edit", "expect"]), 0..40,
    )) {
        if let Err(findings) = one(&parts.concat()) {
            // Rendering must succeed for every finding.
            prop_assert!(!drawn(&findings.diagnostics, &findings.sources).is_empty());
        }
    }

    #[test]
    fn renaming_never_changes_a_meaning(
        id in "[a-z0-9][a-z0-9.-]{0,20}", other in "[a-z0-9][a-z0-9.-]{0,20}", reason in "[a-z ]{0,20}",
        subject in "[A-Za-z]{1,12}", target in "[A-Za-z]{1,12}",
    ) {
        let read = |name: &str, rest: &str| {
            let text = file(&[edit(name, &subject, "{} is", &target), rest.to_owned()]);
            one(&text).expect("valid").0.edits.remove(0)
        };
        let (before, after) = (read(&id, ""), read(&other, &format!("reason = \"{reason}\"\n")));
        prop_assert_eq!(before.meaning(), after.meaning());
        prop_assert_eq!(before.expectation(), after.expectation());
        prop_assert_ne!(before.record(), after.record());
    }
}

#[test]
fn a_key_of_many_dots_is_refused() {
    for text in ["a.".repeat(400_000) + "a = 1\n", format!("[{}a]\n", "a.".repeat(400_000)), "[a]\n".repeat(200_000)] {
        assert!(one(&format!("format = 1\n{text}")).is_err());
    }
    let one_line = format!("format = 1\n{} = 1\n", "k".repeat(1_000_000));
    assert_eq!(codes(&one_line), ["unknown-key"]);
    let start = Instant::now();
    assert!(one(&"\u{1}".repeat(1 << 20)).is_err());
    assert!(one(&"= ".repeat(1 << 19)).is_err());
    assert!(one(&"=\n".repeat(1 << 19)).is_err());
    assert!(one(&"\"".repeat(1 << 20)).is_err());
    // Rejecting several mebibytes of invalid input must not take minutes.
    assert!(start.elapsed() < Duration::from_secs(60));
}

/// Checks that nine thousand equal edits give one thousand findings and a note that the other findings are not shown.
#[test]
fn a_repeated_finding_is_reported_1000_times() {
    let edit = |n: usize| {
        format!("[[edit]]\nid = \"e{n}\"\nsubject = \"Rome\"\nprompt = \"{{}} is in\"\ntarget = \"Italy\"\n")
    };
    let text = format!("format = 1\n{}", (0..9000).map(edit).collect::<String>());
    let findings = parse_files(vec![("edits/a.toml".to_owned(), text.into_bytes())]).expect_err("still refused");
    assert_eq!(findings.diagnostics.len(), 1001);
    let last = &findings.diagnostics.iter().find(|finding| finding.labels.is_empty()).expect("one without a place");
    assert!(last.message.contains("more findings of this kind"), "{}", last.message);
    // The two labels of the finding are a mebibyte apart, and the text between them is not rendered.
    let far = &findings.diagnostics.iter().rfind(|finding| !finding.labels.is_empty()).expect("the last");
    let drawn = crate::diagnostics::render(far, &findings.sources, crate::diagnostics::RenderStyle::default());
    assert!(drawn.len() < 1000 && drawn.matches("edits/a.toml").count() == 2, "{drawn}");
}

#[test]
fn a_parked_edit_is_not_built() {
    let fact = |id: &str, more: &str| {
        format!("[[edit]]\nid = \"{id}\"\nsubject = \"A\"\nprompt = \"{{}} is in\"\ntarget = \"Oslo\"\n{more}")
    };
    let parked = "status = \"parked\"\nstatus-reason = \"it does not converge\"\n";
    let read = |text: String| parse_files(vec![("a.toml".into(), format!("format = 1\n{text}").into_bytes())]);
    // Both edits have the same MLP key, but a parked edit is not built, so the edits do not conflict.
    let (set, findings) = read(fact("a", "") + &fact("b", parked)).expect("valid");
    assert_eq!((set.edits.len(), set.parked.len()), (1, 1));
    assert!(set.get("b").is_none() && set.written().contains_key("b"));
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].message, "edit `b` is parked: it does not converge");
    let codes =
        |text: String| read(text).expect_err("refused").diagnostics.iter().map(|one| one.code).collect::<Vec<_>>();
    assert!(codes(fact("a", "") + &fact("a", parked)).contains(&Code::DuplicateId));
    for wrong in ["status = \"parked\"\n", "status-reason = \"why\"\n", "status = \"off\"\nstatus-reason = \"why\"\n"] {
        assert_eq!(codes(fact("a", wrong)), [Code::StatusUnknown], "{wrong}");
    }
    // Parking an edit is reported as a change of the field `status`, not as a removal of the fact.
    let before = read(fact("b", "")).expect("valid").0;
    let after = read(fact("b", parked)).expect("valid").0;
    let facts = super::diff::compare(&before, &after);
    let fields: Vec<_> = facts.iter().flat_map(|one| &one.fields).map(|field| (&*field.name, &field.after)).collect();
    assert_eq!(fields, [("status", &vec!["parked: it does not converge".to_owned()])]);
    // An edit that is parked in one set and missing from the other set is not reported as a change.
    let none = read(fact("a", "")).expect("valid").0;
    let with = read(fact("a", "") + &fact("b", parked)).expect("valid").0;
    assert!(super::diff::compare(&none, &with).is_empty());
    assert!(super::diff::compare(&with, &none).is_empty());
}
