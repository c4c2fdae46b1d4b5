//! Converts dataset records to edit files of a project, and reports the records that cannot become edits.
//!
//! The rules of edit files are defined in [`crate::project`] and not repeated here. This module writes a draft file per
//! record, parses all drafts together with the existing edit files of the project, and rejects a record if the parser
//! reports an error in its draft.

use std::collections::{BTreeMap, BTreeSet};

use aho_corasick::AhoCorasick;
use unicode_normalization::UnicodeNormalization;

use super::data::{Case, RejectedRecord};
use crate::diagnostics::{Code, Diagnostic, Sources, is_control};
use crate::project::edits::MOST_EXPECTATIONS;
use crate::project::edits::edit::words_to_key;
use crate::project::edits::writer::{DraftEdit, DraftExpectations, edit_file};
use crate::project::{Edit, parse_files};

/// The number of consecutive case numbers whose edit files are in the same folder. Larger folders are slow to list.
const IN_A_FOLDER: u64 = 1000;

/// Converts a record to an edit. The paraphrases and neighbours of the record become the expectations of the edit.
pub fn draft_of(case: &Case) -> DraftEdit {
    let mut paraphrase = sentences(&case.paraphrases);
    let mut unchanged = sentences(case.neighbours.iter().map(|asked| &asked.prompt));
    unchanged.retain(|prompt| !paraphrase.contains(prompt));
    // The project's parser rejects lists with more than `MOST_EXPECTATIONS` texts.
    [&mut paraphrase, &mut unchanged].into_iter().for_each(|list| list.truncate(MOST_EXPECTATIONS));
    DraftEdit {
        id: id(case.id, &case.subject),
        subject: case.subject.clone(),
        prompt: case.prompt.clone(),
        target: case.target.clone(),
        was: case.was.clone().filter(|was| was.trim() != case.target.trim()),
        expect: DraftExpectations { paraphrase, unchanged, ..DraftExpectations::default() },
    }
}

/// Returns an edit id made of the case number and up to six words of the subject in ASCII, such as `case-20952-angola`.
pub fn id(case: u64, subject: &str) -> String {
    let letters = subject.nfkd().filter(|c| c.is_ascii() || c.is_whitespace()).collect::<String>().to_lowercase();
    let words = letters.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.take(6).fold(format!("case-{case}"), |id, word| format!("{id}-{}", &word[..word.len().min(16)]))
}

/// Normalises texts for an edit file: removes duplicates, applies Unicode normal form C, and replaces line breaks by
/// spaces. Texts with control characters other than line breaks are dropped.
pub fn sentences<'t>(texts: impl IntoIterator<Item = &'t String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let joined = texts.into_iter().map(|text| text.lines().map(str::trim).collect::<Vec<_>>().join(" "));
    let normal = joined.map(|text| text.nfc().collect::<String>());
    normal.filter(|text| !text.contains(is_control) && seen.insert(text.clone())).collect()
}

/// The edit files that are made from dataset records, and the rejected records.
#[derive(Debug, Default)]
pub struct ImportedEdits {
    /// The contents of the edit files, by path relative to the project's folder.
    pub files: BTreeMap<String, String>,
    pub refused: Vec<RejectedRecord>,
    /// The number of neighbour prompts that were dropped because they contain an edited subject.
    pub dropped: usize,
}

/// Converts records to edit files in `folder`. The files are valid together with `present`, the existing edit files of
/// the project. If two records cannot be in one project, for example because they have the same prompt and subject,
/// only one of them is converted.
pub fn import(cases: &[Case], folder: &str, present: &BTreeMap<String, Vec<u8>>) -> ImportedEdits {
    let mut imported = ImportedEdits::default();
    let mut drafts: BTreeMap<String, (&Case, DraftEdit)> = BTreeMap::new();
    let mut keys = keys_of(present);
    for case in cases {
        let mut draft = draft_of(case);
        normalise(&mut draft);
        let path = path(folder, case.id, &draft.id);
        match drafts.get(&path) {
            Some((first, _)) => {
                imported.refused.push(refused(case, format!("it has the number of record {}", first.record)));
            }
            None => match keys.get(&words_to_key(&draft.prompt, &draft.subject)) {
                // If another edit has the same prompt and the same subject, the draft is not rejected here, because the
                // parser reports the duplicate with a more specific message.
                Some((other, words)) if *words != (draft.prompt.clone(), draft.subject.clone()) => {
                    let why = format!("one-key: its subject is edited by `{other}`, after the same words");
                    imported.refused.push(refused(case, why));
                }
                _ => {
                    let words = (draft.prompt.clone(), draft.subject.clone());
                    let key = words_to_key(&draft.prompt, &draft.subject);
                    keys.entry(key).or_insert((draft.id.clone(), words));
                    drafts.insert(path, (case, draft));
                }
            },
        }
    }
    imported.dropped = drop_edited_neighbours(&mut drafts);
    let mut texts: BTreeMap<String, String> =
        drafts.iter().map(|(path, (.., draft))| (path.clone(), edit_file(std::slice::from_ref(draft)))).collect();
    // Some errors appear only after files with earlier errors are removed, so the check is repeated until it rejects no
    // file. A rejected file is not tried again, although it may become valid when a conflicting file is removed.
    loop {
        let found = look(&texts, present);
        if found.is_empty() {
            break;
        }
        for (path, why) in found {
            let Some((case, _)) = drafts.get(&path) else { continue };
            imported.refused.push(refused(case, why));
            texts.remove(&path);
        }
    }
    imported.refused.sort_by_key(|one| one.record);
    imported.files = texts;
    imported
}

