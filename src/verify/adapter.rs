//! Compares an exported LoRA adapter with the patch from which it was exported.
//!
//! The base model, the patch and the facts determine every byte of an adapter, so the expected bytes can be computed
//! and compared. As a second, independent check, the LoRA factors in the file are multiplied, and the product is
//! compared with the weight change that the patch makes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use serde_json::json;

use super::candidates::{CLAIMED_BY_MANIFEST, Candidate, Reference, add_facts, candidates, load_patch, patch_check};
use super::claims::{ExportContent, ManifestFile, check_claims, read_manifest};
use super::{Audit, Check, CheckState, VerifyContext, count};
use crate::diagnostics::Failure;
use crate::digest::Digest;
use crate::export::card::CARD_FILE;
use crate::export::fact::{ExportedFact, facts};
use crate::export::folder::{FolderListing, list};
use crate::export::lora::{Adapter, FactorPair};
use crate::export::peft::{BaseName, CONFIG_FILE, WEIGHTS_FILE, files, name_of};
use crate::export::weights::{apply, open_all};
use crate::export::{ExportError, ExportManifest, MANIFEST_FILE, peft};
use crate::model::Spec;
use crate::regular_file;
use crate::store::memo;

/// The maximum size of an adapter file in bytes. Each file is read into memory as a whole, so a larger file is
/// rejected.
const MOST_BYTES: u64 = 4 << 30;

/// Returns whether a folder contains `adapter_config.json` or `adapter_model.safetensors`, the files of a PEFT adapter.
pub fn is_peft(folder: &Path) -> bool {
    [CONFIG_FILE, WEIGHTS_FILE].iter().any(|name| folder.join(name).exists())
}

/// A patch from which the checked adapter may have been exported, with the LoRA factors of this patch.
pub(crate) struct AdapterCandidate {
    pub patch: Candidate,
    pub adapter: Adapter,
}

impl Reference<AdapterCandidate> {
    /// Selects the patch whose LoRA factors equal those of the exported adapter `found`. If there is no such patch,
    /// selects the first patch that is named by the export, by the user or by `corrigenda.lock`.
    pub(crate) fn of_adapter(
        context: &VerifyContext<'_>,
        found: Option<&Adapter>,
        claim: Option<Digest>,
        claimed: &'static str,
    ) -> Result<Self, Failure> {
        let weights = open_all(&list(&context.base.folder)?, &context.base.locked)?;
        let spec = context.base.model.spec();
        let load = |id, source| {
            let patch = load_patch(context, &id, source)?;
            let adapter = Adapter::new(&patch, spec).ok()?;
            let applied = apply(&weights, &patch).ok()?;
            Some(AdapterCandidate { patch: Candidate { patch, id, applied, source }, adapter })
        };
        let contains =
            |candidate: &AdapterCandidate| found.is_some_and(|found| bits(found) == bits(&candidate.adapter));
        Ok(Self::select(candidates(context, claim, claimed)?, load, contains))
    }

    /// Returns the id of the selected patch and how the patch was identified, such as `found in the store`; `None` if
    /// no patch was selected.
    pub(crate) fn name(&self) -> Option<(Digest, &'static str)> {
        self.candidate.as_ref().map(|candidate| (candidate.patch.id, candidate.patch.source))
    }

