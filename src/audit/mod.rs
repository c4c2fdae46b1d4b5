//! What `verify` finds: every claim held against the bytes.
//!
//! - [`project`](mod@project): the store and the lock, the base read anew;
//! - [`patch`](mod@patch): one patch: its digest, its form, the base that it names;
//! - [`checkpoint`](mod@checkpoint): an export: base + patch, file by file and tensor by tensor ([`tensors`]);
//! - [`adapter`], [`gguf`](mod@gguf): an adapter for transformers and one for llama.cpp, against the patch whose sums
//!   they should add;
//! - [`known`]: the patches that an export may carry, and the facts that it tells;
//! - [`claims`]: what a manifest says, against what is;
//! - [`rebuild`](mod@rebuild): everything computed again in an empty store.
//!
//! All of them give an [`Audit`]: every check with its state, in the order in which people read them. A failed check
//! is a value and never ends the run, so that one run finds all of them. Nothing here writes to project, store or base.

pub mod adapter;
pub mod checkpoint;
pub mod claims;
pub mod gguf;
pub mod known;
pub mod patch;
pub mod project;
pub mod rebuild;
pub mod tensors;

use std::path::Path;

use serde_json::{Value, json};

use crate::build::named::Found;
use crate::build::{Base, Stop};
use crate::digest::Digest;
use crate::numeric::Isa;
use crate::project::{EditSet, Lock, Prefaces, Project, Sources};
use crate::store::Store;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Ok,
    /// It could not be judged: something that it needs is not here.
    Unknown,
    /// Not as it should be.
    Wrong,
    /// The lock, or the base that it names, is not what was found.
    Stale,
}

impl State {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Wrong => "WRONG",
            Self::Stale => "STALE",
        }
    }
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// How it ended.
    pub state: State,
    /// What kind of thing: `file`, `tensor`, `object` …
    pub group: &'static str,
    /// Which one.
    pub name: String,
    /// What was found, in a few words.
    pub said: String,
    /// Lines that say more.
    pub details: Vec<String>,
    /// Whether it need not be shown where it is well and there are many.
    pub common: bool,
}

impl Check {
    /// A check that ended well.
    pub fn ok(group: &'static str, name: impl Into<String>, said: impl Into<String>) -> Self {
        let (name, said) = (name.into(), said.into());
        Self { state: State::Ok, group, name, said, details: Vec::new(), common: false }
    }

    /// One that did not.
    pub fn wrong(group: &'static str, name: impl Into<String>, said: impl Into<String>) -> Self {
        Self { state: State::Wrong, ..Self::ok(group, name, said) }
    }

    /// The same with another state.
    #[must_use]
    pub fn state(self, state: State) -> Self {
        Self { state, ..self }
    }

    /// Adds a line that says more.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// One of many: not shown where it is well.
    #[must_use]
    pub fn common(self) -> Self {
        Self { common: true, ..self }
    }
}

/// Everything that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// project, patch, checkpoint, adapter or rebuild.
    pub kind: &'static str,
    /// The checks, in the order in which people read them.
    pub checks: Vec<Check>,
    /// The sentence for the case that all is well.
    pub verdict: String,
    /// What mends what is wrong, each once, in order: commands, most of them.
    pub repairs: Vec<String>,
    /// What programs are told beside the checks.
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

    /// The worst state of any check.
    pub fn state(&self) -> State {
        self.checks.iter().map(|check| check.state).max().unwrap_or(State::Ok)
    }

    /// How many checks did not end well.
    pub fn failures(&self) -> usize {
        self.checks.iter().filter(|check| check.state != State::Ok).count()
    }
}

/// What an audit stands on.
pub struct Ground<'a> {
    /// The facts of the project; none without one.
    pub edits: EditSet,
    /// The base, read anew.
    pub base: Base,
    /// The store.
    pub store: &'a Store,
    /// The lock, if there is one.
    pub lock: Option<Lock>,
    /// A patch that was named beside what is audited.
    pub named: Option<(Digest, Vec<u8>)>,
}

impl<'a> Ground<'a> {
    /// The texts after which the facts of the lock are stated.
    pub(super) fn prefaces(&self) -> Prefaces {
        self.lock.as_ref().map(|lock| lock.prefaces(&self.edits)).unwrap_or_default()
    }

    /// Opens the base, reading every file of it.
    ///
    /// # Errors
    /// The base or the lock cannot be read.
    pub fn open(project: &'a Project, store: &'a Store, isa: Isa) -> Result<Self, Stop> {
        let base = Base::open(project, store, isa, true)?;
        let lock = project.lock()?;
        Ok(Self { edits: project.edits.clone(), base, store, lock, named: None })
    }

    /// Opens a base that no project names, reading every file of it.
    ///
    /// # Errors
    /// The base cannot be read.
    pub fn alone(folder: &Path, store: &'a Store, isa: Isa) -> Result<Self, Stop> {
        let base = Base::at(folder, store, isa, true);
        let base = base.map_err(|finding| Stop::wrong(vec![finding], &Sources::default()))?;
        Ok(Self { edits: EditSet::default(), base, store, lock: None, named: None })
    }

    /// The same with a patch that what is audited may carry, wherever it lies.
    ///
    /// # Errors
    /// The patch cannot be read.
    #[must_use = "what is named is tried"]
    pub fn with(mut self, patch: &Found) -> Result<Self, Stop> {
        patch.patch()?;
        let bytes = patch.bytes()?;
        self.named = Some((Digest::of(&bytes), bytes));
        Ok(self)
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
