//! Finds the commits that changed a fact: compares the facts of every commit with those of its parents.
//!
//! A merge counts as a change only if its facts differ from those of each parent, because the changes on one branch
//! have their own commits. A commit with edit files that cannot be read is reported once: its children with the same
//! edit files are not reported. A child with other edit files is compared with the nearest ancestor whose edit files
//! can be read.
//!
//! Parsed edit sets are cached. Edit files are not parsed if their folder has the same git object id as in a parent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use jiff::Timestamp;

use super::tree::GitObject;
use super::{Commit, HistoryError, Repository};
use crate::diagnostics::{Code, Findings};
use crate::digest::Digest;
use crate::project::config::DEFAULT_EDITS;
use crate::project::edits::diff::{FactChange, ID, common, compare};
use crate::project::{ChangeKind, EditChange, EditPart, EditSet, LOCK_FILE, Lock, LockFile, PROJECT_FILE, parse_files};

/// A commit in the log. It changed facts or the patch, or introduced edit files that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub commit: Commit,
    /// The facts that the commit added, changed or removed, in ascending order of id.
    pub facts: Vec<FactChange>,
    /// The reason why the edit files of the commit cannot be read. `None` if they can be read, or if a parent has the
    /// same edit files.
    pub unreadable: Option<String>,
    /// The patch that the `corrigenda.lock` of the first parent names; [`RecordedPatch::Unlocked`] if the commit has no
    /// parent.
    pub before: RecordedPatch,
    /// The patch that the `corrigenda.lock` of this commit names.
    pub patch: RecordedPatch,
}

/// The patch that the `corrigenda.lock` of one commit names, or the reason why no patch is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordedPatch {
    Unlocked,
    Unreadable,
    Patch(Digest),
}

impl RecordedPatch {
    /// Returns the id of the patch; `None` if `corrigenda.lock` is missing, cannot be read, or names no patch.
    pub fn id(&self) -> Option<&Digest> {
        match self {
            Self::Patch(id) => Some(id),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Log {
    /// The commits that changed a fact or the patch, or that introduced edit files that cannot be read. The newest
    /// commit is first.
    pub entries: Vec<LogEntry>,
    /// The facts of the newest commit. If its edit files cannot be read, these are the facts of the nearest ancestor
    /// whose edit files can be read.
    pub facts: Rc<EditSet>,
    /// The reason why the edit files of the newest commit cannot be read; `None` if they can be read.
    pub unreadable: Option<String>,
    /// The patch that the `corrigenda.lock` of the newest commit names.
    pub patch: RecordedPatch,
    /// Whether the newest commit needs a build: the facts in its edit files differ from those in its `corrigenda.lock`.
    /// False if the commit has no readable `corrigenda.lock`.
    pub unbuilt: bool,
}

impl Log {
    /// Returns the ids of all facts in the log, including the former ids of renamed facts.
    pub fn ids(&self) -> BTreeSet<&str> {
        let facts = self.entries.iter().flat_map(|entry| &entry.facts);
        facts.flat_map(|fact| std::iter::once(fact.id.as_str()).chain(former_id(fact))).collect()
    }

    /// Keeps only the fact with the id `id` and its changes, including the changes in commits in which the fact has an
    /// earlier or later id.
    #[must_use]
    pub fn follow(mut self, id: &str) -> Self {
        let mut names = BTreeSet::from([id.to_owned()]);
        let renames = |entry: &LogEntry| {
            let pair = |fact: &FactChange| Some((former_id(fact)?.to_owned(), fact.id.clone()));
            entry.facts.iter().filter_map(pair).collect::<Vec<_>>()
        };
        // The first loop goes from old to new commits and collects the later ids of the fact. The second loop goes from
        // new to old commits and collects the earlier ids. In the opposite order, a loop could collect an id that
        // belonged to a different fact at another time.
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
            names.extend(entry.facts.iter().filter_map(former_id).map(str::to_owned));
        }
        self.entries.retain(|entry| !entry.facts.is_empty());
        self
    }
}

/// Returns the id that a fact had before a change; `None` if the change did not rename the fact.
fn former_id(fact: &FactChange) -> Option<&str> {
    let field = fact.fields.iter().find(|field| field.name == ID)?;
    field.before.first().map(String::as_str)
}

/// Returns the log of `head` and its ancestors (see [`Log`]). The patch in the log is that of the model named `model`
/// or, if `model` is `None`, that of the only model in `corrigenda.lock`.
///
/// # Errors
/// If a commit is missing or cannot be read. A file that cannot be read is recorded in the log and is not an error.
pub fn log(repository: &Repository, head: &Commit, model: Option<&str>) -> Result<Log, HistoryError> {
    let commits = repository.walk(head)?;
    let mut reader = LogReader::new(repository, model);
    let mut entries: Vec<LogEntry> = commits.into_iter().rev().filter_map(|commit| reader.entry(commit)).collect();
    entries.reverse();
    let state = reader.states.get(&head.id).cloned().unwrap_or_default();
    let (facts, patch) = (reader.set(&state.readable), reader.patch(&state.lock));
    let unreadable = reader.read(&state.facts).err();
    // A build is needed if an edit was added or removed, or if its meaning (subject, prompt, target or chat) changed.
    // Other changes, for example of metadata or expectations, do not affect the patch.
    let weighs = |change: &EditChange| change.kind != ChangeKind::Changed || change.parts.contains(&EditPart::Meaning);
    let unbuilt = reader.lock(&state.lock).is_some_and(|lock| Lock::changes(Some(&lock), &facts).iter().any(weighs));
    Ok(Log { entries, facts, unreadable, patch, unbuilt })
}

/// Follows the first parents from `head` and returns the first commit that was made at or before `instant`. Returns
/// `None` if all commits on this path are later.
///
/// # Errors
/// If a commit is missing or cannot be read.
pub fn as_of(repository: &Repository, head: &Commit, instant: Timestamp) -> Result<Option<Commit>, HistoryError> {
    let mut commit = head.clone();
    while commit.time > instant {
        let Some(parent) = commit.parents.first() else { return Ok(None) };
        commit = repository.commit(parent)?;
    }
    Ok(Some(commit))
}

/// The result of looking for the folder of edits in a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum EditsLocation {
    /// The commit has no project file, or the folder of edits does not exist.
    #[default]
    Nowhere,
    /// The path of the folder of edits, and its git object.
    In(String, GitObject),
    Unreadable(String),
}

/// The git objects of the folder of edits and of `corrigenda.lock` in a commit.
#[derive(Clone, Debug, Default)]
struct CommitState {
    facts: EditsLocation,
    /// The folder of edits of this commit. If the edit files of this commit cannot be read, this is the folder of the
    /// nearest ancestor whose edit files can be read.
    readable: EditsLocation,
    lock: Option<Result<GitObject, String>>,
}

/// A reader of the facts and the patch of each commit. It caches the files that it has parsed.
struct LogReader<'r> {
    repository: &'r Repository,
    model: Option<&'r str>,
    states: BTreeMap<String, CommitState>,
    /// A map from the git object of a project file to the folder of edits that the file names.
    folders: BTreeMap<GitObject, String>,
    locks: BTreeMap<GitObject, RecordedPatch>,
    broken: BTreeMap<EditsLocation, String>,
    /// The edit sets that were parsed most recently, oldest first. They are cached because each child of a commit is
    /// compared with the edit set of the commit.
    sets: VecDeque<(EditsLocation, Rc<EditSet>)>,
}

