//! Finds edits of a project that contradict each other, and edits that may reduce each other's effect. A filled prompt
//! is a prompt with its subject, or an alias of the subject, in place of `{}`.
//!
//! Each edit is compared only with the first edit that has the same filled prompt. For `n` edits, the time is
//! `O(n log n)`, and 100 equal edits give 99 findings instead of 4,950.

use std::collections::BTreeMap;
use std::ops::Range;

use super::edit::Edit;
use super::probes::Probe;
use crate::diagnostics::{CappedFindings, Code, Diagnostic, shorten};

/// Adds findings for duplicate edits, contradictions, edits of the same subject, and expectations that another edit
/// breaks.
pub(crate) fn find(edits: &[Edit], findings: &mut Vec<Diagnostic>) {
    let mut found = CappedFindings::default();
    let named: Vec<NamedEdit<'_>> = edits.iter().flat_map(NamedEdit::all).collect();
    same_words(&named, &mut found);
    broken_promises(edits, &named, &mut found);
    lost_paraphrases(edits, &named, &mut found);
    shared_subjects(&named, &mut found);
    findings.extend(found.finish());
}

/// An edit with one of its names: `name` is the subject or an alias. Every name gives a different prompt and a
/// different MLP key.
struct NamedEdit<'e> {
    edit: &'e Edit,
    name: &'e str,
    span: &'e Range<usize>,
    /// The prompt with `name` in place of `{}`.
    words: String,
}

/// A prompt with its subject filled in, and whether the chat template is applied to it. Together they determine the
/// text that the model reads.
type PromptText<'w> = (&'w str, bool);

impl<'e> NamedEdit<'e> {
    fn all(edit: &'e Edit) -> impl Iterator<Item = Self> {
        edit.names().map(move |(name, span)| Self { edit, name, span, words: edit.filled_with(name) })
    }

    fn prompt_text(&self) -> PromptText<'_> {
        (&self.words, self.edit.chat)
    }

    /// Returns whether the subject or alias `name` is followed by white space or by the end of the prompt.
    fn ends_a_word(&self) -> bool {
        let rest = &self.words[self.edit.before_subject().len() + self.name.len()..];
        rest.is_empty() || rest.starts_with(char::is_whitespace)
    }
}

/// Adds a finding for every edit whose id an earlier edit already has. Edits with `status = "parked"` are checked too.
pub(crate) fn duplicate_ids(edits: &[Edit], out: &mut Vec<Diagnostic>) {
    let mut findings = CappedFindings::default();
    let mut seen: BTreeMap<&str, &Edit> = BTreeMap::new();
    for edit in edits {
        match seen.get(edit.id.as_str()) {
            Some(first) => findings.push(
                pair(
                    Code::DuplicateId,
                    format!("the id `{}` is used twice", edit.id),
                    |edit| &edit.spans.id,
                    edit,
                    first,
                )
                .help("an id must be unique in the project; give one of the edits another id"),
            ),
            None => {
                seen.insert(&edit.id, edit);
            }
        }
    }
    out.extend(findings.finish());
}

