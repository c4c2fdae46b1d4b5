//! An export, written beside its place, read back, and put there whole.
//!
//! Every file of the base is copied but pickles; in the weights files the byte ranges of the edited tensors are
//! replaced, and every other byte, headers included, stays as it is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::card::{CARD_FILE, card, section};
use super::folder::{Listing, Member, list, resolved, root};
use super::manifest::{FileEntry, MANIFEST_FILE, Manifest};
use super::weights::{Laid, Replaced, Weights, lay, open_all};
use super::{ExportError, Fact};
use crate::digest::{Digest, Hasher};
use crate::patch::Patch;
use crate::progress::Progress;
use crate::project::LockedBase;
use crate::store::memo;

/// What is exported, and where to.
pub struct Request<'a> {
    /// The folder of the base.
    pub folder: &'a Path,
    /// The base's files and digests.
    pub base: &'a LockedBase,
    /// The patch.
    pub patch: &'a Patch,
    /// What the patch is for.
    pub facts: &'a [Fact],
    /// The digest of the settings that made the patch, if the lock knows them.
    pub settings: Option<Digest>,
    /// The folder of the store, which no export may be in.
    pub store: &'a Path,
    /// The folder to make.
    pub to: &'a Path,
    /// Who watches.
    pub progress: &'a dyn Progress,
}

/// A finished export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// What the export says about itself.
    pub manifest: Manifest,
    /// Pickles of the base, which are not in the export.
    pub pickles: Vec<String>,
    /// Folders of the base, which are not in the export.
    pub folders: Vec<String>,
}

/// Writes the checkpoint.
///
/// # Errors
/// The destination or the base is refused, the patch is for another base, or the system refuses. Nothing stands at
/// the destination then, and nothing is left beside it.
pub fn checkpoint(request: &Request<'_>) -> Result<Exported, ExportError> {
    let (place, parent) = check_destination(request)?;
    let listing = list(request.folder)?;
    if !listing.refused.is_empty() {
        return Err(ExportError::Refused { folder: request.folder.to_owned(), names: listing.refused });
    }
    let weights = open_all(&listing)?;
    if weights.is_empty() {
        return Err(ExportError::NoWeights { folder: request.folder.to_owned() });
    }
    let laid = lay(&weights, request.patch)?;
    let staged = staged(&parent)?;
    request.progress.begin("files to write", listing.files.len() as u64);
    let written = Writing { request, listing: &listing, weights: &weights, laid: &laid, to: staged.path() }.all();
    request.progress.end();
    let manifest = written?;
    put_in_place(staged, &place, &parent)?;
    let pickles = listing.files.iter().filter(|member| member.pickle).map(|member| member.name.clone()).collect();
    Ok(Exported { manifest, pickles, folders: listing.folders })
}

/// Refuses a destination that is taken, or that is part of the base or of the store; else the place and its folder.
fn check_destination(request: &Request<'_>) -> Result<(PathBuf, PathBuf), ExportError> {
    let path = || request.to.to_owned();
    let place = resolved(request.to);
    if place.starts_with(root(request.folder)?) {
        return Err(ExportError::Inside { path: path(), what: "the base model" });
    }
    if place.starts_with(resolved(request.store)) {
        return Err(ExportError::Inside { path: path(), what: "the store" });
    }
    let taken = |what| Err(ExportError::Taken { path: path(), what });
    match fs::symlink_metadata(request.to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(ExportError::io("reading", request.to)(error)),
        Ok(there) if there.is_symlink() => return taken("a symbolic link"),
        Ok(there) if !there.is_dir() => return taken("a file"),
        Ok(_) => {
            let mut entries = fs::read_dir(request.to).map_err(ExportError::io("listing", request.to))?;
            if entries.next().is_some() {
                return taken("a folder that is not empty");
            }
        }
    }
    let parent = place.parent().unwrap_or(&place).to_owned();
    match parent.is_dir() {
        true => Ok((place, parent)),
        false => Err(ExportError::NoParent { path: path(), parent }),
    }
}

/// A folder beside the destination, removed with all that is in it unless it is put in place.
fn staged(parent: &Path) -> Result<TempDir, ExportError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".corrigenda-").suffix(".tmp");
    // What others may read is the umask's affair, not that of a temporary folder.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(parent).map_err(ExportError::io("creating a folder in", parent))
}

fn put_in_place(staged: TempDir, to: &Path, parent: &Path) -> Result<(), ExportError> {
    sync_folder(staged.path())?;
    // Where a rename does not replace an empty folder, the folder goes first.
    if cfg!(not(unix)) && to.exists() {
        fs::remove_dir(to).map_err(ExportError::io("replacing", to))?;
    }
    fs::rename(staged.path(), to).map_err(ExportError::io("replacing", to))?;
    let _ = staged.keep();
    sync_folder(parent)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<(), ExportError> {
    match File::open(folder).and_then(|handle| handle.sync_all()) {
        // Some file systems cannot sync a folder; on them a rename is as durable as it gets.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced.map_err(ExportError::io("syncing", folder)),
    }
}

/// Folders cannot be opened as files here; the rename itself is durable.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<(), ExportError> {
    Ok(())
}

