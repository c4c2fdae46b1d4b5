//! Reads the files of a commit. Symbolic links and submodules are rejected, because a commit does not contain the files
//! that they refer to.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use git2::{ObjectType, Oid, TreeEntry};

use super::{Commit, HistoryError, Repository};
use crate::project::edits::MOST_EDITS;
use crate::project::{MOST_FILE_BYTES, MOST_LOCK_BYTES};

/// The maximum total size of the files that are read from one folder, in bytes (256 MiB).
const MOST_FOLDER_BYTES: u64 = 1 << 28;
const MOST_DEPTH: usize = 32;
/// The maximum number of entries in a folder and its subfolders. Without a limit, a small repository could have a huge
/// number of paths: 30 nested trees that each list the next tree twice have 2^30 paths.
const MOST_ENTRIES: usize = 2 * MOST_EDITS;

/// The git object id and the file mode of a file, folder, link or submodule in a git tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GitObject {
    pub(super) id: Oid,
    mode: i32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum GitObjectKind {
    File,
    Folder,
    Link,
    Submodule,
}

impl GitObject {
    fn new(entry: &TreeEntry<'_>) -> Self {
        Self { id: entry.id(), mode: entry.filemode() }
    }

    fn kind(self) -> GitObjectKind {
        match self.mode & 0o170_000 {
            0o040_000 => GitObjectKind::Folder,
            0o120_000 => GitObjectKind::Link,
            0o160_000 => GitObjectKind::Submodule,
            _ => GitObjectKind::File,
        }
    }
}

/// The state of reading a folder and its subfolders: the files read so far, and the numbers of entries and bytes, which
/// are limited.
struct FolderRead<'a> {
    extension: &'a str,
    files: Vec<(String, Vec<u8>)>,
    entries: usize,
    bytes: u64,
}

impl Repository {
    /// Returns the content of the file at a path in the project's folder; `None` if the commit has no such file.
    ///
    /// # Errors
    /// If the path is a link, a submodule or a folder; if the file is too large; or if the git object cannot be read.
    pub fn file(&self, commit: &Commit, path: &str) -> Result<Option<Vec<u8>>, HistoryError> {
        self.find(commit, path)?.map(|found| self.read(found, path)).transpose()
    }

