//! When, by whom and why facts changed: every commit compared with its parents.
//!
//! A merge is told only what differs from all its parents: what came in from either side has its own commit. Where
//! the edits of a commit cannot be read, that is said once, and its children are compared with the last ancestor
//! that can be read. Nothing is parsed twice, and nothing at all where a commit leaves the facts alone: the
//! addresses of the project file, of the folder of edits and of the lock say so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use jiff::Timestamp;

use super::tree::Found;
use super::{Commit, HistoryError, Repository};
use crate::digest::Digest;
use crate::project::config::DEFAULT_EDITS;
use crate::project::facts::{ID, common, compare};
use crate::project::{
    Change, ChangeKind, Code, EditSet, Findings, LOCK_FILE, Lock, LockFile, PROJECT_FILE, Part, parse_files,
};
use crate::report::Fact;

/// What one commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The commit.
    pub commit: Commit,
    /// The facts that it added, changed or removed, by id.
    pub facts: Vec<Fact>,
    /// Why its edits cannot be read, where it is the first in which they cannot: a sentence.
    pub unreadable: Option<String>,
    /// What the lock said before; of a merge, in its first parent.
    pub before: Patched,
    /// What the lock says at this commit.
    pub patch: Patched,
}

/// What the lock says at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patched {
    /// There is no lock.
    Unlocked,
    /// There is one that cannot be read.
    Unreadable,
    /// The patch that it names.
    Patch(Digest),
}

impl Patched {
    /// The patch, if the lock names one.
    pub fn id(&self) -> Option<&Digest> {
        match self {
            Self::Patch(id) => Some(id),
            _ => None,
        }
    }
}

/// The history of a project's facts.
#[derive(Clone, Debug)]
pub struct Log {
    /// The commits that did something to facts or patch, the newest first.
    pub entries: Vec<Entry>,
    /// The facts at the newest commit, or at its last ancestor that can be read.
    pub facts: Rc<EditSet>,
    /// Why the facts of the newest commit cannot be read.
    pub unreadable: Option<String>,
    /// What the lock says at the newest commit.
    pub patch: Patched,
    /// Whether that lock is of other facts than those of the newest commit.
    pub unbuilt: bool,
}

impl Log {
    /// Every id that a fact ever had.
    pub fn ids(&self) -> BTreeSet<&str> {
        let facts = self.entries.iter().flat_map(|entry| &entry.facts);
        facts.flat_map(|fact| std::iter::once(fact.id.as_str()).chain(former(fact))).collect()
    }

    /// Only what happened to one fact, whatever its id was at the time.
    #[must_use]
    pub fn follow(mut self, id: &str) -> Self {
        let mut names = BTreeSet::from([id.to_owned()]);
        let renames = |entry: &Entry| {
            let pair = |fact: &Fact| Some((former(fact)?.to_owned(), fact.id.clone()));
            entry.facts.iter().filter_map(pair).collect::<Vec<_>>()
        };
        // Forwards to the id that it has now, then backwards: an id may have been another fact's before.
        for (old, new) in self.entries.iter().rev().flat_map(renames) {
            if names.contains(&old) {
                names.insert(new);
            }
        }
        let mut facts = (*self.facts).clone();
        facts.edits.retain(|edit| names.contains(&edit.id));
        self.facts = Rc::new(facts);
        for entry in &mut self.entries {
            entry.facts.retain(|fact| names.contains(&fact.id));
            names.extend(entry.facts.iter().filter_map(former).map(str::to_owned));
        }
        self.entries.retain(|entry| !entry.facts.is_empty());
        self
    }
}

/// The id that a fact had before.
fn former(fact: &Fact) -> Option<&str> {
    let field = fact.fields.iter().find(|field| field.name == ID)?;
    field.before.first().map(String::as_str)
}

