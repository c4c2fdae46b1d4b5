//! Compares the claims of a manifest with the content of the export.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::{Check, VerifyContext, count};
use crate::digest::Digest;
use crate::export::folder::FolderListing;
use crate::export::manifest::{FileEntry, MOST_MANIFEST_BYTES, TensorEntry, tensor_entries};
use crate::export::weights::AppliedTensors;
use crate::export::{ExportError, ExportManifest, MANIFEST_FILE};
use crate::numeric::NUMERICS;
use crate::patch::Patch;

/// The result of reading the manifest in the folder of an export.
pub(crate) enum ManifestFile {
    Absent,
    /// The reason why the manifest is not valid.
    Invalid(String),
    /// The parsed manifest and the bytes of its file.
    Valid(Box<ExportManifest>, Vec<u8>),
}

/// Reads and parses the manifest of an exported folder. An invalid manifest is returned as [`ManifestFile::Invalid`]
/// and not as an error.
pub(crate) fn read_manifest(found: &FolderListing) -> Result<ManifestFile, ExportError> {
    let Some(member) = found.get(MANIFEST_FILE) else { return Ok(ManifestFile::Absent) };
    if member.size > MOST_MANIFEST_BYTES {
        return Ok(ManifestFile::Invalid(format!("it is longer than {MOST_MANIFEST_BYTES} bytes")));
    }
    let bytes = fs::read(&member.path).map_err(ExportError::io("reading", &member.path))?;
    Ok(match ExportManifest::parse(&bytes) {
        Ok(manifest) => ManifestFile::Valid(Box::new(manifest), bytes),
        Err(why) => ManifestFile::Invalid(why),
    })
}

/// The content of an export, with which the claims of its manifest are compared.
pub struct ExportContent<'a> {
    /// The patch in the export, its id, and the tensors that it replaces; `None` if the patch was not identified.
    pub patch: Option<(&'a Patch, Digest, &'a AppliedTensors)>,
    /// The size and digest of every file except the manifest, by name.
    pub files: &'a BTreeMap<String, (u64, Digest)>,
    /// The names of the base's files that the export omits, such as a copy of the weights in another format.
    pub omitted: &'a [String],
}

/// Compares every claim of a manifest with `truth`, the actual content of the export. `bytes` is the content of the
/// manifest file. Returns the failed checks, or one passed check if no check failed.
pub fn check_claims(
    context: &VerifyContext<'_>,
    manifest: &ExportManifest,
    bytes: &[u8],
    truth: &ExportContent<'_>,
) -> Vec<Check> {
    let mut claims = ClaimChecks { checks: Vec::new() };
    let base = &context.base.locked;
    claims.digest("base", &manifest.base.digest, &base.digest);
    let files: Vec<FileEntry> = base.files.iter().map(FileEntry::from).collect();
    claims.equal("base files", "the base has other files, or files with other bytes", manifest.base.files == files);
    let numerics = format!("this program computes with {NUMERICS}, not with {}", manifest.numerics);
    claims.equal("numerics", &numerics, manifest.numerics == NUMERICS);
    claims.files(&manifest.files, truth.files);
    let omitted = format!("an export of this base leaves out: {}", listed(truth.omitted));
    claims.equal("omitted", &omitted, manifest.omitted == truth.omitted);
    if let Some((patch, id, applied)) = truth.patch {
        claims.digest("patch", &manifest.patch, &id);
        claims.tensors(&manifest.tensors, &tensor_entries(applied));
        claims.facts(manifest, patch);
        let lock = context.lock.as_ref().filter(|lock| lock.patch.id == id);
        if let Some((settings, lock)) = manifest.settings.as_ref().zip(lock) {
            claims.digest("settings", settings, &lock.patch.settings);
        }
    }
    let form = "its bytes are not those that `export` writes for the same content";
    claims.equal("form", form, manifest.render() == bytes);
    if claims.checks.is_empty() {
        let mut said = count(manifest.files.len(), "file");
        if truth.patch.is_some() {
            said = [said, count(manifest.tensors.len(), "tensor"), count(manifest.facts.len(), "fact")].join(", ");
        }
        let said = format!("{said}: confirmed by the bytes");
        claims.checks.push(Check::ok("claim", "manifest", said));
    }
    claims.checks
}

/// Returns the names joined by commas, or `nothing` if the list is empty.
fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

struct ClaimChecks {
    checks: Vec<Check>,
}

impl ClaimChecks {
    fn equal(&mut self, name: &str, otherwise: &str, yes: bool) {
        if !yes {
            self.checks.push(Check::wrong("claim", name, otherwise));
        }
    }

    fn digest(&mut self, name: &str, claimed: &Digest, found: &Digest) {
        if claimed != found {
            let check = Check::wrong("claim", name, "contradicted by the bytes");
            let check = check.detail(format!("claimed  {claimed}")).detail(format!("found    {found}"));
            self.checks.push(check);
        }
    }

    fn files(&mut self, claimed: &[FileEntry], found: &BTreeMap<String, (u64, Digest)>) {
        for file in claimed {
            match found.get(&file.path) {
                None => self.equal(&file.path, "a file that does not exist", false),
                Some((_, digest)) => self.digest(&file.path, &file.digest, digest),
            }
            let other = found.get(&file.path).is_some_and(|(size, _)| *size != file.size);
            self.equal(&file.path, "a file of another size", !other);
        }
        let names: BTreeSet<&String> = claimed.iter().map(|file| &file.path).collect();
        for name in found.keys().filter(|name| !names.contains(name)) {
            self.equal(name, "a file that the manifest does not name", false);
        }
    }

    fn tensors(&mut self, claimed: &[TensorEntry], found: &[TensorEntry]) {
        for tensor in claimed {
            match found.iter().find(|one| (&one.file, &one.name) == (&tensor.file, &tensor.name)) {
                None => self.equal(&tensor.name, "a tensor that the patch does not change", false),
                Some(one) => {
                    self.digest(&tensor.name, &tensor.before, &one.before);
                    self.digest(&tensor.name, &tensor.after, &one.after);
                }
            }
        }
        let all = found.iter().all(|one| claimed.iter().any(|it| (&it.file, &it.name) == (&one.file, &one.name)));
        self.equal("tensors", "the patch changes a tensor that the manifest does not name", all);
    }

    /// Checks three claims: the digest of every fact matches its texts, every fact in the manifest is in the patch, and
    /// every fact of the patch is in the manifest.
    fn facts(&mut self, manifest: &ExportManifest, patch: &Patch) {
        let mut left: BTreeSet<Digest> = patch.edits().into_iter().collect();
        for fact in &manifest.facts {
            let name = fact.id.clone().or_else(|| fact.meaning.map(|meaning| meaning.short())).unwrap_or_default();
            let mut meanings = fact.meanings();
            if let (Some(claimed), Some(found)) = (&fact.meaning, meanings.first()) {
                self.digest(&name, claimed, found);
            }
            if meanings.is_empty() {
                meanings.extend(fact.meaning);
            }
            // A fact has one digest for its subject and one for each alias. All of them must be in the patch, and no
            // two facts may have the same digest.
            let known = !meanings.is_empty()
                && meanings.iter().filter(|meaning| left.remove(meaning)).count() == meanings.len();
            self.equal(&name, "a fact that is not in the patch", known);
        }
        for meaning in left {
            self.equal(&meaning.short(), "a fact of the patch that the manifest does not contain", false);
        }
    }
}
