//! Lists the entries of the store, sorted by kind and key, and classifies the paths in its folders.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{EntryKind, Store, StoreError, atomic};
use crate::digest::Digest;

/// An item in the list of store entries. It does not contain the payload of the entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreEntry {
    pub kind: EntryKind,
    /// The digest under which the entry is stored: a digest of its inputs or, for a patch, the SHA-256 of its bytes.
    pub key: Digest,
    /// The size of the file in bytes, including the trailer with checksums.
    pub size: u64,
}

pub(super) struct ScannedPath {
    pub(super) path: PathBuf,
    pub(super) class: PathClass,
}

pub(super) enum PathClass {
    Entry(Digest),
    Temporary,
    Unknown,
    Unreadable(StoreError),
}

impl Store {
    /// Returns all entries, sorted by kind and key. Their contents are not checked; see [`Store::verify`].
    ///
    /// # Errors
    /// If a directory cannot be listed.
    pub fn ls(&self) -> Result<Vec<StoreEntry>, StoreError> {
        let mut entries = Vec::new();
        for kind in EntryKind::ALL {
            for ScannedPath { path, class } in self.scan(kind.folder(), kind.suffix()) {
                match class {
                    PathClass::Entry(key) => match fs::symlink_metadata(&path) {
                        Ok(there) => entries.push(StoreEntry { kind, key, size: there.len() }),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(StoreError::io("reading", &path)(error)),
                    },
                    PathClass::Unreadable(error) => return Err(error),
                    PathClass::Temporary | PathClass::Unknown => {}
                }
            }
        }
        Ok(entries)
    }

    /// Returns all paths in `v1/<folder>/` and its subfolders, sorted, and whether each is an entry. The name of a
    /// subfolder is the first two hexadecimal digits of a key. The name of an entry is the other digits and `suffix`.
    pub(super) fn scan(&self, folder: &str, suffix: &str) -> Vec<ScannedPath> {
        let mut found = Vec::new();
        let folder = self.versioned().join(folder);
        for (shard, path) in list_or_note(&folder, &mut found) {
            let is_shard = shard.len() == 2 && path.is_dir() && !path.is_symlink();
            if !is_shard {
                found.push(ScannedPath { class: classify(&shard, None), path });
                continue;
            }
            for (name, entry) in list_or_note(&path, &mut found) {
                let key = name.strip_suffix(suffix).and_then(|rest| Digest::from_hex(&format!("{shard}{rest}")));
                found.push(ScannedPath { class: classify(&name, key), path: entry });
            }
        }
        found
    }
}

fn classify(name: &str, key: Option<Digest>) -> PathClass {
    match key {
        Some(key) => PathClass::Entry(key),
        None if atomic::is_temporary(name) => PathClass::Temporary,
        None => PathClass::Unknown,
    }
}

/// Returns the names and paths in a directory, sorted. If the directory cannot be listed, adds the error to `found` and
/// returns an empty list.
fn list_or_note(directory: &Path, found: &mut Vec<ScannedPath>) -> Vec<(String, PathBuf)> {
    sorted(directory).unwrap_or_else(|error| {
        found.push(ScannedPath { path: directory.to_owned(), class: PathClass::Unreadable(error) });
        Vec::new()
    })
}

/// Returns the names and paths in `directory`, sorted. The list is empty if `directory` does not exist.
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
