//! The store: content-addressed files, and the only place that creates files in the cache.
//!
//! ```text
//! CACHEDIR.TAG
//! v1/objects/ab/cdef…             compiled edits          ┐ sealed: addressed by a digest over the
//! v1/statistics/ab/…              second moments          │ inputs, closed by a trailer with the
//! v1/factors/ab/…                 their factors           │ payload's own SHA-256
//! v1/reports/ab/…                 reports                 │
//! v1/partial/ab/…                 statistics under way    ┘
//! v1/patches/ab/cdef….safetensors patches, addressed by the SHA-256 of their bytes
//! v1/memo/ab/…                    digests of large base files
//! v1/lock                         shared by writers, held alone by gc
//! ```
//!
//! Invariants: everything is rehashed when it is read; everything is written atomically, its temporary file in its
//! own directory; a good entry is never replaced by a different one; nothing exists before the first write;
//! listings are sorted; nothing here knows a model.

pub mod atomic;
mod error;
mod exchange;
mod gc;
mod list;
mod lock;
mod mapping;
pub mod memo;
mod root;
mod sealed;
mod verify;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::digest::{Digest, Hasher};

pub use error::StoreError;
pub use exchange::{Imported, Refusal};
pub use gc::Collected;
pub use list::Entry;
pub use mapping::Mapping;
pub use root::cache_root;
pub use verify::{Problem, Report};

use atomic::Staged;
use lock::Lock;
use sealed::TRAILER;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A compiled edit.
    Object,
    /// A patch, addressed by its own bytes.
    Patch,
    /// Second moments of a layer's keys.
    Statistics,
    /// A factor of second moments.
    Factor,
    /// A report.
    Report,
    /// Statistics under way: the one kind whose entries are replaced.
    Partial,
}

impl Kind {
    /// Every kind, in the order of listings.
    pub const ALL: [Self; 6] = [Self::Object, Self::Patch, Self::Statistics, Self::Factor, Self::Report, Self::Partial];

    /// Its folder in the store.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Object => "objects",
            Self::Patch => "patches",
            Self::Statistics => "statistics",
            Self::Factor => "factors",
            Self::Report => "reports",
            Self::Partial => "partial",
        }
    }

    /// What follows the digest in a file name.
    fn suffix(self) -> &'static str {
        if self == Self::Patch { ".safetensors" } else { "" }
    }

    fn is_sealed(self) -> bool {
        self != Self::Patch
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Object => "object",
            Self::Patch => "patch",
            Self::Statistics => "statistics",
            Self::Factor => "factor",
            Self::Report => "report",
            Self::Partial => "partial",
        })
    }
}

/// A store in a directory, which need not exist before the first write.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    patience: Duration,
    /// Whether digests of base files may be remembered.
    remembers: bool,
    /// What was found damaged and is computed again. Shared by clones.
    passed_over: Arc<Mutex<Vec<String>>>,
}

impl Store {
    /// The store under `root` (see [`cache_root`]). Touches nothing.
    pub fn open(root: PathBuf) -> Self {
        Self { root, patience: lock::PATIENCE, remembers: true, passed_over: Arc::default() }
    }

    /// The same store for a verb that promises to write nothing: digests of base files are not remembered.
    #[must_use]
    pub fn for_reading(self) -> Self {
        Self { remembers: false, ..self }
    }

    /// Notes that something is damaged, and that what needs it does without.
    pub fn pass_over(&self, damage: &StoreError) {
        let mut noted = self.passed_over.lock().unwrap_or_else(PoisonError::into_inner);
        let damage = damage.to_string();
        if !noted.contains(&damage) {
            noted.push(damage);
        }
    }

    /// What was found, where damage counts as nothing there: it is noted.
    ///
    /// # Errors
    /// Every other error of `found`.
    pub fn unless_damaged<T>(&self, found: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
        found.or_else(|error| match error {
            StoreError::Damaged { .. } => {
                self.pass_over(&error);
                Ok(None)
            }
            error => Err(error),
        })
    }

