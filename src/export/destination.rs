//! Checks the destination of an export and moves the finished export to it atomically.
//!
//! All files are written to a staging folder next to the destination and read back there. One rename then moves the
//! folder or the single file to the destination. An export that fails leaves no files.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::ExportError;
use super::folder::root;
use super::manifest::FileEntry;
use crate::digest::{Digest, Hashing};
use crate::regular_file::canonicalize_lenient;
use crate::store::atomic::sync_directory;
use crate::store::memo;

/// The path of an export that is to be written. The path was checked: it does not exist or is an empty folder, and is
/// not inside the base's folder or the store.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The path as the user gave it.
    named: PathBuf,
    /// The absolute path, with symbolic links resolved.
    path: PathBuf,
    /// The parent folder, which may not exist yet.
    parent: PathBuf,
}

impl Destination {
    /// Checks the path `to` at which a folder is to be exported. The path must not exist or must be an empty folder.
    ///
    /// # Errors
    /// If the path exists and is not an empty folder, is inside the base's folder or the store, or has a parent that is
    /// not a folder.
    pub fn folder(to: &Path, base: &Path, store: &Path) -> Result<Self, ExportError> {
        let place = Self::outside(to, base, store)?;
        match taken(to)? {
            None => place.in_a_folder(),
            Some("a folder") if is_empty(to)? => place.in_a_folder(),
            Some("a folder") => Err(place.taken("a folder that is not empty")),
            Some(what) => Err(place.taken(what)),
        }
    }

    /// Checks the path `to` at which a file is to be exported. The path must not exist.
    ///
    /// # Errors
    /// If the path exists, is inside the base's folder or the store, or has a parent that is not a folder.
    pub fn file(to: &Path, base: &Path, store: &Path) -> Result<Self, ExportError> {
        let place = Self::outside(to, base, store)?;
        match taken(to)? {
            None => place.in_a_folder(),
            Some(what) => Err(place.taken(what)),
        }
    }

    fn outside(to: &Path, base: &Path, store: &Path) -> Result<Self, ExportError> {
        let path = canonicalize_lenient(to);
        let inside = |what| Err(ExportError::Inside { path: to.to_owned(), what });
        if path.starts_with(root(base)?) {
            return inside("the base model");
        }
        if path.starts_with(canonicalize_lenient(store)) {
            return inside("the store");
        }
        let parent = path.parent().unwrap_or(&path).to_owned();
        Ok(Self { named: to.to_owned(), path, parent })
    }

    /// Rejects a destination whose closest existing ancestor is not a folder. Missing parent folders are accepted,
    /// because [`Destination::stage`] creates them.
    fn in_a_folder(self) -> Result<Self, ExportError> {
        match self.parent.ancestors().find(|above| above.symlink_metadata().is_ok()) {
            Some(above) if above.is_dir() => Ok(self),
            _ => Err(ExportError::NoParent { path: self.named, parent: self.parent }),
        }
    }

    fn taken(&self, what: &'static str) -> ExportError {
        ExportError::Taken { path: self.named.clone(), what }
    }

    /// Returns the file name of the destination; empty if the path has none.
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Creates a staging folder next to the destination. The staging folder is removed unless [`Staging::commit`] moves
    /// it.
    ///
    /// # Errors
    /// If the staging folder or a parent folder cannot be created.
    pub fn stage(self) -> Result<Staging, ExportError> {
        let made = CreatedFolders::above(&self.path)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".corrigenda-").suffix(".tmp");
        // `tempfile` creates folders with mode 0700. With mode 0777, the umask determines the permissions of the
        // export.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let folder = builder.tempdir_in(&self.parent);
        let folder = folder.map_err(ExportError::io("creating a folder in", &self.parent))?;
        Ok(Staging { folder, made, place: self })
    }
}

/// Returns what exists at a path: a symbolic link, a folder or a file. `None` if nothing exists. Links are not
/// followed.
fn taken(path: &Path) -> Result<Option<&'static str>, ExportError> {
    match fs::symlink_metadata(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(ExportError::io("reading", path)(error)),
        Ok(there) if there.is_symlink() => Ok(Some("a symbolic link")),
        Ok(there) if there.is_dir() => Ok(Some("a folder")),
        Ok(_) => Ok(Some("a file")),
    }
}

