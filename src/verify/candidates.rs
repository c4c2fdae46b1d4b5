//! Lists the patches that an export may contain, and reports the facts of the one that it contains.
//!
//! The patch that the export claims is tried first, then the one that the user named, then the lock's, then all
//! patches in the store.

use std::collections::BTreeSet;

use super::{Audit, Check, Ground, State};
use crate::diagnostics::Failure;
use crate::digest::Digest;
use crate::export::fact::{Fact, facts};
use crate::patch::Patch;
use crate::store::EntryKind;

/// How the report describes a patch that the manifest of the export claims.
pub(crate) const CLAIMED: &str = "claimed by the manifest";
/// How the report describes the patch in `corrigenda.lock`.
const LOCKED: &str = "named by the lock";
/// How the report describes a patch that the user named on the command line.
const NAMED: &str = "named by the user";
/// How the report describes a candidate that is only known from the store.
pub(crate) const STORED: &str = "found in the store";

/// Returns the candidate patch ids without duplicates, in the order in which they are tried. The second value is the
/// description of the candidate for the report.
pub(crate) fn candidates(
    ground: &Ground<'_>,
    claim: Option<Digest>,
    claimed: &'static str,
) -> Result<Vec<(Digest, &'static str)>, Failure> {
    let patches = ground.store.ls()?.into_iter().filter(|entry| entry.kind == EntryKind::Patch);
    let ids = claim.map(|id| (id, claimed)).into_iter();
    let ids = ids.chain(ground.named.iter().map(|(id, _)| (*id, NAMED)));
    let ids = ids.chain(ground.lock.as_ref().map(|lock| (lock.patch.id, LOCKED)));
    let mut tried = BTreeSet::new();
    Ok(ids.chain(patches.map(|entry| (entry.key, STORED))).filter(|(id, _)| tried.insert(*id)).collect())
}

/// Returns a patch that the user named or that is in the store; `None` if it is missing or damaged. An empty patch is
/// a candidate only if a claim, the user or the lock names it.
pub(crate) fn stored(ground: &Ground<'_>, id: &Digest, how: &'static str) -> Option<Patch> {
    let named = ground.named.as_ref().filter(|(named, _)| named == id).map(|(_, bytes)| bytes.clone());
    let bytes = named.or_else(|| ground.store.get(EntryKind::Patch, id).ok()?)?;
    Patch::from_bytes(&bytes).ok().filter(|patch| how != STORED || !patch.targets().is_empty())
}

/// Builds the check that states which patch an export contains.
pub(crate) fn named(
    ground: &Ground<'_>,
    known: Option<(Digest, &'static str)>,
    carried: bool,
    claim: Option<Digest>,
    claimed: &'static str,
) -> Check {
    match (known, claim) {
        (Some((id, how)), _) if carried => Check::ok("patch", id.short(), how),
        (Some((id, how)), _) => Check::wrong("patch", id.short(), format!("{how}, but not in the weights")),
        (None, Some(id)) => {
            let state = if matches!(ground.store.get(EntryKind::Patch, &id), Ok(None)) { "not" } else { "damaged" };
            Check::wrong("patch", id.short(), format!("{claimed}, but {state} in the store"))
                .state(State::Unknown)
                .detail("without its bytes it cannot be applied to the base again")
                .detail("name the patch with `--base DIR --patch FILE`, or import it into the store")
        }
        (None, None) => Check::wrong("patch", "none", "no known patch gives these weights"),
    }
}

/// Adds one passed check per fact of the patch. It shows the texts of the project's edit or, if the project has no
/// such edit, those of the manifest. Without either, only the digest is shown.
pub(crate) fn tell(audit: &mut Audit, ground: &Ground<'_>, patch: &Patch, claimed: &[Fact]) {
    for fact in facts(patch, &ground.edits, &ground.prefaces()) {
        // A text of the manifest is used only if its meaning digest is in the patch.
        let told = claimed.iter().find(|one| fact.meaning.is_some_and(|it| one.meanings().contains(&it)));
        let fact = if fact.id.is_some() { &fact } else { told.unwrap_or(&fact) };
        let name = fact.id.clone().or_else(|| fact.meaning.map(|meaning| meaning.short())).unwrap_or_default();
        let said = match fact.filled_prompt().zip(fact.target.as_ref()) {
            Some((prompt, target)) => format!("{prompt} → {}", target.trim()),
            None => "a fact that neither the project nor the manifest describes".to_owned(),
        };
        audit.add(Check::ok("fact", name, said));
    }
}
