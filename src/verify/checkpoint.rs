//! Checks an exported checkpoint against the base with the patch applied, file by file and tensor by tensor.
//!
//! The manifest only suggests which patch to try first; nothing in it is trusted. The patch is applied to the base
//! again. If the result does not match, every other candidate patch is tried. Files are only looked up in the listing
//! of the folder, so a name in a manifest never becomes a path.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::json;

use super::candidates::{CLAIMED, STORED, candidates, named, stored, tell};
use super::claims::{Claimed, Truth, claimed, claims};
use super::tensors::{Pair, pairs};
use super::{Audit, Check, Ground, State, count};
use crate::diagnostics::Failure;
use crate::digest::{Digest, Hasher};
use crate::export::card::{CARD_FILE, card, section};
use crate::export::checkpoint::left_out;
use crate::export::fact::{Fact, facts};
use crate::export::folder::{Listing, Member, list};
use crate::export::manifest::Manifest;
use crate::export::weights::{Laid, Weights, is_weights, lay, open_all};
use crate::export::{ExportError, MANIFEST_FILE};
use crate::patch::Patch;
use crate::project::LockedBase;
use crate::store::memo;

/// Folders that tools create in a checkpoint and that no program loads weights from.
pub(crate) const TOOLS: [&str; 2] = [".cache", ".git"];

/// Checks the checkpoint in `folder` against the base with the patch that it contains.
///
/// # Errors
/// If it is not a folder or contains no weights.
pub fn checkpoint(ground: &Ground<'_>, folder: &Path) -> Result<Audit, Failure> {
    let judging = Judging::open(ground, folder)?;
    let chosen = judging.choose()?;
    let mut audit = Audit::new("checkpoint");
    audit.fields = json!({ "base": ground.base.locked.digest, "patch": chosen.patch.as_ref().map(|one| one.id) });
    if let Some(other) = judging.of_another_model() {
        // Every tensor would be reported as different.
        let said = "the export is of another model: no tensor is the same as in the base";
        audit.add(Check::wrong("base", other.short(), said));
        audit.repair("corrigenda verify DIR --base DIR (the model that it was made from)");
        return Ok(audit);
    }
    judging.patch(&mut audit, &chosen);
    judging.files(&mut audit, &chosen)?;
    judging.tensors(&mut audit, &chosen)?;
    judging.claims(&mut audit, &chosen);
    if let Some(known) = chosen.patch.as_ref().filter(|_| chosen.carried) {
        let claimed = judging.manifest().map(|manifest| manifest.facts.as_slice()).unwrap_or_default();
        tell(&mut audit, ground, &known.patch, claimed);
    }
    match audit.state() {
        State::Ok => {}
        State::Unknown => audit.repair("corrigenda store import DIR (a folder of `corrigenda store export`)"),
        _ => audit.repair("corrigenda export checkpoint NEW-DIR"),
    }
    if let Some(one) = &chosen.patch {
        let counts = [count(judging.digests.len(), "file"), count(judging.pairs.len(), "tensor")].join(", ");
        audit.verdict =
            format!("this is base {} + patch {}, exactly: {counts}", ground.base.locked.digest.short(), one.id);
    }
    Ok(audit)
}

/// A candidate patch, and the tensors that it replaces in the base.
struct Known {
    patch: Patch,
    id: Digest,
    laid: Laid,
    /// How the patch was identified, as shown in the report, for example `claimed by the manifest`.
    how: &'static str,
}

/// The patch to compare the checkpoint with.
struct Chosen {
    patch: Option<Known>,
    /// Whether every tensor that the patch replaces has the patched bytes.
    carried: bool,
}

struct Judging<'a> {
    ground: &'a Ground<'a>,
    base: Listing,
    base_weights: Vec<Weights>,
    found: Listing,
    found_weights: BTreeMap<String, Result<Weights, String>>,
    digests: BTreeMap<String, (u64, Digest)>,
    pairs: Vec<Pair>,
    claimed: Claimed,
}

/// Returns whether a file of this name is one of the base's weights files, also under a non-standard name.
fn is_own(base: &LockedBase, name: &str) -> bool {
    name.ends_with(".safetensors") && base.has(name)
}

impl<'a> Judging<'a> {
    fn open(ground: &'a Ground<'a>, folder: &Path) -> Result<Self, Failure> {
        let base = list(&ground.base.folder)?;
        let locked = &ground.base.locked;
        let base_weights = open_all(&base, locked)?;
        let found = list(folder)?;
        let weights = found.files.iter().filter(|member| is_weights(&member.name) || is_own(locked, &member.name));
        let found_weights: BTreeMap<_, _> = weights
            .map(|member| (member.name.clone(), Weights::open(member).map_err(|error| error.to_string())))
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
        let pairs = pairs(&base_weights, &sound.collect())?;
        let claimed = claimed(&found)?;
        Ok(Self { ground, base, base_weights, found, found_weights, digests, pairs, claimed })
    }