    /// Compares the LoRA factors of each module in `found` with the factors computed from the patch. If all are equal,
    /// also compares the product of the factors with the weight change that the patch makes.
    pub(crate) fn modules(&self, audit: &mut Audit, found: &Adapter, spec: &Spec) {
        let Some(candidate) = &self.candidate else {
            for pair in &found.pairs {
                let check = Check::wrong("module", &pair.module, "its patch is not available");
                audit.add(check.state(CheckState::Unknown));
            }
            return;
        };
        let expected = candidate.adapter.pairs.iter().map(|pair| (pair.layer, pair));
        let found_pairs: BTreeMap<usize, &FactorPair> = found.pairs.iter().map(|pair| (pair.layer, pair)).collect();
        let expected: BTreeMap<usize, &FactorPair> = expected.collect();
        let layers: BTreeSet<usize> = expected.keys().chain(found_pairs.keys()).copied().collect();
        let before = audit.failures();
        for layer in layers {
            let name = spec.module(layer);
            audit.add(match (expected.get(&layer), found_pairs.get(&layer)) {
                (Some(ours), Some(theirs)) => factors(name, candidate.adapter.rank, ours, (found.rank, theirs)),
                (Some(_), None) => Check::wrong("module", name, "missing"),
                (None, _) => Check::wrong("module", name, "extra: the patch does not change it"),
            });
        }
        // If the conversion of the patch to factors were wrong, the expected factors and the exported factors would
        // have the same mistake. Therefore the product of the exported factors is compared with the patch itself.
        if let Some(place) = found.difference(&candidate.patch.patch, spec).filter(|_| audit.failures() == before) {
            audit.add(Check::wrong("sum", place, "not what the patch adds"));
        }
    }
}

/// Returns the rank and, for each layer, the elements of both factors as bit patterns. Comparing bit patterns
/// distinguishes `-0.0` from `0.0`.
fn bits(adapter: &Adapter) -> (usize, Vec<(usize, Vec<u32>)>) {
    let bits = |pair: &FactorPair| (pair.layer, pair.a.iter().chain(&pair.b).map(|number| number.to_bits()).collect());
    (adapter.rank, adapter.pairs.iter().map(bits).collect())
}

fn factors(name: String, rank: usize, ours: &FactorPair, (found, theirs): (usize, &FactorPair)) -> Check {
    if (rank, ours.out, ours.inner) != (found, theirs.out, theirs.inner) {
        return Check::wrong("module", name, "factors of another rank or shape")
            .detail(format!("expected rank {rank} from {} to {}", ours.inner, ours.out))
            .detail(format!("found    rank {found} from {} to {}", theirs.inner, theirs.out));
    }
    let differ = |one: &[f32], other: &[f32]| {
        let pairs = one.iter().zip(other);
        pairs.enumerate().filter(|(_, (a, b))| a.to_bits() != b.to_bits()).map(|(at, _)| at).collect::<Vec<_>>()
    };
    let [a, b] = [differ(&ours.a, &theirs.a), differ(&ours.b, &theirs.b)];
    if a.is_empty() && b.is_empty() {
        return Check::ok("module", name, format!("rank {rank}, the same factors and product as the patch"));
    }
    let mut check = Check::wrong("module", name, "not the factors of the patch");
    for (factor, places, columns) in [("A", a, ours.inner), ("B", b, rank)] {
        if let Some(first) = places.first() {
            let place = format!("row {}, column {}", first / columns, first % columns);
            check = check.detail(format!(
                "{factor}: {} differ from the patch, the first at {place}",
                count(places.len(), "element")
            ));
        }
    }
    check
}

/// Sets the verdict of the audit and adds a suggested command: `command` if a check failed, or the import of a patch
/// into the store if checks could not be made because the patch is missing.
pub(crate) fn end(
    audit: &mut Audit,
    context: &VerifyContext<'_>,
    reference: &Reference<AdapterCandidate>,
    command: &str,
) {
    match audit.state() {
        CheckState::Ok => {}
        CheckState::Unknown => audit.repair("corrigenda store import DIR (a folder of `corrigenda store export`)"),
        _ => audit.repair(command),
    }
    if let Some(candidate) = &reference.candidate {
        let (base, modules) = (context.base.locked.digest.short(), count(candidate.adapter.pairs.len(), "module"));
        audit.verdict = format!("this adds to base {base} exactly what patch {} adds: {modules}", candidate.patch.id);
    }
}