fn is_empty(folder: &Path) -> Result<bool, ExportError> {
    let mut entries = fs::read_dir(folder).map_err(ExportError::io("listing", folder))?;
    Ok(entries.next().is_none())
}

/// The parent folders that an export created, outermost first. They are removed on drop unless the export is committed.
#[derive(Debug)]
struct CreatedFolders(Vec<PathBuf>);

impl CreatedFolders {
    /// Creates the missing parent folders of `path`, and returns those that this call created.
    fn above(path: &Path) -> Result<Self, ExportError> {
        let missing = path.ancestors().skip(1).take_while(|above| above.symlink_metadata().is_err());
        let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        missing.reverse();
        let mut made = Self(Vec::new());
        for folder in missing {
            match fs::create_dir(&folder) {
                Ok(()) => {
                    folder.parent().map(sync_directory).transpose()?;
                    made.0.push(folder);
                }
                // Another process created the folder in the meantime, so this export must not remove it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
                Err(error) => return Err(ExportError::io("creating the folder", &folder)(error)),
            }
        }
        Ok(made)
    }

    /// Prevents the folders from being removed on drop.
    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for CreatedFolders {
    fn drop(&mut self) {
        // `remove_dir` fails if another program has put a file into the folder. The folder then remains.
        self.0.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
    }
}

/// An export whose files are written to a staging folder. Dropping this value removes the folder, unless the export was
/// committed.
#[derive(Debug)]
pub struct Staging {
    // Fields are dropped in declaration order: the staging folder must be removed before the parent folders that
    // contain it.
    folder: TempDir,
    made: CreatedFolders,
    place: Destination,
}

impl Staging {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file to the staging folder and syncs it to disk.
    ///
    /// # Errors
    /// If `produce` fails or an I/O operation fails.
    pub fn write(
        &self,
        name: &str,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<FileEntry, ExportError> {
        let write = || {
            let file = File::options().write(true).create_new(true).open(self.path(name))?;
            let (digest, size) = write_hashed(BufWriter::new(&file), produce)?;
            file.sync_all()?;
            Ok(FileEntry { digest, path: name.to_owned(), size })
        };
        // The error names the destination that the user gave, not the staging folder.
        let named =
            if self.place.path.ends_with(name) { self.place.named.clone() } else { self.place.named.join(name) };
        write().map_err(ExportError::io("writing", &named))
    }

    /// Reads a written file back and compares its digest with the digest in `file`.
    ///
    /// # Errors
    /// If the file cannot be read or its digest differs.
    pub fn read_back(&self, file: &FileEntry) -> Result<(), ExportError> {
        if memo::digest_file_fresh(&self.path(&file.path))? == file.digest {
            Ok(())
        } else {
            Err(ExportError::Differs { file: file.path.clone(), what: "its bytes".to_owned() })
        }
    }

    /// Syncs the staging folder and renames it to the destination.
    ///
    /// # Errors
    /// If syncing or renaming fails.
    pub fn commit(self) -> Result<(), ExportError> {
        // Variables are dropped in the reverse order of their declaration. If the rename fails, the staging folder
        // `folder` is therefore removed before the parent folders `made`.
        let Self { made, folder, place } = self;
        sync_directory(folder.path())?;
        // On systems other than Unix, a rename does not replace an empty folder, so the folder is removed first.
        if cfg!(not(unix)) && place.path.exists() {
            fs::remove_dir(&place.path).map_err(ExportError::io("replacing", &place.named))?;
        }
        fs::rename(folder.path(), &place.path).map_err(ExportError::io("replacing", &place.named))?;
        let _ = folder.keep();
        made.keep();
        Ok(sync_directory(&place.parent)?)
    }

    /// Moves a single file from the staging folder to the destination.
    ///
    /// # Errors
    /// If the destination exists by now, or the rename fails.
    pub fn commit_file(self, name: &str) -> Result<(), ExportError> {
        // A rename would replace a file that was created at the destination after the first check. Therefore the
        // destination is checked again.
        if let Some(what) = taken(&self.place.path)? {
            return Err(self.place.taken(what));
        }
        let renamed = fs::rename(self.path(name), &self.place.path);
        renamed.map_err(ExportError::io("replacing", &self.place.named))?;
        self.made.keep();
        Ok(sync_directory(&self.place.parent)?)
    }
}

/// Writes the output of `produce` to `inner`, and returns the digest and the number of bytes.
fn write_hashed(
    inner: impl Write,
    produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<(Digest, u64)> {
    let mut out = Hashing::new(inner);
    produce(&mut out)?;
    out.flush()?;
    Ok((out.digest(), out.length()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer that accepts a limited number of bytes, then reports a full disk.
    struct Disk(usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match bytes.len().min(self.0) {
                0 => Err(io::ErrorKind::StorageFull.into()),
                count => {
                    self.0 -= count;
                    Ok(count)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn place(top: &Path) -> Destination {
        for name in ["base", "store"] {
            fs::create_dir_all(top.join(name)).expect("made");
        }
        Destination::folder(&top.join("out"), &top.join("base"), &top.join("store")).expect("free")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("readable").flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_disk_that_is_full_at_any_byte() {
        let text = vec![7; 300];
        for room in 0..text.len() {
            let full = write_hashed(Disk(room), |out| out.write_all(&text)).expect_err("no room");
            assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{room}");
            // So few bytes stay in the buffer until the writer is flushed, which `write_hashed` does.
            let buffered = write_hashed(BufWriter::new(Disk(room)), |out| out.write_all(&text)).expect_err("no room");
            assert_eq!(buffered.kind(), io::ErrorKind::StorageFull, "{room}");
        }
        let (digest, size) = write_hashed(Disk(text.len()), |out| out.write_all(&text)).expect("room");
        assert_eq!((digest, size), (Digest::of(&text), 300));
    }

    #[test]
    fn a_failed_export_leaves_nothing() {
        let top = tempfile::tempdir().expect("a folder");
        let staging = place(top.path()).stage().expect("staged");
        staging.write("a", |out| out.write_all(b"whole")).expect("written");
        let error = staging.write("b", |_| Err(io::ErrorKind::StorageFull.into())).expect_err("refused");
        let said = error.finding();
        assert!(said.message.contains("out/b") && said.help[0].contains("free some"), "{said:?}");
        assert_eq!(names(top.path()).len(), 3);
        drop(staging);
        assert_eq!(names(top.path()), ["base", "store"]);
    }

    #[test]
    fn a_damaged_copy_is_found() {
        let top = tempfile::tempdir().expect("a folder");
        let staging = place(top.path()).stage().expect("staged");
        let file = staging.write("a", |out| out.write_all(b"whole")).expect("written");
        staging.read_back(&file).expect("as written");
        fs::write(staging.path("a"), b"whale").expect("written");
        assert!(matches!(staging.read_back(&file), Err(ExportError::Differs { .. })));
    }

    #[test]
    fn an_export_never_replaces_a_new_file() {
        let top = tempfile::tempdir().expect("a folder");
        let free = place(top.path());
        let staging = free.clone().stage().expect("staged");
        staging.write("a", |out| out.write_all(b"ours")).expect("written");
        fs::write(top.path().join("out"), b"theirs").expect("written");
        assert!(matches!(staging.commit_file("a"), Err(ExportError::Taken { what: "a file", .. })));
        assert_eq!(fs::read(top.path().join("out")).expect("there"), b"theirs");
        assert_eq!(names(top.path()), ["base", "out", "store"]);
        fs::remove_file(top.path().join("out")).expect("it was there");
        let retried = free.stage().expect("staged");
        retried.write("a", |out| out.write_all(b"ours")).expect("written");
        retried.commit_file("a").expect("put in place");
        assert_eq!(names(top.path()), ["base", "out", "store"]);
    }
}