/// A map from prompts to edits. The key is the prompt up to the end of the subject, because this text determines the
/// MLP key. The value is the id of the edit, and the pair of its prompt and its subject.
type Keys = BTreeMap<String, (String, (String, String))>;

/// Returns the edits in the project's existing files, by the text that determines their MLP key. The map is empty if
/// the files are invalid.
fn keys_of(present: &BTreeMap<String, Vec<u8>>) -> Keys {
    let files = present.iter().map(|(path, bytes)| (path.clone(), bytes.clone()));
    let Ok((set, _)) = parse_files(files.collect()) else { return Keys::new() };
    let keys = |edit: &Edit| {
        let key =
            |(name, _): (&str, _)| (edit.words_to_key(name), (edit.id.clone(), (edit.prompt.clone(), name.to_owned())));
        edit.names().map(key).collect::<Vec<_>>()
    };
    // Chat edits are left out. The chat template adds text before their subject, so their MLP keys differ from the keys
    // of records, which are not chat messages.
    set.edits.iter().filter(|edit| !edit.chat).flat_map(keys).collect()
}

fn refused(case: &Case, why: String) -> RejectedRecord {
    RejectedRecord { record: case.record, id: Some(case.id), why }
}

/// Returns the path of a record's edit file. The order of the paths is the order of the case numbers. If two records
/// have the same prompt and subject, the parser accepts the file that is first in this order.
fn path(folder: &str, case: u64, id: &str) -> String {
    format!("{folder}/{:05}/{case:08}{}.toml", case / IN_A_FOLDER, id.trim_start_matches(&format!("case-{case}")))
}

fn normalise(draft: &mut DraftEdit) {
    let texts = [&mut draft.subject, &mut draft.prompt, &mut draft.target];
    for text in texts.into_iter().chain(&mut draft.was) {
        *text = text.nfc().collect();
    }
}

/// Drops neighbour prompts that contain an edited subject, because the edit may change their answers. Returns the
/// number of dropped prompts.
fn drop_edited_neighbours(drafts: &mut BTreeMap<String, (&Case, DraftEdit)>) -> usize {
    let subjects: BTreeSet<String> = drafts.values().map(|(.., draft)| draft.subject.clone()).collect();
    let Ok(subjects) = AhoCorasick::new(&subjects) else { return 0 };
    let mut dropped = 0;
    for (.., draft) in drafts.values_mut() {
        let before = draft.expect.unchanged.len();
        draft.expect.unchanged.retain(|prompt| !subjects.is_match(prompt));
        dropped += before - draft.expect.unchanged.len();
    }
    dropped
}

/// Parses the new files together with the existing ones. Returns the path of each rejected new file, with its first
/// error.
fn look(texts: &BTreeMap<String, String>, present: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    let own = texts.iter().map(|(path, text)| (path.clone(), text.clone().into_bytes()));
    let there = present.iter().map(|(path, bytes)| (path.clone(), bytes.clone()));
    let Err(findings) = parse_files(there.chain(own).collect()) else { return BTreeMap::new() };
    let mut refused = BTreeMap::new();
    for finding in findings.diagnostics.iter().filter(|finding| finding.is_error() && finding.code != Code::NoEdits) {
        if let Some((path, why)) = blamed(finding, &findings.sources, texts) {
            refused.entry(path).or_insert(why);
        }
    }
    refused
}

