//! Reads the git history of a project: the files of a commit, and the changes of facts. No module outside this one uses
//! git.
//!
//! - [`Repository`] finds the repository of a project, resolves revisions and lists commits.
//! - `tree` reads the files of a commit.
//! - [`log`](mod@log) compares the facts of every commit with those of its parents.
//!
//! All data are read from git's object database. Nothing is checked out or written, and no hooks or filters are run.
//! The only git settings that are used are the location of the working tree and `safe.directory`. Commits are untrusted
//! input, so file sizes and folder depths are limited, and invalid UTF-8 in authors and messages is replaced.

mod error;
pub mod log;
mod tree;

use std::collections::{BTreeMap, BinaryHeap};
use std::path::{Path, PathBuf};

use git2::{ErrorCode, Oid};
use jiff::Timestamp;
use jiff::tz::Offset;

use crate::diagnostics::most_similar;

pub use error::{HistoryError, UNSHALLOW};
pub use log::{Log, LogEntry, RecordedPatch};

/// An open git repository that contains a project.
pub struct Repository {
    git: git2::Repository,
    /// The path of the project's folder, relative to the root of the working tree.
    prefix: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The full hexadecimal git object id.
    pub id: String,
    /// The ids of the parents. The first parent of a merge is the commit into which the other parents were merged. The
    /// list is empty for the first commit, and for the oldest commits of a shallow clone.
    pub parents: Vec<String>,
    pub author: String,
    pub email: String,
    /// The time of the commit, as stated by the committer.
    pub time: Timestamp,
    pub authored: Timestamp,
    /// The offset from UTC of the author's local time at `authored`; UTC if the commit states an invalid offset.
    pub offset: Offset,
    /// The first paragraph of the message, joined to one line.
    pub summary: String,
    pub message: String,
    /// The trailers of the message in order: pairs of name and value, such as `Fixes` and `#12`.
    pub trailers: Vec<(String, String)>,
    /// Whether the repository is a shallow clone that lacks the parents of this commit.
    pub is_shallow_boundary: bool,
    /// The git object id of the commit's root folder.
    tree: Oid,
}

/// The number of hexadecimal digits in an abbreviated commit id.
const SHORT: usize = 12;

impl Commit {
    /// Returns the first 12 hexadecimal digits of the commit id, for messages.
    pub fn short(&self) -> &str {
        &self.id[..SHORT.min(self.id.len())]
    }

    fn new(commit: &git2::Commit<'_>) -> Self {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let author = commit.author();
        let message = lossy(commit.message_bytes());
        let trailers = git2::message_trailers_strs(&message).map_or_else(
            |_| Vec::new(),
            |trailers| trailers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        );
        let parents: Vec<String> = commit.parent_ids().map(|id| id.to_string()).collect();
        let written = commit.raw_header_bytes().split(|byte| *byte == b'\n').any(|line| line.starts_with(b"parent "));
        Self {
            id: commit.id().to_string(),
            is_shallow_boundary: parents.is_empty() && written,
            parents,
            author: lossy(author.name_bytes()),
            email: lossy(author.email_bytes()),
            time: instant(commit.time()),
            authored: instant(author.when()),
            offset: Offset::from_seconds(author.when().offset_minutes().saturating_mul(60)).unwrap_or(Offset::UTC),
            summary: commit.summary_bytes().map_or_else(String::new, lossy),
            message,
            trailers,
            tree: commit.tree_id(),
        }
    }
}

/// Converts a git time. If [`Timestamp`] cannot represent the time, returns the nearest time in its range.
fn instant(time: git2::Time) -> Timestamp {
    let nearest = if time.seconds() < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(time.seconds()).unwrap_or(nearest)
}

impl Repository {
    /// Opens the repository that contains the project's folder.
    ///
    /// # Errors
    /// If no repository contains the folder; if the repository is bare, belongs to a different user or cannot be read;
    /// or if its working tree does not contain the folder.
    pub fn discover(project: &Path) -> Result<Self, HistoryError> {
        let given = project.display().to_string();
        let whole = |path: &Path| {
            path.canonicalize().map_err(|error| HistoryError::refused(format!("`{given}`"), error.to_string()))
        };
        let folder = whole(project)?;
        let shown = folder.display().to_string();
        let git = git2::Repository::discover(&folder).map_err(|error| HistoryError::opening(&folder, &error))?;
        let Some(worktree) = git.workdir() else {
            return Err(HistoryError::Bare { folder: git.path().display().to_string() });
        };
        let worktree = whole(worktree)?;
        let Ok(prefix) = folder.strip_prefix(&worktree) else {
            return Err(HistoryError::OutsideWorktree { folder: shown, worktree: worktree.display().to_string() });
        };
        let prefix = prefix.to_owned();
        Ok(Self { git, prefix })
    }

