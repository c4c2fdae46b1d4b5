//! Stores entries as files in the cache directory. No module outside this one creates files there.
//!
//! ```text
//! CACHEDIR.TAG                    marks the directory as a cache, for backup programs
//! v1/lock                         lock file: shared by writers, exclusive for gc
//! v1/objects/ab/cdef…             compiled edits
//! v1/statistics/ab/…              second moments of MLP keys
//! v1/factors/ab/…                 Cholesky factors of second moments
//! v1/reports/ab/…                 results of builds, measurements and checks
//! v1/refusals/ab/…                reasons why edits cannot be compiled
//! v1/partial/ab/…                 unfinished statistics and trainings
//! v1/measured/ab/…                outputs of models
//! v1/editors/ab/…                 trained editors of the benchmark
//! v1/patches/ab/cdef….safetensors patches
//! v1/memo/ab/…                    digests of large files, and requests for statistics
//! ```
//!
//! The key of an entry is a digest of its inputs, and the key of a patch is the SHA-256 of its bytes. `ab` and `cdef…`
//! are the hexadecimal digits of the key. Every entry except a patch ends with a seal, a trailer that contains the
//! SHA-256 of the payload.
//!
//! [`Store::get`] and [`Store::mmap`] verify the payload. Every write is atomic. A valid entry is replaced by a
//! different one in two cases only: it contains unfinished work ([`EntryKind::Partial`]), or the caller uses [`Store::replace_with`].
//! Listings are sorted.

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

/// The maximum size of a patch file in bytes (4 GiB). A larger file in the store counts as damaged.
pub const MOST_PATCH_BYTES: u64 = 4 << 30;

/// The kind of a store entry. The kind determines the folder of the file, and whether the file ends with a checksum
/// trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A compiled edit: its MLP key and MLP value at each edited layer.
    Object,
    /// A patch. Its key in the store is the SHA-256 of its bytes.
    Patch,
    /// The second moment of a layer's MLP keys, which are the inputs of the layer's down-projection.
    Statistics,
    Factor,
    /// The record of a build with its measurements; or the cached result of causal tracing, the search for a layer, the
    /// search for attention sinks or the check of policy limits.
    Report,
    /// The reason why an edit cannot be compiled. The entry has the key that the compiled edit would have.
    Refusal,
    /// Unfinished statistics: the sum of `k kᵀ` over the MLP keys of the first documents of the corpus; or an
    /// unfinished training of an editor. The entry is replaced when more documents or steps are done.
    Partial,
    /// Cached outputs of models (predictions, generated text or hidden states), or the cached KL divergence and
    /// perplexities on neutral text.
    Measured,
    /// A trained editor of the benchmark: MEND or KE.
    Editor,
}

impl EntryKind {
    /// All kinds, in the order in which [`Store::ls`] lists their entries.
    pub const ALL: [Self; 9] = [
        Self::Object,
        Self::Patch,
        Self::Statistics,
        Self::Factor,
        Self::Report,
        Self::Refusal,
        Self::Partial,
        Self::Measured,
        Self::Editor,
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
            Self::Editor => "editors",
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
            Self::Editor => "editor",
        })
    }
}

/// The cache of compiled edits, statistics, patches and other results, as files in one directory. The first write
/// creates the directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    lock_timeout: Duration,
    /// Whether optional entries (see [`Store::put_optional`]) and memos (cached digests of files) may be written. False
    /// for a store from [`Store::for_reading`], which must not be changed.
    memoize: bool,
    /// The recorded warnings about store entries, shared by all clones of the store.
    skipped: Arc<Mutex<Vec<String>>>,
}

impl Store {
    /// Returns the store in the directory `root` (see [`cache_root`]), without accessing the disk.
    pub fn open(root: PathBuf) -> Self {
        Self { root, lock_timeout: lock::LOCK_TIMEOUT, memoize: true, skipped: Arc::default() }
    }

    /// Returns this store for a command that must not change it. Entries that only make later commands faster are then
    /// not written, and entries in an outdated format are not removed.
    #[must_use]
    pub fn for_reading(self) -> Self {
        Self { memoize: false, ..self }
    }

    /// Returns the cache directory, which contains `v1/`. The directory is created by the first write.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of the file of an entry, whether or not the file exists.
    pub fn path(&self, kind: EntryKind, key: &Digest) -> PathBuf {
        self.address(kind.folder(), key, kind.suffix())
    }

    /// Reads and verifies the payload of an entry. Returns `None` if the entry does not exist.
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

    /// Maps the payload of an entry into memory and verifies all of it. This is for statistics and Cholesky factors,
    /// which are too large to copy. Returns `None` if the entry does not exist.
    ///
    /// # Errors
    /// If [`Store::get`] would return an error.
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

    /// Returns the SHA-256 of an entry's payload without reading the payload. The SHA-256 of a patch is its key; other
    /// entries have it in the trailer of the file. Returns `None` if the entry does not exist.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the trailer is not valid; [`StoreError::Io`] if the file cannot be read.
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

    /// Returns the first bytes of an entry's payload, at most `most`, and the length of the payload. Only the trailer
    /// of the file is verified, because hashing a large payload takes long. Returns `None` if the entry does not exist.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the trailer is not valid; [`StoreError::Io`] if the file cannot be read.
    pub fn read_prefix(&self, kind: EntryKind, key: &Digest, most: u64) -> Result<Option<(Vec<u8>, u64)>, StoreError> {
        let path = self.path(kind, key);
        let Some((file, length)) = open_entry(&path, kind, key)? else { return Ok(None) };
        let payload = if kind.is_sealed() { length - TRAILER as u64 } else { length };
        let mut bytes = Vec::new();
        file.take(payload.min(most)).read_to_end(&mut bytes).map_err(StoreError::io("reading", &path))?;
        Ok(Some((bytes, payload)))
    }

    /// Verifies an entry without loading it into memory, and returns the SHA-256 of its payload. Returns `None` if the
    /// entry does not exist.
    ///
    /// # Errors
    /// If [`Store::get`] would return an error.
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

/// Verifies the file of an entry, whose `length` bytes are read from `reader`. Returns the digest of the payload.
/// `path` is used only in error messages.
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

/// Reads and verifies the file of an entry. Returns all bytes of the file and the digest of the payload; `None` if the
/// file does not exist.
fn read_whole(path: &Path, kind: EntryKind, key: &Digest) -> Result<Option<(Vec<u8>, Digest)>, StoreError> {
    let Some((mut file, length)) = open_entry(path, kind, key)? else { return Ok(None) };
    if !kind.is_sealed() {
        // A patch has no trailer that states its length, so a damaged file may be far too long. The file is therefore
        // first hashed in small parts, before memory for all its bytes is allocated.
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

/// Opens the file of an entry and returns its length; `None` if the file does not exist. Rejects a file whose trailer
/// states a different length, and a patch above [`MOST_PATCH_BYTES`], so that an enlarged file cannot exhaust memory.
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

/// Reads and checks the trailer of an entry's file, and returns the payload digest that is in the trailer.
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

/// Opens the file of an entry and returns its length; `None` if the file does not exist. Links, pipes and directories
/// count as damaged, because the store writes only regular files.
fn open_regular(path: &Path) -> Result<Option<(File, u64)>, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_file() => {}
        Ok(_) => return Err(StoreError::damaged(path, "it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("reading", path)(error)),
    }
    let opened = File::open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
    match opened {
        // `gc` removed the file after its metadata was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some).map_err(StoreError::io("reading", path)),
    }
}

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
