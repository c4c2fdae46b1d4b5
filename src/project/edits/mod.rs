//! Reads all edits of a project, from the files in its folder of edits, into an [`EditSet`].
//!
//! The names of the files and the order of the edits have no effect on the result of a build.

pub(crate) mod conflicts;
pub mod consequence;
pub mod diff;
pub mod edit;
pub mod end;
pub(crate) mod misspelt;
pub(crate) mod prefaces;
pub mod probes;
pub mod says;
pub(crate) mod withdrawal;
pub mod writer;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::read::files;
use super::read::numbers::LowerBound;
use super::read::rules;
use super::read::toml_reader::{KeysByTable, TomlReader, TomlTable, TomlText};
use crate::diagnostics::{Code, Diagnostic, FileId, Findings, Sources, shorten, sort};
use consequence::ConsequenceSpans;
use edit::{Edit, EditSpans, Expect};
use end::EndMark;
use says::SaysRule;

pub const MOST_EDITS: usize = 100_000;
/// The maximum number of entries in `paraphrase`, `unchanged`, `accept` or `consequence` of one edit.
pub const MOST_EXPECTATIONS: usize = 256;
pub const MOST_ALIASES: usize = 16;
/// The only value of `format` in an edit file that this version of the program accepts.
pub const EDITS_FORMAT: i64 = 1;

/// The value of `status` for an edit that is checked but not built.
const PARKED: &str = "parked";

pub(crate) const FILE_KEYS: &[&str] = &["format", "edit"];
pub(crate) const EDIT_KEYS: &[&str] = &[
    "id",
    "subject",
    "aliases",
    "prompt",
    "chat",
    "target",
    "end",
    "was",
    "reason",
    "source",
    "owner",
    "ticket",
    "expires",
    "status",
    "status-reason",
    "expect",
];
pub(crate) const EXPECT_KEYS: &[&str] = &[
    "paraphrase",
    "unchanged",
    "accept",
    "min-probability",
    "min-paraphrase",
    "unchanged-kl",
    "says",
    "never-says",
    "consequence",
];

const TABLES: KeysByTable = &[
    ("at the top of the file", FILE_KEYS),
    ("under `[[edit]]`, above any `[edit.expect]`", EDIT_KEYS),
    ("under `[edit.expect]`", EXPECT_KEYS),
    ("under `[[edit.expect.consequence]]`", consequence::CONSEQUENCE_KEYS),
];

/// The edits of a project. The ids are unique over all edits, both built and parked.
#[derive(Clone, Debug, Default)]
pub struct EditSet {
    /// The edits that are built, sorted by the bytes of their ids.
    pub edits: Vec<Edit>,
    /// The edits with `status = "parked"`, which are checked but not built; sorted by the bytes of their ids.
    pub parked: Vec<Edit>,
    pub sources: Sources,
}

impl EditSet {
    /// Reads every `*.toml` file in `folder` and its subfolders, and returns the edits and the warnings. Messages show
    /// paths relative to `display_root`.
    ///
    /// # Errors
    /// If a file has an error, or if no file contains an edit. All errors and warnings are returned.
    pub fn load(folder: &Path, display_root: &Path) -> Result<(Self, Vec<Diagnostic>), Findings> {
        Self::load_with(Sources::default(), folder, display_root, Empty::Refused)
    }

    /// Reads the edits in the same way as [`EditSet::load`], and adds the text of every edit file to `sources`, from
    /// which error messages quote. `empty` decides whether a folder without edits is an error.
    pub(super) fn load_with(
        mut sources: Sources,
        folder: &Path,
        display_root: &Path,
        empty: Empty,
    ) -> Result<(Self, Vec<Diagnostic>), Findings> {
        let shown = files::display_path(folder, display_root);
        let mut findings = Vec::new();
        // git does not store empty folders, so the folder may be missing after all edits were removed.
        let absent = folder.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        if absent && empty == Empty::Allowed {
            return EditSetReader { sources, findings, edits: Vec::new() }.all(Vec::new(), &shown, empty);
        }
        if !folder.is_dir() {
            let mut finding = Diagnostic::new(Code::NoEdits, format!("there is no folder `{shown}`"));
            if let Some(other) = withdrawal::mistaken(display_root, folder) {
                let other = files::display_path(&other, display_root);
                finding =
                    finding.help(format!("`{other}` contains facts: write `edits = \"{other}\"` in corrigenda.toml"));
            }
            let finding = finding.help(
                "facts are read from the `*.toml` files in it; `edits = \"…\"` in corrigenda.toml names another \
                 folder",
            );
            return Err(Findings { diagnostics: vec![finding], sources });
        }
        let texts = texts(folder, display_root, &mut sources, &mut findings);
        EditSetReader { sources, findings, edits: Vec::new() }.all(texts, &shown, empty)
    }

