//! Compares an exported adapter with its patch.
//!
//! Base, patch and facts determine every byte of both adapter formats, so each byte has one expected value. In
//! addition, the product of the file's factors is compared with the update of the patch. That check does not use the
//! expected bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use serde_json::json;

use super::candidates::{CLAIMED, STORED, candidates, named, stored, tell};
use super::claims::{Claimed, Truth, claimed, claims};
use super::{Audit, Check, Ground, State, count};
use crate::diagnostics::Failure;
use crate::digest::Digest;
use crate::export::card::CARD_FILE;
use crate::export::fact::{Fact, facts};
use crate::export::folder::{Listing, list};
use crate::export::lora::{Adapter, Pair};
use crate::export::peft::{CONFIG_FILE, WEIGHTS_FILE, Written, files, name_of};
use crate::export::weights::{Laid, lay, open_all};
use crate::export::{ExportError, MANIFEST_FILE, Manifest, peft};
use crate::model::Spec;
use crate::patch::Patch;
use crate::regular_file;
use crate::store::memo;

/// The largest adapter file that is read, in bytes (4 GiB).
const MOST_BYTES: u64 = 4 << 30;
/// Returns whether a folder contains an adapter for transformers: its configuration or its weights file is enough.
pub fn is_peft(folder: &Path) -> bool {
    [CONFIG_FILE, WEIGHTS_FILE].iter().any(|name| folder.join(name).exists())
}

/// A candidate patch, converted to an adapter for this base.
pub(crate) struct Known {
    pub patch: Patch,
    pub id: Digest,
    laid: Laid,
    pub adapter: Adapter,
    how: &'static str,
}

/// The patch to compare an adapter with; `carried` is true if the adapter's factors are exactly that patch's.
pub(crate) struct Chosen {
    pub patch: Option<Known>,
    pub carried: bool,
}

impl Chosen {
    /// Selects the candidate patch whose factors equal `found`, trying the claimed one first; otherwise the first
    /// candidate that was named by a claim, the user or the lock.
    pub(crate) fn new(
        ground: &Ground<'_>,
        found: Option<&Adapter>,
        claim: Option<Digest>,
        claimed: &'static str,
    ) -> Result<Self, Failure> {
        let weights = open_all(&list(&ground.base.folder)?, &ground.base.locked)?;
        let spec = ground.base.model.spec();
        let known = |(id, how): (Digest, &'static str)| {
            let patch = stored(ground, &id, how)?;
            let adapter = Adapter::new(&patch, spec).ok()?;
            let laid = lay(&weights, &patch).ok()?;
            Some(Known { patch, id, laid, adapter, how })
        };
        let mut first = None;
        for known in candidates(ground, claim, claimed)?.into_iter().filter_map(known) {
            if found.is_some_and(|found| bits(found) == bits(&known.adapter)) {
                return Ok(Self { patch: Some(known), carried: true });
            }
            // A patch that is merely in the store is not the reference for an adapter that does not match it.
            if known.how != STORED {
                first = first.or(Some(known));
            }
        }
        Ok(Self { patch: first, carried: false })
    }

    pub(crate) fn name(&self) -> Option<(Digest, &'static str)> {
        self.patch.as_ref().map(|known| (known.id, known.how))
    }

    /// Adds one check per module: its factors must equal the patch's, and so must their product.
    pub(crate) fn modules(&self, audit: &mut Audit, found: &Adapter, spec: &Spec) {
        let Some(known) = &self.patch else {
            for pair in &found.pairs {
                let check = Check::wrong("module", &pair.module, "its patch is not available");
                audit.add(check.state(State::Unknown));
            }
            return;
        };
        let expected = known.adapter.pairs.iter().map(|pair| (pair.layer, pair));
        let found_pairs: BTreeMap<usize, &Pair> = found.pairs.iter().map(|pair| (pair.layer, pair)).collect();
        let expected: BTreeMap<usize, &Pair> = expected.collect();
        let layers: BTreeSet<usize> = expected.keys().chain(found_pairs.keys()).copied().collect();
        let before = audit.failures();
        for layer in layers {
            let name = spec.module(layer);
            audit.add(match (expected.get(&layer), found_pairs.get(&layer)) {
                (Some(ours), Some(theirs)) => factors(name, known.adapter.rank, ours, (found.rank, theirs)),
                (Some(_), None) => Check::wrong("module", name, "missing"),
                (None, _) => Check::wrong("module", name, "extra: the patch does not change it"),
            });
        }
        // The expected factors were computed by this program; the product is also compared with the patch itself.
        if let Some(place) = found.difference(&known.patch, spec).filter(|_| audit.failures() == before) {
            audit.add(Check::wrong("sum", place, "not what the patch adds"));
        }
    }
}