/// The maximum number of edit sets in the cache. The limit keeps the memory small if the history is long.
const MOST_SETS: usize = 16;

impl<'r> LogReader<'r> {
    fn new(repository: &'r Repository, model: Option<&'r str>) -> Self {
        let (states, folders, locks) = Default::default();
        Self { repository, model, states, folders, locks, broken: BTreeMap::new(), sets: VecDeque::new() }
    }

    /// Returns the log entry of a commit if the commit changed a fact or the patch, or introduced edit files that
    /// cannot be read; otherwise `None`. The parents must have been passed to this function before.
    fn entry(&mut self, commit: Commit) -> Option<LogEntry> {
        let parents: Vec<CommitState> = commit.parents.iter().filter_map(|id| self.states.get(id).cloned()).collect();
        let mut state = self.state(&commit);
        let seen = parents.iter().find(|parent| parent.facts == state.facts);
        let mut unreadable = None;
        state.readable = match seen {
            Some(parent) => parent.readable.clone(),
            None => match self.read(&state.facts) {
                Ok(_) => state.facts.clone(),
                Err(why) => {
                    unreadable = Some(why);
                    parents.first().map_or_else(EditsLocation::default, |parent| parent.readable.clone())
                }
            },
        };
        let facts = if unreadable.is_none() { self.facts(&parents, &state.readable) } else { Vec::new() };
        let before = parents.first().map_or(RecordedPatch::Unlocked, |parent| self.patch(&parent.lock));
        let patch = self.patch(&state.lock);
        let moved = match parents.len() {
            0 => patch != RecordedPatch::Unlocked,
            _ => parents.iter().all(|parent| self.patch(&parent.lock) != patch),
        };
        self.states.insert(commit.id.clone(), state);
        let is_shown = moved || unreadable.is_some() || !facts.is_empty();
        is_shown.then_some(LogEntry { commit, facts, unreadable, before, patch })
    }

    /// Compares the facts in `after` with the facts of each parent. Returns the changes that appear in the comparison
    /// with every parent. They are the changes that the commit itself made.
    fn facts(&mut self, parents: &[CommitState], after: &EditsLocation) -> Vec<FactChange> {
        if parents.iter().any(|parent| parent.readable == *after) {
            return Vec::new();
        }
        let set = self.set(after);
        let Some((first, others)) = parents.split_first() else { return compare(&EditSet::default(), &set) };
        let facts = compare(&self.set(&first.readable), &set);
        others.iter().fold(facts, |facts, parent| common(facts, &compare(&self.set(&parent.readable), &set)))
    }

