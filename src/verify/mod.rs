//! Implements `verify`: compares the statements of `corrigenda.lock`, manifests and patches with the actual bytes.
//!
//! - [`project`](mod@project): checks the store, `corrigenda.lock` and the base;
//! - [`patch`](mod@patch): checks the digest and the encoding of a patch, and whether the patch fits the base;
//! - [`checkpoint`](mod@checkpoint): compares an exported checkpoint with the patched base, file by file and tensor by
//!   tensor ([`tensors`]);
//! - [`adapter`], [`gguf`](mod@gguf): compare an adapter for transformers and one for llama.cpp with the patch;
//! - [`candidates`]: finds the patch that an export contains, and reports the facts of the patch;
//! - [`claims`]: compares the claims of a manifest with the content of the export;
//! - [`rebuild`](mod@rebuild): repeats the build in an empty store and compares the results with `corrigenda.lock`.
//!
//! Each check function returns an [`Audit`], the list of its checks in the order of the report. A failed check does not
//! end the run, so one run reports all failures. `verify` never writes to the project, the store or the base.

pub mod adapter;
pub mod candidates;
pub mod checkpoint;
pub mod claims;
pub mod gguf;
pub mod patch;
pub mod project;
pub mod rebuild;
pub mod tensors;

use std::path::Path;

use serde_json::{Value, json};

use crate::diagnostics::Failure;
use crate::digest::Digest;
use crate::numeric::Isa;
use crate::pipeline::Base;
use crate::pipeline::patch_ref::NamedPatch;
use crate::project::{EditSet, Lock, Prefaces, Project};
use crate::store::Store;

/// The outcome of a check. The variants are ordered from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckState {
    /// The checked item is as expected.
    Ok,
    /// An input for the check, such as the patch, is missing. The item could be compared only with the untrusted
    /// manifest, or not at all.
    Unknown,
    /// The checked item is missing or differs from what is expected.
    Wrong,
    /// `corrigenda.lock` does not match the project or the base, so a new build is needed.
    Stale,
}

impl CheckState {
    /// Returns the word that the report shows for the state: `ok`, `unknown`, `WRONG` or `STALE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Wrong => "WRONG",
            Self::Stale => "STALE",
        }
    }
}

/// A checked item with the outcome of the check. The report shows it on one line, followed by its details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub state: CheckState,
    /// The kind of the checked item, such as `file`, `tensor` or `object`.
    pub group: &'static str,
    /// The name of the checked item, such as a file name or a short digest.
    pub name: String,
    /// The outcome of the check in a few words, such as `as exported` or `missing`.
    pub summary: String,
    /// Further lines of the report, such as the expected and the found digest.
    pub details: Vec<String>,
    /// Whether the report may leave out the check if it passed, because there are many similar checks.
    pub collapsible: bool,
}

impl Check {
    /// Returns a check with the state [`CheckState::Ok`], the summary `said` and no details.
    pub fn ok(group: &'static str, name: impl Into<String>, said: impl Into<String>) -> Self {
        let (name, said) = (name.into(), said.into());
        Self { state: CheckState::Ok, group, name, summary: said, details: Vec::new(), collapsible: false }
    }

    /// Returns a check with the state [`CheckState::Wrong`], the summary `said` and no details.
    pub fn wrong(group: &'static str, name: impl Into<String>, said: impl Into<String>) -> Self {
        Self { state: CheckState::Wrong, ..Self::ok(group, name, said) }
    }

    #[must_use]
    pub fn state(self, state: CheckState) -> Self {
        Self { state, ..self }
    }

    /// Appends a line that the report shows indented below the check.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// Marks the check as one that the report may leave out if it passed.
    #[must_use]
    pub fn collapsible(self) -> Self {
        Self { collapsible: true, ..self }
    }
}

