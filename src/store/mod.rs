//! Stores entries as files in the cache directory. No module outside this one creates files there.
//!
//! ```text
//! CACHEDIR.TAG
//! v1/objects/ab/cdef…             compiled edits          ┐ sealed: addressed by a digest over the
//! v1/statistics/ab/…              second moments          │ inputs, closed by a trailer with the
//! v1/factors/ab/…                 Cholesky factors        │ payload's own SHA-256
//! v1/reports/ab/…                 reports                 │
//! v1/refusals/ab/…                edits that cannot be    │
//!                                 compiled                │
//! v1/partial/ab/…                 unfinished statistics   │
//! v1/measured/ab/…                measurements of models  ┘
//! v1/patches/ab/cdef….safetensors patches, addressed by the SHA-256 of their bytes
//! v1/memo/ab/…                    digests of large base files, and statistics that a project requested
//! v1/lock                         shared by writers, exclusive for gc
//! ```
//!
//! Invariants: every read of a payload verifies its hash; every write is atomic, by a temporary file in the same
//! directory; a valid entry is never replaced by a different one, except partial statistics and by
//! [`Store::replace_with`]; the first write creates the directory; listings are sorted; this module does not depend on
//! models.

pub mod atomic;
mod damage;
mod error;
mod fault;
mod gc;
mod list;
mod lock;
mod mapping;
pub mod memo;
pub mod requested;
mod root;
mod sealed;
mod transfer;
mod verify;
mod write;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::digest::Digest;

pub use error::StoreError;
pub use gc::Collected;
pub use list::StoreEntry;
pub use mapping::Mapping;
pub use root::cache_root;
pub use transfer::{ImportedEntries, RejectedFile};
pub use verify::{Repair, StoreProblem, StoreReport};

use sealed::TRAILER;

/// The maximum size of a patch file, in bytes (4 GiB); a larger file counts as damaged.
pub const MOST_PATCH_BYTES: u64 = 4 << 30;

/// The kind of an entry, which determines its folder and whether the file has a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A compiled edit: its MLP key and value vectors at each edited layer.
    Object,
    /// A patch; its key is the SHA-256 of its bytes.
    Patch,
    /// The second moment of a layer's MLP keys, the inputs of its down-projection.
    Statistics,
    Factor,
    /// The numbers that a build reports, or the cached result of a measurement or check.
    Report,
    /// The reason why an edit cannot be compiled, under the key that its compiled object would have.
    Refusal,
    /// Partial statistics: a sum over a part of the corpus. Only an entry of this kind is replaced by a different one.
    Partial,
    /// The cached outputs of a model, or the cached damage of edits to neutral text.
    Measured,
}

impl EntryKind {
    /// All kinds, in the order in which [`Store::ls`] lists their entries.
    pub const ALL: [Self; 8] = [
        Self::Object,
        Self::Patch,
        Self::Statistics,
        Self::Factor,
        Self::Report,
        Self::Refusal,
        Self::Partial,
        Self::Measured,
    ];

    pub fn folder(self) -> &'static str {
        match self {
            Self::Object => "objects",
            Self::Patch => "patches",
            Self::Statistics => "statistics",
            Self::Factor => "factors",
            Self::Report => "reports",
            Self::Refusal => "refusals",
            Self::Partial => "partial",
            Self::Measured => "measured",
        }
    }

    /// Returns the ending of the file name: `.safetensors` for a patch, empty for all other kinds.
    fn suffix(self) -> &'static str {
        if self == Self::Patch { ".safetensors" } else { "" }
    }

    fn is_sealed(self) -> bool {
        self != Self::Patch
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Object => "object",
            Self::Patch => "patch",
            Self::Statistics => "statistics",
            Self::Factor => "factor",
            Self::Report => "report",
            Self::Refusal => "refusal",
            Self::Partial => "partial",
            Self::Measured => "measured",
        })
    }
}

/// A store in a cache directory. The directory is created by the first write.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    lock_timeout: Duration,
    /// Whether memos and entries that only save time are written or removed; false for commands that must not write to
    /// the store.
    memoize: bool,
    /// The recorded warnings about damaged entries, shared by all clones of the store.
    skipped: Arc<Mutex<Vec<String>>>,
}

