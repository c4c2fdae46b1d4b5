//! Finds out which patch an export contains, and reports the facts of that patch.
//!
//! Patches are tried in this order: the patch named by the export, the patch named by the user, the patch in
//! `corrigenda.lock`, all patches in the store.

use std::collections::BTreeSet;

use super::{Audit, Check, CheckState, VerifyContext};
use crate::diagnostics::Failure;
use crate::digest::Digest;
use crate::export::fact::{ExportedFact, facts};
use crate::export::weights::AppliedTensors;
use crate::patch::Patch;
use crate::store::EntryKind;

pub(crate) const CLAIMED_BY_MANIFEST: &str = "claimed by the manifest";
const NAMED_BY_LOCK: &str = "named by the lock";
const NAMED_BY_USER: &str = "named by the user";
pub(crate) const FOUND_IN_STORE: &str = "found in the store";

/// A patch that the export may contain, and the tensors of the base that the patch replaces.
pub(crate) struct Candidate {
    pub patch: Patch,
    pub id: Digest,
    pub applied: AppliedTensors,
    /// How the patch was identified, such as `claimed by the manifest`. The text is shown in the report.
    pub source: &'static str,
}

/// The patch with which an export is compared.
pub(crate) struct Reference<C> {
    /// The selected patch. `None` if the export contains none of the patches that were tried, and none of them is named
    /// by the export, by the user or by `corrigenda.lock`.
    pub candidate: Option<C>,
    /// Whether a patch was selected and the export contains it. A patch that the export does not contain can still be
    /// selected, because the export, the user or `corrigenda.lock` names it.
    pub contained: bool,
}

impl<C> Reference<C> {
    /// Selects the first patch of `ids` that the export contains. If the export contains none of them, selects the
    /// first patch that is named by the export, by the user or by `corrigenda.lock`. A patch that was only found in the
    /// store is selected only if the export contains it.
    pub(crate) fn select(
        ids: Vec<(Digest, &'static str)>,
        load: impl Fn(Digest, &'static str) -> Option<C>,
        contains: impl Fn(&C) -> bool,
    ) -> Self {
        let mut named = None;
        for (id, source) in ids {
            let Some(candidate) = load(id, source) else { continue };
            if contains(&candidate) {
                return Self { candidate: Some(candidate), contained: true };
            }
            if source != FOUND_IN_STORE {
                named = named.or(Some(candidate));
            }
        }
        Self { candidate: named, contained: false }
    }
}

/// Returns the ids of the patches that the export may contain, without duplicates, in the order in which they are
/// tried. The text with each id says how the patch was identified, and is shown in the report.
pub(crate) fn candidates(
    context: &VerifyContext<'_>,
    claim: Option<Digest>,
    claimed: &'static str,
) -> Result<Vec<(Digest, &'static str)>, Failure> {
    let patches = context.store.ls()?.into_iter().filter(|entry| entry.kind == EntryKind::Patch);
    let ids = claim.map(|id| (id, claimed)).into_iter();
    let ids = ids.chain(context.named_patch.iter().map(|(id, _)| (*id, NAMED_BY_USER)));
    let ids = ids.chain(context.lock.as_ref().map(|lock| (lock.patch.id, NAMED_BY_LOCK)));
    let mut tried = BTreeSet::new();
    Ok(ids.chain(patches.map(|entry| (entry.key, FOUND_IN_STORE))).filter(|(id, _)| tried.insert(*id)).collect())
}

/// Returns the patch `id`, from the file that the user named or from the store; `None` if it is missing or damaged. A
/// patch without edits would match every unpatched checkpoint, so it is returned only if it is named by the export, by
/// the user or by `corrigenda.lock`.
pub(crate) fn load_patch(context: &VerifyContext<'_>, id: &Digest, source: &'static str) -> Option<Patch> {
    let named = context.named_patch.as_ref().filter(|(named, _)| named == id).map(|(_, bytes)| bytes.clone());
    let bytes = named.or_else(|| context.store.get(EntryKind::Patch, id).ok()?)?;
    Patch::from_bytes(&bytes).ok().filter(|patch| source != FOUND_IN_STORE || !patch.targets().is_empty())
}

/// Returns the check of the selected patch, which passes if the export contains the patch. If no patch was selected,
/// the state is [`CheckState::Unknown`] if the export names a patch, otherwise [`CheckState::Wrong`].
pub(crate) fn patch_check(
    context: &VerifyContext<'_>,
    reference: Option<(Digest, &'static str)>,
    contained: bool,
    claim: Option<Digest>,
    claimed: &'static str,
) -> Check {
    match (reference, claim) {
        (Some((id, source)), _) if contained => Check::ok("patch", id.short(), source),
        (Some((id, source)), _) => Check::wrong("patch", id.short(), format!("{source}, but not in the weights")),
        (None, Some(id)) => {
            let state = if matches!(context.store.get(EntryKind::Patch, &id), Ok(None)) { "not" } else { "damaged" };
            Check::wrong("patch", id.short(), format!("{claimed}, but {state} in the store"))
                .state(CheckState::Unknown)
                .detail("without its bytes it cannot be applied to the base again")
                .detail("name the patch with `--base DIR --patch FILE`, or import it into the store")
        }
        (None, None) => Check::wrong("patch", "none", "no known patch gives these weights"),
    }
}

/// Adds one passed check per fact of the patch. The check shows the texts of the project's edit or, if the project does
/// not have the edit, the texts in the manifest.
pub(crate) fn add_facts(audit: &mut Audit, context: &VerifyContext<'_>, patch: &Patch, claimed: &[ExportedFact]) {
    for fact in facts(patch, &context.edits, &context.prefaces()) {
        // The manifest is untrusted. The texts of a fact are taken from it only if the patch contains their digest.
        let from_manifest =
            claimed.iter().find(|one| fact.meaning.is_some_and(|digest| one.meanings().contains(&digest)));
        let fact = if fact.id.is_some() { &fact } else { from_manifest.unwrap_or(&fact) };
        let name = fact.id.clone().or_else(|| fact.meaning.map(|meaning| meaning.short())).unwrap_or_default();
        let summary = match fact.filled_prompt().zip(fact.target.as_ref()) {
            Some((prompt, target)) => format!("{prompt} → {}", target.trim()),
            None => "a fact that neither the project nor the manifest describes".to_owned(),
        };
        audit.add(Check::ok("fact", name, summary));
    }
}