    fn manifest(&self) -> Option<&Manifest> {
        match &self.claimed {
            Claimed::Read(manifest, _) => Some(manifest),
            _ => None,
        }
    }

    /// Returns the base digest in the manifest if it differs from this base's digest and no tensor of the checkpoint
    /// equals the base's: the checkpoint was exported from another model.
    fn of_another_model(&self) -> Option<Digest> {
        let other = self.manifest()?.base.digest;
        let digest = |side: &Option<(_, Digest)>| side.as_ref().map(|(_, digest)| *digest);
        let nothing = self.pairs.iter().all(|pair| digest(&pair.base) != digest(&pair.found));
        (other != self.ground.base.locked.digest && nothing).then_some(other)
    }

    /// Selects the candidate patch that the weights contain, trying the claimed one first; otherwise the first
    /// candidate that was named by a claim, the user or the lock.
    fn choose(&self) -> Result<Chosen, Failure> {
        let ids = candidates(self.ground, self.manifest().map(|manifest| manifest.patch), CLAIMED)?;
        let mut first = None;
        for (id, how) in ids {
            let Some(known) = self.known(id, how) else { continue };
            if self.carries(&known) {
                return Ok(Chosen { patch: Some(known), carried: true });
            }
            // A patch that is merely in the store is not the reference for weights that do not contain it.
            if how != STORED {
                first = first.or(Some(known));
            }
        }
        Ok(Chosen { patch: first, carried: false })
    }

    /// Loads a patch that fits this base; `None` if it is missing, damaged or for another base.
    fn known(&self, id: Digest, how: &'static str) -> Option<Known> {
        let patch = stored(self.ground, &id, how)?;
        let of_base = |name: &String| self.pairs.iter().find(|pair| pair.name == *name)?.base.as_ref();
        let fits = patch.targets().iter().all(|(name, target)| of_base(name).is_some_and(|it| it.1 == target.base));
        let laid = if fits { lay(&self.base_weights, &patch).ok()? } else { return None };
        Some(Known { patch, id, laid, how })
    }

    fn carries(&self, known: &Known) -> bool {
        // The empty patch is contained if every tensor equals the base's.
        let targets = known.patch.targets();
        let target = |pair: &&Pair| targets.is_empty() || targets.contains_key(&pair.name);
        let as_patched = |pair: &Pair| pair.found.as_ref().map(|(_, digest)| *digest) == pair.expected(&known.laid);
        self.pairs.iter().filter(target).all(as_patched)
    }

    fn patch(&self, audit: &mut Audit, chosen: &Chosen) {
        let untouched = self.pairs.iter().all(|pair| {
            let digest = |side: &Option<(_, Digest)>| side.as_ref().map(|(_, digest)| *digest);
            digest(&pair.base) == digest(&pair.found)
        });
        let claim = self.manifest().map(|manifest| manifest.patch);
        let known = chosen.patch.as_ref().map(|known| (known.id, known.how));
        audit.add(match chosen.carried || !untouched {
            true => named(self.ground, known, chosen.carried, claim, CLAIMED),
            false => Check::wrong("patch", "none", "every tensor is the same as in the base"),
        });
    }

    /// Returns the patch id, the facts and the settings digest that the README and the manifest should state; `None`
    /// without a manifest and without a patch.
    fn told(&self, known: Option<&Known>) -> Option<(Digest, Vec<Fact>, Option<Digest>)> {
        let id = known.map(|known| known.id);
        match (self.manifest(), known) {
            (Some(manifest), _) => Some((id.unwrap_or(manifest.patch), manifest.facts.clone(), manifest.settings)),
            (None, Some(known)) => {
                let lock = self.ground.lock.as_ref().filter(|lock| lock.patch.id == known.id);
                let facts = facts(&known.patch, &self.ground.edits, &self.ground.prefaces());
                Some((known.id, facts, lock.map(|lock| lock.patch.settings)))
            }
            _ => None,
        }
    }

    /// Returns the manifest if no candidate patch is available, so that its claims about the weights cannot be checked.
    fn unproved(&self, chosen: &Chosen) -> Option<&Manifest> {
        self.manifest().filter(|_| chosen.patch.is_none())
    }