/// Checks a PEFT adapter folder against the patch from which it was exported.
///
/// # Errors
/// If the base or a file of the folder cannot be read.
pub fn peft_adapter(context: &VerifyContext<'_>, folder: &Path) -> Result<Audit, Failure> {
    let found = AdapterFolder::open(context, folder)?;
    let claim = found.manifest().map(|manifest| manifest.patch);
    let reference = Reference::of_adapter(context, found.adapter.as_ref().ok(), claim, CLAIMED_BY_MANIFEST)?;
    let mut audit = Audit::new("adapter");
    audit.fields = json!({ "base": context.base.locked.digest, "patch": reference.name().map(|(id, _)| id) });
    audit.add(patch_check(context, reference.name(), reference.contained, claim, CLAIMED_BY_MANIFEST));
    found.files(&mut audit, context, &reference);
    match &found.adapter {
        Ok(adapter) => reference.modules(&mut audit, adapter, context.base.model.spec()),
        Err(why) => audit.add(Check::wrong("adapter", "factors", "not valid").detail(why)),
    }
    if let ManifestFile::Valid(manifest, bytes) = &found.claimed {
        let files = found.digests.iter().filter(|(name, _)| *name != MANIFEST_FILE);
        let files: BTreeMap<_, _> = files.map(|(name, file)| (name.clone(), *file)).collect();
        let patch = reference
            .candidate
            .as_ref()
            .map(|candidate| (&candidate.patch.patch, candidate.patch.id, &candidate.patch.applied));
        audit.checks.extend(check_claims(
            context,
            manifest,
            bytes,
            &ExportContent { patch, files: &files, omitted: &[] },
        ));
    }
    if let Some(candidate) = reference.candidate.as_ref().filter(|_| reference.contained) {
        add_facts(
            &mut audit,
            context,
            &candidate.patch.patch,
            found.manifest().map(|it| it.facts.as_slice()).unwrap_or_default(),
        );
    }
    end(&mut audit, context, &reference, "corrigenda export peft NEW-DIR");
    Ok(audit)
}

/// The content of an adapter folder. `digests` maps each file name to the size in bytes and the digest of the file.
struct AdapterFolder {
    listing: FolderListing,
    digests: BTreeMap<String, (u64, Digest)>,
    claimed: ManifestFile,
    /// The name of the base model in `adapter_config.json`; `None` if the file is missing or not valid.
    name: Option<String>,
    adapter: Result<Adapter, String>,
}

impl AdapterFolder {
    fn open(context: &VerifyContext<'_>, folder: &Path) -> Result<Self, Failure> {
        let listing = list(folder)?;
        let mut digests = BTreeMap::new();
        for member in &listing.files {
            digests.insert(member.name.clone(), (member.size, memo::digest_file_fresh(&member.path)?));
        }
        let read = |name: &str| match listing.get(name) {
            None => Ok(Vec::new()),
            Some(member) => bounded(&member.path),
        };
        let (config, weights) = (read(CONFIG_FILE)?, read(WEIGHTS_FILE)?);
        let adapter = peft::parse(&config, &weights, context.base.model.spec());
        let (claimed, name) = (read_manifest(&listing)?, name_of(&config));
        Ok(Self { listing, digests, claimed, name, adapter })
    }

    fn manifest(&self) -> Option<&ExportManifest> {
        match &self.claimed {
            ManifestFile::Valid(manifest, _) => Some(manifest),
            _ => None,
        }
    }

