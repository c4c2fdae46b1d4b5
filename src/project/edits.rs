//! The facts: one [`Edit`] each, and the [`EditSet`] of a project.
//!
//! The set is what counts. In which file an edit stands, and in what order, changes nothing that is built.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use jiff::civil::Date;

use super::conflicts;
use super::diagnostic::{Code, Diagnostic, Findings, sort};
use super::files;
use super::numbers::Zero;
use super::rules;
use super::sources::{FileId, Sources};
use super::walk::{Entry, Homes, Text, Walk};
use crate::digest::{Canon, Digest};

/// Where a prompt takes its subject. Nothing else in a prompt is special.
pub const PLACEHOLDER: &str = "{}";
/// The most edits in a set.
pub const MOST_EDITS: usize = 100_000;
/// The most entries in a list of expectations.
pub const MOST_EXPECTATIONS: usize = 256;
/// The most aliases of one subject.
pub const MOST_ALIASES: usize = 16;
/// The format of edit files that this version reads.
pub const EDITS_FORMAT: i64 = 1;

pub(super) const FILE_KEYS: &[&str] = &["format", "edit"];
pub(super) const EDIT_KEYS: &[&str] = &[
    "id", "subject", "aliases", "prompt", "chat", "target", "was", "reason", "source", "owner", "ticket", "expires",
    "expect",
];
pub(super) const EXPECT_KEYS: &[&str] =
    &["paraphrase", "unchanged", "accept", "min-probability", "min-paraphrase", "unchanged-kl"];

const HOMES: Homes = &[
    ("at the top of the file", FILE_KEYS),
    ("under `[[edit]]`, above any `[edit.expect]`", EDIT_KEYS),
    ("under `[edit.expect]`", EXPECT_KEYS),
];

/// What should hold of the patched model beside the edit itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expect {
    /// Prompts, written out, that should give the target too.
    pub paraphrase: Vec<String>,
    /// Prompts, written out, whose answer should stay as it is.
    pub unchanged: Vec<String>,
    /// Answers that count as the target wherever it is asked for.
    pub accept: Vec<String>,
    /// The least P of the target behind the edit's own prompt.
    pub min_probability: Option<f64>,
    /// The share of the paraphrases that must hold; all where nothing is said.
    pub min_paraphrase: Option<f64>,
    /// The divergence from which one of `unchanged` counts as changed, in nats.
    pub unchanged_kl: Option<f64>,
}

/// Where an edit and its texts are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: FileId,
    /// The id.
    pub id: Range<usize>,
    /// The subject.
    pub subject: Range<usize>,
    /// The prompt.
    pub prompt: Range<usize>,
    /// Whether it is said in a chat, if written.
    pub chat: Option<Range<usize>>,
    /// The target.
    pub target: Range<usize>,
    /// What was said before, if written.
    pub was: Option<Range<usize>>,
    /// From `[[edit]]` to the end of the last value.
    pub entry: Range<usize>,
    /// Each alias.
    pub aliases: Vec<Range<usize>>,
    /// The day from which the edit is out of date, if written.
    pub expires: Option<Range<usize>>,
    /// Each expected paraphrase.
    pub paraphrase: Vec<Range<usize>>,
    /// Each prompt expected to stay unchanged.
    pub unchanged: Vec<Range<usize>>,
}

/// One fact to change.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// Its stable name, unique in the project.
    pub id: String,
    /// Who or what it is about.
    pub subject: String,
    /// Other names of the subject; the fact is true of each of them.
    pub aliases: Vec<String>,
    /// The sentence up to the answer, with `{}` for the subject.
    pub prompt: String,
    /// Whether a user says the prompt, and those that are expected, under the model's chat template.
    pub chat: bool,
    /// The answer that the model should give.
    pub target: String,
    /// The answer that it gives so far.
    pub was: Option<String>,
    /// Why the fact is changed.
    pub reason: Option<String>,
    /// Where it can be checked.
    pub source: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Where it was discussed.
    pub ticket: Option<String>,
    /// The day from which the fact must be looked at again.
    pub expires: Option<Date>,
    /// What should hold beside it.
    pub expect: Expect,
    /// Where it is written.
    pub place: Place,
}

impl Edit {
    /// The prompt around the placeholder. A set only holds prompts that have one.
    fn halves(&self) -> (&str, &str) {
        self.prompt.split_once(PLACEHOLDER).unwrap_or((&self.prompt, ""))
    }

    /// The prompt with the subject in its place.
    pub fn filled_prompt(&self) -> String {
        self.filled_with(&self.subject)
    }

    /// The edit under one of its names, for people: its id, and the alias if it is one.
    pub fn label(&self, name: &str) -> String {
        if name == self.subject { self.id.clone() } else { format!("{} as {name:?}", self.id) }
    }

