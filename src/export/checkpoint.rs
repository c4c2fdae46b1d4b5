//! Exports a checkpoint: the base's files with the patch applied to the weights.
//!
//! All files are written to a staging folder next to the destination, read back, and moved to the destination with one
//! rename. Pickles are not exported. Weights files that are not part of the base, such as a GGUF copy of the model, are
//! not exported either. In a weights file, only the bytes of the edited tensors change.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::card::{CARD_FILE, card, section};
use super::destination::{Destination, Staging};
use super::folder::{FolderFile, FolderListing, list};
use super::manifest::{ExportManifest, FileEntry, MANIFEST_FILE};
use super::weights::{self, AppliedTensors, ReplacedTensor, apply, open_all};
use super::{ExportError, ExportedFact};
use crate::digest::Digest;
use crate::patch::Patch;
use crate::progress::Progress;
use crate::project::LockedBase;
use crate::safetensors;
use crate::store::memo;

/// The arguments of every export, as a checkpoint or as an adapter: the base, the patch with its facts, and the
/// destination.
pub struct ExportRequest<'a> {
    pub folder: &'a Path,
    /// The base's files with their digests, from `corrigenda.lock` or computed from the files in `folder`.
    pub base: &'a LockedBase,
    /// The patch to export, which must have been made for this base.
    pub patch: &'a Patch,
    /// The facts in the patch, which the model card and the manifest list.
    pub facts: &'a [ExportedFact],
    /// The digest of the settings with which the patch was built; `None` if `corrigenda.lock` does not name the patch.
    pub settings: Option<Digest>,
    /// The folder of the store; a destination inside it is rejected.
    pub store: &'a Path,
    /// The path of the folder or file to create.
    pub to: &'a Path,
    /// Receives the number of files written so far. An adapter export reports no progress.
    pub progress: &'a dyn Progress,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedCheckpoint {
    pub manifest: ExportManifest,
    /// The names of the base's pickle files, which are not exported. The manifest does not list them.
    pub pickles: Vec<String>,
    /// The names of the base's subfolders, which are not exported.
    pub folders: Vec<String>,
}

/// Writes the base's files, with the patch applied to the weights, to the destination folder.
///
/// # Errors
/// If the destination or a file of the base is rejected, the patch was made for a different base, or an I/O operation
/// fails. In each case the staging folder is removed and nothing is written to the destination.
pub fn checkpoint(request: &ExportRequest<'_>) -> Result<ExportedCheckpoint, ExportError> {
    let place = Destination::folder(request.to, request.folder, request.store)?;
    let listing = list(request.folder)?;
    if !listing.refused.is_empty() {
        return Err(ExportError::Refused { folder: request.folder.to_owned(), names: listing.refused });
    }
    let weights = open_all(&listing, request.base)?;
    if weights.is_empty() {
        return Err(ExportError::NoWeights { folder: request.folder.to_owned() });
    }
    let applied = apply(&weights, request.patch)?;
    let staging = place.stage()?;
    request.progress.begin("files to write", listing.files.len() as u64);
    let written =
        CheckpointWriter { request, listing: &listing, weights: &weights, applied: &applied, staging: &staging }.all();
    request.progress.end();
    let manifest = written?;
    staging.commit()?;
    let pickles = listing.files.iter().filter(|member| member.pickle).map(|member| member.name.clone()).collect();
    Ok(ExportedCheckpoint { manifest, pickles, folders: listing.folders })
}

struct CheckpointWriter<'a> {
    request: &'a ExportRequest<'a>,
    listing: &'a FolderListing,
    weights: &'a [safetensors::File],
    applied: &'a AppliedTensors,
    staging: &'a Staging,
}