/// Hashes and counts what is written to a file.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.write_all(&bytes[..count])?;
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// An export under way.
struct Writing<'a> {
    request: &'a Request<'a>,
    listing: &'a Listing,
    weights: &'a [Weights],
    laid: &'a Laid,
    to: &'a Path,
}

impl Writing<'_> {
    /// Writes every file and reads all of it back.
    fn all(&self) -> Result<Manifest, ExportError> {
        let mut files = Vec::new();
        for (index, member) in self.listing.files.iter().enumerate() {
            self.request.progress.at(index as u64);
            let ours = [MANIFEST_FILE, CARD_FILE].contains(&member.name.as_str());
            if !member.pickle && !ours {
                files.push(self.member(member)?);
            }
        }
        files.push(self.bytes(CARD_FILE, &self.card()?)?);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let Request { base, patch, facts, settings, .. } = *self.request;
        let manifest = Manifest::new(base, patch.id().0, self.laid, facts.to_vec(), settings, files);
        let own = self.bytes(MANIFEST_FILE, &manifest.render())?;
        self.unchanged(&manifest)?;
        manifest.files.iter().chain([&own]).try_for_each(|file| self.read_back(file))?;
        Ok(manifest)
    }

    fn member(&self, member: &Member) -> Result<FileEntry, ExportError> {
        let none = BTreeMap::new();
        match self.weights.iter().find(|weights| weights.name == member.name) {
            Some(weights) => {
                let replaced = self.laid.get(&member.name).unwrap_or(&none);
                self.file(&member.name, |out| weights.write_with(replaced, out))
            }
            None => self.file(&member.name, |out| File::open(&member.path).and_then(|mut it| copy(&mut it, out))),
        }
    }

    fn card(&self) -> Result<Vec<u8>, ExportError> {
        let Request { base, patch, facts, settings, .. } = *self.request;
        let readme = self
            .listing
            .get(CARD_FILE)
            .map(|member| fs::read(&member.path).map_err(ExportError::io("reading", &member.path)));
        let section = section(&base.digest, &patch.id().0, facts, settings.as_ref());
        Ok(card(readme.transpose()?.as_deref(), &section))
    }

    fn bytes(&self, name: &str, bytes: &[u8]) -> Result<FileEntry, ExportError> {
        self.file(name, |out| out.write_all(bytes))
    }

    fn file(
        &self,
        name: &str,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<FileEntry, ExportError> {
        let write = || {
            let file = File::options().write(true).create_new(true).open(self.to.join(name))?;
            let mut out = Hashing { inner: BufWriter::new(file), hasher: Hasher::default(), size: 0 };
            produce(&mut out)?;
            out.flush()?;
            out.inner.get_ref().sync_all()?;
            Ok(FileEntry { digest: out.hasher.finish(), path: name.to_owned(), size: out.size })
        };
        write().map_err(ExportError::io("writing", &self.request.to.join(name)))
    }

    /// Refuses a base that is no longer the one that was opened.
    fn unchanged(&self, manifest: &Manifest) -> Result<(), ExportError> {
        for locked in &manifest.base.files {
            let changed = || ExportError::Changed { file: locked.path.clone() };
            let member = self.listing.get(&locked.path).ok_or_else(changed)?;
            if memo::digest_file_fresh(&member.path)? != locked.digest {
                return Err(changed());
            }
        }
        Ok(())
    }

    /// Reads a file again: its digest and, of weights, every tensor.
    fn read_back(&self, file: &FileEntry) -> Result<(), ExportError> {
        let path = self.to.join(&file.path);
        let differs = |what: &str| ExportError::Differs { file: file.path.clone(), what: what.to_owned() };
        if memo::digest_file_fresh(&path)? != file.digest {
            return Err(differs("its bytes"));
        }
        let Some(base) = self.weights.iter().find(|weights| weights.name == file.path) else { return Ok(()) };
        let member = Member { name: file.path.clone(), path, size: file.size, pickle: false };
        let written = Weights::open(&member)?;
        if written.header != base.header {
            return Err(differs("its header"));
        }
        let replaced = self.laid.get(&file.path);
        for (name, info) in &base.header.tensors {
            let after = replaced.and_then(|tensors| tensors.get(name)).map(|one: &Replaced| one.after);
            let expected = after.map_or_else(|| base.digest(info), Ok)?;
            if written.digest(info)? != expected {
                return Err(differs(name));
            }
        }
        Ok(())
    }
}

fn copy(from: &mut File, to: &mut dyn Write) -> io::Result<()> {
    io::copy(from, to).map(drop)
}
