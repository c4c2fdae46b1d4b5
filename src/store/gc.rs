//! Removing what nobody needs.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::list::{Found, What, sorted};
use super::lock::Lock;
use super::write::remove_file;
use super::{Entry, Kind, Store, StoreError, atomic};
use crate::digest::Digest;

/// Younger entries may belong to a build that is still running.
const YOUNG: Duration = Duration::from_secs(60 * 60);

/// Younger sums under way may be resumed.
const YOUNG_PARTIAL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The outcome of [`Store::gc`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Entries removed, by kind and key.
    pub entries: Vec<Entry>,
    /// Temporary files and memos removed.
    pub others: Vec<PathBuf>,
    /// Bytes freed.
    pub bytes: u64,
}

impl Store {
    /// Removes every entry that is not in `keep`, and temporary files older than a day.
    ///
    /// Entries younger than an hour stay, for a build that runs beside this may have just written them, unless `all`
    /// is set, which also drops the memos. The lock is held alone meanwhile, so no write is interrupted.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where the lock is not free within five minutes, or the system refuses.
    pub fn gc(&self, keep: &BTreeSet<(Kind, Digest)>, all: bool) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        let versioned = self.versioned();
        if !versioned.try_exists().map_err(StoreError::io("reading", &versioned))? {
            return Ok(collected);
        }
        self.refuse_links()?;
        let _alone = Lock::exclusive(&self.lock_path(), self.patience)?;
        for kind in Kind::ALL {
            for Found { path, what } in self.scan(kind.folder(), kind.suffix()) {
                match what {
                    What::Entry(key) => {
                        let least = match kind {
                            _ if all => Duration::ZERO,
                            // Hours of work that no lock can name yet.
                            Kind::Partial | Kind::Refusal => YOUNG_PARTIAL,
                            _ => YOUNG,
                        };
                        let size = if keep.contains(&(kind, key)) { None } else { remove_older(&path, least)? };
                        if let Some(size) = size {
                            collected.bytes += size;
                            collected.entries.push(Entry { kind, key, size });
                        }
                    }
                    What::Temporary => collected.other(path, atomic::YOUNG)?,
                    What::Unreadable(error) => return Err(error),
                    What::Unknown => {}
                }
            }
            remove_empty(&versioned.join(kind.folder()))?;
        }
        self.gc_others(all, &mut collected)?;
        Ok(collected)
    }

    fn gc_others(&self, all: bool, collected: &mut Collected) -> Result<(), StoreError> {
        for Found { path, what } in self.scan("memo", "") {
            match what {
                What::Entry(_) if all => collected.other(path, Duration::ZERO)?,
                What::Temporary => collected.other(path, atomic::YOUNG)?,
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

/// Removes a file that is at least as old as `least`, and gives its size. One from the future counts as young.
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

/// Removes the empty shards in `folder`. Writers make theirs under the lock, so none is about to be used.
fn remove_empty(folder: &Path) -> Result<(), StoreError> {
    for (_, path) in sorted(folder)?.into_iter().filter(|(name, path)| name.len() == 2 && path.is_dir()) {
        // One that is not empty stays: this is no error.
        let _ = fs::remove_dir(path);
    }
    Ok(())
}