/// The result of one run of `verify`: the checks, the verdict, suggested fixes, and additional fields of the JSON
/// output.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// What was verified: `project`, `patch`, `checkpoint`, `adapter` or `rebuild`.
    pub kind: &'static str,
    pub checks: Vec<Check>,
    /// The conclusion in one sentence, such as `everything matches corrigenda.lock: 3 edits on base …`. The report
    /// shows it only if all checks passed.
    pub verdict: String,
    /// Shell commands and instructions that fix the failures, without duplicates.
    pub repairs: Vec<String>,
    /// Additional fields of the JSON output, as a JSON object.
    pub fields: Value,
}

impl Audit {
    fn new(kind: &'static str) -> Self {
        Self { kind, checks: Vec::new(), verdict: String::new(), repairs: Vec::new(), fields: json!({}) }
    }

    fn add(&mut self, check: Check) {
        self.checks.push(check);
    }

    fn repair(&mut self, command: impl Into<String>) {
        let command = command.into();
        if !self.repairs.contains(&command) {
            self.repairs.push(command);
        }
    }

    /// Returns the worst state of the checks; `Ok` if there are no checks.
    pub fn state(&self) -> CheckState {
        self.checks.iter().map(|check| check.state).max().unwrap_or(CheckState::Ok)
    }

    /// Returns the number of checks that did not pass.
    pub fn failures(&self) -> usize {
        self.checks.iter().filter(|check| check.state != CheckState::Ok).count()
    }
}

/// The data with which an export or a patch is compared: the base, the project's edits, `corrigenda.lock`, and the
/// patches in the store or named by the user.
pub struct VerifyContext<'a> {
    /// The project's edits; empty if there is no project.
    pub edits: EditSet,
    /// The base model. All its files are hashed when it is opened, without cached digests.
    pub base: Base,
    /// The store with the statistics, the compiled edits and the candidate patches.
    pub store: &'a Store,
    /// The content of `corrigenda.lock`; `None` if there is no project or nothing was built yet.
    pub lock: Option<Lock>,
    /// The digest and the bytes of a patch that the user named; the checked export may contain this patch.
    pub named_patch: Option<(Digest, Vec<u8>)>,
}

impl<'a> VerifyContext<'a> {
    /// Returns the texts to put before prompts (prefaces), as `corrigenda.lock` records them; empty if nothing was
    /// built yet.
    pub(super) fn prefaces(&self) -> Prefaces {
        self.lock.as_ref().map(|lock| lock.prefaces(&self.edits)).unwrap_or_default()
    }

    /// Creates the context of a project: opens the base, copies the edits and reads `corrigenda.lock`. All files of the
    /// base are hashed, without cached digests.
    ///
    /// # Errors
    /// If the base or `corrigenda.lock` cannot be read.
    pub fn open(project: &'a Project, store: &'a Store, isa: Isa) -> Result<Self, Failure> {
        let base = Base::open(project, store, isa, true)?;
        let lock = project.lock()?;
        Ok(Self { edits: project.edits.clone(), base, store, lock, named_patch: None })
    }

    /// Creates a context without a project: opens the base in `folder`, with no edits and no `corrigenda.lock`. All
    /// files of the base are hashed, without cached digests.
    ///
    /// # Errors
    /// If the base cannot be read.
    pub fn without_project(folder: &Path, store: &'a Store, isa: Isa) -> Result<Self, Failure> {
        let base = Base::at(folder, store, isa, true);
        let base = base?;
        Ok(Self { edits: EditSet::default(), base, store, lock: None, named_patch: None })
    }

    /// Adds a patch that the user named. It is compared with the export even if it is not in the store.
    ///
    /// # Errors
    /// If the patch cannot be read or is not valid.
    #[must_use = "what is named is tried"]
    pub fn with_patch(mut self, patch: &NamedPatch) -> Result<Self, Failure> {
        patch.patch()?;
        let bytes = patch.bytes()?;
        self.named_patch = Some((Digest::of(&bytes), bytes));
        Ok(self)
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