/// The history of the facts up to a commit, and of the patch of `model`; without a name, of a project's only one.
///
/// # Errors
/// A commit is missing or cannot be read. A file that cannot be read is part of the answer.
pub fn log(repository: &Repository, head: &Commit, model: Option<&str>) -> Result<Log, HistoryError> {
    let commits = repository.walk(head)?;
    let mut reader = Reader::new(repository, model);
    let mut entries: Vec<Entry> = commits.into_iter().rev().filter_map(|commit| reader.entry(commit)).collect();
    entries.reverse();
    let state = reader.states.get(&head.id).cloned().unwrap_or_default();
    let (facts, patch) = (reader.set(&state.readable), reader.patch(&state.lock));
    let unreadable = reader.read(&state.facts).err();
    // What is only recorded or expected of a fact is in no patch.
    let weighs = |change: &Change| change.kind != ChangeKind::Changed || change.fields.contains(&Part::Meaning);
    let unbuilt = reader.lock(&state.lock).is_some_and(|lock| Lock::changes(Some(&lock), &facts).iter().any(weighs));
    Ok(Log { entries, facts, unreadable, patch, unbuilt })
}

/// The newest commit at or before an instant, going from `head` to first parents; `None` where all are later.
///
/// # Errors
/// A commit is missing or cannot be read.
pub fn as_of(repository: &Repository, head: &Commit, instant: Timestamp) -> Result<Option<Commit>, HistoryError> {
    let mut commit = head.clone();
    while commit.time > instant {
        let Some(parent) = commit.parents.first() else { return Ok(None) };
        commit = repository.commit(parent)?;
    }
    Ok(Some(commit))
}

/// Where the facts of a commit are.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Facts {
    /// There are none: no project, or no folder of edits.
    #[default]
    Nowhere,
    /// In this folder.
    In(String, Found),
    /// Somewhere that cannot be read.
    Unreadable(String),
}

/// The addresses of all that matters at a commit.
#[derive(Clone, Debug, Default)]
struct State {
    facts: Facts,
    /// The facts, or those of the last ancestor whose facts can be read.
    readable: Facts,
    lock: Option<Result<Found, String>>,
}

/// Reads what commits need to be compared, and remembers it.
struct Reader<'r> {
    repository: &'r Repository,
    model: Option<&'r str>,
    states: BTreeMap<String, State>,
    /// Which folder of edits a project file names.
    folders: BTreeMap<Found, String>,
    locks: BTreeMap<Found, Patched>,
    broken: BTreeMap<Facts, String>,
    /// The sets that were read last: those of a commit are soon wanted as those of a parent.
    sets: VecDeque<(Facts, Rc<EditSet>)>,
}

/// Sets that are remembered.
const MOST_SETS: usize = 16;

impl<'r> Reader<'r> {
    fn new(repository: &'r Repository, model: Option<&'r str>) -> Self {
        let (states, folders, locks) = Default::default();
        Self { repository, model, states, folders, locks, broken: BTreeMap::new(), sets: VecDeque::new() }
    }

    /// What a commit did, if anything. Its parents must have been seen.
    fn entry(&mut self, commit: Commit) -> Option<Entry> {
        let parents: Vec<State> = commit.parents.iter().filter_map(|id| self.states.get(id).cloned()).collect();
        let mut state = self.state(&commit);
        let seen = parents.iter().find(|parent| parent.facts == state.facts);
        let mut unreadable = None;
        state.readable = match seen {
            Some(parent) => parent.readable.clone(),
            None => match self.read(&state.facts) {
                Ok(_) => state.facts.clone(),
                Err(why) => {
                    unreadable = Some(why);
                    parents.first().map_or_else(Facts::default, |parent| parent.readable.clone())
                }
            },
        };
        let facts = if unreadable.is_none() { self.facts(&parents, &state.readable) } else { Vec::new() };
        let before = parents.first().map_or(Patched::Unlocked, |parent| self.patch(&parent.lock));
        let patch = self.patch(&state.lock);
        let moved = match parents.len() {
            0 => patch != Patched::Unlocked,
            _ => parents.iter().all(|parent| self.patch(&parent.lock) != patch),
        };
        self.states.insert(commit.id.clone(), state);
        let told = moved || unreadable.is_some() || !facts.is_empty();
        told.then_some(Entry { commit, facts, unreadable, before, patch })
    }

    /// In what facts differ from those of all parents.
    fn facts(&mut self, parents: &[State], after: &Facts) -> Vec<Fact> {
        if parents.iter().any(|parent| parent.readable == *after) {
            return Vec::new();
        }
        let set = self.set(after);
        let Some((first, others)) = parents.split_first() else { return compare(&EditSet::default(), &set) };
        let facts = compare(&self.set(&first.readable), &set);
        others.iter().fold(facts, |facts, parent| common(facts, &compare(&self.set(&parent.readable), &set)))
    }