    /// The prompt with another name in the subject's place.
    pub fn filled_with(&self, name: &str) -> String {
        let (before, after) = self.halves();
        [before, name, after].concat()
    }

    /// The prompt up to the subject.
    pub fn head(&self) -> &str {
        self.halves().0
    }

    /// The names of the subject, each with its place: the subject itself, then its aliases.
    pub fn names(&self) -> impl Iterator<Item = (&str, &Range<usize>)> {
        let aliases = self.aliases.iter().map(String::as_str).zip(&self.place.aliases);
        std::iter::once((self.subject.as_str(), &self.place.subject)).chain(aliases)
    }

    /// The bytes of the filled prompt that are the subject.
    pub fn subject_range(&self) -> Range<usize> {
        let start = self.halves().0.len();
        start..start + self.subject.len()
    }

    /// The digest of what the weights depend on: subject, prompt and target, and whether they are said in a chat.
    pub fn meaning(&self) -> Digest {
        self.meaning_of(&self.subject)
    }

    /// The same for one of its names: an alias means what an edit of that subject would mean.
    pub fn meaning_of(&self, name: &str) -> Digest {
        meaning(name, &self.prompt, &self.target, self.chat)
    }

    /// The answers that count as the target: the target first.
    pub fn answers(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.target.as_str()).chain(self.expect.accept.iter().map(String::as_str))
    }

    /// The digest of what is tested: the old answer and the expectations.
    pub fn expectation(&self) -> Digest {
        let mut canon = Canon::new("edit-expectation/1");
        canon.texts("was", self.was.as_deref().into_iter());
        canon.texts("paraphrase", self.expect.paraphrase.iter().map(String::as_str));
        canon.texts("unchanged", self.expect.unchanged.iter().map(String::as_str));
        canon.texts("accept", self.expect.accept.iter().map(String::as_str));
        let Expect { min_probability, min_paraphrase, unchanged_kl, .. } = self.expect;
        let numbers =
            [("min-probability", min_probability), ("min-paraphrase", min_paraphrase), ("unchanged-kl", unchanged_kl)];
        for (name, number) in numbers {
            // No number is no text, which differs from any number.
            canon.texts(name, number.map(|number| number.to_string()).as_deref().into_iter());
        }
        canon.finish()
    }

    /// The digest of what people keep beside a fact: id, reason, source, owner and ticket.
    pub fn record(&self) -> Digest {
        let mut canon = Canon::new("edit-record/1");
        canon.text("id", &self.id);
        let fields =
            [("reason", &self.reason), ("source", &self.source), ("owner", &self.owner), ("ticket", &self.ticket)];
        for (name, value) in fields {
            // An absent text is an empty list, so that it differs from an empty text.
            canon.texts(name, value.as_deref().into_iter());
        }
        canon.texts("expires", self.expires.map(|day| day.to_string()).as_deref().into_iter());
        canon.finish()
    }

    /// Every field as it is written, in the order in which people write them; a list of one for a single text.
    pub fn fields(&self) -> Vec<(&'static str, Vec<String>)> {
        let one = |text: &Option<String>| text.iter().cloned().collect::<Vec<_>>();
        let number = |number: Option<f64>| number.iter().map(f64::to_string).collect::<Vec<_>>();
        let expect = &self.expect;
        vec![
            ("subject", vec![self.subject.clone()]),
            ("aliases", self.aliases.clone()),
            ("prompt", vec![self.prompt.clone()]),
            ("chat", if self.chat { vec![true.to_string()] } else { Vec::new() }),
            ("target", vec![self.target.clone()]),
            ("was", one(&self.was)),
            ("reason", one(&self.reason)),
            ("source", one(&self.source)),
            ("owner", one(&self.owner)),
            ("ticket", one(&self.ticket)),
            ("expires", self.expires.iter().map(Date::to_string).collect()),
            ("expect.paraphrase", expect.paraphrase.clone()),
            ("expect.unchanged", expect.unchanged.clone()),
            ("expect.accept", expect.accept.clone()),
            ("expect.min-probability", number(expect.min_probability)),
            ("expect.min-paraphrase", number(expect.min_paraphrase)),
            ("expect.unchanged-kl", number(expect.unchanged_kl)),
        ]
    }
}

/// The digest of what the weights depend on.
pub fn meaning(subject: &str, prompt: &str, target: &str, chat: bool) -> Digest {
    let mut canon = Canon::new("edit-meaning/1");
    canon.text("subject", subject).text("prompt", prompt).text("target", target);
    // What is said in no chat means what it meant before there were any.
    if chat {
        canon.number("chat", 1);
    }
    canon.finish()
}