    /// What was noted so far, in its order.
    pub fn passed_over(&self) -> Vec<String> {
        self.passed_over.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The directory given to [`Store::open`].
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the entry is, or would be.
    pub fn path(&self, kind: Kind, key: &Digest) -> PathBuf {
        self.address(kind.folder(), key, kind.suffix())
    }

    /// The payload of an entry, checked; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where the file is not what was written (compute it again: [`Store::put`] replaces it);
    /// [`StoreError::Io`] where it cannot be read.
    pub fn get(&self, kind: Kind, key: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(kind, key);
        let Some((mut file, length)) = open_regular(&path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        file.read_to_end(&mut bytes).map_err(StoreError::io("reading", &path))?;
        check(&path, &*bytes, bytes.len() as u64, kind, key)?;
        if kind.is_sealed() {
            bytes.truncate(bytes.len() - TRAILER);
        }
        Ok(Some(bytes))
    }

    /// What `parse` makes of an entry, or `None` where it must be computed again: there is none, it is damaged, or it is
    /// sound and yet says nothing to `parse`, having been written by a program of another format. Such an entry is
    /// removed, for it would only stand in the way of the new one.
    ///
    /// # Errors
    /// [`StoreError::Io`] where it cannot be read or removed.
    pub fn recall<T>(
        &self,
        kind: Kind,
        key: &Digest,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.unless_damaged(self.get(kind, key))? else { return Ok(None) };
        let parsed = parse(&bytes);
        if parsed.is_none() {
            self.remove(kind, key)?;
        }
        Ok(parsed)
    }

    /// The payload of an entry as a memory map, checked in full; for statistics and factors too large to copy.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn map(&self, kind: Kind, key: &Digest) -> Result<Option<Mapping>, StoreError> {
        let path = self.path(kind, key);
        let Some((file, length)) = open_regular(&path)? else {
            return Ok(None);
        };
        if length == 0 {
            return Err(StoreError::damaged(&path, sealed::too_short(0)));
        }
        let mapping = Mapping::new(&file).map_err(StoreError::io("mapping", &path))?;
        check(&path, &*mapping, mapping.len() as u64, kind, key)?;
        Ok(Some(if kind.is_sealed() { mapping.without_last(TRAILER) } else { mapping }))
    }

    /// The SHA-256 of an entry's payload as its seal states it, without reading the payload; `None` where there is
    /// no such entry. A patch's is its address.
    ///
    /// # Errors
    /// As [`Store::get`], but only the seal is checked.
    pub fn content_digest(&self, kind: Kind, key: &Digest) -> Result<Option<Digest>, StoreError> {
        let path = self.path(kind, key);
        let Some((mut file, length)) = open_regular(&path)? else {
            return Ok(None);
        };
        if !kind.is_sealed() {
            return Ok(Some(*key));
        }
        let Some(payload) = length.checked_sub(TRAILER as u64) else {
            return Err(StoreError::damaged(&path, sealed::too_short(length)));
        };
        let mut trailer = [0; TRAILER];
        let read = file.seek(io::SeekFrom::Start(payload)).and_then(|_| file.read_exact(&mut trailer));
        read.map_err(StoreError::io("reading", &path))?;
        let stated = sealed::read_trailer(&trailer, kind.folder(), key, payload);
        stated.map(Some).map_err(|why| StoreError::damaged(&path, why))
    }

    /// At most the first `most` bytes of an entry's payload and the payload's length, unchecked but for the seal: to
    /// read a header of what is too large to hash for it.
    ///
    /// # Errors
    /// As [`Store::content_digest`].
    pub fn head(&self, kind: Kind, key: &Digest, most: u64) -> Result<Option<(Vec<u8>, u64)>, StoreError> {
        if self.content_digest(kind, key)?.is_none() {
            return Ok(None);
        }
        let path = self.path(kind, key);
        let Some((file, length)) = open_regular(&path)? else {
            return Ok(None);
        };
        let payload = if kind.is_sealed() { length - TRAILER as u64 } else { length };
        let mut bytes = Vec::new();
        file.take(payload.min(most)).read_to_end(&mut bytes).map_err(StoreError::io("reading", &path))?;
        Ok(Some((bytes, payload)))
    }

    /// Reads an entry to its end and checks it, holding none of it: the digest of its payload.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn check(&self, kind: Kind, key: &Digest) -> Result<Option<Digest>, StoreError> {
        let path = self.path(kind, key);
        let Some((file, length)) = open_regular(&path)? else {
            return Ok(None);
        };
        check(&path, file, length, kind, key).map(Some)
    }

    /// Stores `payload` under `key`. A damaged entry is replaced; an equal one is left, marked as used.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where a good entry with another payload is there (never for [`Kind::Partial`], which is
    /// replaced), [`StoreError::WrongAddress`] for a patch that is not `key`, or the system refuses.
    pub fn put(&self, kind: Kind, key: &Digest, payload: &[u8]) -> Result<(), StoreError> {
        self.put_with(kind, key, |writer| writer.write_all(payload)).map(drop)
    }

    /// Stores a patch under the SHA-256 of its bytes, and returns that.
    ///
    /// # Errors
    /// The system refuses.
    pub fn put_patch(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let id = Digest::of(bytes);
        self.put(Kind::Patch, &id, bytes)?;
        Ok(id)
    }

