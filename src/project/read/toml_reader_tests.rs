use super::*;
use crate::diagnostics::Sources;
use crate::project::read::numbers::LowerBound;

#[test]
fn a_syntax_error_hides_findings_of_its_line_only() {
    let text = "format = = 1\nlayer = \"x\"\n";
    let file = Sources::default().add("a", text);
    let (mut reader, tree) = TomlReader::document(file, text, &[]);
    let root = TomlReader::root(&tree);
    reader.integer(&root, "format", 0..=9);
    reader.integer(&root, "layer", 0..=9);
    reader.required_text(&root, "model");
    let codes: Vec<Code> = reader.finish().iter().map(|finding| finding.code).collect();
    assert!(codes.contains(&Code::Syntax) && !codes.contains(&Code::MissingKey), "{codes:?}");
}

#[test]
fn numbers_are_finite_and_in_range() {
    let text = "a = nan\nb = inf\nc = -1\nd = 3\ne = 1e999\nf = 0\ng = 0x10\n";
    let file = Sources::default().add("a", text);
    let (mut reader, tree) = TomlReader::document(file, text, &[]);
    let root = TomlReader::root(&tree);
    for key in ["a", "b", "c", "e"] {
        assert_eq!(reader.number(&root, key, LowerBound::IncludesZero), None, "{key}");
    }
    assert_eq!(reader.number(&root, "d", LowerBound::IncludesZero), Some(3.0));
    assert_eq!(reader.number(&root, "f", LowerBound::ExcludesZero), None);
    assert_eq!(reader.integer(&root, "g", 0..=100), Some(16));
    assert_eq!(reader.finish().len(), 5);
}

#[test]
fn a_file_of_too_many_values_is_refused() {
    let text = format!("a = [{}", "0,".repeat(MOST_PARTS + 1));
    let file = Sources::default().add("a", &*text);
    let (mut reader, tree) = TomlReader::document(file, &text, &[]);
    let root = TomlReader::root(&tree);
    reader.required_text(&root, "model");
    let codes: Vec<Code> = reader.finish().iter().map(|finding| finding.code).collect();
    assert_eq!(codes, [Code::FileTooLarge]);
}

#[test]
fn a_missing_bracket_is_one_finding() {
    let edit = |id: &str| format!("[edit]\nid = \"{id}\"\nsubject = \"Ada\"\nprompt = \"{{}} is\"\ntarget = \"b\"\n");
    let text = format!("format = 1\n{}{}{}", edit("a"), edit("b"), edit("c"));
    let findings = crate::project::parse_files(vec![("a.toml".to_owned(), text.into_bytes())]).expect_err("refused");
    let helps = findings.diagnostics.iter().flat_map(|finding| &finding.help).filter(|help| help.contains("[[edit]]"));
    assert!(findings.diagnostics.len() <= 2 && helps.count() >= 1, "{:?}", findings.diagnostics);
}

#[test]
fn a_repeated_table_is_reported_once() {
    let text = "[model]\npath = \"a\"\n[model]\npath = \"b\"\n";
    let file = Sources::default().add("a", text);
    let (reader, _) = TomlReader::document(file, text, &[]);
    let findings = reader.finish();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].help, ["put all of its keys under one `[model]`"]);
}
