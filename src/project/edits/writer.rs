//! Writes new edits as the text of an edit file. The texts are not checked here; the caller parses the result to find
//! mistakes.

use serde::Serialize;

use super::EDITS_FORMAT;
use super::consequence::Consequence;

/// A new edit, which is written to an edit file. It has no documentation fields, such as `reason` and `owner`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DraftEdit {
    pub id: String,
    pub subject: String,
    /// The prompt, in which `{}` marks the subject.
    pub prompt: String,
    pub target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    pub expect: DraftExpectations,
}

/// The `expect` table of a [`DraftEdit`]. An empty list is omitted from the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DraftExpectations {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paraphrase: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unchanged: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<String>,
    /// The last field, because TOML has the keys of a table before its subtables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub consequence: Vec<Consequence>,
}

/// Returns the text of an edit file that declares these edits in the given order.
pub fn edit_file(edit: &[DraftEdit]) -> String {
    #[derive(Serialize)]
    struct EditFile<'a> {
        format: i64,
        edit: &'a [DraftEdit],
    }
    // An integer, strings, and arrays of strings and tables can always be written as TOML, so the default is never returned.
    toml::to_string_pretty(&EditFile { format: EDITS_FORMAT, edit }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::consequence::{Condition, ConsequenceKind};
    use super::*;
    use crate::project::parse_files;

    fn consequences() -> Vec<Consequence> {
        let condition = Condition {
            prompt: "Rome is in".to_owned(),
            answer: "Italy".to_owned(),
            accept: vec!["\"Italia\"".to_owned()],
        };
        let consequence = |kind, conditions| Consequence {
            prompt: format!("A\\ is {kind:?} in"),
            answer: "Italy".to_owned(),
            accept: vec!["Italia".to_owned()],
            kind,
            condition: conditions,
        };
        vec![
            consequence(ConsequenceKind::Hop, vec![condition.clone(), Condition { accept: Vec::new(), ..condition }]),
            consequence(ConsequenceKind::RelationSpecific, Vec::new()),
        ]
    }

    #[test]
    fn a_written_edit_is_read_unchanged() {
        let draft = |id: &str, subject: &str, was: Option<&str>, unchanged: &[&str]| DraftEdit {
            id: id.to_owned(),
            subject: subject.to_owned(),
            prompt: "{} \"is\" in".to_owned(),
            target: "Rome\\".to_owned(),
            was: was.map(str::to_owned),
            expect: DraftExpectations {
                unchanged: unchanged.iter().map(|text| (*text).to_owned()).collect(),
                consequence: if unchanged.is_empty() { Vec::new() } else { consequences() },
                ..DraftExpectations::default()
            },
        };
        let drafts = [draft("a", "A", Some("Paris"), &["B is in"]), draft("c", "C", None, &[])];
        let set = parse_files(vec![("a.toml".into(), edit_file(&drafts).into())]).expect("valid edits").0;
        let read = set.edits.iter().map(|edit| DraftEdit {
            id: edit.id.clone(),
            subject: edit.subject.clone(),
            prompt: edit.prompt.clone(),
            target: edit.target.clone(),
            was: edit.was.clone(),
            expect: DraftExpectations {
                paraphrase: edit.expect.paraphrase.clone(),
                unchanged: edit.expect.unchanged.clone(),
                accept: edit.expect.accept.clone(),
                consequence: edit.expect.consequence.clone(),
            },
        });
        assert_eq!(read.collect::<Vec<_>>(), drafts);
    }
}