    /// Parses edit files that are in memory, in the same way as [`EditSet::load_with`] parses files on disk. Each
    /// element of `files` has the path of one file, as messages show it, and the bytes of the file. A set without edits
    /// is valid.
    pub(super) fn of_files(
        sources: Sources,
        mut files: Vec<(String, Vec<u8>)>,
        shown: &str,
    ) -> Result<(Self, Vec<Diagnostic>), Findings> {
        files.sort();
        // A past revision of the project is allowed to have no edits.
        EditSetReader { sources, findings: Vec::new(), edits: Vec::new() }.all(files, shown, Empty::Allowed)
    }

    /// Returns all edits by id, both built and parked edits.
    pub fn written(&self) -> BTreeMap<&str, &Edit> {
        self.edits.iter().chain(&self.parked).map(|edit| (edit.id.as_str(), edit)).collect()
    }

    /// Returns the built edit with this id; `None` if the id is unknown or the edit is parked.
    pub fn get(&self, id: &str) -> Option<&Edit> {
        self.edits.binary_search_by(|edit| edit.id.as_str().cmp(id)).ok().map(|index| &self.edits[index])
    }
}

/// Parses edit files that are in memory. Each element of `files` has the path of one file, as messages show it, and the
/// bytes of the file.
///
/// # Errors
/// If a file has an error, or if no file contains an edit. All errors and warnings are returned.
pub fn parse_files(mut files: Vec<(String, Vec<u8>)>) -> Result<(EditSet, Vec<Diagnostic>), Findings> {
    files.sort();
    EditSetReader { sources: Sources::default(), findings: Vec::new(), edits: Vec::new() }.all(
        files,
        "edits",
        Empty::Refused,
    )
}

/// Reads the edit files in `folder`. Returns the bytes of each file with its path for messages, and adds a finding for
/// every file that cannot be read.
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

/// Reads the edit files in `folder`. Returns a map from the path of each file, relative to `root`, to its bytes. The
/// map is empty if the folder does not exist.
///
/// # Errors
/// If a file cannot be read.
pub fn files_of(root: &Path, folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, Findings> {
    let (mut sources, mut diagnostics) = (Sources::default(), Vec::new());
    let folder = root.join(folder);
    let found = if folder.is_dir() { texts(&folder, root, &mut sources, &mut diagnostics) } else { Vec::new() };
    if diagnostics.iter().any(Diagnostic::is_error) {
        Err(Findings { diagnostics, sources })
    } else {
        Ok(found.into_iter().collect())
    }
}

/// Whether a folder without edits is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Empty {
    /// A folder without edits is an error. The project has no edits yet, or `corrigenda.toml` names the wrong folder.
    Refused,
    /// A folder without edits is valid. All edits were removed after a build, or the project is a past revision.
    Allowed,
}

struct EditSetReader {
    sources: Sources,
    findings: Vec<Diagnostic>,
    edits: Vec<Edit>,
}

impl EditSetReader {
    fn all(
        mut self,
        texts: Vec<(String, Vec<u8>)>,
        folder: &str,
        empty: Empty,
    ) -> Result<(EditSet, Vec<Diagnostic>), Findings> {
        for (path, bytes) in texts {
            match files::add(&path, bytes, &mut self.sources) {
                Ok(file) => self.file(file),
                Err(finding) => self.findings.push(finding),
            }
        }
        if self.edits.is_empty() && empty == Empty::Refused && !self.findings.iter().any(Diagnostic::is_error) {
            let finding = Diagnostic::new(Code::NoEdits, format!("there is no edit in `{folder}`"))
                .help("write the first fact into a file there, for example `first.toml`, under `[[edit]]`");
            self.findings.push(finding);
        }
        if self.edits.len() > MOST_EDITS {
            let message = format!("there are {} edits; a set holds at most {MOST_EDITS}", self.edits.len());
            self.findings.push(Diagnostic::new(Code::TooManyEdits, message));
        }
        conflicts::duplicate_ids(&self.edits, &mut self.findings);
        let (parked, active): (Vec<Edit>, Vec<Edit>) = self.edits.into_iter().partition(|edit| edit.parked.is_some());
        self.edits = active;
        conflicts::find(&self.edits, &mut self.findings);
        misspelt::find(&self.edits, &mut self.findings);
        self.findings.extend(parked.iter().map(is_parked));
        sort(&mut self.findings);
        if self.findings.iter().any(Diagnostic::is_error) {
            return Err(Findings { diagnostics: self.findings, sources: self.sources });
        }
        let by_id = |mut list: Vec<Edit>| {
            list.sort_by(|a, b| a.id.cmp(&b.id));
            list
        };
        let (edits, parked) = (by_id(self.edits), by_id(parked));
        Ok((EditSet { edits, parked, sources: self.sources }, self.findings))
    }

