//! Checks that an exported checkpoint is the base with the patch applied, file by file and tensor by tensor.
//!
//! The manifest is untrusted: it only determines which patch is tried first. The patch is applied to the base again and
//! the result is compared with the checkpoint. If they differ, the next known patch is tried. Only files found by
//! listing the folder are read, so a name in a manifest is never used as a path.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::json;

use super::candidates::{CLAIMED_BY_MANIFEST, Candidate, Reference, add_facts, candidates, load_patch, patch_check};
use super::claims::{ExportContent, ManifestFile, check_claims, read_manifest};
use super::tensors::{TensorPair, pair_tensors};
use super::{Audit, Check, CheckState, VerifyContext, count};
use crate::diagnostics::Failure;
use crate::digest::{Digest, Hasher};
use crate::export::card::{CARD_FILE, card, section};
use crate::export::checkpoint::left_out;
use crate::export::fact::{ExportedFact, facts};
use crate::export::folder::{FolderFile, FolderListing, list};
use crate::export::manifest::ExportManifest;
use crate::export::weights::{self, AppliedTensors, apply, is_weights, open_all};
use crate::export::{ExportError, MANIFEST_FILE};
use crate::project::LockedBase;
use crate::safetensors::File;
use crate::store::memo;

/// The names of folders that git and download tools create in a checkpoint. No program loads weights from these
/// folders, so `verify` ignores them.
pub(crate) const TOOLS: [&str; 2] = [".cache", ".git"];

/// Checks that the checkpoint in `folder` is the base with a known patch applied.
///
/// # Errors
/// If `folder` cannot be listed or contains no weights.
pub fn checkpoint(context: &VerifyContext<'_>, folder: &Path) -> Result<Audit, Failure> {
    let opened = OpenedCheckpoint::open(context, folder)?;
    let reference = opened.reference()?;
    let mut audit = Audit::new("checkpoint");
    audit.fields =
        json!({ "base": context.base.locked.digest, "patch": reference.candidate.as_ref().map(|one| one.id) });
    if let Some(other) = opened.of_another_model() {
        // No further checks are made, because they would report every tensor as different.
        let said = "the export is of another model: no tensor is the same as in the base";
        audit.add(Check::wrong("base", other.short(), said));
        audit.repair("corrigenda verify DIR --base DIR (the model that it was made from)");
        return Ok(audit);
    }
    opened.patch(&mut audit, &reference);
    opened.files(&mut audit, &reference)?;
    opened.tensors(&mut audit, &reference)?;
    opened.claims(&mut audit, &reference);
    if let Some(candidate) = reference.candidate.as_ref().filter(|_| reference.contained) {
        let claimed = opened.manifest().map(|manifest| manifest.facts.as_slice()).unwrap_or_default();
        add_facts(&mut audit, context, &candidate.patch, claimed);
    }
    match audit.state() {
        CheckState::Ok => {}
        CheckState::Unknown => audit.repair("corrigenda store import DIR (a folder of `corrigenda store export`)"),
        _ => audit.repair("corrigenda export checkpoint NEW-DIR"),
    }
    if let Some(one) = &reference.candidate {
        let counts = [count(opened.digests.len(), "file"), count(opened.pairs.len(), "tensor")].join(", ");
        audit.verdict =
            format!("this is base {} + patch {}, exactly: {counts}", context.base.locked.digest.short(), one.id);
    }
    Ok(audit)
}

struct OpenedCheckpoint<'a> {
    context: &'a VerifyContext<'a>,
    base: FolderListing,
    base_weights: Vec<File>,
    found: FolderListing,
    found_weights: BTreeMap<String, Result<File, String>>,
    digests: BTreeMap<String, (u64, Digest)>,
    pairs: Vec<TensorPair>,
    claimed: ManifestFile,
}

/// Returns whether `name` is the name of a safetensors file of the base. Some bases have weights files with other names
/// than `model.safetensors` and `model-*.safetensors`.
fn is_own(base: &LockedBase, name: &str) -> bool {
    name.ends_with(".safetensors") && base.has(name)
}

