//! What git refuses, as sentences for a person.

use std::path::Path;

use git2::ErrorCode;

use crate::project::{Code, Diagnostic};

/// Why the history, or a part of it, cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// No repository holds the folder.
    #[error("`{folder}` is not in a git repository")]
    NoRepository {
        /// The project's folder.
        folder: String,
    },
    /// The repository belongs to somebody else, and git trusts only what it is told to trust.
    #[error("the git repository `{folder}` belongs to another user")]
    NotOwned {
        /// The repository's folder.
        folder: String,
    },
    /// The repository has no files beside it.
    #[error("the git repository at `{folder}` is bare: it has no project folder")]
    Bare {
        /// The repository.
        folder: String,
    },
    /// The repository keeps its files elsewhere.
    #[error("`{folder}` is not below `{worktree}`, where its git repository keeps its files")]
    OutsideWorktree {
        /// The project's folder.
        folder: String,
        /// The folder of the repository's files.
        worktree: String,
    },
    /// There is no commit yet.
    #[error("the git repository has no commit yet")]
    Unborn,
    /// No commit is known by this name.
    #[error("git knows no revision `{spec}`")]
    UnknownRevision {
        /// As it was asked for.
        spec: String,
        /// A branch or tag of nearly this name.
        near: Option<String>,
    },
    /// The same in a clone that does not hold everything.
    #[error("git knows no revision `{spec}` in this clone, which is shallow")]
    Shallow {
        /// As it was asked for.
        spec: String,
    },
    /// More than one object is known by this name.
    #[error("the revision `{spec}` may be more than one")]
    Ambiguous {
        /// As it was asked for.
        spec: String,
    },
    /// The name is one of a file or of a folder.
    #[error("`{spec}` is not a commit")]
    NotACommit {
        /// As it was asked for.
        spec: String,
    },
    /// Something in the repository that cannot be read, or is not read.
    #[error("{what} cannot be read: {why}")]
    Unreadable {
        /// What.
        what: String,
        /// Why.
        why: String,
    },
    /// Whatever else git says.
    #[error("git: {0}")]
    Git(String),
}

impl HistoryError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoRepository { .. } => "the history of facts is the one that git keeps: `git init`, then commit the \
                                          project"
                .to_owned(),
            Self::NotOwned { folder } => {
                format!("if you trust it: `git config --global --add safe.directory '{folder}'`")
            }
            Self::Bare { .. } => "clone it, and name the project's folder in the clone with `-C DIR`".to_owned(),
            Self::OutsideWorktree { .. } => "look at `git config core.worktree`".to_owned(),
            Self::Unborn => "commit the project first".to_owned(),
            Self::UnknownRevision { near: Some(near), .. } => format!("did you mean `{near}`?"),
            Self::UnknownRevision { .. } => "`git log --all --oneline` lists what there is".to_owned(),
            Self::Shallow { .. } => UNSHALLOW.to_owned(),
            Self::Ambiguous { .. } => "write more of it".to_owned(),
            Self::NotACommit { .. } => "name a branch, a tag or a commit".to_owned(),
            Self::Unreadable { .. } => "`git fsck` says more about a damaged repository".to_owned(),
            Self::Git(_) => return None,
        })
    }

    /// The same as a finding.
    pub fn finding(&self) -> Diagnostic {
        let code = match self {
            Self::NoRepository { .. } | Self::Bare { .. } | Self::OutsideWorktree { .. } | Self::Unborn => {
                Code::HistoryMissing
            }
            Self::UnknownRevision { .. } | Self::Shallow { .. } | Self::Ambiguous { .. } | Self::NotACommit { .. } => {
                Code::RevisionUnknown
            }
            Self::NotOwned { .. } | Self::Unreadable { .. } | Self::Git(_) => Code::HistoryUnreadable,
        };
        let finding = Diagnostic::new(code, self.to_string());
        match self.hint() {
            Some(hint) => finding.help(hint),
            None => finding,
        }
    }

    /// What git said when it should open the repository of `folder`.
    pub(super) fn opening(folder: &Path, error: &git2::Error) -> Self {
        // What git is told to trust is the folder of the whole repository.
        let whole = folder.ancestors().find(|above| above.join(".git").exists()).unwrap_or(folder);
        let shown = |folder: &Path| folder.display().to_string();
        match error.code() {
            ErrorCode::NotFound => Self::NoRepository { folder: shown(folder) },
            ErrorCode::Owner => Self::NotOwned { folder: shown(whole) },
            _ => Self::unreadable(format!("the git repository of `{}`", shown(folder)), error),
        }
    }

    /// An object that git could not give.
    pub(super) fn unreadable(what: impl Into<String>, error: &git2::Error) -> Self {
        Self::refused(what, error.message())
    }

    /// Something that is there, and is not read.
    pub(super) fn refused(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unreadable { what: what.into(), why: why.into() }
    }
}

/// How to get the rest of a shallow clone.
pub const UNSHALLOW: &str = "`git fetch --unshallow` fetches the rest";
