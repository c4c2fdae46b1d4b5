//! Caches the digests of large files. A cached digest is called a memo. The key of a memo is a digest of the path,
//! size, modification time, device and inode of the file. The bytes and the normalised text of one file have different
//! memos.
//!
//! A memo only saves time: `verify` and `build --locked` hash the file again. A damaged memo counts as missing and is
//! reported.

use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::sealed::TRAILER;
use super::write::make_parent;
use super::{Store, StoreError, atomic, open_regular, sealed};
use crate::digest::{Digest, FieldHasher};
use crate::regular_file::NormalizedText;

/// The digest of a file of at most this size, in bytes, is not cached, because hashing a small file is fast.
const MIN_MEMO_BYTES: u64 = 1 << 20;

/// The minimum age of a file whose digest is cached. A younger file may change again without a new modification time.
const MIN_AGE: Duration = Duration::from_secs(2);

const FOLDER: &str = "memo";

/// The size of a memo (a cached digest) in bytes: a SHA-256 digest, and the trailer with checksums.
const BYTES: u64 = 32 + TRAILER as u64;

/// Returns the SHA-256 of the file at `path`. The digest is cached, and the file is read only if its metadata has
/// changed.
///
/// # Errors
/// If `path` is not a regular file, cannot be read, or changes while it is read. Errors of the cache are ignored.
pub fn digest_file(store: &Store, path: &Path) -> Result<Digest, StoreError> {
    digest_with_memo(store, path, HashedContent::Bytes)
}

/// Returns the SHA-256 of the text in the file at `path`, without a byte order mark and with `\n` line ends. The digest
/// is cached, and the file is read only if its metadata has changed.
///
/// # Errors
/// If [`digest_file`] would return an error, or the file is UTF-16.
pub fn digest_text(store: &Store, path: &Path) -> Result<Digest, StoreError> {
    digest_with_memo(store, path, HashedContent::NormalizedText)
}

/// Returns the same digest as [`digest_text`], but always reads the file.
///
/// # Errors
/// If [`digest_text`] would return an error.
pub fn digest_text_fresh(path: &Path) -> Result<Digest, StoreError> {
    fresh(path, HashedContent::NormalizedText)
}

/// The content that is hashed: the bytes of a file, or its text without a byte order mark and with `\n` line ends.
#[derive(Clone, Copy)]
enum HashedContent {
    Bytes,
    NormalizedText,
}

fn digest_with_memo(store: &Store, path: &Path, what: HashedContent) -> Result<Digest, StoreError> {
    let before = regular(path)?;
    if before.len() <= MIN_MEMO_BYTES {
        return fresh(path, what);
    }
    let key = key(path, &before, what)?;
    let memo = store.address(FOLDER, &key, "");
    match read_memo(&memo, &key) {
        Some(Ok(digest)) => return Ok(digest),
        Some(Err(why)) => store.record_skipped(&StoreError::damaged(&memo, why)),
        None => {}
    }
    let digest = fresh(path, what)?;
    // The digest is cached only if the file was last modified more than `MIN_AGE` ago, and if it did not change while
    // it was read.
    let settled = before.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
    if store.memoize && settled.is_some_and(|age| age > MIN_AGE) && is_unchanged(&before, &regular(path)?) {
        let bytes = [&digest.bytes()[..], &sealed::trailer(FOLDER, &key, 32, &Digest::of(digest.bytes()))].concat();
        let _ = store.prepare().and_then(|()| make_parent(&memo)).and_then(|()| atomic::write(&memo, &bytes));
    }
    Ok(digest)
}

/// Returns the same digest as [`digest_file`], but always reads the file.
///
/// # Errors
/// If `path` is not a regular file, cannot be read, or changes while it is read.
pub fn digest_file_fresh(path: &Path) -> Result<Digest, StoreError> {
    fresh(path, HashedContent::Bytes)
}

fn fresh(path: &Path, what: HashedContent) -> Result<Digest, StoreError> {
    // Opening a pipe would block, so the path is checked before it is opened.
    regular(path)?;
    let reading = || StoreError::io("reading", path);
    let file = File::open(path).map_err(reading())?;
    let before = file.metadata().map_err(reading())?;
    let (digest, whole) = match what {
        HashedContent::Bytes => Digest::of_reader(&file).map(|(digest, length)| (digest, Some(length))),
        HashedContent::NormalizedText => {
            NormalizedText::new(&file).and_then(Digest::of_reader).map(|(digest, _)| (digest, None))
        }
    }
    .map_err(reading())?;
    let after = file.metadata().map_err(reading())?;
    if whole.is_none_or(|length| length == after.len()) && is_unchanged(&before, &after) {
        Ok(digest)
    } else {
        Err(StoreError::Changed { path: path.to_owned() })
    }
}

fn regular(path: &Path) -> Result<Metadata, StoreError> {
    let metadata = fs::metadata(path).map_err(StoreError::io("reading", path))?;
    if metadata.is_file() { Ok(metadata) } else { Err(StoreError::NotAFile { path: path.to_owned() }) }
}

fn is_unchanged(a: &Metadata, b: &Metadata) -> bool {
    a.len() == b.len() && a.modified().ok() == b.modified().ok() && inode(a) == inode(b)
}