impl<'a> OpenedCheckpoint<'a> {
    fn open(context: &'a VerifyContext<'a>, folder: &Path) -> Result<Self, Failure> {
        let base = list(&context.base.folder)?;
        let locked = &context.base.locked;
        let base_weights = open_all(&base, locked)?;
        let found = list(folder)?;
        let members = found.files.iter().filter(|member| is_weights(&member.name) || is_own(locked, &member.name));
        let found_weights: BTreeMap<_, _> = members
            .map(|member| (member.name.clone(), weights::open(member).map_err(|error| error.to_string())))
            .collect();
        if found_weights.is_empty() {
            return Err(ExportError::NoWeights { folder: folder.to_owned() }.into());
        }
        let mut digests = BTreeMap::new();
        for member in &found.files {
            let digest = memo::digest_file_fresh(&member.path)?;
            digests.insert(member.name.clone(), (member.size, digest));
        }
        let sound = found_weights.iter().filter_map(|(name, file)| Some((name.as_str(), file.as_ref().ok()?)));
        let pairs = pair_tensors(&base_weights, &sound.collect())?;
        let claimed = read_manifest(&found)?;
        Ok(Self { context, base, base_weights, found, found_weights, digests, pairs, claimed })
    }

    fn manifest(&self) -> Option<&ExportManifest> {
        match &self.claimed {
            ManifestFile::Valid(manifest, _) => Some(manifest),
            _ => None,
        }
    }

    /// Returns the base digest in the manifest if the checkpoint was made from another model than the opened base,
    /// otherwise `None`. The checkpoint was made from another model if this digest differs from that of the opened base
    /// and no tensor of the checkpoint equals the tensor of the base with the same name.
    fn of_another_model(&self) -> Option<Digest> {
        let other = self.manifest()?.base.digest;
        let nothing = !self.pairs.iter().any(TensorPair::is_unchanged);
        (other != self.context.base.locked.digest && nothing).then_some(other)
    }

    /// Selects the patch that the checkpoint contains. If the checkpoint contains none of the known patches, selects
    /// the patch that the manifest names, otherwise the patch that the user names, otherwise the patch in
    /// `corrigenda.lock`. A patch that is missing, damaged or made for a different base is skipped.
    fn reference(&self) -> Result<Reference<Candidate>, Failure> {
        let claim = self.manifest().map(|manifest| manifest.patch);
        let ids = candidates(self.context, claim, CLAIMED_BY_MANIFEST)?;
        Ok(Reference::select(ids, |id, source| self.load(id, source), |candidate| self.contains(candidate)))
    }

    /// Loads the patch `id` and applies it to the base in memory; `None` if it is missing, damaged or made for a
    /// different base.
    fn load(&self, id: Digest, source: &'static str) -> Option<Candidate> {
        let patch = load_patch(self.context, &id, source)?;
        let of_base = |name: &String| self.pairs.iter().find(|pair| pair.name == *name)?.base.as_ref();
        let fits = patch.targets().iter().all(|(name, target)| of_base(name).is_some_and(|it| it.1 == target.base));
        let applied = if fits { apply(&self.base_weights, &patch).ok()? } else { return None };
        Some(Candidate { patch, id, applied, source })
    }

    fn contains(&self, candidate: &Candidate) -> bool {
        // A patch without edits has no targets. The checkpoint contains this patch if all tensors equal those of the
        // base.
        let targets = candidate.patch.targets();
        let target = |pair: &&TensorPair| targets.is_empty() || targets.contains_key(&pair.name);
        let as_patched =
            |pair: &TensorPair| pair.found.as_ref().map(|(_, digest)| *digest) == pair.expected(&candidate.applied);
        self.pairs.iter().filter(target).all(as_patched)
    }

