//! What can go wrong with files.

use std::io;
use std::path::{Path, PathBuf};

use super::Kind;
use crate::digest::Digest;

/// An operation on the store, or on a file written like one of the store's, that failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{operation} `{}` failed: {source}{}", path.display(), remedy(source))]
    Io {
        /// What was being done: `reading`, `writing` …
        operation: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A link stands where a file should be written.
    #[error("`{}` is a symbolic link, and is not written through: write to the file it points to, or remove it", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// A directory, pipe or device stands where a file should be.
    #[error("`{}` is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The entry is not what was once written.
    #[error("`{}` is damaged: {why}", path.display())]
    Damaged {
        /// The entry.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Two different values for one key: the same inputs gave different bytes.
    #[error(
        "`{}` holds {kept}, and the same inputs now gave {new}: the entry is kept; if it is wrong, remove the file",
        path.display()
    )]
    Conflict {
        /// The entry that is kept.
        path: PathBuf,
        /// Digest of its payload.
        kept: Digest,
        /// Digest of the payload that was not written.
        new: Digest,
    },
    /// Bytes under an address that is not their own.
    #[error("storing a patch as {expected}: its bytes are {found}")]
    WrongAddress {
        /// The address asked for.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// Another process holds the store's lock.
    #[error("`{}` is held by {holder}, and was not free within {seconds} s: wait for it to end, or end it", path.display())]
    Busy {
        /// The lock.
        path: PathBuf,
        /// Who holds it, as far as known.
        holder: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A file changed while it was read.
    #[error("`{}` changed while it was being read: try again when nothing writes to it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// An entry that was asked for by name is not there.
    #[error("the store holds no {kind} {key}")]
    Missing {
        /// Its kind.
        kind: Kind,
        /// Its key.
        key: Digest,
    },
    /// Entries were to be exported into the store itself.
    #[error("`{}` lies inside the store, where an export would be taken for damage: name another folder", path.display())]
    InsideStore {
        /// The directory.
        path: PathBuf,
    },
    /// A directory without entries was to be imported.
    #[error("`{}` holds no exported entries (expected a folder `objects` or `patches` in it)", path.display())]
    NotAnExport {
        /// The directory.
        path: PathBuf,
    },
}

impl StoreError {
    /// Wraps an error of the system, for use in `map_err`.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    /// An entry that fails its check.
    pub(super) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), why: why.into() }
    }
}

/// What a person can do about it, as the end of a sentence.
fn remedy(error: &io::Error) -> &'static str {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => {
            "; free some space (`corrigenda store gc` does), or put the cache elsewhere with `--cache-dir`"
        }
        PermissionDenied => "; check owner and permissions, or put the cache elsewhere with `--cache-dir`",
        ReadOnlyFilesystem => "; choose a place that can be written to (for the cache: `--cache-dir`)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_where_and_how_to_mend_it() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
            let text = StoreError::io("writing", Path::new("/x/y"))(kind.into()).to_string();
            assert!(text.starts_with("writing `/x/y` failed: ") && text.contains("--cache-dir"), "{text}");
        }
    }
}