fn key(path: &Path, metadata: &Metadata, what: HashedContent) -> Result<Digest, StoreError> {
    let path = fs::canonicalize(path).map_err(StoreError::io("reading", path))?;
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let (device, inode) = inode(metadata);
    let mut canon = FieldHasher::new(match what {
        HashedContent::Bytes => "memo/1",
        HashedContent::NormalizedText => "memo-text/1",
    });
    canon.field("path", path.as_os_str().as_encoded_bytes()).number("size", metadata.len());
    canon.field("modified", &modified.as_nanos().to_le_bytes()).number("device", device).number("inode", inode);
    Ok(canon.finish())
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

/// Returns the digest in a memo (a cached digest), or the reason why the memo is damaged. Returns `None` if the memo is
/// missing or cannot be read.
fn read_memo(memo: &Path, key: &Digest) -> Option<Result<Digest, String>> {
    let (file, length) = match open_regular(memo) {
        Ok(opened) => opened?,
        Err(StoreError::Damaged { why, .. }) => return Some(Err(why)),
        Err(_) => return None,
    };
    if length != BYTES {
        return Some(Err(format!("it has {length} bytes; expected {BYTES}")));
    }
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes).ok()?;
    let sound = sealed::check(&*bytes, bytes.len() as u64, FOLDER, key).ok()?;
    let digest = || bytes.first_chunk::<32>().map(|digest| Digest::from_bytes(*digest)).ok_or(sealed::too_short(0));
    Some(sound.and_then(|_| digest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a file that is large and old enough for its digest to be cached, and returns the digest.
    fn large(path: &Path, byte: u8) -> Digest {
        let bytes = vec![byte; MIN_MEMO_BYTES as usize + 1];
        fs::write(path, &bytes).expect("written");
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        File::options().write(true).open(path).and_then(|file| file.set_modified(hour_ago)).expect("touched");
        Digest::of(&bytes)
    }

    fn memos(store: &Store) -> Vec<std::path::PathBuf> {
        store.scan(FOLDER, "").into_iter().map(|found| found.path).collect()
    }

    #[test]
    fn a_memo_is_used_and_its_damage_is_survived() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path().join("store"));
        let path = directory.path().join("model.safetensors");
        let digest = large(&path, 1);
        assert_eq!(digest_file(&store, &path).expect("hashed"), digest);
        let memo = memos(&store).pop().expect("remembered");
        // The memo (the cached digest) is replaced by a wrong digest with a valid trailer. If `digest_file` returns the
        // wrong digest, it used the memo and did not read the file.
        let key = key(&path, &regular(&path).expect("a file"), HashedContent::Bytes).expect("a path");
        let lie = Digest::of(b"lie");
        let bytes = [&lie.bytes()[..], &sealed::trailer(FOLDER, &key, 32, &Digest::of(lie.bytes()))].concat();
        fs::write(&memo, &bytes).expect("written");
        assert_eq!(digest_file(&store, &path).expect("recalled"), lie);
        assert_eq!(digest_file_fresh(&path).expect("hashed"), digest);
        fs::write(&memo, &bytes[1..]).expect("written");
        assert_eq!(digest_file(&store, &path).expect("hashed again"), digest);
        // The digest of the normalised text and the digest of the bytes are cached separately.
        assert_eq!(digest_text(&store, &path).expect("hashed"), digest);
        assert_eq!(memos(&store).len(), 2);
        let changed = large(&path, 2);
        File::options().write(true).open(&path).and_then(|file| file.set_modified(UNIX_EPOCH)).expect("touched");
        assert_eq!(digest_file(&store, &path).expect("hashed again"), changed);
    }

    #[test]
    fn a_text_digest_ignores_line_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path().join("store"));
        let path = directory.path().join("corpus.txt");
        let text = "a line\n".repeat(MIN_MEMO_BYTES as usize / 4);
        for saved in [text.clone(), text.replace('\n', "\r\n"), format!("\u{feff}{text}")] {
            fs::write(&path, saved).expect("written");
            assert_eq!(digest_text(&store, &path).expect("hashed"), Digest::of(text.as_bytes()));
            assert_eq!(digest_text_fresh(&path).expect("hashed"), Digest::of(text.as_bytes()));
        }
        fs::write(&path, b"\xff\xfea\0").expect("written");
        assert!(digest_text_fresh(&path).expect_err("UTF-16").to_string().contains("UTF-16"));
    }

    #[test]
    fn small_and_recent_files_get_no_memo() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path().join("store"));
        let (small, young) = (directory.path().join("small"), directory.path().join("young"));
        fs::write(&small, b"x").expect("written");
        fs::write(&young, vec![0; MIN_MEMO_BYTES as usize + 1]).expect("written");
        assert_eq!(digest_file(&store, &small).expect("hashed"), Digest::of(b"x"));
        digest_file(&store, &young).expect("hashed");
        assert!(memos(&store).is_empty() && !store.root().exists());
    }

    #[test]
    fn only_regular_files_are_hashed() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(matches!(digest_file_fresh(directory.path()), Err(StoreError::NotAFile { .. })));
        assert!(matches!(digest_file_fresh(&directory.path().join("no")), Err(StoreError::Io { .. })));
        #[cfg(target_os = "linux")]
        assert!(matches!(digest_file_fresh(Path::new("/dev/zero")), Err(StoreError::NotAFile { .. })));
        let path = directory.path().join("model");
        let digest = large(&path, 3);
        let store = Store::open(path.join("below a file"));
        assert_eq!(digest_file(&store, &path).expect("hashed"), digest);
    }
}