    fn files(&self, audit: &mut Audit, chosen: &Chosen) -> Result<(), Failure> {
        let wrong = |name: &str, said: &str| Check::wrong("file", name, said);
        let locked = &self.ground.base.locked;
        let expected = self.base.files.iter().filter(|member| !member.pickle && !member.is_left_out(locked));
        let expected = expected.map(|member| member.name.as_str());
        let mut names: BTreeSet<&str> = expected.chain(self.digests.keys().map(String::as_str)).collect();
        names.extend([CARD_FILE, MANIFEST_FILE]);
        for name in names {
            let check = match (name, self.digests.get(name)) {
                (_, None) => wrong(name, "missing"),
                (MANIFEST_FILE, Some(_)) => match &self.claimed {
                    Claimed::Broken(why) => wrong(name, "not valid").detail(why),
                    _ => Check::ok("file", name, "read; its claims are below"),
                },
                (name, Some((_, digest))) => self.file(name, digest, chosen)?,
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

    fn file(&self, name: &str, digest: &Digest, chosen: &Chosen) -> Result<Check, Failure> {
        let wrong = |said: &str| Check::wrong("file", name, said);
        if let Some(member) = self.found.get(name).filter(|it| it.pickle || it.is_left_out(&self.ground.base.locked)) {
            return self.unedited(member, digest);
        }
        if let Some(Err(why)) = self.found_weights.get(name) {
            return Ok(wrong("its weights cannot be read").detail(why));
        }
        let member = self.base.get(name);
        let base = member.map(|member| memo::digest_file_fresh(&member.path)).transpose()?;
        let exported = self.exported(name, chosen.patch.as_ref())?;
        if exported.is_some() && exported == Some(*digest) {
            return Ok(Check::ok("file", name, if exported == base { "same as in the base" } else { "as exported" }));
        }
        let Some(expected) = exported.or(base) else { return Ok(wrong("extra: not in the base")) };
        if expected == *digest {
            return Ok(Check::ok("file", name, "same as in the base"));
        }
        let claimed = self.unproved(chosen).is_some_and(|manifest| {
            let edited = manifest.tensors.iter().any(|tensor| tensor.file == name);
            edited && manifest.files.iter().any(|file| file.path == name && file.digest == *digest)
        });
        if claimed {
            return Ok(wrong("as the manifest claims").state(State::Unknown));
        }
        let said = if base == Some(*digest) { "same as in the base, not as exported" } else { "changed" };
        Ok(wrong(said).detail(format!("expected {expected}")).detail(format!("found    {digest}")))
    }

    /// Builds the failed check of a weights file in a format that no export writes.
    fn unedited(&self, found: &Member, digest: &Digest) -> Result<Check, Failure> {
        let said = match found.pickle {
            true => "a pickle, which an export never contains",
            false => "weights in a format that a patch cannot change, which an export never contains",
        };
        let base = self.base.get(&found.name).map(|member| memo::digest_file_fresh(&member.path)).transpose()?;
        let check = Check::wrong("file", &found.name, said);
        let why = match base == Some(*digest) {
            true => "it is the unedited file of the base: a program that loads it behaves like the base",
            false => "a program that loads it uses its weights, whatever the other weights are",
        };
        Ok(check.detail(why))
    }

    /// Returns the digest that an export of the patch gives to a file; `None` if the file is copied from the base.
    fn exported(&self, name: &str, known: Option<&Known>) -> Result<Option<Digest>, ExportError> {
        if name == CARD_FILE {
            let readme = self
                .base
                .get(name)
                .map(|member| fs::read(&member.path).map_err(ExportError::io("reading", &member.path)));
            let Some((id, facts, settings)) = self.told(known) else { return Ok(None) };
            let section = section(&self.ground.base.locked.digest, &id, &facts, settings.as_ref());
            return Ok(Some(Digest::of(&card(readme.transpose()?.as_deref(), &section))));
        }
        let weights = self.base_weights.iter().find(|weights| weights.name == name);
        let Some((weights, replaced)) = weights.zip(known.and_then(|known| known.laid.get(name))) else {
            return Ok(None);
        };
        let mut hasher = Hasher::default();
        weights.write_with(replaced, &mut hasher).map_err(ExportError::io("reading", Path::new(name)))?;
        Ok(Some(hasher.finish()))
    }

    fn tensors(&self, audit: &mut Audit, chosen: &Chosen) -> Result<(), Failure> {
        let none = Laid::new();
        let laid = chosen.patch.as_ref().map_or(&none, |known| &known.laid);
        for pair in &self.pairs {
            let base = self.base_weights.iter().find(|weights| weights.name == pair.file);
            let found = self.found_weights.get(&pair.file).and_then(|file| file.as_ref().ok());
            if let (Some(base), Some(found)) = (base, found) {
                let check = pair.check(laid, base, found)?;
                let claimed = self.unproved(chosen).is_some_and(|manifest| pair.is_claimed(manifest));
                audit.add(match claimed && check.state == State::Wrong {
                    true => Check::wrong("tensor", &pair.name, "as the manifest claims").state(State::Unknown),
                    false => check,
                });
            }
        }
        Ok(())
    }

    fn claims(&self, audit: &mut Audit, chosen: &Chosen) {
        let Claimed::Read(manifest, bytes) = &self.claimed else { return };
        let files = self.digests.iter().filter(|(name, _)| *name != MANIFEST_FILE);
        let files: BTreeMap<_, _> = files.map(|(name, file)| (name.clone(), *file)).collect();
        let patch = chosen.patch.as_ref().map(|known| (&known.patch, known.id, &known.laid));
        let checks = claims(
            self.ground,
            manifest,
            bytes,
            &Truth { patch, files: &files, omitted: &left_out(&self.base, &self.ground.base.locked) },
        );
        audit.checks.extend(checks);
    }
}