    /// Stores what `produce` writes, for payloads too large to hold twice; returns the payload's digest.
    /// `produce` should only write, not compute: `gc` waits meanwhile.
    ///
    /// # Errors
    /// As [`Store::put`], or `produce` fails; nothing is stored then.
    pub fn put_with(
        &self,
        kind: Kind,
        key: &Digest,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Digest, StoreError> {
        self.place(kind, key, produce, kind == Kind::Partial)
    }

    /// The same, taking the place of whatever is there.
    ///
    /// # Errors
    /// As [`Store::put_with`], but for a conflict; what was there stays then.
    pub fn replace_with(
        &self,
        kind: Kind,
        key: &Digest,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Digest, StoreError> {
        self.place(kind, key, produce, true)
    }

    fn place(
        &self,
        kind: Kind,
        key: &Digest,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
        replace: bool,
    ) -> Result<Digest, StoreError> {
        self.prepare()?;
        let _writing = Lock::shared(&self.lock_path(), self.patience)?;
        let path = self.path(kind, key);
        make_parent(&path)?;
        let mut staged = Staged::new(&path)?;
        let new = fill(&mut staged, kind, key, produce).map_err(StoreError::io("writing", &path))?;
        if !kind.is_sealed() && new != *key {
            return Err(StoreError::WrongAddress { expected: *key, found: new });
        }
        match self.check(kind, key) {
            Ok(Some(kept)) if kept == new => mark_as_used(&path),
            Ok(Some(kept)) if !replace => return Err(StoreError::Conflict { path, kept, new }),
            Ok(_) | Err(StoreError::Damaged { .. }) => staged.commit()?,
            Err(error) => return Err(error),
        }
        Ok(new)
    }

    /// Removes an entry; whether there was one.
    ///
    /// # Errors
    /// The system refuses.
    pub fn remove(&self, kind: Kind, key: &Digest) -> Result<bool, StoreError> {
        let path = self.path(kind, key);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("removing", &path)(error)),
        }
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

    /// Makes the store exist, and tells backup programs that it is a cache.
    fn prepare(&self) -> Result<(), StoreError> {
        let versioned = self.versioned();
        fs::create_dir_all(&versioned).map_err(StoreError::io("creating the store", &versioned))?;
        let tag = self.root.join("CACHEDIR.TAG");
        if tag.exists() {
            return Ok(());
        }
        let text = "Signature: 8a477f597d28d172789f06886806bc55\n# This directory is a cache of corrigenda. It may be \
                    deleted; everything in it can be computed again.\n# See https://bford.info/cachedir/\n";
        atomic::write(&tag, text.as_bytes())
    }
}

/// Writes payload and seal, and returns the payload's digest.
fn fill(
    staged: &mut Staged,
    kind: Kind,
    key: &Digest,
    produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Digest> {
    let mut hashing =
        Hashing { inner: BufWriter::with_capacity(1 << 16, staged), hasher: Hasher::default(), length: 0 };
    produce(&mut hashing)?;
    let digest = hashing.hasher.finish();
    if kind.is_sealed() {
        hashing.inner.write_all(&sealed::trailer(kind.folder(), key, hashing.length, &digest))?;
    }
    hashing.inner.flush()?;
    Ok(digest)
}

/// Hashes and counts what passes through.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    length: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.write_all(&bytes[..written])?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Checks the bytes of an entry, which come from `path`: the digest of its payload.
fn check(path: &Path, reader: impl Read, length: u64, kind: Kind, key: &Digest) -> Result<Digest, StoreError> {
    let verdict = if kind.is_sealed() {
        sealed::check(reader, length, kind.folder(), key)
    } else {
        Digest::of_reader(reader).map(|(found, read)| match (read, found == *key) {
            (_, true) => Ok(found),
            (0, _) => Err(sealed::too_short(0)),
            _ => Err(format!("its content is {found}, which is not its name")),
        })
    };
    verdict.map_err(StoreError::io("reading", path))?.map_err(|why| StoreError::damaged(path, why))
}

/// Opens an entry and gives its length. Links, pipes and directories are damage: the store writes only files.
fn open_regular(path: &Path) -> Result<Option<(File, u64)>, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_file() => {}
        Ok(_) => return Err(StoreError::damaged(path, "it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("reading", path)(error)),
    }
    let opened = File::open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
    match opened {
        // Collected between the two calls.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some).map_err(StoreError::io("reading", path)),
    }
}

fn make_parent(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().expect("every address has a folder");
    fs::create_dir_all(parent).map_err(StoreError::io("creating", parent))
}

/// Keeps a concurrent `gc` from taking an old entry that is in use again. Only a hint: failure is no error.
fn mark_as_used(path: &Path) {
    if let Ok(file) = File::options().write(true).open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