    fn state(&mut self, commit: &Commit) -> State {
        let facts = self.whereabouts(commit).unwrap_or_else(|error| Facts::Unreadable(error.to_string()));
        let lock = self.repository.find(commit, LOCK_FILE).map_err(|error| error.to_string()).transpose();
        State { facts, readable: Facts::Nowhere, lock }
    }

    fn whereabouts(&mut self, commit: &Commit) -> Result<Facts, HistoryError> {
        let Some(file) = self.repository.find(commit, PROJECT_FILE)? else { return Ok(Facts::Nowhere) };
        let folder = match self.folders.get(&file) {
            Some(folder) => folder.clone(),
            None => {
                let folder = folder_of_edits(&self.repository.read(file, PROJECT_FILE)?);
                self.folders.insert(file, folder.clone());
                folder
            }
        };
        let found = self.repository.find(commit, &folder)?;
        Ok(found.map_or(Facts::Nowhere, |found| Facts::In(folder, found)))
    }

    /// The set, or an empty one where it cannot be read.
    fn set(&mut self, facts: &Facts) -> Rc<EditSet> {
        self.read(facts).unwrap_or_default()
    }

    /// The set, or why it cannot be read.
    fn read(&mut self, facts: &Facts) -> Result<Rc<EditSet>, String> {
        if let Some((_, set)) = self.sets.iter().find(|(one, _)| one == facts) {
            return Ok(Rc::clone(set));
        }
        if let Some(why) = self.broken.get(facts) {
            return Err(why.clone());
        }
        let set = match facts {
            Facts::Nowhere => Ok(EditSet::default()),
            Facts::Unreadable(why) => Err(why.clone()),
            Facts::In(folder, found) => {
                let files = self.repository.read_folder(*found, folder, "toml");
                files
                    .map_err(|error| error.to_string())
                    .and_then(|files| parse_files(files).map_or_else(none, |all| Ok(all.0)))
            }
        };
        let set = set.map(Rc::new).inspect_err(|why| drop(self.broken.insert(facts.clone(), why.clone())))?;
        if self.sets.len() == MOST_SETS {
            self.sets.pop_front();
        }
        self.sets.push_back((facts.clone(), Rc::clone(&set)));
        Ok(set)
    }

    /// The lock itself, if it can be read.
    fn lock(&self, lock: &Option<Result<Found, String>>) -> Option<Lock> {
        let found = lock.as_ref()?.as_ref().ok()?;
        locks(self.repository, *found)?.nearest(self.model).cloned()
    }

    fn patch(&mut self, lock: &Option<Result<Found, String>>) -> Patched {
        let found = match lock {
            None => return Patched::Unlocked,
            Some(Err(_)) => return Patched::Unreadable,
            Some(Ok(found)) => *found,
        };
        let (repository, model) = (self.repository, self.model);
        let read = || {
            let locks = locks(repository, found)?;
            Some(locks.nearest(model).map_or(Patched::Unlocked, |lock| Patched::Patch(lock.patch.id)))
        };
        self.locks.entry(found).or_insert_with(|| read().unwrap_or(Patched::Unreadable)).clone()
    }
}

/// The locks in a file, if they can be read.
fn locks(repository: &Repository, found: Found) -> Option<LockFile> {
    let text = String::from_utf8(repository.read(found, LOCK_FILE).ok()?).ok()?;
    LockFile::parse(LOCK_FILE, &text).ok()
}

/// A folder without any fact is an empty set in a history: every project begins with one.
fn none(findings: Findings) -> Result<EditSet, String> {
    let errors = findings.diagnostics.iter().filter(|finding| finding.is_error());
    let (count, empty) = errors.fold((0, true), |(count, empty), one| (count + 1, empty && one.code == Code::NoEdits));
    let plural = if count == 1 { "" } else { "s" };
    if empty {
        Ok(EditSet::default())
    } else {
        Err(format!("the edits cannot be read at this commit: {count} error{plural}"))
    }
}

/// The folder of edits that a project file names, whatever else is wrong with the file.
fn folder_of_edits(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let (tree, _) = toml::de::DeTable::parse_recoverable(&text);
    let named = tree.get_ref().get("edits").and_then(|value| value.get_ref().as_str());
    named.filter(|name| !name.trim().is_empty()).unwrap_or(DEFAULT_EDITS).to_owned()
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