impl Store {
    /// Returns the store in the directory `root` (see [`cache_root`]), without accessing the disk.
    pub fn open(root: PathBuf) -> Self {
        Self { root, lock_timeout: lock::LOCK_TIMEOUT, memoize: true, skipped: Arc::default() }
    }

    /// Returns the same store for commands that must not write to it: memos and entries that only save time are not
    /// written, and outdated entries are not removed.
    #[must_use]
    pub fn for_reading(self) -> Self {
        Self { memoize: false, ..self }
    }

    /// Returns the directory that contains `v1/`; it may not exist.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of an entry, which may not exist.
    pub fn path(&self, kind: EntryKind, key: &Digest) -> PathBuf {
        self.address(kind.folder(), key, kind.suffix())
    }

    /// Reads and verifies the payload of an entry; `None` if the entry does not exist.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the file is not a valid entry; [`StoreError::Io`] if it cannot be read.
    pub fn get(&self, kind: EntryKind, key: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(kind, key);
        let Some((bytes, _)) = read_whole(&path, kind, key)? else { return Ok(None) };
        let mut bytes = bytes;
        if kind.is_sealed() {
            bytes.truncate(bytes.len() - TRAILER);
        }
        Ok(Some(bytes))
    }

    /// Maps the payload of an entry into memory and verifies the whole payload; for statistics and factors, which are
    /// too large to copy. `None` if the entry does not exist.
    ///
    /// # Errors
    /// As for [`Store::get`].
    pub fn mmap(&self, kind: EntryKind, key: &Digest) -> Result<Option<Mapping>, StoreError> {
        let path = self.path(kind, key);
        let Some((file, length)) = open_entry(&path, kind, key)? else { return Ok(None) };
        if length == 0 {
            return Err(StoreError::damaged(&path, sealed::too_short(0)));
        }
        let mapping = Mapping::new(&file).map_err(StoreError::io("mapping", &path))?;
        check(&path, &*mapping, mapping.len() as u64, kind, key)?;
        Ok(Some(if kind.is_sealed() { mapping.without_last(TRAILER) } else { mapping }))
    }

    /// Returns the SHA-256 of an entry's payload according to its seal, without reading the payload; for a patch, the
    /// key. `None` if the entry does not exist.
    ///
    /// # Errors
    /// As for [`Store::get`], but only the seal is verified.
    pub fn content_digest(&self, kind: EntryKind, key: &Digest) -> Result<Option<Digest>, StoreError> {
        let path = self.path(kind, key);
        let Some((mut file, length)) = open_regular(&path)? else {
            return Ok(None);
        };
        if !kind.is_sealed() {
            return Ok(Some(*key));
        }
        read_seal(&mut file, length, &path, kind, key).map(Some)
    }

    /// Returns the first bytes of an entry's payload, at most `most`, and the length of the payload; for the header of
    /// an entry that is too large to be hashed. `None` if the entry does not exist. Only the seal is verified, not the
    /// payload.
    ///
    /// # Errors
    /// As for [`Store::content_digest`].
    pub fn read_prefix(&self, kind: EntryKind, key: &Digest, most: u64) -> Result<Option<(Vec<u8>, u64)>, StoreError> {
        let path = self.path(kind, key);
        let Some((file, length)) = open_entry(&path, kind, key)? else { return Ok(None) };
        let payload = if kind.is_sealed() { length - TRAILER as u64 } else { length };
        let mut bytes = Vec::new();
        file.take(payload.min(most)).read_to_end(&mut bytes).map_err(StoreError::io("reading", &path))?;
        Ok(Some((bytes, payload)))
    }

    /// Verifies an entry without loading it into memory, and returns the digest of its payload; `None` if it does not
    /// exist.
    ///
    /// # Errors
    /// As for [`Store::get`].
    pub fn check(&self, kind: EntryKind, key: &Digest) -> Result<Option<Digest>, StoreError> {
        let path = self.path(kind, key);
        let Some((file, length)) = open_entry(&path, kind, key)? else { return Ok(None) };
        check(&path, file, length, kind, key).map(Some)
    }