    fn file(&mut self, file: FileId) {
        let (mut reader, tree) = TomlReader::document(file, self.sources.text(file), TABLES);
        let root = TomlReader::root(&tree);
        // In a file with another `format`, errors about unknown keys would hide the error about the format.
        if reader.format(&root, "format", EDITS_FORMAT) || !root.has("format") {
            reader.known_keys(&root, FILE_KEYS);
            let entries = reader.tables(&root, "edit", "this edit");
            self.edits.extend(entries.iter().filter_map(|entry| read_edit(&mut reader, entry)));
        }
        let findings = reader.finish();
        self.findings.extend(findings);
    }
}

/// Reads one `[[edit]]` table. All of its texts are checked, even after an invalid text, so that one run reports all
/// mistakes.
fn read_edit(reader: &mut TomlReader, entry: &TomlTable<'_, '_>) -> Option<Edit> {
    reader.known_keys(entry, EDIT_KEYS);
    let id = reader.required_text(entry, "id").inspect(|id| rules::id(reader, id));
    let subject = reader.required_text(entry, "subject").inspect(|subject| rules::subject(reader, subject));
    let aliases = reader.texts(entry, "aliases", MOST_ALIASES);
    rules::aliases(reader, &aliases, subject.as_ref());
    let prompt =
        reader.required_text(entry, "prompt").inspect(|prompt| rules::prompt(reader, prompt, subject.as_ref()));
    let chat = reader.boolean(entry, "chat");
    let target = reader.required_text(entry, "target").inspect(|target| rules::fact(reader, "target", target));
    let end = EndMark::read(reader, entry);
    let was = reader.text(entry, "was").inspect(|was| rules::fact(reader, "was", was));
    let [reason, source, owner, ticket] = ["reason", "source", "owner", "ticket"].map(|key| {
        let text = reader.text(entry, key).inspect(|text| rules::record(reader, key, text));
        // git may change line endings at a checkout. They are normalised here, so that the digests of the edit do not
        // change.
        text.map(|text| text.value.replace("\r\n", "\n"))
    });
    let expires = reader.date(entry, "expires");
    let (status, parked) = read_status(reader, entry);
    let (expect, [paraphrase, unchanged, accept], consequence) = read_expect(reader, entry);
    let (id, subject, prompt, target) = (id?, subject?, prompt?, target?);
    let spans = |texts: &[TomlText]| texts.iter().map(|text| text.span.clone()).collect();
    let edit_spans = EditSpans {
        file: reader.file,
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
        accept,
        consequence,
        status,
    };
    let edit = Edit {
        id: id.value,
        subject: subject.value,
        aliases: values(aliases),
        prompt: prompt.value,
        chat: chat.is_some_and(|(chat, _)| chat),
        target: target.value,
        end,
        was: was.map(|was| was.value),
        reason,
        source,
        owner,
        ticket,
        expires: expires.map(|(day, _)| day),
        parked,
        expect,
        spans: edit_spans,
    };
    rules::whole_edit(reader, &edit);
    Some(edit)
}