    /// Returns the expected digest of every file of the adapter except the manifest, by file name. The digests are
    /// computed from the selected patch. If no patch was selected, they are computed from the LoRA factors in the
    /// folder and the claims of the manifest. `None` if a file that is needed for this is missing or invalid.
    fn expected(
        &self,
        context: &VerifyContext<'_>,
        reference: &Reference<AdapterCandidate>,
    ) -> Option<BTreeMap<&'static str, Digest>> {
        let candidate = reference.candidate.as_ref();
        let adapter = candidate.map(|candidate| &candidate.adapter).or(self.adapter.as_ref().ok())?;
        let id = candidate.map(|candidate| candidate.patch.id).or(self.manifest().map(|manifest| manifest.patch))?;
        let (facts, settings): (Vec<ExportedFact>, Option<Digest>) = match (self.manifest(), candidate) {
            (Some(manifest), _) => (manifest.facts.clone(), manifest.settings),
            (None, Some(candidate)) => {
                let lock = context.lock.as_ref().filter(|lock| lock.patch.id == candidate.patch.id);
                (
                    facts(&candidate.patch.patch, &context.edits, &context.prefaces()),
                    lock.map(|lock| lock.patch.settings),
                )
            }
            (None, None) => return None,
        };
        let base = &context.base.locked.digest;
        let name = self.name.as_deref()?;
        let digests = |on_hub| {
            let named = BaseName { name, on_hub };
            let files = files(adapter, base, &id, &facts, settings.as_ref(), named);
            files.into_iter().map(|(file, bytes)| (file, Digest::of(&bytes))).collect::<BTreeMap<_, _>>()
        };
        // The model card names the base only if the base is on the Hugging Face Hub, which `verify` does not know. The
        // expected digests are therefore computed for a card with the name and for a card without it. If the card in
        // the folder equals the card with the name, the digests for that card are returned, otherwise those for the
        // card without the name.
        let found = self.digests.get(CARD_FILE).map(|(_, digest)| digest);
        let (named, plain) = (digests(true), digests(false));
        Some(if found == named.get(CARD_FILE) { named } else { plain })
    }

    fn files(&self, audit: &mut Audit, context: &VerifyContext<'_>, reference: &Reference<AdapterCandidate>) {
        let expected = self.expected(context, reference).unwrap_or_default();
        let ours = [CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, MANIFEST_FILE];
        let names: BTreeSet<&str> = self.digests.keys().map(String::as_str).chain(ours).collect();
        for name in names {
            let wrong = |said: &str| Check::wrong("file", name, said);
            audit.add(match (self.digests.get(name), expected.get(name)) {
                (None, _) => wrong("missing"),
                (Some(_), _) if !ours.contains(&name) => wrong("extra: not part of an adapter"),
                (Some(_), _) if name == MANIFEST_FILE => match &self.claimed {
                    ManifestFile::Invalid(why) => wrong("not valid").detail(why),
                    _ => Check::ok("file", name, "read; its claims are below"),
                },
                // Without the patch, the weights file can only be compared with the digest in the manifest.
                (Some((_, digest)), _) if name == WEIGHTS_FILE && reference.candidate.is_none() => {
                    self.claim(name, digest)
                }
                (Some((_, digest)), Some(expected)) if digest == expected => Check::ok("file", name, "as exported"),
                (Some((_, digest)), Some(expected)) => {
                    wrong("changed").detail(format!("expected {expected}")).detail(format!("found    {digest}"))
                }
                (Some((_, digest)), None) => self.claim(name, digest),
            });
        }
        for (name, why) in &self.listing.refused {
            audit.add(Check::wrong("file", name, why));
        }
        for name in self.listing.folders.iter().filter(|name| !super::checkpoint::TOOLS.contains(&name.as_str())) {
            audit.add(Check::wrong("file", name, "extra: a folder, which was not read"));
        }
    }

    /// Compares a file with its digest in the manifest, because the expected digest cannot be computed. Equal digests
    /// give the state `Unknown`, because the manifest is untrusted.
    fn claim(&self, name: &str, digest: &Digest) -> Check {
        let mut files = self.manifest().into_iter().flat_map(|manifest| &manifest.files);
        if files.any(|file| file.path == name && file.digest == *digest) {
            Check::wrong("file", name, "as the manifest claims").state(CheckState::Unknown)
        } else {
            Check::wrong("file", name, "neither a patch nor the manifest gives this content")
        }
    }
}

pub(crate) fn bounded(path: &Path) -> Result<Vec<u8>, ExportError> {
    regular_file::read(path, MOST_BYTES).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => ExportError::TooLarge { path: path.to_owned() },
        _ => ExportError::io("reading", path)(error),
    })
}
