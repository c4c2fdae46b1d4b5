//! Implements the checks of `verify`: they compare what the lock, manifests and patches state with the actual bytes.
//!
//! - [`project`](mod@project): checks the store, `corrigenda.lock` and the base, whose files it reads again;
//! - [`patch`](mod@patch): checks one patch: its digest, its encoding, and the base that it names;
//! - [`checkpoint`](mod@checkpoint): compares an exported checkpoint with the patched base, file by file and tensor
//!   by tensor ([`tensors`]);
//! - [`adapter`], [`gguf`](mod@gguf): compare an adapter for transformers or llama.cpp with its patch;
//! - [`known`]: lists the patches that an export may contain, and reports its facts;
//! - [`claims`]: compares a manifest with the bytes of the export;
//! - [`rebuild`](mod@rebuild): builds everything again in an empty store and compares the bytes with the lock.
//!
//! All of them return an [`Audit`]: every check with its state, in the order of the report. A failed check is a value
//! and does not end the run, so one run reports all failures. Nothing here writes to the project, the store or the
//! base.

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
    /// The check could not be made: something that it needs is missing.
    Unknown,
    /// The checked item differs from what is expected, or is missing.
    Wrong,
    /// The lock no longer matches the project or the base; a new build is needed.
    Stale,
}

impl CheckState {
    /// Returns the word shown in the report; failures are in upper case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Wrong => "WRONG",
            Self::Stale => "STALE",
        }
    }
}

/// One line of the report: a checked item and the outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Whether the check passed, failed or could not be made.
    pub state: CheckState,
    /// The kind of the checked item: `file`, `tensor`, `object` …
    pub group: &'static str,
    /// The name of the checked item: a file, a tensor, a module, a short digest …
    pub name: String,
    /// The finding in a few words, for example `as exported` or `missing`.
    pub summary: String,
    /// Further lines, for example expected and found digests.
    pub details: Vec<String>,
    /// Whether the check may be left out of the report when it passed, because there are many like it.
    pub collapsible: bool,
}

impl Check {
    /// Creates a passed check without details.
    pub fn ok(group: &'static str, name: impl Into<String>, said: impl Into<String>) -> Self {
        let (name, said) = (name.into(), said.into());
        Self { state: CheckState::Ok, group, name, summary: said, details: Vec::new(), collapsible: false }
    }

    /// Creates a failed check with state [`State::Wrong`].
    pub fn wrong(group: &'static str, name: impl Into<String>, said: impl Into<String>) -> Self {
        Self { state: CheckState::Wrong, ..Self::ok(group, name, said) }
    }

    /// Replaces the state, for failures that are [`State::Unknown`] or [`State::Stale`].
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

    /// Marks the check as one of many, which the report may leave out when it passed.
    #[must_use]
    pub fn collapsible(self) -> Self {
        Self { collapsible: true, ..self }
    }
}

/// The result of one run of `verify`: all checks, the verdict, and the commands that fix failures.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// The kind of the audit: `project`, `patch`, `checkpoint`, `adapter` or `rebuild`.
    pub kind: &'static str,
    /// The checks, in the order of the report.
    pub checks: Vec<Check>,
    /// The sentence that is shown if every check passed.
    pub verdict: String,
    /// How to fix the failures, without duplicates, in order; most of them are commands.
    pub repairs: Vec<String>,
    /// Additional fields of the JSON output; an object, empty by default.
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

    /// Returns the worst state of all checks; `Ok` if there are none.
    pub fn state(&self) -> CheckState {
        self.checks.iter().map(|check| check.state).max().unwrap_or(CheckState::Ok)
    }

    /// Returns the number of checks that did not pass.
    pub fn failures(&self) -> usize {
        self.checks.iter().filter(|check| check.state != CheckState::Ok).count()
    }
}

/// The input of an audit: the base, the store and the project's edits and lock.
pub struct VerifyContext<'a> {
    /// The project's edits; empty without a project.
    pub edits: EditSet,
    /// The base, with every file read again instead of using stored digests.
    pub base: Base,
    /// The store from which statistics, objects and candidate patches are read.
    pub store: &'a Store,
    /// The content of `corrigenda.lock`; `None` without a project or before the first build.
    pub lock: Option<Lock>,
    /// A patch named on the command line, as digest and bytes: the audited export may contain it.
    pub named_patch: Option<(Digest, Vec<u8>)>,
}

impl<'a> VerifyContext<'a> {
    /// Returns the prefaces that `corrigenda.lock` records for the edits; empty without a lock.
    pub(super) fn prefaces(&self) -> Prefaces {
        self.lock.as_ref().map(|lock| lock.prefaces(&self.edits)).unwrap_or_default()
    }

    /// Opens the project's base, reading every file again.
    ///
    /// # Errors
    /// If the base or the lock cannot be read.
    pub fn open(project: &'a Project, store: &'a Store, isa: Isa) -> Result<Self, Failure> {
        let base = Base::open(project, store, isa, true)?;
        let lock = project.lock()?;
        Ok(Self { edits: project.edits.clone(), base, store, lock, named_patch: None })
    }

    /// Opens a base folder without a project, reading every file again.
    ///
    /// # Errors
    /// If the base cannot be read.
    pub fn without_project(folder: &Path, store: &'a Store, isa: Isa) -> Result<Self, Failure> {
        let base = Base::at(folder, store, isa, true);
        let base = base?;
        Ok(Self { edits: EditSet::default(), base, store, lock: None, named_patch: None })
    }

    /// Adds a patch that the audited export may contain, for example one that is not in the store.
    ///
    /// # Errors
    /// If the patch cannot be read.
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