    fn patch(&self, audit: &mut Audit, reference: &Reference<Candidate>) {
        let untouched = self.pairs.iter().all(TensorPair::is_unchanged);
        let claim = self.manifest().map(|manifest| manifest.patch);
        let candidate = reference.candidate.as_ref().map(|candidate| (candidate.id, candidate.source));
        audit.add(if reference.contained || !untouched {
            patch_check(self.context, candidate, reference.contained, claim, CLAIMED_BY_MANIFEST)
        } else {
            Check::wrong("patch", "none", "every tensor is the same as in the base")
        });
    }

    /// Returns the patch id, the facts and the settings digest that the model card should state. `None` if there is no
    /// valid manifest and no patch was selected.
    fn described(&self, candidate: Option<&Candidate>) -> Option<(Digest, Vec<ExportedFact>, Option<Digest>)> {
        let id = candidate.map(|candidate| candidate.id);
        match (self.manifest(), candidate) {
            (Some(manifest), _) => Some((id.unwrap_or(manifest.patch), manifest.facts.clone(), manifest.settings)),
            (None, Some(candidate)) => {
                let lock = self.context.lock.as_ref().filter(|lock| lock.patch.id == candidate.id);
                let facts = facts(&candidate.patch, &self.context.edits, &self.context.prefaces());
                Some((candidate.id, facts, lock.map(|lock| lock.patch.settings)))
            }
            _ => None,
        }
    }

    /// Returns the manifest if it is valid and no patch was selected. A changed file or tensor is then compared with
    /// its digest in the manifest. Equal digests give the state [`CheckState::Unknown`], because the manifest is
    /// untrusted.
    fn unproved(&self, reference: &Reference<Candidate>) -> Option<&ExportManifest> {
        self.manifest().filter(|_| reference.candidate.is_none())
    }

    fn files(&self, audit: &mut Audit, reference: &Reference<Candidate>) -> Result<(), Failure> {
        let wrong = |name: &str, said: &str| Check::wrong("file", name, said);
        let locked = &self.context.base.locked;
        let expected = self.base.files.iter().filter(|member| !member.pickle && !member.is_left_out(locked));
        let expected = expected.map(|member| member.name.as_str());
        let mut names: BTreeSet<&str> = expected.chain(self.digests.keys().map(String::as_str)).collect();
        names.extend([CARD_FILE, MANIFEST_FILE]);
        for name in names {
            let check = match (name, self.digests.get(name)) {
                (_, None) => wrong(name, "missing"),
                (MANIFEST_FILE, Some(_)) => match &self.claimed {
                    ManifestFile::Invalid(why) => wrong(name, "not valid").detail(why),
                    _ => Check::ok("file", name, "read; its claims are below"),
                },
                (name, Some((_, digest))) => self.file(name, digest, reference)?,
            };
            audit.add(check);
        }
        for (name, why) in &self.found.refused {
            audit.add(wrong(name, why));
        }
        for name in self.found.folders.iter().filter(|name| !TOOLS.contains(&name.as_str())) {
            audit.add(wrong(name, "extra: a folder, which was not read"));
        }
        Ok(())
    }

    fn file(&self, name: &str, digest: &Digest, reference: &Reference<Candidate>) -> Result<Check, Failure> {
        let wrong = |said: &str| Check::wrong("file", name, said);
        if let Some(member) = self.found.get(name).filter(|it| it.pickle || it.is_left_out(&self.context.base.locked)) {
            return self.unedited(member, digest);
        }
        if let Some(Err(why)) = self.found_weights.get(name) {
            return Ok(wrong("its weights cannot be read").detail(why));
        }
        let member = self.base.get(name);
        let base = member.map(|member| memo::digest_file_fresh(&member.path)).transpose()?;
        let exported = self.exported(name, reference.candidate.as_ref())?;
        if exported.is_some() && exported == Some(*digest) {
            return Ok(Check::ok("file", name, if exported == base { "same as in the base" } else { "as exported" }));
        }
        let Some(expected) = exported.or(base) else { return Ok(wrong("extra: not in the base")) };
        if expected == *digest {
            return Ok(Check::ok("file", name, "same as in the base"));
        }
        let claimed = self.unproved(reference).is_some_and(|manifest| {
            let edited = manifest.tensors.iter().any(|tensor| tensor.file == name);
            edited && manifest.files.iter().any(|file| file.path == name && file.digest == *digest)
        });
        if claimed {
            return Ok(wrong("as the manifest claims").state(CheckState::Unknown));
        }
        let said = if base == Some(*digest) { "same as in the base, not as exported" } else { "changed" };
        Ok(wrong(said).detail(format!("expected {expected}")).detail(format!("found    {digest}")))
    }