    /// Returns the paths and contents of all files with the given extension in a folder and its subfolders, sorted by
    /// the bytes of the paths. The list is empty if the commit has no such folder. `folder` is relative to the
    /// project's folder.
    ///
    /// # Errors
    /// If `folder` is not a folder; if a file with the extension is a link or too large; if the folder contains a
    /// submodule, too many entries or levels of subfolders, or a name that is not UTF-8; if the files are too large in
    /// total; or if a git object cannot be read.
    pub fn files(
        &self,
        commit: &Commit,
        folder: &str,
        extension: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, HistoryError> {
        match self.find(commit, folder)? {
            Some(found) => self.read_folder(found, folder, extension),
            None => Ok(Vec::new()),
        }
    }

    /// Returns the git object at a path in the project's folder; `None` if the commit has no such path.
    pub(super) fn find(&self, commit: &Commit, path: &str) -> Result<Option<GitObject>, HistoryError> {
        let whole = self.within(path)?;
        let mut at = GitObject { id: commit.tree, mode: 0o040_000 };
        let mut parts = whole.components().peekable();
        while let Some(part) = parts.next() {
            let tree = self.git.find_tree(at.id).map_err(|error| HistoryError::unreadable(named(path), &error))?;
            let Some(entry) = tree.get_name_bytes(part.as_os_str().as_encoded_bytes()) else { return Ok(None) };
            at = GitObject::new(&entry);
            if at.kind() == GitObjectKind::File {
                // A file has no entries, so a path that continues after a file does not exist.
                return Ok(parts.peek().is_none().then_some(at));
            }
            if matches!(at.kind(), GitObjectKind::Link | GitObjectKind::Submodule) {
                return Err(refused(path, at));
            }
        }
        Ok(Some(at))
    }

    /// Converts a path relative to the project's folder to a path relative to the root of the repository. With `..`,
    /// the path may leave the project's folder, but not the repository.
    fn within(&self, path: &str) -> Result<PathBuf, HistoryError> {
        let outside = || HistoryError::refused(named(path), "it is outside the repository");
        let mut whole = self.prefix.clone();
        for part in Path::new(path).components() {
            match part {
                Component::Normal(name) => whole.push(name),
                Component::CurDir => {}
                Component::ParentDir if whole.pop() => {}
                _ => return Err(outside()),
            }
        }
        Ok(whole)
    }

    /// Returns the content of the git object `found`, which must be a file at `path`. Links, submodules, folders and
    /// large files are rejected.
    pub(super) fn read(&self, found: GitObject, path: &str) -> Result<Vec<u8>, HistoryError> {
        if found.kind() != GitObjectKind::File {
            return Err(refused(path, found));
        }
        // `corrigenda.lock` has a larger limit, which also applies to all other files without the extension `.toml`.
        let most = if is_toml(path) { MOST_FILE_BYTES } else { MOST_LOCK_BYTES };
        let damaged = |error: git2::Error| HistoryError::unreadable(named(path), &error);
        let database = self.git.odb().map_err(damaged)?;
        // The size is in the header of the git object, so a file that is too large is rejected before it is read.
        let (size, kind) = database.read_header(found.id).map_err(damaged)?;
        if kind != ObjectType::Blob {
            return Err(HistoryError::refused(named(path), "it is not a file in the repository"));
        }
        if size as u64 > most {
            return Err(HistoryError::refused(named(path), format!("it is larger than {most} bytes")));
        }
        Ok(database.read(found.id).map_err(damaged)?.data().to_vec())
    }

    /// Returns the paths and contents of all files with the given extension in a folder and its subfolders, sorted by
    /// the bytes of the paths. `found` is the git object of the folder.
    pub(super) fn read_folder(
        &self,
        found: GitObject,
        folder: &str,
        extension: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, HistoryError> {
        if found.kind() != GitObjectKind::Folder {
            return Err(refused(folder, found));
        }
        let mut reading = FolderRead { extension, files: Vec::new(), entries: 0, bytes: 0 };
        self.descend(&mut reading, found, folder.trim_end_matches('/'), 0)?;
        reading.files.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        Ok(reading.files)
    }

    fn descend(
        &self,
        reading: &mut FolderRead<'_>,
        at: GitObject,
        path: &str,
        depth: usize,
    ) -> Result<(), HistoryError> {
        let tree = self.git.find_tree(at.id).map_err(|error| HistoryError::unreadable(named(path), &error))?;
        reading.entries += tree.len();
        if depth > MOST_DEPTH || reading.entries > MOST_ENTRIES {
            return Err(HistoryError::refused(named(path), "it contains too many folders and files"));
        }
        for entry in &tree {
            let name = String::from_utf8_lossy(entry.name_bytes());
            let below = if path.is_empty() { name.to_string() } else { format!("{path}/{name}") };
            let wanted = Path::new(&*name).extension().is_some_and(|extension| extension == reading.extension);
            let found = GitObject::new(&entry);
            // A name that is not valid UTF-8 is rejected. If its invalid bytes were replaced, two files could get the
            // same name.
            if matches!(name, Cow::Owned(_)) && (wanted || found.kind() == GitObjectKind::Folder) {
                return Err(HistoryError::refused(named(&below), "its name is not UTF-8"));
            }
            match found.kind() {
                GitObjectKind::Folder => self.descend(reading, found, &below, depth + 1)?,
                GitObjectKind::Submodule => return Err(refused(&below, found)),
                GitObjectKind::Link | GitObjectKind::File if !wanted => {}
                GitObjectKind::Link => return Err(refused(&below, found)),
                GitObjectKind::File => {
                    let bytes = self.read(found, &below)?;
                    reading.bytes += bytes.len() as u64;
                    if reading.bytes > MOST_FOLDER_BYTES {
                        return Err(HistoryError::refused(named(path), "its files are too large in total"));
                    }
                    reading.files.push((below, bytes));
                }
            }
        }
        Ok(())
    }
}

fn named(path: &str) -> String {
    format!("`{path}`")
}

fn is_toml(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "toml")
}

fn refused(path: &str, found: GitObject) -> HistoryError {
    let why = match found.kind() {
        GitObjectKind::Link => "it is a symbolic link, which is not followed",
        GitObjectKind::Submodule => "it is a submodule, whose files are in another repository",
        GitObjectKind::Folder => "it is a folder",
        GitObjectKind::File => "it is a file",
    };
    HistoryError::refused(named(path), why)
}