/// Returns the rank and the bits of all factors, for an exact comparison.
fn bits(adapter: &Adapter) -> (usize, Vec<(usize, Vec<u32>)>) {
    let bits = |pair: &Pair| (pair.layer, pair.a.iter().chain(&pair.b).map(|number| number.to_bits()).collect());
    (adapter.rank, adapter.pairs.iter().map(bits).collect())
}

fn factors(name: String, rank: usize, ours: &Pair, (found, theirs): (usize, &Pair)) -> Check {
    if (rank, ours.out, ours.inner) != (found, theirs.out, theirs.inner) {
        return Check::wrong("module", name, "factors of another rank or shape")
            .detail(format!("expected rank {rank} from {} to {}", ours.inner, ours.out))
            .detail(format!("found    rank {found} from {} to {}", theirs.inner, theirs.out));
    }
    let differ = |ours: &[f32], theirs: &[f32]| {
        let pairs = ours.iter().zip(theirs);
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

/// Sets the verdict and, unless every check passed, adds `command` as the fix. If a check could not be made because
/// the patch is missing, the fix is an import into the store.
pub(crate) fn end(audit: &mut Audit, ground: &Ground<'_>, chosen: &Chosen, command: &str) {
    match audit.state() {
        State::Ok => {}
        State::Unknown => audit.repair("corrigenda store import DIR (a folder of `corrigenda store export`)"),
        _ => audit.repair(command),
    }
    if let Some(known) = &chosen.patch {
        let (base, modules) = (ground.base.locked.digest.short(), count(known.adapter.pairs.len(), "module"));
        audit.verdict = format!("this adds to base {base} exactly what patch {} adds: {modules}", known.id);
    }
}

/// Checks a folder with a PEFT adapter, as transformers loads it, against the patch that it was exported from.
///
/// # Errors
/// If the base or the folder cannot be read.
pub fn peft_adapter(ground: &Ground<'_>, folder: &Path) -> Result<Audit, Failure> {
    let found = Folder::open(ground, folder)?;
    let claim = found.manifest().map(|manifest| manifest.patch);
    let chosen = Chosen::new(ground, found.adapter.as_ref().ok(), claim, CLAIMED)?;
    let mut audit = Audit::new("adapter");
    audit.fields = json!({ "base": ground.base.locked.digest, "patch": chosen.name().map(|(id, _)| id) });
    audit.add(named(ground, chosen.name(), chosen.carried, claim, CLAIMED));
    found.files(&mut audit, ground, &chosen);
    match &found.adapter {
        Ok(adapter) => chosen.modules(&mut audit, adapter, ground.base.model.spec()),
        Err(why) => audit.add(Check::wrong("adapter", "factors", "not valid").detail(why)),
    }
    if let Claimed::Read(manifest, bytes) = &found.claimed {
        let files = found.digests.iter().filter(|(name, _)| *name != MANIFEST_FILE);
        let files: BTreeMap<_, _> = files.map(|(name, file)| (name.clone(), *file)).collect();
        let patch = chosen.patch.as_ref().map(|known| (&known.patch, known.id, &known.laid));
        audit.checks.extend(claims(ground, manifest, bytes, &Truth { patch, files: &files, omitted: &[] }));
    }
    if let Some(known) = chosen.patch.as_ref().filter(|_| chosen.carried) {
        tell(&mut audit, ground, &known.patch, found.manifest().map(|it| it.facts.as_slice()).unwrap_or_default());
    }
    end(&mut audit, ground, &chosen, "corrigenda export peft NEW-DIR");
    Ok(audit)
}

/// The content of an adapter folder: files with size and digest, the manifest, and the parsed adapter.
struct Folder {
    listing: Listing,
    digests: BTreeMap<String, (u64, Digest)>,
    claimed: Claimed,
    /// The base's name, from the configuration.
    name: Option<String>,
    adapter: Result<Adapter, String>,
}

impl Folder {
    fn open(ground: &Ground<'_>, folder: &Path) -> Result<Self, Failure> {
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
        let adapter = peft::read(&config, &weights, ground.base.model.spec());
        let (claimed, name) = (claimed(&listing)?, name_of(&config));
        Ok(Self { listing, digests, claimed, name, adapter })
    }

    fn manifest(&self) -> Option<&Manifest> {
        match &self.claimed {
            Claimed::Read(manifest, _) => Some(manifest),
            _ => None,
        }
    }

    /// Returns the digest that each file should have, by file name. They are computed from the chosen patch; without
    /// one, from the adapter in the folder and the claims of its manifest. `None` if neither is available.
    fn expected(&self, ground: &Ground<'_>, chosen: &Chosen) -> Option<BTreeMap<&'static str, Digest>> {
        let known = chosen.patch.as_ref();
        let adapter = known.map(|known| &known.adapter).or(self.adapter.as_ref().ok())?;
        let id = known.map(|known| known.id).or(self.manifest().map(|manifest| manifest.patch))?;
        let told: (Vec<Fact>, Option<Digest>) = match (self.manifest(), known) {
            (Some(manifest), _) => (manifest.facts.clone(), manifest.settings),
            (None, Some(known)) => {
                let lock = ground.lock.as_ref().filter(|lock| lock.patch.id == known.id);
                (facts(&known.patch, &ground.edits, &ground.prefaces()), lock.map(|lock| lock.patch.settings))
            }
            (None, None) => return None,
        };
        let base = &ground.base.locked.digest;
        let name = self.name.as_deref()?;
        let digests = |on_hub| {
            let named = Written { name, on_hub };
            let files = files(adapter, base, &id, &told.0, told.1.as_ref(), named);
            files.into_iter().map(|(name, bytes)| (name, Digest::of(&bytes))).collect::<BTreeMap<_, _>>()
        };
        // Only the card shows whether the base's name is a Hub repository, so both variants are tried.
        let found = self.digests.get(CARD_FILE).map(|(_, digest)| digest);
        let (named, plain) = (digests(true), digests(false));
        Some(if found == named.get(CARD_FILE) { named } else { plain })
    }

    fn files(&self, audit: &mut Audit, ground: &Ground<'_>, chosen: &Chosen) {
        let expected = self.expected(ground, chosen).unwrap_or_default();
        let ours = [CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, MANIFEST_FILE];
        let names: BTreeSet<&str> = self.digests.keys().map(String::as_str).chain(ours).collect();
        for name in names {
            let wrong = |said: &str| Check::wrong("file", name, said);
            audit.add(match (self.digests.get(name), expected.get(name)) {
                (None, _) => wrong("missing"),
                (Some(_), _) if !ours.contains(&name) => wrong("extra: not part of an adapter"),
                (Some(_), _) if name == MANIFEST_FILE => match &self.claimed {
                    Claimed::Broken(why) => wrong("not valid").detail(why),
                    _ => Check::ok("file", name, "read; its claims are below"),
                },
                // Without the patch, the factors can only be compared with the manifest.
                (Some((_, digest)), _) if name == WEIGHTS_FILE && chosen.patch.is_none() => self.claim(name, digest),
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

    /// Checks a file for which only the manifest gives an expected digest.
    fn claim(&self, name: &str, digest: &Digest) -> Check {
        let mut files = self.manifest().into_iter().flat_map(|manifest| &manifest.files);
        match files.any(|file| file.path == name && file.digest == *digest) {
            true => Check::wrong("file", name, "as the manifest claims").state(State::Unknown),
            false => Check::wrong("file", name, "neither a patch nor the manifest gives this content"),
        }
    }
}

pub(crate) fn bounded(path: &Path) -> Result<Vec<u8>, ExportError> {
    regular_file::read(path, MOST_BYTES).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => ExportError::TooLarge { path: path.to_owned() },
        _ => ExportError::io("reading", path)(error),
    })
}