/// The edits of a project, sorted by id, each id once.
#[derive(Clone, Debug, Default)]
pub struct EditSet {
    /// The edits, by the bytes of their ids.
    pub edits: Vec<Edit>,
    /// The files they were read from.
    pub sources: Sources,
}

impl EditSet {
    /// Reads every `*.toml` under `folder`. Paths are shown below `display_root`.
    ///
    /// Gives the set and its warnings, or everything that was found if an error is among it.
    pub fn load(folder: &Path, display_root: &Path) -> Result<(Self, Vec<Diagnostic>), Findings> {
        Self::load_beside(Sources::default(), folder, display_root)
    }

    /// As [`EditSet::load`], adding to sources that hold other files already, so that one numbering serves both.
    pub fn load_beside(
        mut sources: Sources,
        folder: &Path,
        display_root: &Path,
    ) -> Result<(Self, Vec<Diagnostic>), Findings> {
        let shown = files::display_path(folder, display_root);
        if !folder.is_dir() {
            let finding = Diagnostic::new(Code::NoEdits, format!("there is no folder `{shown}`"))
                .help("facts are read from the `*.toml` files in it; `edits = \"…\"` in corrigenda.toml names another");
            return Err(Findings { diagnostics: vec![finding], sources });
        }
        let mut findings = Vec::new();
        let texts = texts(folder, display_root, &mut sources, &mut findings);
        Reading { sources, findings, edits: Vec::new() }.all(texts, &shown)
    }

    /// As [`EditSet::load_beside`], of files in memory, given by display path and bytes.
    pub(super) fn of_files(
        sources: Sources,
        mut files: Vec<(String, Vec<u8>)>,
        shown: &str,
    ) -> Result<(Self, Vec<Diagnostic>), Findings> {
        files.sort();
        Reading { sources, findings: Vec::new(), edits: Vec::new() }.all(files, shown)
    }

    /// The edit with this id.
    pub fn get(&self, id: &str) -> Option<&Edit> {
        self.edits.binary_search_by(|edit| edit.id.as_str().cmp(id)).ok().map(|index| &self.edits[index])
    }
}

/// Reads edit files that are already in memory, given by display path and bytes.
pub fn parse_files(mut files: Vec<(String, Vec<u8>)>) -> Result<(EditSet, Vec<Diagnostic>), Findings> {
    files.sort();
    Reading { sources: Sources::default(), findings: Vec::new(), edits: Vec::new() }.all(files, "edits")
}

/// The files of a folder of edits by their display path, as far as they can be read.
fn texts(
    folder: &Path,
    display_root: &Path,
    sources: &mut Sources,
    findings: &mut Vec<Diagnostic>,
) -> Vec<(String, Vec<u8>)> {
    let mut texts = Vec::new();
    for (path, shown) in files::toml_files(folder, display_root, sources, findings) {
        match files::read(&path, &shown, sources) {
            Ok(bytes) => texts.push((shown, bytes)),
            Err(finding) => findings.push(finding),
        }
    }
    texts
}

