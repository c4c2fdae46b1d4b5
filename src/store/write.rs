//! Writes and removes store entries. Every write is atomic. Writers share the store's lock, which `gc` holds
//! exclusively.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::SystemTime;

use super::atomic::{self, Staged};
use super::fault::{self, Call};
use super::lock::StoreLock;
use super::{EntryKind, Store, StoreError, sealed};
use crate::digest::{Digest, Hashing};

impl Store {
    /// Stores an entry. A damaged entry under the same key is replaced. If a valid entry has the same payload, only its
    /// modification time is updated.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a valid entry has a different payload, unless its kind is [`EntryKind::Partial`];
    /// [`StoreError::WrongAddress`] for a patch whose SHA-256 is not `key`; [`StoreError::Busy`] if `gc` holds the lock
    /// of the store for longer than the timeout; [`StoreError::Io`] if an I/O operation fails.
    pub fn put(&self, kind: EntryKind, key: &Digest, payload: &[u8]) -> Result<(), StoreError> {
        self.put_with(kind, key, |writer| writer.write_all(payload)).map(drop)
    }

    /// Stores a patch under the SHA-256 of its bytes and returns this digest.
    ///
    /// # Errors
    /// If [`Store::put`] returns an error.
    pub fn put_patch(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let id = Digest::of(bytes);
        self.put(EntryKind::Patch, &id, bytes)?;
        Ok(id)
    }

    /// Stores the payload that `produce` writes, and returns its SHA-256. This is for payloads that are too large to
    /// copy. `produce` should only write and not compute, because `gc` waits until it returns.
    ///
    /// # Errors
    /// The errors of [`Store::put`]. If `produce` fails, nothing is stored and its error is returned.
    pub fn put_with(
        &self,
        kind: EntryKind,
        key: &Digest,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Digest, StoreError> {
        self.write_entry(kind, key, produce, kind == EntryKind::Partial)
    }

    /// Stores the payload that `produce` writes, like [`Store::put_with`], but replaces any existing entry.
    ///
    /// # Errors
    /// The errors of [`Store::put_with`], except [`StoreError::Conflict`]. If only the sync of the entry's folder
    /// failed, the new entry is in place. After every other error, the existing entry is unchanged.
    pub fn replace_with(
        &self,
        kind: EntryKind,
        key: &Digest,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Digest, StoreError> {
        self.write_entry(kind, key, produce, true)
    }

    fn write_entry(
        &self,
        kind: EntryKind,
        key: &Digest,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
        replace: bool,
    ) -> Result<Digest, StoreError> {
        self.prepare()?;
        let _writing = StoreLock::shared(&self.lock_path(), self.lock_timeout)?;
        let path = self.path(kind, key);
        make_parent(&path)?;
        let mut staged = Staged::new(&path)?;
        let new = write_payload(&mut staged, kind, key, produce).map_err(StoreError::io("writing", &path))?;
        if !kind.is_sealed() && new != *key {
            return Err(StoreError::WrongAddress { expected: *key, found: new });
        }
        match self.check(kind, key) {
            Ok(Some(existing)) if existing == new => mark_as_used(&path),
            Ok(Some(existing)) if !replace => return Err(StoreError::Conflict { path, existing, new }),
            Ok(_) | Err(StoreError::Damaged { .. }) => staged.commit()?,
            Err(error) => return Err(error),
        }
        Ok(new)
    }

    /// Removes an entry and returns whether the entry existed.
    ///
    /// # Errors
    /// If an I/O operation fails.
    pub fn remove(&self, kind: EntryKind, key: &Digest) -> Result<bool, StoreError> {
        let path = self.path(kind, key);
        match remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("removing", &path)(error)),
        }
    }

    /// Rejects a store in which a folder is a symbolic link, because the link may lead to a folder outside the store.
    pub(super) fn refuse_links(&self) -> Result<(), StoreError> {
        let versioned = self.versioned();
        refuse_link(&versioned)?;
        let folders = EntryKind::ALL.iter().map(|kind| kind.folder()).chain(["memo"]);
        folders.map(|folder| versioned.join(folder)).try_for_each(|folder| refuse_link(&folder))
    }

    /// Creates the store if it does not exist, and checks that it is writable. Commands call this before a long
    /// computation.
    ///
    /// # Errors
    /// If a folder of the store is a link, or an I/O operation fails.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        self.prepare()?;
        let folder = self.versioned();
        atomic::folder_in(&folder).map(drop).map_err(StoreError::io("writing in the store", &folder))
    }

    /// Creates the directory of the store if it does not exist. Also creates the file `CACHEDIR.TAG`, by which backup
    /// programs recognise a cache.
    pub(super) fn prepare(&self) -> Result<(), StoreError> {
        self.refuse_links()?;
        let versioned = self.versioned();
        make_folder(&versioned).map_err(StoreError::io("creating the store", &versioned))?;
        let tag = self.root.join("CACHEDIR.TAG");
        if tag.exists() {
            return Ok(());
        }
        let text = "Signature: 8a477f597d28d172789f06886806bc55\n# This directory is a cache of corrigenda. It may be \
                    deleted; everything in it can be computed again.\n# See https://bford.info/cachedir/\n";
        atomic::write(&tag, text.as_bytes())
    }
}

/// Writes the payload and, for all entries except patches, the trailer with checksums. Returns the digest of the
/// payload.
fn write_payload(
    staged: &mut Staged,
    kind: EntryKind,
    key: &Digest,
    produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Digest> {
    let mut payload = Hashing::new(BufWriter::with_capacity(1 << 16, staged));
    produce(&mut payload)?;
    let (digest, length) = (payload.digest(), payload.length());
    let mut file = payload.into_inner();
    if kind.is_sealed() {
        file.write_all(&sealed::trailer(kind.folder(), key, length, &digest))?;
    }
    file.flush()?;
    Ok(digest)
}

pub(super) fn make_parent(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().expect("every address has a folder");
    refuse_link(parent)?;
    make_folder(parent).map_err(StoreError::io("creating", parent))
}

pub(super) fn refuse_link(path: &Path) -> Result<(), StoreError> {
    if path.is_symlink() { Err(StoreError::Symlink { path: path.to_owned() }) } else { Ok(()) }
}

pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    fault::before(Call::Make).and_then(|()| fs::create_dir_all(path))
}

pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    fault::before(Call::Remove).and_then(|()| fs::remove_file(path))
}

/// Updates the modification time of an entry that is used again, so that a concurrent `gc` does not remove it as old.
/// Errors are ignored.
fn mark_as_used(path: &Path) {
    if let Ok(file) = File::options().write(true).open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}
