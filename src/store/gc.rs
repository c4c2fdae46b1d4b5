//! Removes old entries that the caller does not want to keep, old temporary files, and on request all memos (cached
//! digests of files).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::list::{PathClass, ScannedPath, sorted};
use super::lock::StoreLock;
use super::write::remove_file;
use super::{EntryKind, Store, StoreEntry, StoreError, atomic};
use crate::digest::Digest;

/// The minimum age at which `gc` removes an entry. A younger entry may belong to a running build. [`YOUNG_PARTIAL`]
/// applies instead to some kinds.
const YOUNG: Duration = Duration::from_secs(60 * 60);

/// The minimum age at which `gc` removes unfinished work ([`EntryKind::Partial`]), the reasons why edits cannot be
/// compiled ([`EntryKind::Refusal`]) and trained editors ([`EntryKind::Editor`]). They are kept longer than other
/// entries, because they may have taken hours to compute.
const YOUNG_PARTIAL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub entries: Vec<StoreEntry>,
    /// The paths of the removed files that are not entries: temporary files, and memos (cached digests of files).
    pub others: Vec<PathBuf>,
    /// The total size of all removed files, in bytes.
    pub bytes: u64,
}

impl Store {
    /// Removes the entries that are not in `keep` and are older than an hour, and temporary files that are older than a
    /// day.
    ///
    /// A younger entry may belong to a concurrent build. Unfinished statistics and trainings, the reasons why edits
    /// cannot be compiled, and trained editors are kept for 30 days. With `all`, the age of an entry does not matter, and all memos (cached digests of
    /// files) are also removed. The store is locked, so nothing is written during the removal.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if another process holds the store's lock file for more than five minutes;
    /// [`StoreError::Symlink`] if a folder of the store is a symbolic link; [`StoreError::Io`] if a path cannot be read
    /// or removed.
    pub fn gc(&self, keep: &BTreeSet<(EntryKind, Digest)>, all: bool) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        let versioned = self.versioned();
        if !versioned.try_exists().map_err(StoreError::io("reading", &versioned))? {
            return Ok(collected);
        }
        self.refuse_links()?;
        let _alone = StoreLock::exclusive(&self.lock_path(), self.lock_timeout)?;
        for kind in EntryKind::ALL {
            for ScannedPath { path, class } in self.scan(kind.folder(), kind.suffix()) {
                match class {
                    PathClass::Entry(key) => {
                        let least = match kind {
                            _ if all => Duration::ZERO,
                            // `keep` never contains these entries, because `corrigenda.lock` does not name them. They
                            // are kept longer than other entries, because they may have taken hours to compute.
                            EntryKind::Partial | EntryKind::Refusal | EntryKind::Editor => YOUNG_PARTIAL,
                            _ => YOUNG,
                        };
                        let size = if keep.contains(&(kind, key)) { None } else { remove_older(&path, least)? };
                        if let Some(size) = size {
                            collected.bytes += size;
                            collected.entries.push(StoreEntry { kind, key, size });
                        }
                    }
                    PathClass::Temporary => collected.other(path, atomic::YOUNG)?,
                    PathClass::Unreadable(error) => return Err(error),
                    PathClass::Unknown => {}
                }
            }
            remove_empty(&versioned.join(kind.folder()))?;
        }
        self.gc_others(all, &mut collected)?;
        Ok(collected)
    }

    fn gc_others(&self, all: bool, collected: &mut Collected) -> Result<(), StoreError> {
        for ScannedPath { path, class } in self.scan("memo", "") {
            match class {
                PathClass::Entry(_) if all => collected.other(path, Duration::ZERO)?,
                PathClass::Temporary => collected.other(path, atomic::YOUNG)?,
                _ => {}
            }
        }
        let top = [self.versioned(), self.root.clone()];
        for directory in top {
            for (_, path) in sorted(&directory)?.into_iter().filter(|(name, _)| atomic::is_temporary(name)) {
                collected.other(path, atomic::YOUNG)?;
            }
        }
        Ok(())
    }
}

impl Collected {
    fn other(&mut self, path: PathBuf, least: Duration) -> Result<(), StoreError> {
        if let Some(size) = remove_older(&path, least)? {
            self.bytes += size;
            self.others.push(path);
        }
        Ok(())
    }
}

/// Removes a file whose age is at least `least`, and returns its size in bytes. Returns `None` if the file is younger,
/// missing or a directory. A modification time in the future counts as age 0.
fn remove_older(path: &Path, least: Duration) -> Result<Option<u64>, StoreError> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) if !there.is_dir() => there,
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("reading", path)(error)),
    };
    let modified = there.modified().map_err(StoreError::io("reading", path))?;
    let age = SystemTime::now().duration_since(modified).unwrap_or(Duration::ZERO);
    if age < least {
        return Ok(None);
    }
    remove_file(path).map_err(StoreError::io("removing", path))?;
    Ok(Some(there.len()))
}

/// Removes the subfolders of `folder` that are empty and have names of two characters. The store creates such
/// subfolders for the first two hexadecimal digits of keys. No writer is using them, because `gc` holds the store's
/// lock exclusively.
fn remove_empty(folder: &Path) -> Result<(), StoreError> {
    for (_, path) in sorted(folder)?.into_iter().filter(|(name, path)| name.len() == 2 && path.is_dir()) {
        // `remove_dir` fails for a folder that is not empty, so such a folder is kept.
        let _ = fs::remove_dir(path);
    }
    Ok(())
}
