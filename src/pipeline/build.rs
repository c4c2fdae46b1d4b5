//! Builds the patch of a project: compiles and links its edits, checks the project's policy, and writes
//! `corrigenda.lock`.
//!
//! The patch is stored and `corrigenda.lock` is written only after all policy checks have passed.

use super::linked_set::LinkedSet;
use super::lock_checks::{
    changed_inputs, check_base, check_inputs, check_merged, check_writable, lock_missing, write_lock,
};
use super::record::BuildRecord;
use super::refusal::stop_if_known;
use super::setup::CorpusDigest;
use super::statistics::{LayerStatistics, check_imported, load_or_compute_changed};
use super::{Base, BuildContext, Setup, key_similarity, plan, policy_limits, statistics, warnings};
use crate::diagnostics::{Diagnostic, Failure};
use crate::numeric::Isa;
use crate::progress::Progress;
use crate::project::{EditChange, Lock, Project};
use crate::store::{Store, atomic, requested};

/// The options of [`build`] that do not come from the files of the project.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions {
    /// The processor's instruction set for the arithmetic, for example AVX2. It affects the speed, but not the bytes of
    /// the patch.
    pub isa: Isa,
    /// Whether the build fails if `corrigenda.lock` would change (`--locked`).
    pub locked: bool,
    /// Whether the base model may differ from the one that `corrigenda.lock` names (`--update-base`).
    pub update_base: bool,
}

/// The result of a build: the new content of `corrigenda.lock`, the measurements and the warnings.
pub struct Built {
    /// The id of the patch and the measurements, for example the probability of each target.
    pub record: BuildRecord,
    /// The content of `corrigenda.lock` for the chosen model after the build.
    pub lock: Lock,
    /// The edits that were added, changed or removed since the previous `corrigenda.lock`.
    pub changes: Vec<EditChange>,
    /// The parts of `corrigenda.lock` that changed, other than the edits and the patch: `numerics`, `base`,
    /// `statistics` or `settings`.
    pub changed_inputs: Vec<&'static str>,
    /// Whether `corrigenda.lock` was written; false if its content is the same as before.
    pub written: bool,
    /// The number of edits that were compiled in this build. The other compiled edits were read from the store.
    pub compiled: usize,
    /// The index of the edited layer, from 0.
    pub layer: usize,
    /// The name of the base model for messages: its name on the Hub, or the last part of its folder.
    pub base: String,
    /// The warnings for the user. Warnings that the project's policy allows are left out.
    pub warnings: Vec<Diagnostic>,
}

