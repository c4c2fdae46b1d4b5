//! Removes entries that the caller does not list, temporary files, and memos.

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

/// The minimum age of a removed entry. A younger entry may belong to a build that is still running.
const YOUNG: Duration = Duration::from_secs(60 * 60);

/// The minimum age of a removed partial sum, which may be resumed, or refusal.
const YOUNG_PARTIAL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// The removed entries, by kind and key.
    pub entries: Vec<StoreEntry>,
    /// The removed temporary files and memos.
    pub others: Vec<PathBuf>,
    /// The sum of the sizes of all removed files, in bytes.
    pub bytes: u64,
}

impl Store {
    /// Removes every entry that is not in `keep`, and temporary files older than a day.
    ///
    /// Entries younger than an hour (partial sums and refusals: 30 days) are preserved, because a concurrent build may
    /// have just written them. With `all`, they are removed too, and so are the memos. The store's lock file is held
    /// exclusively, which prevents concurrent writes.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the store's lock file is not free within five minutes, or another error if a path cannot
    /// be read or removed.
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
                            // Partial sums and refusals can represent hours of work, and `corrigenda.lock` cannot name
                            // them.
                            EntryKind::Partial | EntryKind::Refusal => YOUNG_PARTIAL,
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

/// Removes a file that is at least as old as `least`, and returns its size in bytes. Returns `None` if the file is
/// younger, missing or a directory. A modification time in the future counts as age 0.
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

/// Removes the empty shard folders in `folder`. Writers create shard folders while they share the store's lock file, so
/// no writer is about to use an empty one.
fn remove_empty(folder: &Path) -> Result<(), StoreError> {
    for (_, path) in sorted(folder)?.into_iter().filter(|(name, path)| name.len() == 2 && path.is_dir()) {
        // Removing a folder that is not empty fails, as intended.
        let _ = fs::remove_dir(path);
    }
    Ok(())
}