    fn state(&mut self, commit: &Commit) -> CommitState {
        let facts = self.locate_edits(commit).unwrap_or_else(|error| EditsLocation::Unreadable(error.to_string()));
        let lock = self.repository.find(commit, LOCK_FILE).map_err(|error| error.to_string()).transpose();
        CommitState { facts, readable: EditsLocation::Nowhere, lock }
    }

    fn locate_edits(&mut self, commit: &Commit) -> Result<EditsLocation, HistoryError> {
        let Some(file) = self.repository.find(commit, PROJECT_FILE)? else { return Ok(EditsLocation::Nowhere) };
        let folder = match self.folders.get(&file) {
            Some(folder) => folder.clone(),
            None => {
                let folder = folder_of_edits(&self.repository.read(file, PROJECT_FILE)?);
                self.folders.insert(file, folder.clone());
                folder
            }
        };
        let found = self.repository.find(commit, &folder)?;
        Ok(found.map_or(EditsLocation::Nowhere, |found| EditsLocation::In(folder, found)))
    }

    /// Returns the edit set in a folder of edits; an empty set if the edit files cannot be read.
    fn set(&mut self, facts: &EditsLocation) -> Rc<EditSet> {
        self.read(facts).unwrap_or_default()
    }

    /// Returns the edit set in a folder of edits, from the cache or by parsing the edit files. The error is the reason
    /// why they cannot be read.
    fn read(&mut self, facts: &EditsLocation) -> Result<Rc<EditSet>, String> {
        if let Some((_, set)) = self.sets.iter().find(|(one, _)| one == facts) {
            return Ok(Rc::clone(set));
        }
        if let Some(why) = self.broken.get(facts) {
            return Err(why.clone());
        }
        let set = match facts {
            EditsLocation::Nowhere => Ok(EditSet::default()),
            EditsLocation::Unreadable(why) => Err(why.clone()),
            EditsLocation::In(folder, found) => {
                let files = self.repository.read_folder(*found, folder, "toml");
                files
                    .map_err(|error| error.to_string())
                    .and_then(|files| parse_files(files).map_or_else(none_if_missing, |all| Ok(all.0)))
            }
        };
        let set = set.map(Rc::new).inspect_err(|why| drop(self.broken.insert(facts.clone(), why.clone())))?;
        if self.sets.len() == MOST_SETS {
            self.sets.pop_front();
        }
        self.sets.push_back((facts.clone(), Rc::clone(&set)));
        Ok(set)
    }

    /// Returns the lock of the model `self.model` in `corrigenda.lock`; `None` if the file is missing, cannot be read,
    /// or has no lock of this model.
    fn lock(&self, lock: &Option<Result<GitObject, String>>) -> Option<Lock> {
        let found = lock.as_ref()?.as_ref().ok()?;
        locks(self.repository, *found)?.nearest(self.model).cloned()
    }

    fn patch(&mut self, lock: &Option<Result<GitObject, String>>) -> RecordedPatch {
        let found = match lock {
            None => return RecordedPatch::Unlocked,
            Some(Err(_)) => return RecordedPatch::Unreadable,
            Some(Ok(found)) => *found,
        };
        let (repository, model) = (self.repository, self.model);
        let read = || {
            let locks = locks(repository, found)?;
            Some(locks.nearest(model).map_or(RecordedPatch::Unlocked, |one| RecordedPatch::Patch(one.patch.id)))
        };
        self.locks.entry(found).or_insert_with(|| read().unwrap_or(RecordedPatch::Unreadable)).clone()
    }
}

/// Parses a `corrigenda.lock`; `None` if the file cannot be read or is not valid.
fn locks(repository: &Repository, found: GitObject) -> Option<LockFile> {
    let text = String::from_utf8(repository.read(found, LOCK_FILE).ok()?).ok()?;
    LockFile::parse(LOCK_FILE, &text).ok()
}

/// Converts the findings of parsing edit files. If the only error is that there are no edits, returns an empty set,
/// because the first commits of a project may have no edits. Otherwise returns an error message.
fn none_if_missing(findings: Findings) -> Result<EditSet, String> {
    let errors = findings.diagnostics.iter().filter(|finding| finding.is_error());
    let (count, empty) = errors.fold((0, true), |(count, empty), one| (count + 1, empty && one.code == Code::NoEdits));
    let plural = if count == 1 { "" } else { "s" };
    if empty {
        Ok(EditSet::default())
    } else {
        Err(format!("the edits cannot be read at this commit: {count} error{plural}"))
    }
}

/// Returns the folder of edits that a project file names, or the default folder. Errors in the rest of the file are
/// ignored.
fn folder_of_edits(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let (tree, _) = toml::de::DeTable::parse_recoverable(&text);
    let named = tree.get_ref().get("edits").and_then(|value| value.get_ref().as_str());
    named.filter(|name| !name.trim().is_empty()).unwrap_or(DEFAULT_EDITS).to_owned()
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