/// Builds the patch of a project. Edits that are not in the store are compiled, all edits are linked, and the patched
/// model is measured. If the policy passes, the patch is stored and `corrigenda.lock` is written.
///
/// # Errors
/// If the input is invalid or a policy rule is broken; with `--locked`, if `corrigenda.lock` would change; without
/// `--update-base`, if the base model is not the one that `corrigenda.lock` names. After an error, no patch is stored
/// and no lock is written, but compiled edits may have been added to the store.
pub fn build(
    project: &Project,
    store: &Store,
    options: BuildOptions,
    progress: &dyn Progress,
) -> Result<Built, Failure> {
    let sources = &project.edits.sources;
    if !options.locked {
        check_writable(&project.config.root)?;
        atomic::remove_stale(&project.config.root);
    }
    let before = project.lock()?;
    let must_match = before.as_ref().filter(|_| options.locked);
    if options.locked && must_match.is_none() {
        return Err(lock_missing(project));
    }
    let base = open_base(project, store, options, before.as_ref())?;
    let setup = setup(project, &base, store, must_match, options)?;
    let plan = plan(project, &base, &setup, store)?;
    plan.check_reach(&base, &setup, sources)?;
    if let Some(locked) = must_match {
        check_merged(locked)?;
        check_inputs(locked, &base, &setup, &plan)?;
    }
    // If the store records that an edit cannot be compiled, the build stops here, before anything is computed.
    stop_if_known(&plan, &setup, sources, store)?;
    let context = BuildContext { project, base: &base, setup: &setup, store, progress };
    // Without edits there is no linear system, so no second moments of MLP keys are needed.
    let statistics = if plan.edits.is_empty() {
        LayerStatistics::new()
    } else {
        check_imported(&base, &setup, store)?;
        load_or_compute_changed(context)?
    };
    let set = LinkedSet::load_or_link(context, &plan, &statistics)?;
    let record = &set.record;
    let broken = policy_limits::check(context, &plan, record, &set.patch)?;
    let lock = plan.lock(&base, &setup, statistics::locked(&statistics), record.patch);
    let changes = Lock::changes(before.as_ref(), &project.edits);
    let changed = before.as_ref().map_or_else(Vec::new, |before| changed_inputs(&before.differences(&lock)));
    let mut warnings = base.warnings.clone();
    warnings.extend(warnings::after_build(project, &setup, &plan, record, &changes));
    warnings.extend(key_similarity::findings(&plan, &record.similar, record.condition));
    warnings.extend(broken);
    let warnings = accepted(project, warnings)?;
    set.write(store)?;
    let written = write_lock(project, before.as_ref(), &lock, options.locked)?;
    if !options.locked && !lock.edits.is_empty() {
        forget_requests(project, &base, &setup, store);
    }
    let LinkedSet { record: build_record, compiled, .. } = set;
    let (layer, base) = (setup.layer, base.name());
    Ok(Built { record: build_record, lock, changes, changed_inputs: changed, written, compiled, layer, base, warnings })
}

/// Sets the severity of each finding as the project's policy states. Fails if a finding is then an error.
fn accepted(project: &Project, findings: Vec<Diagnostic>) -> Result<Vec<Diagnostic>, Failure> {
    let findings = project.config.policy.apply(findings);
    if findings.iter().any(Diagnostic::is_error) {
        return Err(Failure::from_findings(findings, &project.edits.sources));
    }
    Ok(findings)
}

/// Opens the base model. Returns an error if the policy treats a warning about the model as an error. Without
/// `--update-base`, also returns an error if the model is not the one that `corrigenda.lock` names.
fn open_base(project: &Project, store: &Store, options: BuildOptions, before: Option<&Lock>) -> Result<Base, Failure> {
    let base = Base::open(project, store, options.isa, options.locked)?;
    accepted(project, base.warnings.clone())?;
    if let Some(before) = before.filter(|_| !options.update_base) {
        check_base(before, &base)?;
    }
    Ok(base)
}

/// Reads the settings of the build, and checks that the weights to change are finite. `must_match` is the content of
/// `corrigenda.lock` with `--locked`, and `None` otherwise. If it is set, only the imported second moments of MLP keys
/// in this file are used.
fn setup(
    project: &Project,
    base: &Base,
    store: &Store,
    must_match: Option<&Lock>,
    options: BuildOptions,
) -> Result<Setup, Failure> {
    let corpus = if options.locked { CorpusDigest::Fresh } else { CorpusDigest::Remembered };
    let mut setup = Setup::new(project, base, store, corpus)?;
    if let Some(lock) = must_match {
        setup = setup.with_imports_of(lock);
    }
    setup.layers(base).into_iter().try_for_each(|layer| base.check_finite(project, layer))?;
    Ok(setup)
}

/// Deletes the project's requests for second moments from the store. The command `corrigenda stats` writes a request to
/// make the next build use a certain second moment. After the build, the request is not needed, because
/// `corrigenda.lock` names this second moment.
fn forget_requests(project: &Project, base: &Base, setup: &Setup, store: &Store) {
    for layer in setup.layers(base) {
        let address = setup.for_layer(layer).provenance.summed().address();
        requested::forget(store, &project.config.root, &address);
    }
}