    fn versioned(&self) -> PathBuf {
        self.root.join("v1")
    }

    fn lock_path(&self) -> PathBuf {
        self.versioned().join("lock")
    }

    fn address(&self, folder: &str, key: &Digest, suffix: &str) -> PathBuf {
        let hex = key.hex();
        self.versioned().join(folder).join(&hex[..2]).join(format!("{}{suffix}", &hex[2..]))
    }
}

/// Verifies the bytes of an entry, read from `reader`, and returns the digest of the payload. `path` is used only in
/// errors.
fn check(path: &Path, reader: impl Read, length: u64, kind: EntryKind, key: &Digest) -> Result<Digest, StoreError> {
    let verdict = if kind.is_sealed() {
        sealed::check(reader, length, kind.folder(), key)
    } else {
        Digest::of_reader(reader).map(|(found, read)| match (read, found == *key) {
            (_, true) => Ok(found),
            (0, _) => Err(sealed::too_short(0)),
            _ => Err(format!("its content has the digest {found}, which is not its name")),
        })
    };
    verdict.map_err(StoreError::io("reading", path))?.map_err(|why| StoreError::damaged(path, why))
}

/// Reads and verifies the file of an entry. Returns its bytes, including the seal, and the digest of the payload.
fn read_whole(path: &Path, kind: EntryKind, key: &Digest) -> Result<Option<(Vec<u8>, Digest)>, StoreError> {
    let Some((mut file, length)) = open_entry(path, kind, key)? else { return Ok(None) };
    if !kind.is_sealed() {
        // The size of a patch is not recorded, so the bytes are verified before memory is allocated for them.
        check(path, &file, length, kind, key)?;
        file.rewind().map_err(StoreError::io("reading", path))?;
    }
    let mut bytes = Vec::new();
    let room =
        usize::try_from(length).map_err(io::Error::other).and_then(|length| Ok(bytes.try_reserve_exact(length)?));
    let read = room.and_then(|()| file.take(length).read_to_end(&mut bytes));
    read.map_err(StoreError::io("reading", path))?;
    let digest = check(path, &*bytes, bytes.len() as u64, kind, key)?;
    Ok(Some((bytes, digest)))
}

/// Opens an entry and returns its length; `None` if it does not exist. Rejects a sealed file whose length differs from
/// its seal, and a patch above [`MOST_PATCH_BYTES`], so that an enlarged file cannot exhaust memory.
fn open_entry(path: &Path, kind: EntryKind, key: &Digest) -> Result<Option<(File, u64)>, StoreError> {
    let Some((mut file, length)) = open_regular(path)? else { return Ok(None) };
    if kind.is_sealed() {
        read_seal(&mut file, length, path, kind, key)?;
        file.rewind().map_err(StoreError::io("reading", path))?;
    } else if length > MOST_PATCH_BYTES {
        return Err(StoreError::damaged(path, "it is larger than a patch can be"));
    }
    Ok(Some((file, length)))
}

/// Reads and checks the seal of an entry, and returns the digest of the payload that it states.
fn read_seal(file: &mut File, length: u64, path: &Path, kind: EntryKind, key: &Digest) -> Result<Digest, StoreError> {
    let Some(payload) = length.checked_sub(TRAILER as u64) else {
        return Err(StoreError::damaged(path, sealed::too_short(length)));
    };
    let mut trailer = [0; TRAILER];
    let read = file.seek(io::SeekFrom::Start(payload)).and_then(|_| file.read_exact(&mut trailer));
    read.map_err(StoreError::io("reading", path))?;
    let stated = sealed::read_trailer(&trailer, kind.folder(), key, payload);
    stated.map_err(|why| StoreError::damaged(path, why))
}

/// Opens the file of an entry and returns its length; `None` if it does not exist. Links, pipes and directories count
/// as damage, because the store writes only regular files.
fn open_regular(path: &Path) -> Result<Option<(File, u64)>, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_file() => {}
        Ok(_) => return Err(StoreError::damaged(path, "it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("reading", path)(error)),
    }
    let opened = File::open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
    match opened {
        // `gc` removed the entry between the two calls.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some).map_err(StoreError::io("reading", path)),
    }
}

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
