use std::io;
use std::path::{Path, PathBuf};

use super::EntryKind;
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::Digest;

/// An error of the store, or of an atomic write to a file outside the store, such as `corrigenda.lock`.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{operation} `{}` failed: {source}{}", path.display(), remedy(source))]
    Io {
        /// The operation that failed, such as `reading` or `writing`.
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("`{}` is a symbolic link, which is not followed for writing: write to the file it points to, or remove it", path.display())]
    Symlink { path: PathBuf },
    #[error("`{}` is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("`{}` is damaged: {why}", path.display())]
    Damaged {
        path: PathBuf,
        /// A description of the damage, for the end of the message.
        why: String,
    },
    /// The store already has a valid entry under this key, with a different payload. The key is a digest of the inputs,
    /// so two computations from the same inputs gave different bytes.
    #[error(
        "`{}` contains {existing}, but the same inputs now gave {new}: the entry is kept; if it is wrong, remove the file",
        path.display()
    )]
    Conflict {
        path: PathBuf,
        /// The SHA-256 of the payload that is in the store.
        existing: Digest,
        /// The SHA-256 of the payload that was not written.
        new: Digest,
    },
    #[error("storing a patch as {expected}: the digest of its bytes is {found}")]
    WrongAddress {
        expected: Digest,
        /// The SHA-256 of the patch's bytes, under which the patch must be stored.
        found: Digest,
    },
    #[error("`{}` is locked by {holder}, and was not released within {seconds} s: wait for it to end, or end it", path.display())]
    Busy {
        path: PathBuf,
        /// The processes that hold the store's lock file, as text for the message.
        holder: String,
        seconds: u64,
    },
    #[error("`{}` changed while it was being read: try again when nothing writes to it", path.display())]
    Changed { path: PathBuf },
    #[error("the store holds no {kind} {key}")]
    Missing { kind: EntryKind, key: Digest },
    #[error("`{}` is inside the store, where an export would be reported as damage: name another folder", path.display())]
    InsideStore { path: PathBuf },
    #[error("`{}` holds no exported entries (expected a folder `objects` or `patches` in it)", path.display())]
    NotAnExport { path: PathBuf },
}

impl StoreError {
    /// Returns a function for `map_err` that adds the operation and the path to an I/O error.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    pub(super) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), why: why.into() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::from(Diagnostic::new(Code::StoreFailed, error.to_string()))
    }
}

/// Returns advice for the user about an I/O error, to append to the error message. The advice is empty for most kinds
/// of errors.
fn remedy(error: &io::Error) -> &'static str {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => {
            "; free some space with `corrigenda store gc`, or put the cache elsewhere with `--cache-dir`"
        }
        PermissionDenied => "; check owner and permissions, or put the cache elsewhere with `--cache-dir`",
        ReadOnlyFilesystem => "; choose a writable place (for the cache, with `--cache-dir`)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_path_and_a_remedy() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
            let text = StoreError::io("writing", Path::new("/x/y"))(kind.into()).to_string();
            assert!(text.starts_with("writing `/x/y` failed: ") && text.contains("--cache-dir"), "{text}");
        }
    }
}