    /// Returns a failed check for a file that does not belong in an export: a pickle, or weights in a format that a
    /// patch cannot change.
    fn unedited(&self, found: &FolderFile, digest: &Digest) -> Result<Check, Failure> {
        let said = if found.pickle {
            "a pickle, which an export never contains"
        } else {
            "weights in a format that a patch cannot change, which an export never contains"
        };
        let base = self.base.get(&found.name).map(|member| memo::digest_file_fresh(&member.path)).transpose()?;
        let check = Check::wrong("file", &found.name, said);
        let why = if base == Some(*digest) {
            "it is the unedited file of the base: a program that loads it behaves like the base"
        } else {
            "a program that loads it uses its weights, whatever the other weights are"
        };
        Ok(check.detail(why))
    }

    /// Returns the digest that the file `name` has in an export of the patch. `None` if an export copies the file from
    /// the base unchanged, or if the expected content is not known.
    fn exported(&self, name: &str, candidate: Option<&Candidate>) -> Result<Option<Digest>, ExportError> {
        if name == CARD_FILE {
            let readme = self
                .base
                .get(name)
                .map(|member| fs::read(&member.path).map_err(ExportError::io("reading", &member.path)));
            let Some((id, facts, settings)) = self.described(candidate) else { return Ok(None) };
            let section = section(&self.context.base.locked.digest, &id, &facts, settings.as_ref());
            return Ok(Some(Digest::of(&card(readme.transpose()?.as_deref(), &section))));
        }
        let file = self.base_weights.iter().find(|file| file.name == name);
        let Some((file, replaced)) = file.zip(candidate.and_then(|candidate| candidate.applied.get(name))) else {
            return Ok(None);
        };
        let mut hasher = Hasher::default();
        weights::write_with(file, replaced, &mut hasher).map_err(ExportError::io("reading", Path::new(name)))?;
        Ok(Some(hasher.finish()))
    }

    fn tensors(&self, audit: &mut Audit, reference: &Reference<Candidate>) -> Result<(), Failure> {
        let none = AppliedTensors::new();
        let applied = reference.candidate.as_ref().map_or(&none, |candidate| &candidate.applied);
        for pair in &self.pairs {
            let base = self.base_weights.iter().find(|file| file.name == pair.file);
            let found = self.found_weights.get(&pair.file).and_then(|file| file.as_ref().ok());
            if let (Some(base), Some(found)) = (base, found) {
                let check = pair.check(applied, base, found)?;
                let claimed = self.unproved(reference).is_some_and(|manifest| pair.is_claimed(manifest));
                audit.add(if claimed && check.state == CheckState::Wrong {
                    Check::wrong("tensor", &pair.name, "as the manifest claims").state(CheckState::Unknown)
                } else {
                    check
                });
            }
        }
        Ok(())
    }

    fn claims(&self, audit: &mut Audit, reference: &Reference<Candidate>) {
        let ManifestFile::Valid(manifest, bytes) = &self.claimed else { return };
        let files = self.digests.iter().filter(|(name, _)| *name != MANIFEST_FILE);
        let files: BTreeMap<_, _> = files.map(|(name, file)| (name.clone(), *file)).collect();
        let patch = reference.candidate.as_ref().map(|candidate| (&candidate.patch, candidate.id, &candidate.applied));
        let checks = check_claims(
            self.context,
            manifest,
            bytes,
            &ExportContent { patch, files: &files, omitted: &left_out(&self.base, &self.context.base.locked) },
        );
        audit.checks.extend(checks);
    }
}
