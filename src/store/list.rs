//! Lists the entries of the store in a fixed order.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Kind, Store, StoreError, atomic};
use crate::digest::Digest;

/// An entry as [`Store::ls`] lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The kind of the entry.
    pub kind: Kind,
    /// The key of the entry; for a patch, the SHA-256 of its bytes.
    pub key: Digest,
    /// The size of the file in bytes, including the seal.
    pub size: u64,
}

/// A path that [`Store::scan`] returns, with its classification.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) what: What,
}

/// The classification of a path by its name.
pub(super) enum What {
    Entry(Digest),
    Temporary,
    Unknown,
    Unreadable(StoreError),
}

impl Store {
    /// Returns every entry, sorted by kind and key. The contents are not checked; see [`Store::verify`].
    ///
    /// # Errors
    /// If a directory cannot be listed.
    pub fn ls(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for kind in Kind::ALL {
            for Found { path, what } in self.scan(kind.folder(), kind.suffix()) {
                match what {
                    What::Entry(key) => match fs::symlink_metadata(&path) {
                        Ok(there) => entries.push(Entry { kind, key, size: there.len() }),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(StoreError::io("reading", &path)(error)),
                    },
                    What::Unreadable(error) => return Err(error),
                    What::Temporary | What::Unknown => {}
                }
            }
        }
        Ok(entries)
    }

    /// Returns every path in the shard folders of `v1/<folder>/`, sorted and classified. The names of entries end in
    /// `suffix`.
    pub(super) fn scan(&self, folder: &str, suffix: &str) -> Vec<Found> {
        let mut found = Vec::new();
        let folder = self.versioned().join(folder);
        for (shard, path) in listed(&folder, &mut found) {
            let is_shard = shard.len() == 2 && path.is_dir() && !path.is_symlink();
            if !is_shard {
                found.push(Found { what: by_name(&shard, None), path });
                continue;
            }
            for (name, path) in listed(&path, &mut found) {
                let key = name.strip_suffix(suffix).and_then(|rest| Digest::from_hex(&format!("{shard}{rest}")));
                found.push(Found { what: by_name(&name, key), path });
            }
        }
        found
    }
}

fn by_name(name: &str, key: Option<Digest>) -> What {
    match key {
        Some(key) => What::Entry(key),
        None if atomic::is_temporary(name) => What::Temporary,
        None => What::Unknown,
    }
}

/// Returns the sorted content of a directory. If it cannot be listed, the error is added to `found`.
fn listed(directory: &Path, found: &mut Vec<Found>) -> Vec<(String, PathBuf)> {
    sorted(directory).unwrap_or_else(|error| {
        found.push(Found { path: directory.to_owned(), what: What::Unreadable(error) });
        Vec::new()
    })
}

/// Returns the names and paths in `directory`, sorted; empty if it does not exist.
pub(super) fn sorted(directory: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(StoreError::io("listing", directory))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("listing", directory))?;
        names.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    names.sort();
    Ok(names)
}
