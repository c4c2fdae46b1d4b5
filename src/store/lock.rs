//! Locks the store with the file `v1/lock`. Writers share the lock; `gc` holds it exclusively. Readers do not lock the
//! store.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::StoreError;
use super::fault::{self, Call};

/// The default time limit for waiting for the store's lock file. It leaves time for a `gc`, or for the write of a large
/// entry, to end.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// A shared or exclusive lock on the store's lock file. It is released on drop and when the process ends.
pub(super) struct StoreLock {
    file: File,
    alone: bool,
}

impl StoreLock {
    /// Locks the file at `path`, shared with other writers. Waits at most `lock_timeout`.
    pub(super) fn shared(path: &Path, lock_timeout: Duration) -> Result<Self, StoreError> {
        let file = open(path)?;
        match wait(&file, path, lock_timeout, File::try_lock_shared) {
            // Some file systems, such as network mounts, do not support locks. A write without a lock is still atomic.
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::Unsupported => {}
            result => result?,
        }
        Ok(Self { file, alone: false })
    }

    /// Locks the file at `path` exclusively. Waits at most `lock_timeout` for the lock. Writes the id of this process
    /// to the file, so that a waiting process can report the id.
    pub(super) fn exclusive(path: &Path, lock_timeout: Duration) -> Result<Self, StoreError> {
        let mut file = open(path)?;
        wait(&file, path, lock_timeout, File::try_lock)?;
        // The process id is used only in messages, so errors are ignored.
        let _ = file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
        Ok(Self { file, alone: true })
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        if self.alone {
            let _ = self.file.set_len(0);
        }
        let _ = self.file.unlock();
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    // If the lock file were a link, an unrelated file would be overwritten with the process id.
    if path.is_symlink() {
        return Err(StoreError::Symlink { path: path.to_owned() });
    }
    let opened = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = fault::before(Call::Make).and_then(|()| opened());
    file.map_err(StoreError::io("opening the lock", path))
}

fn wait(
    file: &File,
    path: &Path,
    lock_timeout: Duration,
    attempt: impl Fn(&File) -> Result<(), TryLockError>,
) -> Result<(), StoreError> {
    let start = Instant::now();
    loop {
        match attempt(file) {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("locking", path)(error)),
            Err(TryLockError::WouldBlock) if start.elapsed() >= lock_timeout => {
                let (path, seconds) = (path.to_owned(), lock_timeout.as_secs());
                return Err(StoreError::Busy { path, holder: holder(file), seconds });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Describes which process holds the lock, for a message. Only a process with an exclusive lock writes its id to the
/// file.
fn holder(mut file: &File) -> String {
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.take(20).read_to_string(&mut text));
    match text.trim().parse::<u32>() {
        Ok(pid) => format!("process {pid}"),
        Err(_) => "processes that are writing to the store".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(30);

    #[test]
    fn writers_share_the_lock_and_gc_excludes_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let writers =
            [StoreLock::shared(&path, SHORT).expect("free"), StoreLock::shared(&path, SHORT).expect("shared")];
        let error = StoreLock::exclusive(&path, SHORT).err().expect("held").to_string();
        assert!(error.contains("writing to the store"), "{error}");
        drop(writers);
        let alone = StoreLock::exclusive(&path, SHORT).expect("free again");
        let shared_error = StoreLock::shared(&path, SHORT).err().expect("held").to_string();
        assert!(shared_error.contains(&format!("process {}", std::process::id())), "{shared_error}");
        drop(alone);
        assert!(StoreLock::shared(&path, SHORT).is_ok());
    }
}
