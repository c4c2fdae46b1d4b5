//! Converts dataset records to edit files of a project, and reports the records that cannot become edits.
//!
//! The rules of edit files are defined in [`crate::project`] and not repeated here. This module writes a draft file per
//! record, parses all drafts together with the existing edit files of the project, and rejects a record if the parser
//! reports an error in its draft.

use std::collections::{BTreeMap, BTreeSet};

use aho_corasick::AhoCorasick;

use super::data::{Case, LeftOutText, RejectedRecord};
use super::draft::{Draft, draft_of, noise};
use crate::diagnostics::{Code, Diagnostic, Sources};
use crate::project::edits::edit::words_to_key;
use crate::project::edits::writer::edit_file;
use crate::project::{Edit, parse_files};

/// The number of consecutive case numbers whose edit files are in the same folder. Larger folders are slow to list.
const IN_A_FOLDER: u64 = 1000;

/// The edit files that are made from dataset records, and the rejected records.
#[derive(Debug, Default)]
pub struct ImportedEdits {
    /// The contents of the edit files, by path relative to the project's folder.
    pub files: BTreeMap<String, String>,
    pub refused: Vec<RejectedRecord>,
    /// The texts that are left out of the edits, in the order of the records.
    pub texts: Vec<LeftOutOfRecord>,
    /// The number of neighbour prompts that were dropped because they contain an edited subject. They are in `texts`
    /// too.
    pub dropped: usize,
}

/// A text of a record that is left out, while the record itself becomes an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOutOfRecord {
    /// The index of the record in the dataset file, from 0.
    pub record: u64,
    /// The case number of the record.
    pub id: u64,
    pub text: LeftOutText,
}

/// Converts records to edit files in `folder`. The files are valid together with `present`, the existing edit files of
/// the project. If two records cannot be in one project, for example because they have the same prompt and subject,
/// only one of them is converted.
pub fn import(cases: &[Case], folder: &str, present: &BTreeMap<String, Vec<u8>>) -> ImportedEdits {
    let mut imported = ImportedEdits::default();
    let mut drafts: BTreeMap<String, (&Case, Draft)> = BTreeMap::new();
    let mut keys = keys_of(present);
    for case in cases {
        if let Some(why) = noise(&case.target) {
            imported.refused.push(refused(case, format!("noise: the target {:?}: {why}", case.target)));
            continue;
        }
        let drafted = draft_of(case);
        let draft = &drafted.edit;
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
                    drafts.insert(path, (case, drafted));
                }
            },
        }
    }
    drop_edited_neighbours(&mut drafts);
    let text = |draft: &Draft| edit_file(std::slice::from_ref(&draft.edit));
    let mut texts: BTreeMap<String, String> =
        drafts.iter().map(|(path, (.., draft))| (path.clone(), text(draft))).collect();
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
    for path in drop_unfounded_consequences(cases, &mut drafts, &imported.refused) {
        if let (Some(old), Some((.., draft))) = (texts.get_mut(&path), drafts.get(&path)) {
            *old = text(draft);
        }
    }
    for (_, (case, draft)) in drafts.into_iter().filter(|(path, _)| texts.contains_key(path)) {
        imported.dropped += draft.edited_neighbours;
        imported.texts.extend(left_out(case, draft));
    }
    imported.texts.sort_by_key(|one| one.record);
    imported.refused.sort_by_key(|one| one.record);
    imported.files = texts;
    imported
}

fn left_out(case: &Case, draft: Draft) -> impl Iterator<Item = LeftOutOfRecord> {
    let (record, id) = (case.record, case.id);
    draft.left_out.into_iter().map(move |text| LeftOutOfRecord { record, id, text })
}