/// Reads `status` and `status-reason`. Returns the byte range of the value of `status`, and the reason of a parked
/// edit. The only valid status is `parked`, which requires a reason.
fn read_status(reader: &mut TomlReader, entry: &TomlTable<'_, '_>) -> (Option<Range<usize>>, Option<String>) {
    let (status, reason) = (reader.text(entry, "status"), reader.text(entry, "status-reason"));
    let reason = reason.inspect(|reason| rules::fact(reader, "status-reason", reason));
    match (&status, &reason) {
        (Some(status), _) if status.value != PARKED => {
            let message = format!("`status` is {:?}; the only status is \"parked\"", shorten(&status.value));
            let finding = Diagnostic::new(Code::StatusUnknown, message).at(reader.file, &status.span, "unknown status");
            reader.push(finding.help("remove `status` to build the fact"));
        }
        (Some(status), None) if !entry.has("status-reason") => {
            let finding = Diagnostic::new(Code::StatusUnknown, "a parked fact has no `status-reason`");
            let finding = finding.at(reader.file, &status.span, "parked without a reason");
            reader.push(finding.help("give the reason for reviewers: `status-reason = \"…\"`"));
        }
        (None, Some(reason)) if !entry.has("status") => {
            let finding = Diagnostic::new(Code::StatusUnknown, "`status-reason` is set without `status`");
            let finding = finding.at(reader.file, &reason.span, "there is no `status`");
            reader.push(finding.help("write `status = \"parked\"` too, or remove the reason"));
        }
        _ => {}
    }
    let parked = status.as_ref().filter(|status| status.value == PARKED).and(reason).map(|reason| reason.value);
    (status.map(|status| status.span), parked)
}

/// Returns the warning that an edit is parked, that is, checked but not built.
fn is_parked(edit: &Edit) -> Diagnostic {
    let why = edit.parked.as_deref().unwrap_or_default();
    let finding = Diagnostic::new(Code::EditParked, format!("edit `{}` is parked: {why}", edit.id));
    let finding = match &edit.spans.status {
        Some(span) => finding.at(edit.spans.file, span, "not part of the set"),
        None => finding,
    };
    finding.help("remove `status` and `status-reason` to build it")
}

fn values(texts: Vec<TomlText>) -> Vec<String> {
    texts.into_iter().map(|text| text.value).collect()
}

/// Reads the table `[edit.expect]`, with the byte ranges of the items of `paraphrase`, `unchanged` and `accept`, and
/// those of the consequences.
fn read_expect(
    reader: &mut TomlReader,
    entry: &TomlTable<'_, '_>,
) -> (Expect, [Vec<Range<usize>>; 3], Vec<ConsequenceSpans>) {
    let Some(expect) = reader.table(entry, "expect", "`[edit.expect]`") else { return Default::default() };
    reader.known_keys(&expect, EXPECT_KEYS);
    let [paraphrase, unchanged] = ["paraphrase", "unchanged"].map(|key| {
        let texts = reader.texts(&expect, key, MOST_EXPECTATIONS);
        rules::expectations(reader, key, &texts);
        texts
    });
    let accept = reader.texts(&expect, "accept", MOST_EXPECTATIONS);
    accept.iter().for_each(|text| rules::fact(reader, "accept", text));
    let never = expect.has("never-says").then(|| reader.texts(&expect, "never-says", MOST_EXPECTATIONS));
    never.iter().flatten().for_each(|text| rules::fact(reader, "never-says", text));
    never.iter().flatten().for_each(|text| never_applies(reader, entry, &accept, text));
    let spans = |texts: &[TomlText]| texts.iter().map(|text| text.span.clone()).collect();
    let places = [&paraphrase, &unchanged, &accept].map(|texts| spans(texts));
    let (consequence, consequence_places) = consequence::read(reader, &expect);
    let expect = Expect {
        paraphrase: values(paraphrase),
        unchanged: values(unchanged),
        accept: values(accept),
        min_probability: reader.share(&expect, "min-probability"),
        min_paraphrase: reader.share(&expect, "min-paraphrase"),
        unchanged_kl: reader.number(&expect, "unchanged-kl", LowerBound::ExcludesZero),
        says: SaysRule::read(reader, &expect, "says"),
        never_says: never.map(values),
        consequence,
    };
    (expect, places, consequence_places)
}

/// Adds a finding if a text of `never-says` is an accepted answer in another case or with a full stop, so that it can
/// never be found.
fn never_applies(reader: &mut TomlReader, entry: &TomlTable<'_, '_>, accept: &[TomlText], never: &TomlText) {
    let target = entry.table.get("target").and_then(|target| target.get_ref().as_str());
    let mut answers = target.into_iter().chain(accept.iter().map(|text| text.value.as_str()));
    let plain = |text: &str| text.trim().trim_end_matches('.').to_lowercase();
    if answers.any(|answer| plain(answer) == plain(&never.value)) {
        let message = format!("`never-says` names {:?}, which is an accepted answer of the edit", never.value);
        reader.note(Code::OutOfRange, message, &never.span, "an accepted answer");
    }
}

#[cfg(test)]
#[path = "edits_tests.rs"]
mod tests;