impl CheckpointWriter<'_> {
    /// Writes all files to the staging folder and checks that the base did not change. Then reads each written file
    /// back and checks its digest.
    fn all(&self) -> Result<ExportManifest, ExportError> {
        let mut files = Vec::new();
        for (index, member) in self.listing.files.iter().enumerate() {
            self.request.progress.set_position(index as u64);
            let ours = [MANIFEST_FILE, CARD_FILE].contains(&member.name.as_str());
            if !member.pickle && !ours && !member.is_left_out(self.request.base) {
                files.push(self.member(member)?);
            }
        }
        files.push(self.bytes(CARD_FILE, &self.card()?)?);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let ExportRequest { base, patch, facts, settings, .. } = *self.request;
        let manifest = ExportManifest::new(
            base,
            patch.id().0,
            self.applied,
            facts.to_vec(),
            settings,
            files,
            left_out(self.listing, base),
        );
        let own = self.bytes(MANIFEST_FILE, &manifest.render())?;
        unchanged(base, self.listing)?;
        manifest.files.iter().chain([&own]).try_for_each(|file| self.read_back(file))?;
        Ok(manifest)
    }

    fn member(&self, member: &FolderFile) -> Result<FileEntry, ExportError> {
        let none = BTreeMap::new();
        match self.weights.iter().find(|weights| weights.name == member.name) {
            Some(base) => {
                let replaced = self.applied.get(&member.name).unwrap_or(&none);
                self.staging.write(&member.name, |out| weights::write_with(base, replaced, out))
            }
            None => {
                self.staging.write(&member.name, |out| File::open(&member.path).and_then(|mut it| copy(&mut it, out)))
            }
        }
    }

    fn card(&self) -> Result<Vec<u8>, ExportError> {
        let ExportRequest { base, patch, facts, settings, .. } = *self.request;
        let readme = self
            .listing
            .get(CARD_FILE)
            .map(|member| fs::read(&member.path).map_err(ExportError::io("reading", &member.path)));
        let section = section(&base.digest, &patch.id().0, facts, settings.as_ref());
        Ok(card(readme.transpose()?.as_deref(), &section))
    }

    fn bytes(&self, name: &str, bytes: &[u8]) -> Result<FileEntry, ExportError> {
        self.staging.write(name, |out| out.write_all(bytes))
    }

    /// Reads a written file back and checks its digest. In a weights file, also checks the header and the digest of
    /// every tensor.
    fn read_back(&self, file: &FileEntry) -> Result<(), ExportError> {
        self.staging.read_back(file)?;
        let differs = |what: &str| ExportError::Differs { file: file.path.clone(), what: what.to_owned() };
        let Some(base) = self.weights.iter().find(|weights| weights.name == file.path) else { return Ok(()) };
        let path = self.staging.path(&file.path);
        let member = FolderFile { name: file.path.clone(), path, size: file.size, pickle: false, weights: true };
        let written = weights::open(&member)?;
        if written.header != base.header {
            return Err(differs("its header"));
        }
        let replaced = self.applied.get(&file.path);
        for (name, info) in &base.header.tensors {
            let after = replaced.and_then(|tensors| tensors.get(name)).map(|one: &ReplacedTensor| one.after);
            let expected = after.map_or_else(|| weights::digest(base, info), Ok)?;
            if weights::digest(&written, info)? != expected {
                return Err(differs(name));
            }
        }
        Ok(())
    }
}

/// Returns the names of the weights files that are not part of the base, such as a copy of the model in another format.
/// These files are not exported.
pub fn left_out(listing: &FolderListing, base: &LockedBase) -> Vec<String> {
    listing.files.iter().filter(|member| member.is_left_out(base)).map(|member| member.name.clone()).collect()
}

/// Checks that no file of the base changed during the export.
///
/// # Errors
/// If a file of the base is missing or its digest differs.
pub(super) fn unchanged(base: &LockedBase, listing: &FolderListing) -> Result<(), ExportError> {
    for locked in &base.files {
        let changed = || ExportError::Changed { file: locked.path.clone() };
        let member = listing.get(&locked.path).ok_or_else(changed)?;
        if memo::digest_file_fresh(&member.path)? != locked.digest {
            return Err(changed());
        }
    }
    Ok(())
}

fn copy(from: &mut File, to: &mut dyn Write) -> io::Result<()> {
    io::copy(from, to).map(drop)
}