/// Drops the consequences of records of several edits if one of these edits is rejected, because the answers follow
/// from all of them. An edit that is rejected as a duplicate is made by another record. Returns the paths of the
/// changed drafts.
fn drop_unfounded_consequences(
    cases: &[Case],
    drafts: &mut BTreeMap<String, (&Case, Draft)>,
    refused: &[RejectedRecord],
) -> Vec<String> {
    let several: BTreeSet<u64> = cases.iter().filter(|case| case.part > 0).map(|case| case.record).collect();
    let is_missing = |one: &&RejectedRecord| !one.why.starts_with(Code::DuplicateEdit.as_str());
    let missing: BTreeSet<u64> = refused.iter().filter(is_missing).map(|one| one.record).collect();
    let mut changed = Vec::new();
    for (path, (case, draft)) in drafts {
        if several.contains(&case.record) && missing.contains(&case.record) {
            let dropped = std::mem::take(&mut draft.edit.expect.consequence);
            let why = "another edit of its record is left out";
            let texts = dropped.into_iter().map(|one| LeftOutText::new("expect.consequence", one.prompt, why));
            draft.left_out.extend(texts);
            changed.push(path.clone());
        }
    }
    changed
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

/// Drops neighbour prompts that contain an edited subject, because the edit may change their answers.
fn drop_edited_neighbours(drafts: &mut BTreeMap<String, (&Case, Draft)>) {
    let subjects: BTreeSet<String> = drafts.values().map(|(.., draft)| draft.edit.subject.clone()).collect();
    let subjects: Vec<String> = subjects.into_iter().collect();
    let Ok(search) = AhoCorasick::new(&subjects) else { return };
    for (.., Draft { edit, left_out, edited_neighbours }) in drafts.values_mut() {
        edit.expect.unchanged.retain(|prompt| {
            let Some(found) = search.find(prompt) else { return true };
            let why = format!("it contains the edited subject {:?}", subjects[found.pattern().as_usize()]);
            left_out.push(LeftOutText::new("expect.unchanged", prompt, why));
            *edited_neighbours += 1;
            false
        });
    }
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
    use crate::project::edits::consequence::{Consequence, ConsequenceKind};

    fn case(id: u64, subject: &str, target: &str, neighbours: &[&str]) -> Case {
        let asked = |prompt: &&str| Neighbour { prompt: (*prompt).to_owned(), answer: "Italy".into() };
        Case {
            record: 0,
            id,
            subject: subject.into(),
            prompt: "{} is in".into(),
            target: target.into(),
            was: Some("Italy".into()),
            paraphrases: vec![format!("Where\nis {subject}?"), format!("Where\nis {subject}?")],
            neighbours: neighbours.iter().map(asked).collect(),
            ..Case::default()
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
        let why: Vec<&str> = imported.texts.iter().map(|one| one.text.why.as_str()).collect();
        assert_eq!(why, ["it is repeated", "it contains the edited subject \"Pisa\"", "it is repeated"]);
    }

    #[test]
    fn a_noisy_target_is_left_out() {
        let imported =
            import(&[case(1, "Rome", "Peru *", &[]), case(2, "Oslo", "Peru", &[])], "edits", &BTreeMap::new());
        assert_eq!(imported.files.len(), 1);
        assert_eq!(
            imported.refused[0].to_string(),
            "record 0 (case 1): noise: the target \"Peru *\": its last word \"*\" has no letter or digit"
        );
    }

    #[test]
    fn a_consequence_needs_all_edits_of_its_record() {
        let consequence = Consequence {
            prompt: "The river of Rome is".into(),
            answer: "Rímac".into(),
            accept: Vec::new(),
            kind: ConsequenceKind::Hop,
            condition: Vec::new(),
        };
        let first = |record, id, subject: &str| Case {
            record,
            consequences: vec![consequence.clone()],
            ..case(id, subject, "Peru", &[])
        };
        let second =
            |record, id, subject: &str, target: &str| Case { record, part: 1, ..case(id, subject, target, &[]) };
        let cases = [
            first(0, 1, "Rome"),
            second(0, 1, "Oslo", "Peru"),
            // The second edit of record 1 contradicts that of record 0, and that of record 2 is the same.
            first(1, 2, "Bonn"),
            second(1, 2, "Oslo", "Chile"),
            first(2, 3, "Lima"),
            second(2, 3, "Oslo", "Peru"),
        ];
        let imported = import(&cases, "edits", &BTreeMap::new());
        let counts: Vec<(&str, usize)> = imported
            .files
            .iter()
            .map(|(path, text)| (path.as_str(), text.matches("[[edit.expect.c").count()))
            .collect();
        assert_eq!(
            counts,
            [
                ("edits/00000/00000001-rome.toml", 1),
                ("edits/00000/00000001.2-oslo.toml", 0),
                ("edits/00000/00000002-bonn.toml", 0),
                ("edits/00000/00000003-lima.toml", 1),
            ]
        );
        let left = imported.texts.iter().find(|one| one.text.field == "expect.consequence").expect("one is dropped");
        assert_eq!((left.record, left.text.why.as_str()), (1, "another edit of its record is left out"));
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
        let there = edit_file(&[draft_of(&case(5, "Rome", "Chile", &[])).edit]);
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
}