    /// Returns the commit that a revision names: a branch, a tag, an id, or an expression such as `HEAD~2`.
    ///
    /// # Errors
    /// If the revision does not exist, is ambiguous, is not a commit, or cannot be read.
    pub fn resolve(&self, revision: &str) -> Result<Commit, HistoryError> {
        let spec = || revision.to_owned();
        let object = self.git.revparse_single(revision).map_err(|error| match error.code() {
            ErrorCode::UnbornBranch => HistoryError::Unborn,
            ErrorCode::Ambiguous => HistoryError::Ambiguous { spec: spec() },
            ErrorCode::NotFound | ErrorCode::InvalidSpec if self.is_unborn() => HistoryError::Unborn,
            ErrorCode::NotFound | ErrorCode::InvalidSpec => self.unknown(revision),
            _ => HistoryError::unreadable(format!("the revision `{revision}`"), &error),
        })?;
        let commit = object.peel_to_commit().map_err(|error| match error.code() {
            ErrorCode::NotFound => HistoryError::unreadable(format!("the revision `{revision}`"), &error),
            _ => HistoryError::NotACommit { spec: spec() },
        })?;
        Ok(Commit::new(&commit))
    }

    /// Returns the commit with this full hexadecimal id.
    ///
    /// # Errors
    /// If the commit does not exist or cannot be read.
    pub fn commit(&self, id: &str) -> Result<Commit, HistoryError> {
        let oid = Oid::from_str(id).map_err(|_| HistoryError::UnknownRevision { spec: id.to_owned(), near: None })?;
        let found = self.git.find_commit(oid);
        found.map(|commit| Commit::new(&commit)).map_err(|error| match error.code() {
            ErrorCode::NotFound if self.is_shallow() => HistoryError::Shallow { spec: id.to_owned() },
            _ => HistoryError::unreadable(format!("the commit {id}"), &error),
        })
    }

    /// Returns `from` and all its ancestors. Every commit comes before its parents. Otherwise newer commits come first,
    /// and commits of the same time are in descending order of id.
    ///
    /// # Errors
    /// If a commit is missing or cannot be read.
    pub fn walk(&self, from: &Commit) -> Result<Vec<Commit>, HistoryError> {
        let mut found = BTreeMap::from([(from.id.clone(), (from.clone(), 0_usize))]);
        let mut waiting = from.parents.clone();
        while let Some(id) = waiting.pop() {
            match found.get_mut(&id) {
                Some((_, children)) => *children += 1,
                None => {
                    let commit = self.commit(&id)?;
                    waiting.extend(commit.parents.iter().cloned());
                    found.insert(id, (commit, 1));
                }
            }
        }
        let mut ready = BinaryHeap::from([(from.time, from.id.clone())]);
        let mut walk = Vec::with_capacity(found.len());
        while let Some((_, id)) = ready.pop() {
            let Some((commit, _)) = found.remove(&id) else { continue };
            for parent in &commit.parents {
                let Some((parent, children)) = found.get_mut(parent) else { continue };
                *children -= 1;
                if *children == 0 {
                    ready.push((parent.time, parent.id.clone()));
                }
            }
            walk.push(commit);
        }
        Ok(walk)
    }

    pub fn is_shallow(&self) -> bool {
        self.git.is_shallow()
    }

    /// Returns the name of the checked-out branch; `None` if HEAD is detached or cannot be read.
    pub fn head_name(&self) -> Option<String> {
        let head = self.git.head().ok()?;
        head.is_branch().then(|| String::from_utf8_lossy(head.shorthand_bytes()).into_owned())
    }

    fn is_unborn(&self) -> bool {
        self.git.head().is_err_and(|error| error.code() == ErrorCode::UnbornBranch)
    }

    /// Returns the error for a revision that does not exist. The error suggests the branch or tag with the most similar
    /// name.
    fn unknown(&self, revision: &str) -> HistoryError {
        let mut names: Vec<String> = self.git.references().map_or_else(
            |_| Vec::new(),
            |all| all.flatten().map(|one| String::from_utf8_lossy(one.shorthand_bytes()).into_owned()).collect(),
        );
        names.sort();
        let near = most_similar(revision, names.iter().map(String::as_str)).map(str::to_owned);
        if near.is_none() && self.is_shallow() {
            return HistoryError::Shallow { spec: revision.to_owned() };
        }
        HistoryError::UnknownRevision { spec: revision.to_owned(), near }
    }
}

#[cfg(test)]
pub(crate) mod samples;

#[cfg(test)]
#[path = "repository_tests.rs"]
mod tests;