/// Adds a finding for every edit that repeats or contradicts an earlier edit. The prompts of such edits are equal after
/// the subject is filled in. If the targets differ, the edits contradict each other, because the model can give only
/// one answer to a prompt.
fn same_words(named: &[NamedEdit<'_>], findings: &mut CappedFindings) {
    let mut first: BTreeMap<PromptText<'_>, &Edit> = BTreeMap::new();
    let mut seen: BTreeMap<(PromptText<'_>, &str, &str), &Edit> = BTreeMap::new();
    for one in named {
        let edit = one.edit;
        let group = *first.entry(one.prompt_text()).or_insert(edit);
        let same = *seen.entry((one.prompt_text(), one.name, &edit.target)).or_insert(edit);
        if !std::ptr::eq(same, edit) {
            // `duplicate_ids` already reports edits with the same id.
            if same.id != edit.id {
                let message = format!("`{}` and `{}` have the same prompt, subject and target", same.id, edit.id);
                let finding = pair(Code::DuplicateEdit, message, |edit| &edit.spans.entry, edit, same);
                findings.push(finding.help("remove one of them"));
            }
        } else if group.target != edit.target {
            let message = format!("`{}` and `{}` contradict each other", group.id, edit.id);
            let finding = Diagnostic::new(Code::Contradiction, message)
                .at(edit.spans.file, &edit.spans.target, format!("`{}` requires this", edit.id))
                .with(group.spans.file, &group.spans.target, format!("`{}` requires this", group.id));
            findings
                .push(finding.help(format!("the model can give only one answer after \"{}\"", shorten(&one.words))));
        }
    }
}

/// Adds findings for edits with the same subject but different text before the subject. Their MLP keys may be similar,
/// so one edit may change the answer of the other. [`one_key`] reports edits with equal MLP keys.
fn shared_subjects(named: &[NamedEdit<'_>], findings: &mut CappedFindings) {
    // For every subject, the first two edits with different MLP keys are kept. The MLP key of a later edit differs from
    // at least one of these two keys, so the later edit can be reported together with that edit.
    let mut first: BTreeMap<&str, Vec<&NamedEdit<'_>>> = BTreeMap::new();
    for one in by_id(named) {
        let before = first.entry(one.name).or_default();
        // If the prompts with the subject filled in are equal, the edits are already reported as duplicates or
        // contradictions.
        if let Some(other) = before.iter().find(|other| others(other, one) && !have_one_key(other, one)) {
            findings.push(shared(
                other,
                one,
                "their keys differ only by the words before the subject: `corrigenda build` warns if the edits affect \
                 each other",
            ));
        }
        if before.len() < 2 && before.iter().all(|other| !have_one_key(other, one)) {
            before.push(one);
        }
    }
}

/// Returns the warning that two edits have the same subject, with `help` as its help line.
fn shared(other: &NamedEdit<'_>, one: &NamedEdit<'_>, help: &str) -> Diagnostic {
    let message = format!("`{}` and `{}` edit the same subject", other.edit.id, one.edit.id);
    Diagnostic::new(Code::SharedSubject, message)
        .at(one.edit.spans.file, one.span, "this subject")
        .with(other.edit.spans.file, other.span, "is edited here too")
        .help(help)
}

/// Returns the edits sorted by id, so that the findings do not depend on the order of the files.
fn by_id<'n, 'e>(named: &'n [NamedEdit<'e>]) -> Vec<&'n NamedEdit<'e>> {
    let mut sorted: Vec<_> = named.iter().collect();
    sorted.sort_by(|a, b| a.edit.id.cmp(&b.edit.id));
    sorted
}

/// Returns whether `a` and `b` are different edits whose prompts with the subject filled in also differ. Edits with
/// equal prompts are already reported as duplicates or contradictions.
fn others(a: &NamedEdit<'_>, b: &NamedEdit<'_>) -> bool {
    !std::ptr::eq(a.edit, b.edit) && a.edit.id != b.edit.id && a.prompt_text() != b.prompt_text()
}

/// Returns whether two edits have the same MLP key with every tokenizer. The texts up to the end of the subject and the
/// `chat` values must be equal, and each subject must end at the end of a word. If a subject ends inside a word, a
/// tokenizer may merge its last letters with the letters that follow.
fn have_one_key(a: &NamedEdit<'_>, b: &NamedEdit<'_>) -> bool {
    let key = |one: &NamedEdit<'_>| (one.edit.words_to_key(one.name), one.edit.chat);
    a.ends_a_word() && b.ends_a_word() && key(a) == key(b)
}

/// The maximum size of a group for which [`pairs`] returns all pairs.
const MOST_IN_PAIRS: usize = 32;

/// Returns all pairs of the items of a group. For a group of more than 32 items, returns only the pairs that contain
/// the first item, to limit the number of pairs.
pub fn pairs<T>(group: &[T]) -> impl Iterator<Item = (&T, &T)> {
    let firsts = if group.len() > MOST_IN_PAIRS { 1 } else { group.len() };
    let with = |(index, first)| group[index + 1..].iter().map(move |second| (first, second));
    group.iter().enumerate().take(firsts).flat_map(with)
}

/// Returns a finding for every pair of edits that have the same MLP key with every tokenizer.
///
/// Without a ridge in the linear system, no build can satisfy both edits, so the finding is an error. With a ridge,
/// both edits are satisfied in part, so the finding is a warning.
pub(crate) fn one_key(edits: &[Edit], ridge: bool) -> Vec<Diagnostic> {
    let named: Vec<NamedEdit<'_>> = edits.iter().flat_map(NamedEdit::all).collect();
    let mut groups: BTreeMap<(String, bool), Vec<&NamedEdit<'_>>> = BTreeMap::new();
    for one in by_id(&named).into_iter().filter(|one| one.ends_a_word()) {
        groups.entry((one.edit.words_to_key(one.name), one.edit.chat)).or_default().push(one);
    }
    let mut found = CappedFindings::default();
    for group in groups.values().filter(|group| group.len() > 1) {
        let pairs = pairs(group).filter(|(first, second)| others(first, second));
        pairs.for_each(|(first, second)| found.push(of_one_key(first, second, ridge)));
    }
    found.finish()
}

/// Returns the finding for two edits with equal MLP keys: a warning if the linear system has a ridge, otherwise an
/// error.
fn of_one_key(first: &NamedEdit<'_>, second: &NamedEdit<'_>, ridge: bool) -> Diagnostic {
    if ridge {
        return shared(
            first,
            second,
            "the model reads the same words up to the end of the subject: both edits have the same key, and with \
             `ridge` under `[link]` each holds in part",
        );
    }
    let message = format!("`{}` and `{}` have the same key: both edits cannot be made", first.edit.id, second.edit.id);
    Diagnostic::new(Code::ParallelKeys, message)
        .at(second.edit.spans.file, second.span, "the model reads the same words up to here")
        .with(first.edit.spans.file, first.span, "and up to here")
        .help("a key has only one value: remove one of the edits, or begin its prompt with other words")
        .help("or set `ridge` under `[link]`: then both hold in part")
}

/// Adds a finding for every paraphrase that equals another edit's prompt with the subject filled in, if the two edits
/// expect different answers. The model cannot give two different answers to the same prompt.
fn lost_paraphrases(edits: &[Edit], named: &[NamedEdit<'_>], findings: &mut CappedFindings) {
    let changed: BTreeMap<PromptText<'_>, &Edit> =
        named.iter().map(|one| (one.prompt_text(), one.edit)).rev().collect();
    for edit in edits {
        for (text, span) in edit.expect.paraphrase.iter().zip(&edit.spans.paraphrase) {
            let other = changed.get(&(text.as_str(), edit.chat)).filter(|other| other.id != edit.id);
            let Some(other) = other.filter(|other| edit.answers().all(|answer| answer.trim() != other.target.trim()))
            else {
                continue;
            };
            let message = format!("`{}` and `{}` expect different answers to the same prompt", edit.id, other.id);
            findings.push(
                Diagnostic::new(Code::ParaphraseEdited, message)
                    .at(edit.spans.file, span, format!("should give {:?} here", shorten(&edit.target)))
                    .with(other.spans.file, &other.spans.target, "should give this, by the other edit")
                    .help("remove the paraphrase, or accept the other answer under `expect.accept`"),
            );
        }
    }
}

fn broken_promises(edits: &[Edit], named: &[NamedEdit<'_>], findings: &mut CappedFindings) {
    let changed: BTreeMap<PromptText<'_>, &Edit> =
        named.iter().map(|one| (one.prompt_text(), one.edit)).rev().collect();
    for edit in edits {
        for (text, span) in edit.expect.unchanged.iter().zip(&edit.spans.unchanged) {
            // `rules::whole_edit` already reports a prompt that an edit both changes and expects to stay unchanged.
            let Some(other) = changed.get(&(text.as_str(), edit.chat)).filter(|other| !std::ptr::eq(**other, edit))
            else {
                continue;
            };
            if edit.filled_prompt() == *text {
                continue;
            }
            let message = format!("`{}` expects a prompt to stay unchanged, but `{}` changes it", edit.id, other.id);
            findings.push(
                Diagnostic::new(Code::UnchangedEdited, message)
                    .at(edit.spans.file, span, "expected to stay unchanged here")
                    .with(other.spans.file, &other.spans.prompt, "changed here")
                    .help("remove the prompt from the list, or remove the edit"),
            );
        }
    }
}

/// Returns a finding for every probe with `unchanged = true` whose prompt equals the prompt of an edit with the subject
/// filled in. The edit changes the answer to this prompt.
pub(crate) fn of_probes(edits: &[Edit], probes: &[Probe]) -> Vec<Diagnostic> {
    let named: Vec<NamedEdit<'_>> = edits.iter().flat_map(NamedEdit::all).collect();
    let changed: BTreeMap<PromptText<'_>, &NamedEdit<'_>> =
        named.iter().map(|one| (one.prompt_text(), one)).rev().collect();
    let finding = |probe: &Probe| {
        let one = changed.get(&(probe.prompt.as_str(), probe.chat)).filter(|_| probe.unchanged)?;
        let message =
            format!("the probe `{}` expects its prompt to stay unchanged, but `{}` changes it", probe.id, one.edit.id);
        let finding = Diagnostic::new(Code::UnchangedEdited, message)
            .at(probe.file, &probe.place, "expected to stay unchanged here")
            .with(one.edit.spans.file, &one.edit.spans.prompt, "changed here")
            .help("write `unchanged = false` to report the prompt without an expectation");
        Some(finding)
    };
    probes.iter().filter_map(finding).collect()
}

fn pair(code: Code, message: String, span: impl Fn(&Edit) -> &Range<usize>, second: &Edit, first: &Edit) -> Diagnostic {
    Diagnostic::new(code, message).at(second.spans.file, span(second), "second here").with(
        first.spans.file,
        span(first),
        "first here",
    )
}
