//! What edits must not do to one another, wherever they are written. Every name of a subject counts.
//!
//! Each later edit is held against the first of its kind, so the work is `n log n` and a fact that stands a
//! hundred times gives ninety-nine findings, not five thousand.

use std::collections::BTreeMap;
use std::ops::Range;

use super::diagnostic::{Capped, Code, Diagnostic};
use super::edit::Edit;
use super::probes::Probe;
use super::walk::shortened;

/// Notes duplicate ids, duplicate edits, contradictions, and promises that another edit breaks.
pub(super) fn find(edits: &[Edit], findings: &mut Vec<Diagnostic>) {
    let mut found = Capped::default();
    duplicate_ids(edits, &mut found);
    let named: Vec<Named<'_>> = edits.iter().flat_map(Named::all).collect();
    same_words(&named, &mut found);
    broken_promises(edits, &named, &mut found);
    shared_subjects(&named, &mut found);
    findings.extend(found.finish());
}

/// An edit under one name of its subject.
struct Named<'e> {
    edit: &'e Edit,
    name: &'e str,
    span: &'e Range<usize>,
    /// The words that the model reads.
    words: String,
}

/// Words, and whether they are said in a chat: there they are others than in a text.
type Said<'w> = (&'w str, bool);

impl<'e> Named<'e> {
    fn all(edit: &'e Edit) -> impl Iterator<Item = Self> {
        edit.names().map(move |(name, span)| Self { edit, name, span, words: edit.filled_with(name) })
    }

    fn said(&self) -> Said<'_> {
        (&self.words, self.edit.chat)
    }
}

fn duplicate_ids(edits: &[Edit], findings: &mut Capped) {
    let mut seen: BTreeMap<&str, &Edit> = BTreeMap::new();
    for edit in edits {
        match seen.get(edit.id.as_str()) {
            Some(first) => findings.push(
                pair(
                    Code::DuplicateId,
                    format!("the id `{}` is given twice", edit.id),
                    |edit| &edit.place.id,
                    edit,
                    first,
                )
                .help("an id names one fact in the whole project; give one of them another"),
            ),
            None => {
                seen.insert(&edit.id, edit);
            }
        }
    }
}

/// Groups by the words that the model reads: it can only go on in one way after them, however the
/// subject was cut out.
fn same_words(named: &[Named<'_>], findings: &mut Capped) {
    let mut first: BTreeMap<Said<'_>, &Edit> = BTreeMap::new();
    let mut said: BTreeMap<(Said<'_>, &str, &str), &Edit> = BTreeMap::new();
    for one in named {
        let edit = one.edit;
        let group = *first.entry(one.said()).or_insert(edit);
        let same = *said.entry((one.said(), one.name, &edit.target)).or_insert(edit);
        if !std::ptr::eq(same, edit) {
            // Two copies under one id are reported as that.
            if same.id != edit.id {
                let message = format!("`{}` and `{}` say the same thing", same.id, edit.id);
                let finding = pair(Code::DuplicateEdit, message, |edit| &edit.place.entry, edit, same);
                findings.push(finding.help("remove one of them"));
            }
        } else if group.target != edit.target {
            let message = format!("`{}` and `{}` contradict each other", group.id, edit.id);
            let finding = Diagnostic::new(Code::Contradiction, message)
                .at(edit.place.file, &edit.place.target, format!("`{}` asks for this", edit.id))
                .with(group.place.file, &group.place.target, format!("`{}` asks for this", group.id));
            findings
                .push(finding.help(format!("after \"{}\" the model can say one thing only", shortened(&one.words))));
        }
    }
}

/// Two facts of one subject are asked for at one key, or at keys that are nearly one: which of them is had depends on
/// the words before the subject alone.
fn shared_subjects(named: &[Named<'_>], findings: &mut Capped) {
    let mut first: BTreeMap<&str, &Named<'_>> = BTreeMap::new();
    for one in named {
        let other = *first.entry(one.name).or_insert(one);
        // The same words under two ids are a duplicate or a contradiction, and reported as that.
        if std::ptr::eq(other.edit, one.edit) || other.edit.id == one.edit.id || other.said() == one.said() {
            continue;
        }
        let message = format!("`{}` and `{}` edit the same subject", other.edit.id, one.edit.id);
        let alike = (other.edit.head(), other.edit.chat) == (one.edit.head(), one.edit.chat);
        let help = if alike {
            "the model reads the same words up to the end of the subject: both edits have one key, and cannot both be \
             had; begin one of the prompts otherwise"
        } else {
            "their keys differ only by the words before the subject: `corrigenda build` says how alike they are"
        };
        let finding = Diagnostic::new(Code::SharedSubject, message)
            .at(one.edit.place.file, one.span, "this subject")
            .with(other.edit.place.file, other.span, "is edited here too")
            .help(help);
        findings.push(finding);
    }
}

fn broken_promises(edits: &[Edit], named: &[Named<'_>], findings: &mut Capped) {
    let changed: BTreeMap<Said<'_>, &Edit> = named.iter().map(|one| (one.said(), one.edit)).rev().collect();
    for edit in edits {
        for (text, span) in edit.expect.unchanged.iter().zip(&edit.place.unchanged) {
            // Within one edit, the rules of the edit have said so.
            let Some(other) = changed.get(&(text.as_str(), edit.chat)).filter(|other| !std::ptr::eq(**other, edit))
            else {
                continue;
            };
            if edit.filled_prompt() == *text {
                continue;
            }
            let message = format!("`{}` expects unchanged what `{}` changes", edit.id, other.id);
            findings.push(
                Diagnostic::new(Code::UnchangedEdited, message)
                    .at(edit.place.file, span, "expected to stay unchanged here")
                    .with(other.place.file, &other.place.prompt, "changed here")
                    .help("take the prompt out of the list, or remove the edit"),
            );
        }
    }
}

/// Probes that should stay as they are, and that an edit changes.
pub(super) fn of_probes(edits: &[Edit], probes: &[Probe]) -> Vec<Diagnostic> {
    let named: Vec<Named<'_>> = edits.iter().flat_map(Named::all).collect();
    let changed: BTreeMap<Said<'_>, &Named<'_>> = named.iter().map(|one| (one.said(), one)).rev().collect();
    let finding = |probe: &Probe| {
        let one = changed.get(&(probe.prompt.as_str(), probe.chat)).filter(|_| probe.unchanged)?;
        let message = format!("the probe `{}` expects unchanged what `{}` changes", probe.id, one.edit.id);
        let finding = Diagnostic::new(Code::UnchangedEdited, message)
            .at(probe.file, &probe.place, "expected to stay unchanged here")
            .with(one.edit.place.file, &one.edit.place.prompt, "changed here")
            .help("write `unchanged = false` to watch it only");
        Some(finding)
    };
    probes.iter().filter_map(finding).collect()
}

fn pair(code: Code, message: String, span: impl Fn(&Edit) -> &Range<usize>, second: &Edit, first: &Edit) -> Diagnostic {
    Diagnostic::new(code, message).at(second.place.file, span(second), "second here").with(
        first.place.file,
        span(first),
        "first here",
    )
}
