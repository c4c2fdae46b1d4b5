use std::path::Path;

use git2::ErrorCode;

use crate::diagnostics::{Code, Diagnostic, did_you_mean};

/// The reason why the git history of a project cannot be read: there is no usable repository, a revision does not name
/// exactly one commit, or git cannot read an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    #[error("`{folder}` is not in a git repository")]
    NoRepository { folder: String },
    /// The repository belongs to a different user, and git's setting `safe.directory` does not list the repository.
    #[error("the git repository `{folder}` belongs to another user")]
    NotOwned { folder: String },
    #[error("the git repository at `{folder}` is bare: it has no working tree")]
    Bare { folder: String },
    /// Git's setting `core.worktree` names a folder that does not contain the project's folder.
    #[error("`{folder}` is not below `{worktree}`, the working tree of its git repository")]
    OutsideWorktree { folder: String, worktree: String },
    #[error("the git repository has no commit yet")]
    Unborn,
    #[error("git does not find the revision `{spec}`")]
    UnknownRevision {
        spec: String,
        /// The existing branch or tag whose name is most similar to the unknown revision; `None` if none is similar.
        near: Option<String>,
    },
    #[error("git does not find the revision `{spec}` in this clone, which is shallow")]
    Shallow { spec: String },
    #[error("the revision `{spec}` is ambiguous: it matches more than one object")]
    Ambiguous { spec: String },
    #[error("`{spec}` is not a commit")]
    NotACommit { spec: String },
    /// A git object is damaged, too large, or of a kind that is not read, such as a link or a submodule.
    #[error("{what} cannot be read: {why}")]
    Unreadable {
        /// What cannot be read, as text for the message: a file, folder, revision or commit.
        what: String,
        /// The reason why `what` cannot be read, for the end of the message.
        why: String,
    },
    #[error("git: {0}")]
    Git(String),
}

impl HistoryError {
    /// Returns advice for the user on how to fix the error; `None` if there is no advice.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoRepository { .. } => "the history of facts is read from git: run `git init`, then commit the \
                                          project"
                .to_owned(),
            Self::NotOwned { folder } => {
                format!("if you trust it, run `git config --global --add safe.directory '{folder}'`")
            }
            Self::Bare { .. } => "clone it, and name the project's folder in the clone with `-C DIR`".to_owned(),
            Self::OutsideWorktree { .. } => "check `git config core.worktree`".to_owned(),
            Self::Unborn => "commit the project first".to_owned(),
            Self::UnknownRevision { near: Some(near), .. } => did_you_mean(near),
            Self::UnknownRevision { .. } => "run `git log --all --oneline` to list the commits".to_owned(),
            Self::Shallow { .. } => UNSHALLOW.to_owned(),
            Self::Ambiguous { .. } => "write more characters of the id".to_owned(),
            Self::NotACommit { .. } => "name a branch, a tag or a commit".to_owned(),
            Self::Unreadable { .. } => "run `git fsck` to check the repository for damage".to_owned(),
            Self::Git(_) => return None,
        })
    }

    /// Returns the error as a diagnostic, with the advice of [`hint`](Self::hint) as a help line.
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

    /// Returns the error for the repository of the project in `folder`, which git could not open. A missing repository
    /// and the repository of a different user have their own variants.
    pub(super) fn opening(folder: &Path, error: &git2::Error) -> Self {
        // The user must add the root folder of the repository to git's setting `safe.directory`, so the message names
        // the root folder.
        let whole = folder.ancestors().find(|above| above.join(".git").exists()).unwrap_or(folder);
        let shown = |path: &Path| path.display().to_string();
        match error.code() {
            ErrorCode::NotFound => Self::NoRepository { folder: shown(folder) },
            ErrorCode::Owner => Self::NotOwned { folder: shown(whole) },
            _ => Self::unreadable(format!("the git repository of `{}`", shown(folder)), error),
        }
    }

    /// Returns the error for a git object that git cannot read. `what` names the object, and git's message is the
    /// reason.
    pub(super) fn unreadable(what: impl Into<String>, error: &git2::Error) -> Self {
        Self::refused(what, error.message())
    }

    /// Returns the error for a git object that exists but is rejected. `what` names the object, and `why` is the
    /// reason.
    pub(super) fn refused(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unreadable { what: what.into(), why: why.into() }
    }
}

/// The help line of diagnostics about a shallow clone, which lacks older commits.
pub const UNSHALLOW: &str = "run `git fetch --unshallow` to fetch the rest";