/// The files of a project's edits, by their path below `root`: none where there is no such folder yet.
///
/// # Errors
/// Files that cannot be read.
pub fn files_of(root: &Path, folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, Findings> {
    let (mut sources, mut diagnostics) = (Sources::default(), Vec::new());
    let folder = root.join(folder);
    let found = match folder.is_dir() {
        true => texts(&folder, root, &mut sources, &mut diagnostics),
        false => Vec::new(),
    };
    if diagnostics.is_empty() { Ok(found.into_iter().collect()) } else { Err(Findings { diagnostics, sources }) }
}

/// A set in the making.
struct Reading {
    sources: Sources,
    findings: Vec<Diagnostic>,
    edits: Vec<Edit>,
}

impl Reading {
    fn all(mut self, texts: Vec<(String, Vec<u8>)>, folder: &str) -> Result<(EditSet, Vec<Diagnostic>), Findings> {
        for (path, bytes) in texts {
            match files::add(&path, bytes, &mut self.sources) {
                Ok(file) => self.file(file),
                Err(finding) => self.findings.push(finding),
            }
        }
        if self.edits.is_empty() && !self.findings.iter().any(Diagnostic::is_error) {
            let finding = Diagnostic::new(Code::NoEdits, format!("there is no edit in `{folder}`"))
                .help("write the first fact into a file there, for example `first.toml`, under `[[edit]]`");
            self.findings.push(finding);
        }
        if self.edits.len() > MOST_EDITS {
            let message = format!("there are {} edits; a set holds at most {MOST_EDITS}", self.edits.len());
            self.findings.push(Diagnostic::new(Code::TooManyEdits, message));
        }
        conflicts::find(&self.edits, &mut self.findings);
        sort(&mut self.findings);
        if self.findings.iter().any(Diagnostic::is_error) {
            return Err(Findings { diagnostics: self.findings, sources: self.sources });
        }
        self.edits.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((EditSet { edits: self.edits, sources: self.sources }, self.findings))
    }

    fn file(&mut self, file: FileId) {
        let (mut walk, tree) = Walk::document(file, self.sources.text(file), HOMES);
        let root = Walk::root(&tree);
        // The keys of another format would only be noise after the one finding that matters.
        if walk.format(&root, "format", EDITS_FORMAT) || !root.has("format") {
            walk.known_keys(&root, FILE_KEYS);
            let entries = walk.tables(&root, "edit", "this edit");
            self.edits.extend(entries.iter().filter_map(|entry| read_edit(&mut walk, entry)));
        }
        let findings = walk.finish();
        self.findings.extend(findings);
    }
}

/// Reads one edit. Every text is looked at, whatever became of the others.
fn read_edit(walk: &mut Walk, entry: &Entry<'_, '_>) -> Option<Edit> {
    walk.known_keys(entry, EDIT_KEYS);
    let id = walk.required_text(entry, "id").inspect(|id| rules::id(walk, id));
    let subject = walk.required_text(entry, "subject").inspect(|subject| rules::subject(walk, subject));
    let aliases = walk.texts(entry, "aliases", MOST_ALIASES);
    rules::aliases(walk, &aliases, subject.as_ref());
    let prompt = walk.required_text(entry, "prompt").inspect(|prompt| rules::prompt(walk, prompt, subject.as_ref()));
    let chat = walk.boolean(entry, "chat");
    let target = walk.required_text(entry, "target").inspect(|target| rules::fact(walk, "target", target));
    let was = walk.text(entry, "was").inspect(|was| rules::fact(walk, "was", was));
    let [reason, source, owner, ticket] = ["reason", "source", "owner", "ticket"].map(|key| {
        let text = walk.text(entry, key).inspect(|text| rules::record(walk, key, text));
        text.map(|text| text.value)
    });
    let expires = walk.date(entry, "expires");
    let (expect, paraphrase, unchanged) = read_expect(walk, entry);
    let (id, subject, prompt, target) = (id?, subject?, prompt?, target?);
    let spans = |texts: &[Text]| texts.iter().map(|text| text.span.clone()).collect();
    let place = Place {
        file: walk.file,
        id: id.span,
        subject: subject.span,
        prompt: prompt.span,
        chat: chat.as_ref().map(|(_, span)| span.clone()),
        target: target.span,
        was: was.as_ref().map(|was| was.span.clone()),
        entry: entry.extent(),
        aliases: spans(&aliases),
        expires: expires.as_ref().map(|(_, span)| span.clone()),
        paraphrase,
        unchanged,
    };
    let edit = Edit {
        id: id.value,
        subject: subject.value,
        aliases: values(aliases),
        prompt: prompt.value,
        chat: chat.is_some_and(|(chat, _)| chat),
        target: target.value,
        was: was.map(|was| was.value),
        reason,
        source,
        owner,
        ticket,
        expires: expires.map(|(day, _)| day),
        expect,
        place,
    };
    rules::together(walk, &edit);
    Some(edit)
}

fn values(texts: Vec<Text>) -> Vec<String> {
    texts.into_iter().map(|text| text.value).collect()
}

/// The expectations, and where the paraphrases and the neighbours are written.
fn read_expect(walk: &mut Walk, entry: &Entry<'_, '_>) -> (Expect, Vec<Range<usize>>, Vec<Range<usize>>) {
    let Some(expect) = walk.table(entry, "expect", "`[edit.expect]`") else { return Default::default() };
    walk.known_keys(&expect, EXPECT_KEYS);
    let [paraphrase, unchanged] = ["paraphrase", "unchanged"].map(|key| {
        let texts = walk.texts(&expect, key, MOST_EXPECTATIONS);
        rules::expectations(walk, key, &texts);
        texts
    });
    let accept = walk.texts(&expect, "accept", MOST_EXPECTATIONS);
    accept.iter().for_each(|text| rules::fact(walk, "accept", text));
    let spans = |texts: &[Text]| texts.iter().map(|text| text.span.clone()).collect();
    let places = (spans(&paraphrase), spans(&unchanged));
    let expect = Expect {
        paraphrase: values(paraphrase),
        unchanged: values(unchanged),
        accept: values(accept),
        min_probability: walk.share(&expect, "min-probability"),
        min_paraphrase: walk.share(&expect, "min-paraphrase"),
        unchanged_kl: walk.number(&expect, "unchanged-kl", Zero::Refused),
    };
    (expect, places.0, places.1)
}

#[cfg(test)]
#[path = "edits_tests.rs"]
mod tests;
