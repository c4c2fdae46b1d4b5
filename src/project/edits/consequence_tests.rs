use super::*;
use crate::diagnostics::{RenderStyle, render};
use crate::project::edits::edit::Edit;
use crate::project::edits::parse_files;

fn file(consequences: &str) -> Vec<(String, Vec<u8>)> {
    let text = format!(
        "format = 1\n[[edit]]\nid = \"tower\"\nsubject = \"The Tower\"\nprompt = \"{{}} is in\"\ntarget = \"Rome\"\n\
         [edit.expect]\nunchanged = [\"The Louvre is in\"]\n{consequences}"
    );
    vec![("a.toml".to_owned(), text.into_bytes())]
}

fn edit(consequences: &str) -> Edit {
    parse_files(file(consequences)).expect("valid edits").0.edits.remove(0)
}

const COUNTRY: &str = "[[edit.expect.consequence]]\nprompt = \"The country of the tower is\"\nanswer = \"Italy\"\n\
    accept = [\"Italia\"]\nkind = \"hop\"\ncondition = [{ prompt = \"Rome is in\", answer = \"Italy\" }]\n";

#[test]
fn a_consequence_is_read_with_its_places() {
    let read = edit(COUNTRY);
    let consequence = &read.expect.consequence[0];
    assert_eq!(consequence.answers().collect::<Vec<_>>(), ["Italy", "Italia"]);
    assert_eq!((consequence.kind, consequence.condition[0].answer.as_str()), (ConsequenceKind::Hop, "Italy"));
    let text = String::from_utf8(file(COUNTRY).remove(0).1).expect("UTF-8");
    let spans = &read.spans.consequence[0];
    assert_eq!(&text[spans.prompt.clone()], "\"The country of the tower is\"");
    assert_eq!(&text[spans.conditions[0].clone()], "\"Rome is in\"");
    assert!(text[read.spans.entry.clone()].ends_with("answer = \"Italy\" }]"), "the entry ends after its last value");
    let shown = "hop: \"The country of the tower is\" → \"Italy\" or \"Italia\", if \"Rome is in\" → \"Italy\"";
    assert!(read.fields().contains(&("expect.consequence", vec![shown.to_owned()])), "{:?}", read.fields());
}

#[test]
fn every_field_is_in_the_expectation_digest() {
    let (none, full) = (edit(""), edit(COUNTRY));
    let mut digests = vec![none.expectation(), full.expectation()];
    for (from, to) in [
        ("The country", "A country"),
        ("Italy", "Peru"),
        ("\"Italia\"", "\"Italie\""),
        ("\"hop\"", "\"logic\""),
        ("Rome is in", "Rome was in"),
        ("answer = \"Italy\" }", "answer = \"Peru\" }"),
        ("answer = \"Italy\" }", "answer = \"Italy\", accept = [\"x\"] }"),
        ("condition =", "# condition ="),
    ] {
        let other = edit(&COUNTRY.replacen(from, to, 1));
        assert_eq!(other.meaning(), none.meaning(), "{from}");
        digests.push(other.expectation());
    }
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

#[test]
fn all_findings_are_reported_at_once() {
    let wrong = "[[edit.expect.consequence]]\nprompt = \"The Tower is in\"\nanswer = \"Rome\"\naccept = [\"Rome\"]\nkind = \"hop\"\n\
        [[edit.expect.consequence]]\nprompt = \" \"\nkind = \"hopp\"\ncondition = []\nanswers = [\"x\"]\n\
        [[edit.expect.consequence]]\nanswer = \"\"\nkind = 3\ncondition = [{ prompt = \"{} is in\" }, { answer = \"x\" }, {}, 4]\n\
        paraphrase = [\"x\"]\n\
        [[edit.expect.consequence]]\nprompt = \"The Tower is in\"\nanswer = \"x\"\nkind = \"sequel\"\ncondition = \"x\"\n";
    let found = parse_files(file(wrong)).expect_err("mistakes");
    let drawn: Vec<_> =
        found.diagnostics.iter().map(|one| render(one, &found.sources, RenderStyle::default())).collect();
    insta::assert_snapshot!(drawn.join("\n\n"));
}

#[test]
fn too_many_consequences_are_one_finding() {
    let one =
        |index: usize| format!("[[edit.expect.consequence]]\nprompt = \"{index}\"\nanswer = \"x\"\nkind = \"hop\"\n");
    let list = |count| (0..count).map(one).collect::<String>();
    assert_eq!(edit(&list(MOST_EXPECTATIONS)).expect.consequence.len(), MOST_EXPECTATIONS);
    let found = parse_files(file(&list(MOST_EXPECTATIONS + 1))).expect_err("too many");
    let said: Vec<_> = found.diagnostics.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(said, ["there are 257 consequences; at most 256 are allowed"]);
    let conditions = vec!["{ prompt = \"x\", answer = \"y\" }"; MOST_CONDITIONS + 1].join(", ");
    let many = format!("{}condition = [{conditions}]\n", one(0));
    let found_conditions = parse_files(file(&many)).expect_err("too many");
    assert!(found_conditions.diagnostics[0].message.contains("from 1 to 16 entries, not 17"));
}

#[test]
fn a_single_table_is_refused_with_help() {
    let found = parse_files(file(&COUNTRY.replace("[[edit.expect.consequence]]", "[edit.expect.consequence]")));
    let help = &found.expect_err("a table").diagnostics[0].help;
    assert_eq!(*help, ["write `[[edit.expect.consequence]]`, with two brackets, above each one"]);
}
