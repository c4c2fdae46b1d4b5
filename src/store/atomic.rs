//! Writes files atomically: after a crash, the path has either the old or the new file.
//!
//! The bytes are written to a temporary file in the same directory. The file is synced and renamed to the path, and
//! then the directory is synced. A temporary file that a crash leaves is never read.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::StoreError;
use super::fault::{self, Call};

const PREFIX: &str = ".corrigenda-";
const SUFFIX: &str = ".tmp";

/// Writes `bytes` to `path` atomically. An existing regular file is replaced.
///
/// # Errors
/// If `path` is a symbolic link or not a regular file, or an I/O operation fails. If only the sync of the directory
/// failed, `path` has the new bytes. After every other error, the existing file is unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut staged = Staged::new(path)?;
    staged.write_all(bytes).map_err(StoreError::io("writing", path))?;
    staged.commit()
}

/// Returns whether `name` is the name of a temporary file or folder that this module creates.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// The minimum age at which a temporary file is removed. A file of this age was probably left by a crash. A younger
/// file may belong to a running process.
pub(super) const YOUNG: Duration = Duration::from_secs(24 * 60 * 60);

/// Creates a temporary folder in `directory`. The folder is removed on drop or, after a crash, by [`remove_stale`].
///
/// # Errors
/// If the folder cannot be created.
pub fn folder_in(directory: &Path) -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).tempdir_in(directory)
}

/// Removes the temporary files and folders in `directory` that are older than a day. A crash may have left them. Errors
/// are ignored, because temporary files are harmless.
pub fn remove_stale(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| is_temporary(&entry.file_name().to_string_lossy())) {
        // For a link, this is the metadata of the link itself, not of its target.
        let Ok(seen) = entry.metadata() else { continue };
        if seen.modified().ok().and_then(|time| time.elapsed().ok()).is_some_and(|age| age > YOUNG) {
            let _ = if seen.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        }
    }
}

/// A temporary file that [`Staged::commit`] renames to its final path. Without a commit, the file is removed on drop.
pub struct Staged {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl Staged {
    /// Creates a temporary file whose final path is `path`. The directory of `path` must exist.
    ///
    /// # Errors
    /// If `path` is a symbolic link or not a regular file, or its directory is not writable.
    pub fn new(path: &Path) -> Result<Self, StoreError> {
        match fs::symlink_metadata(path) {
            Ok(there) if there.is_symlink() => return Err(StoreError::Symlink { path: path.to_owned() }),
            Ok(there) if !there.is_file() => return Err(StoreError::NotAFile { path: path.to_owned() }),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("reading", path)(error));
            }
            _ => {}
        }
        let directory = directory_of(path);
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX).disable_cleanup(fault::kills());
        // By default, `tempfile` would make the file unreadable for other users (mode 0600).
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let made = fault::before(Call::Make).and_then(|()| builder.tempfile_in(directory));
        let file = made.map_err(StoreError::io("creating a file in", directory))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Syncs the temporary file, renames it to its final path and syncs the directory.
    ///
    /// # Errors
    /// If syncing or renaming fails.
    pub fn commit(self) -> Result<(), StoreError> {
        let Self { file, path } = self;
        let synced = fault::before(Call::Sync).and_then(|()| file.as_file().sync_all());
        synced.map_err(StoreError::io("writing", &path))?;
        let renamed = fault::before(Call::Rename).and_then(|()| file.persist(&path).map_err(|error| error.error));
        renamed.map_err(StoreError::io("replacing", &path))?;
        sync_directory(directory_of(&path))
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        fault::writing(bytes, |part| self.file.write(part))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Syncs a directory, so that renames in it survive a crash.
///
/// # Errors
/// If syncing fails, except on file systems that cannot sync a directory.
#[cfg(unix)]
pub fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    let open = || fs::File::open(directory);
    let synced = fault::before(Call::Sync).and_then(|()| open()).and_then(|handle| handle.sync_all());
    match synced {
        // Some file systems cannot sync a directory. A crash may then undo the rename.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced.map_err(StoreError::io("syncing", directory)),
    }
}

/// Does nothing, because a directory cannot be opened as a file on this platform.
#[cfg(not(unix))]
pub fn sync_directory(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("readable");
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn only_stale_temporary_files_are_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let make = |name: &str, age: Duration| {
            let file = fs::File::create(directory.path().join(name)).expect("written");
            file.set_modified(std::time::SystemTime::now() - age).expect("a time");
        };
        make(".corrigenda-old.tmp", 2 * YOUNG);
        make(".corrigenda-new.tmp", YOUNG / 2);
        make("own.tmp", 2 * YOUNG);
        remove_stale(directory.path());
        let mut left = names(directory.path());
        left.sort();
        assert_eq!(left, [".corrigenda-new.tmp", "own.tmp"]);
    }

    #[test]
    fn a_write_replaces_the_whole_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a");
        write(&path, b"one").expect("written");
        write(&path, b"two").expect("written");
        assert_eq!(fs::read(&path).expect("there"), b"two");
        assert_eq!(names(directory.path()), ["a"]);
    }

    #[test]
    fn an_uncommitted_file_leaves_the_old_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a");
        write(&path, b"one").expect("written");
        let mut staged = Staged::new(&path).expect("staged");
        staged.write_all(b"two").expect("written");
        assert!(names(directory.path()).iter().any(|name| is_temporary(name)));
        drop(staged);
        assert_eq!(names(directory.path()), ["a"]);
        assert_eq!(fs::read(&path).expect("there"), b"one");
    }

    #[test]
    fn refuses_directories_and_missing_parents() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(matches!(write(directory.path(), b""), Err(StoreError::NotAFile { .. })));
        let error = write(&directory.path().join("no/a"), b"").expect_err("no parent").to_string();
        assert!(error.contains("creating a file in"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn never_writes_through_a_link() {
        let directory = tempfile::tempdir().expect("a directory");
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&real, b"one").expect("written");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        assert!(matches!(write(&link, b"two"), Err(StoreError::Symlink { .. })));
        assert_eq!(fs::read(&real).expect("there"), b"one");
        fs::remove_file(&real).expect("removed");
        assert!(matches!(write(&link, b"two"), Err(StoreError::Symlink { .. })), "a dangling link is refused");
    }
}
