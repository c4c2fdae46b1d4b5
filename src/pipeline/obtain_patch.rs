//! Obtains the patch of a project on disk or at a git revision. If `corrigenda.lock` is up to date, this is the patch
//! that the lock names; otherwise a new patch is built. Nothing is written outside the store.

use super::link_inputs::prepare;
use super::linked_set::recall;
use super::lock_checks::base_changed;
use super::setup::CorpusDigest;
use super::statistics::load_or_compute_changed;
use super::{Base, BuildContext, BuildInputs, BuildRecord, Plan, Setup, locked_patch, plan};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::Digest;
use crate::patch::Patch;
use crate::progress::Progress;
use crate::project::{Difference, LOCK_FILE, Lock, Prefaces, Project};
use crate::stats;
use crate::store::{EntryKind, Store};

/// The patch of a project, which was read from the store or built.
pub struct ObtainedPatch {
    pub patch: Patch,
    /// The SHA-256 of the patch file.
    pub id: Digest,
    /// A note for the user if the patch is not the one that `corrigenda.lock` names; `None` otherwise.
    pub note: Option<String>,
    /// The prefaces of the edits: texts that are put before prompts to keep the subjects away from attention sinks.
    pub prefaces: Prefaces,
}

/// Returns the patch of `project` from the store, or builds it. `name` is the project in messages, for example
/// `worktree` or a git revision.
///
/// # Errors
/// If `base` is not the base model that the project's `corrigenda.lock` names, if the corpus has changed and the second
/// moments of the old corpus are not in the store, or if the project cannot be built.
pub fn obtain(
    project: &Project,
    name: &str,
    base: &Base,
    store: &Store,
    progress: &dyn Progress,
) -> Result<ObtainedPatch, Failure> {
    let lock = project.lock()?;
    if let Some(lock) = lock.as_ref().filter(|lock| lock.base.digest != base.locked.digest) {
        let mut stop = base_changed(lock, base, name);
        for finding in &mut stop.findings {
            finding.help.push("both sides of a comparison must have the same base: that of the worktree".to_owned());
        }
        return Err(stop);
    }
    // A project on disk uses the current corpus. A git revision, or a project whose corpus file is missing, uses the
    // corpus digest in its `corrigenda.lock`.
    let past = project.is_snapshot() || !has_corpus(project);
    let corpus = lock.as_ref().filter(|_| past).map_or(CorpusDigest::Remembered, CorpusDigest::of_lock);
    let current = Setup::new(project, base, store, corpus)?;
    let plan = plan(project, base, &current, store)?;
    if let Some(lock) = lock.as_ref().filter(|lock| is_up_to_date(lock, &plan, base, &current))
        && store.recall(EntryKind::Patch, &lock.patch.id, |bytes| Patch::from_bytes(bytes).ok())?.is_some()
    {
        let patch = locked_patch::patch(store, &lock.patch.id)?;
        return Ok(ObtainedPatch { patch, id: lock.patch.id, note: None, prefaces: plan.prefaces() });
    }
    if plan.edits.is_empty() {
        let (record, patch) = BuildRecord::of_empty_set();
        let note = note(name, lock.as_ref(), &record.patch);
        return Ok(ObtainedPatch { patch, id: record.patch, note, prefaces: Prefaces::default() });
    }
    let setup = if past { setup_for_lock(project, name, lock.as_ref(), base, store)? } else { current };
    let context = BuildContext { project, base, setup: &setup, store, progress };
    let statistics = load_or_compute_changed(context)?;
    let address = BuildInputs::new(&plan, base, &setup, &statistics).record_address();
    let patch = match recall(store, &address)? {
        Some((_, patch)) => patch,
        None => prepare(context, &plan, &statistics)?.linker.link_all(progress)?.patch,
    };
    let bytes = patch.to_bytes();
    let id = Digest::of(&bytes);
    // The patch that `corrigenda.lock` names has passed the policy, so it may be stored. A patch with another id has
    // not been checked, and is not stored here.
    if lock.as_ref().is_some_and(|lock| lock.patch.id == id) {
        store.put_patch(&bytes)?;
    }
    Ok(ObtainedPatch { patch, id, note: note(name, lock.as_ref(), &id), prefaces: plan.prefaces() })
}

/// Returns whether `corrigenda.lock` names the patch that a build of this plan with this setup would make.
fn is_up_to_date(lock: &Lock, plan: &Plan<'_>, base: &Base, setup: &Setup) -> bool {
    let differences = plan.differences(lock, base, setup);
    !lock.is_merged() && !differences.iter().any(Difference::changes_weights)
}

fn has_corpus(project: &Project) -> bool {
    let statistics = project.config.statistics.as_ref();
    statistics.is_some_and(|statistics| project.config.resolve(&statistics.corpus).is_file())
}

/// Returns the setup of a project. The setup uses the corpus digest in `lock` if the edits are not refined and the
/// store has the second moment of that corpus. Otherwise it uses the digest of the corpus on disk.
///
/// # Errors
/// If a setting is invalid or a file that the settings name cannot be read, or if the project is a git revision and the
/// corpus on disk is not the one that `lock` names.
pub fn setup_for_lock(
    project: &Project,
    name: &str,
    lock: Option<&Lock>,
    base: &Base,
    store: &Store,
) -> Result<Setup, Failure> {
    if let Some(locked) = lock.and_then(|lock| lock.statistics.first()) {
        let setup = Setup::new(project, base, store, CorpusDigest::Assumed(locked.corpus))?;
        // The refinement reads the text of the corpus, so stored second moments are not enough for it.
        if setup.refinement.is_none() && stats::find(store, &setup.provenance).is_ok_and(|found| found.is_some()) {
            return Ok(setup);
        }
        let current = Setup::new(project, base, store, CorpusDigest::Remembered)?;
        // A git revision is built only from the corpus that its `corrigenda.lock` names.
        if project.is_snapshot() && current.provenance.corpus != locked.corpus {
            let message = format!("the corpus is not that of {name}: {LOCK_FILE} there has another digest");
            let finding = Diagnostic::new(Code::CorpusUnusable, message)
                .help("check out the corpus of that revision, or import its statistics with `corrigenda store import`");
            return Err(Failure::stale(finding));
        }
        return Ok(current);
    }
    Setup::new(project, base, store, CorpusDigest::Remembered)
}

fn note(name: &str, lock: Option<&Lock>, id: &Digest) -> Option<String> {
    match lock {
        None => Some(format!("{name} has no {LOCK_FILE}: its patch was built for this comparison")),
        Some(lock) if lock.patch.id == *id => None,
        Some(lock) if lock.is_merged() => Some(format!(
            "{LOCK_FILE} of {name} was merged and names a patch of other edits: the set was built for this comparison"
        )),
        Some(_) => Some(format!(
            "{LOCK_FILE} of {name} is not what a build would write: the patch was made for this comparison"
        )),
    }
}
