//! Exports store entries to a directory and imports them. The directory has one folder per kind of entry, with files
//! such as `objects/<digest>` and `patches/<digest>.safetensors`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::list::sorted;
use super::sealed::TRAILER;
use super::write::{make_folder, refuse_link};
use super::{EntryKind, Store, StoreEntry, StoreError, atomic, read_whole};
use crate::digest::Digest;
use crate::regular_file::canonicalize_lenient;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedFile {
    pub path: PathBuf,
    /// The reason why the file was not imported, as part of a message.
    pub why: String,
}

/// The entries and files that [`Store::import`] imported, skipped or rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportedEntries {
    /// The entries that were missing or damaged in this store and were imported.
    pub new: Vec<StoreEntry>,
    /// The entries that this store already had with the same payload. They were not written again.
    pub present: Vec<StoreEntry>,
    pub refused: Vec<RejectedFile>,
}

impl Store {
    /// Copies entries to the directory `to` and returns them. `keys` selects the entries; `None` selects all entries of
    /// the kinds [`EntryKind::Object`], [`EntryKind::Patch`] and [`EntryKind::Refusal`]. Every entry is verified.
    ///
    /// # Errors
    /// If an entry is damaged or a selected entry is missing; if `to` is inside this store; if `to` has a valid file
    /// with a different payload for an entry ([`StoreError::Conflict`]); or if an I/O operation fails.
    pub fn export(
        &self,
        keys: Option<&BTreeSet<(EntryKind, Digest)>>,
        to: &Path,
    ) -> Result<Vec<StoreEntry>, StoreError> {
        if canonicalize_lenient(to).starts_with(canonicalize_lenient(&self.root)) {
            return Err(StoreError::InsideStore { path: to.to_owned() });
        }
        let keys = match keys {
            Some(keys) => keys.clone(),
            None => {
                let carried = |entry: &StoreEntry| {
                    matches!(entry.kind, EntryKind::Object | EntryKind::Patch | EntryKind::Refusal)
                };
                self.ls()?.into_iter().filter(carried).map(|entry| (entry.kind, entry.key)).collect()
            }
        };
        keys.into_iter().map(|(kind, key)| self.export_one(kind, &key, to)).collect()
    }

    fn export_one(&self, kind: EntryKind, key: &Digest, to: &Path) -> Result<StoreEntry, StoreError> {
        let from = self.path(kind, key);
        let Some((bytes, new)) = read_whole(&from, kind, key)? else {
            return Err(StoreError::Missing { kind, key: *key });
        };
        let folder = to.join(kind.folder());
        refuse_link(&folder)?;
        make_folder(&folder).map_err(StoreError::io("creating", &folder))?;
        let path = folder.join(format!("{}{}", key.hex(), kind.suffix()));
        match read_whole(&path, kind, key) {
            Ok(Some((_, existing))) if existing == new => {}
            Ok(Some((_, existing))) if kind != EntryKind::Partial => {
                return Err(StoreError::Conflict { path, existing, new });
            }
            Ok(_) | Err(StoreError::Damaged { .. }) => atomic::write(&path, &bytes)?,
            Err(error) => return Err(error),
        }
        Ok(StoreEntry { kind, key: *key, size: bytes.len() as u64 })
    }

    /// Verifies and imports the entries that [`Store::export`] wrote to the directory `from`. A file is rejected if it
    /// is damaged, if its name is not the name of an entry, or if this store has a valid entry of the same kind
    /// and key with a different payload. The other files are still imported.
    ///
    /// # Errors
    /// If `from` has no exported entries, or this store cannot be written to.
    pub fn import(&self, from: &Path) -> Result<ImportedEntries, StoreError> {
        let folders: Vec<_> = EntryKind::ALL.iter().map(|&kind| (kind, from.join(kind.folder()))).collect();
        if !folders.iter().any(|(_, folder)| folder.is_dir()) {
            return Err(StoreError::NotAnExport { path: from.to_owned() });
        }
        let mut imported = ImportedEntries::default();
        for (kind, folder) in folders {
            for (name, path) in sorted(&folder)? {
                if atomic::is_temporary(&name) {
                    continue;
                }
                match self.import_one(kind, &name, &path)? {
                    Ok((entry, true)) => imported.new.push(entry),
                    Ok((entry, false)) => imported.present.push(entry),
                    Err(why) => imported.refused.push(RejectedFile { path, why }),
                }
            }
        }
        Ok(imported)
    }

    /// Imports one file. Returns the entry, and true if it was imported or false if this store already had it. The
    /// inner error is the reason why the file is rejected. The outer error means that this store cannot be read or
    /// written.
    fn import_one(
        &self,
        kind: EntryKind,
        name: &str,
        path: &Path,
    ) -> Result<Result<(StoreEntry, bool), String>, StoreError> {
        let Some(key) = name.strip_suffix(kind.suffix()).and_then(Digest::from_hex) else {
            return Ok(Err(format!("`{name}` is not the name of an entry")));
        };
        let (mut bytes, new) = match read_whole(path, kind, &key) {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(Err("it no longer exists".to_owned())),
            Err(StoreError::Damaged { why, .. }) => return Ok(Err(why)),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let entry = StoreEntry { kind, key, size: bytes.len() as u64 };
        match self.check(kind, &key) {
            Ok(Some(existing)) if existing == new => return Ok(Ok((entry, false))),
            Ok(None | Some(_)) | Err(StoreError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        if kind.is_sealed() {
            bytes.truncate(bytes.len() - TRAILER);
        }
        match self.put(kind, &key, &bytes) {
            Ok(()) => Ok(Ok((entry, true))),
            Err(StoreError::Conflict { existing, .. }) => {
                Ok(Err(format!("it contains {new}, but the store has {existing} under this key")))
            }
            Err(error) => Err(error),
        }
    }
}