/// Returns the path of the new file to which a diagnostic refers, and the error text; `None` if the diagnostic refers
/// only to existing files.
fn blamed(finding: &Diagnostic, sources: &Sources, texts: &BTreeMap<String, String>) -> Option<(String, String)> {
    let mut paths = finding.labels.iter().map(|label| sources.path(label.file).to_owned());
    let path = paths.find(|path| texts.contains_key(path))?;
    Some((path, format!("{}: {}", finding.code.as_str(), finding.message)))
}

#[cfg(test)]
mod tests {
    use super::super::data::Neighbour;
    use super::*;

    fn case(id: u64, subject: &str, target: &str, neighbours: &[&str]) -> Case {
        let asked = |prompt: &&str| Neighbour { prompt: (*prompt).to_owned(), answer: "Italy".into() };
        Case {
            record: 0,
            id,
            subject: subject.into(),
            prompt: "{} is in".into(),
            target: target.into(),
            was: Some("Italy".into()),
            relation: None,
            target_id: None,
            paraphrases: vec![format!("Where\nis {subject}?"), format!("Where\nis {subject}?")],
            neighbours: neighbours.iter().map(asked).collect(),
            generation: Vec::new(),
        }
    }

    #[test]
    fn records_become_valid_edit_files() {
        let cases = [case(7, "Rome", "Peru", &["Milan is in", "Pisa is in"]), case(1007, "Pisa", "Chile", &[])];
        let imported = import(&cases, "edits/x", &BTreeMap::new());
        assert_eq!((imported.refused.len(), imported.dropped), (0, 1), "{:?}", imported.refused);
        let paths: Vec<&str> = imported.files.keys().map(String::as_str).collect();
        assert_eq!(paths, ["edits/x/00000/00000007-rome.toml", "edits/x/00001/00001007-pisa.toml"]);
        let files = imported.files.iter().map(|(path, text)| (path.clone(), text.clone().into_bytes())).collect();
        let (set, _) = parse_files(files).expect("it parses");
        assert_eq!(set.edits[1].id, "case-7-rome");
        assert_eq!(set.edits[1].expect.paraphrase, ["Where is Rome?"]);
        assert_eq!(set.edits[1].expect.unchanged, ["Milan is in"]);
    }

    #[test]
    fn of_contradicting_records_the_first_is_used() {
        let cases = [
            case(1, "Rome", "Peru", &[]),
            case(2, "Rome", "Chile", &[]),
            case(3, "Rome", "Peru", &[]),
            case(1, "Oslo", "Chile", &[]),
            case(1, "Rome", "Chile", &[]),
            case(9, " Oslo", "Chile", &[]),
        ];
        let cases: Vec<Case> = (0..).zip(cases).map(|(record, case)| Case { record, ..case }).collect();
        let imported = import(&cases, "edits", &BTreeMap::new());
        let said: Vec<String> = imported.refused.iter().map(ToString::to_string).collect();
        // Two records with the same case number and different subjects get different ids.
        assert_eq!(imported.files.len(), 2, "{said:?}");
        assert!(said[0].starts_with("record 1 (case 2): contradiction: `case-1-rome` and `case-2-rome`"), "{said:?}");
        assert!(said[1].contains("duplicate-edit"), "{said:?}");
    }

    #[test]
    fn existing_edits_take_precedence() {
        let there = edit_file(&[draft_of(&case(5, "Rome", "Chile", &[]))]);
        let present = BTreeMap::from([("edits/zzz.toml".to_owned(), there.into_bytes())]);
        let imported = import(&[case(1, "Rome", "Peru", &[]), case(2, "Oslo", "Peru", &[])], "edits", &present);
        assert_eq!((imported.files.len(), imported.refused.len()), (1, 1));
        assert!(imported.refused[0].why.contains("contradict"), "{:?}", imported.refused);
    }

    #[test]
    fn edits_with_the_same_prefix_share_a_key() {
        let mut other = case(2, "Rome", "Oslo", &[]);
        other.prompt = "{} was built by".into();
        let mut apart = case(3, "Rome", "Oslo", &[]);
        apart.prompt = "Who built {}? It was".into();
        let imported = import(&[case(1, "Rome", "Peru", &[]), other, apart], "edits", &BTreeMap::new());
        assert_eq!((imported.files.len(), imported.refused.len()), (2, 1));
        assert_eq!(imported.refused[0].why, "one-key: its subject is edited by `case-1-rome`, after the same words");
    }

    #[test]
    fn ids_are_plain() {
        assert_eq!(id(3, "Côte d'Ivoire"), "case-3-cote-d-ivoire");
        assert_eq!(id(4, "東京"), "case-4");
        assert!(crate::project::is_id(&id(u64::MAX, &"long ".repeat(99))));
        assert!(crate::project::is_id(&id(1, &"x".repeat(500))));
    }
}
