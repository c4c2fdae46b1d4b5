//! Runs the steps of a build in order.
//!
//! The patch is stored and the lock is written only after all policy checks have passed.

use std::collections::BTreeSet;
use std::path::Path;

use super::link_inputs::{Moments, Prepared, moments, prepare};
use super::record::{Record, measure, record_address};
use super::refusal::stop_if_known;
use super::setup::Corpus;
use super::{Base, Plan, Setup, key_similarity, plan, policy_limits, warnings};
use crate::diagnostics::{Code, Diagnostic, Failure, FailureKind, Sources};
use crate::digest::Digest;
use crate::numeric::Isa;
use crate::numeric::cholesky::Factor;
use crate::patch::Patch;
use crate::progress::Progress;
use crate::project::{
    Difference, EditChange, LOCK_FILE, Lock, LockField, LockFile, LockItem, LockedBase, LockedStatistics, PROJECT_FILE,
    Project,
};
use crate::stats::{self, Cached, Problem, Provenance, SAVE_EVERY};
use crate::store::{EntryKind, Store, StoreError, atomic, requested};

/// The options of a build.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The instruction set to compute with.
    pub isa: Isa,
    /// Whether a change of the lock is an error (`--locked`).
    pub locked: bool,
    /// Whether the base may differ from the one that the lock names (`--update-base`).
    pub update_base: bool,
}

/// The result of a build, for the report of the command.
pub struct Built {
    /// The measured figures of the patch and its edits.
    pub record: Record,
    /// The lock of the chosen model after the build.
    pub lock: Lock,
    /// The edits that were added, changed or removed since the previous lock.
    pub changes: Vec<EditChange>,
    /// The parts of the lock, apart from the edits, that changed: `numerics`, `base`, `statistics` or `settings`.
    pub moved: Vec<&'static str>,
    /// Whether the lock file was written.
    pub written: bool,
    /// The number of edits that were compiled; the others came from the store.
    pub compiled: usize,
    /// The edited layer.
    pub layer: usize,
    /// The name of the base.
    pub base: String,
    /// Warnings for the user, after the policy was applied.
    pub warnings: Vec<Diagnostic>,
}

/// Builds the project: compiles the missing edits, links, rounds, measures, stores the patch and writes the lock.
///
/// # Errors
/// If the input is invalid, the lock or the base is out of date, or a policy rule is broken. The lock and the base are
/// then unchanged; the store may contain new objects.
pub fn build(project: &Project, store: &Store, options: Options, progress: &dyn Progress) -> Result<Built, Failure> {
    let root = &project.config.root;
    if !options.locked {
        check_writable(root)?;
        atomic::remove_stale(root);
    }
    let before = project.lock()?;
    if options.locked && before.is_none() {
        let message = match &project.config.model.name {
            None => format!("there is no {LOCK_FILE} in the project, and --locked was given"),
            Some(_) => format!("{}, and --locked was given", project.no_lock()),
        };
        let finding = Diagnostic::new(Code::LockMissing, message).help("run `corrigenda build` and commit the lock");
        return Err(Failure::stale(finding));
    }
    let base = Base::open(project, store, options.isa, options.locked)?;
    let denied = project.config.policy.apply(base.warnings.clone());
    if denied.iter().any(Diagnostic::is_error) {
        return Err(Failure::from_findings(denied, &project.edits.sources));
    }
    if let Some(before) = before.as_ref().filter(|_| !options.update_base) {
        check_base(before, &base)?;
    }
    let corpus = if options.locked { Corpus::Fresh } else { Corpus::Remembered };
    let setup = Setup::new(project, &base, store, corpus)?;
    let setup = match before.as_ref().filter(|_| options.locked) {
        Some(before) => setup.locked(before),
        None => setup,
    };
    setup.layers(&base).into_iter().try_for_each(|layer| base.check_finite(project, layer))?;
    let plan = plan(project, &base, &setup, store)?;
    plan.check_reach(&base, &setup, &project.edits.sources)?;
    if let Some(before) = before.as_ref().filter(|_| options.locked) {
        check_merged(before)?;
        check_inputs(before, &base, &setup, &plan)?;
    }
    // A build with a refused edit fails, so refusals in the store are reported before anything is computed.
    stop_if_known(&plan, &setup, &project.edits.sources, store)?;
    if !plan.edits.is_empty() {
        check_imported(&base, &setup, store)?;
    }
    // A set without edits needs no statistics.
    let moments =
        if plan.edits.is_empty() { Moments::new() } else { moments(project, &base, &setup, store, progress)? };
    let outcome = outcome(project, &base, &setup, &plan, &moments, store, progress)?;
    let record = &outcome.record;
    let broken = policy_limits::judge(project, &base, (record, &outcome.patch), &plan.prefaces(), store)?;
    let lock = plan.lock(&base, &setup, locked_of(&moments), record.patch);
    let alike = key_similarity::findings(&plan, &record.alike, record.condition);
    let changes = Lock::changes(before.as_ref(), &project.edits);
    let moved = before.as_ref().map_or_else(Vec::new, |before| moved(&before.differences(&lock)));
    let mut warnings = base.warnings.clone();
    warnings.extend(plan.warnings);
    warnings.extend(warnings::thin(project, record));
    warnings.extend(warnings::unwatched(project, record));
    warnings.extend(warnings::large(&setup, plan.edits.len()));
    warnings.extend(warnings::disagreements(project, record, &changes));
    warnings.extend(alike);
    warnings.extend(broken);
    let warnings = project.config.policy.apply(warnings);
    if warnings.iter().any(Diagnostic::is_error) {
        return Err(Failure::from_findings(warnings, &project.edits.sources));
    }
    outcome.keep(store)?;
    let written = write_lock(project, before.as_ref(), &lock, options.locked)?;
    if !options.locked && !lock.edits.is_empty() {
        // The lock now records the requested statistics, so the store's record of the request is removed.
        let asked = setup.layers(&base).into_iter().map(|layer| setup.beside(layer).provenance.summed().address());
        asked.for_each(|address| requested::forget(store, root, &address));
    }
    let base = base.name();
    let Outcome { record, compiled, .. } = outcome;
    Ok(Built { record, lock, changes, moved, written, compiled, layer: setup.layer, base, warnings })
}

/// Returns the parts of a lock, other than the edits and the patch, that differ.
fn moved(differences: &[Difference]) -> Vec<&'static str> {
    let input = |difference: &Difference| match (&difference.item, difference.field) {
        (LockItem::Lock, _) => Some("numerics"),
        (LockItem::Base | LockItem::BaseFile(_), _) => Some("base"),
        (LockItem::Statistics(_), _) => Some("statistics"),
        (LockItem::Patch, LockField::Settings) => Some("settings"),
        (LockItem::Patch | LockItem::Edit(_), _) => None,
    };
    let changed: BTreeSet<&str> = differences.iter().filter_map(input).collect();
    ["numerics", "base", "statistics", "settings"].into_iter().filter(|name| changed.contains(name)).collect()
}

/// A linked set with its figures. It is not written to the store until all policy checks have passed.
struct Outcome {
    record: Record,
    patch: Patch,
    compiled: usize,
    address: Digest,
    new: bool,
}

impl Outcome {
    fn keep(&self, store: &Store) -> Result<(), Failure> {
        if !self.new {
            return Ok(());
        }
        store.put_patch(&self.patch.to_bytes())?;
        let json = serde_json::to_vec(&self.record).expect("figures can be written");
        Ok(store.put(EntryKind::Report, &self.address, &json)?)
    }
}

/// Links and measures the set, or reads both results from the store.
fn outcome(
    project: &Project,
    base: &Base,
    setup: &Setup,
    plan: &Plan<'_>,
    moments: &Moments,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Outcome, Failure> {
    let address = record_address(&plan.lock(base, setup, locked_of(moments), Digest::of(b"")));
    if let Some((record, patch)) = recall(store, &address)? {
        return Ok(Outcome { record, patch, compiled: 0, address, new: false });
    }
    if plan.edits.is_empty() {
        let (record, patch) = Record::of_nothing();
        return Ok(Outcome { record, patch, compiled: 0, address, new: true });
    }
    let Prepared { linking, compiled, ridge } = prepare(project, base, setup, plan, moments, store, progress)?;
    let linked = linking.all(progress)?;
    let record = measure(base, setup, plan, &linking, &linked, ridge).map_err(|error| {
        Failure::from(Diagnostic::new(Code::NotFinite, error.to_string())).with_sources(&project.edits.sources)
    })?;
    Ok(Outcome { record, patch: linked.patch, compiled, address, new: true })
}

/// Returns the statistics as the lock records them.
pub(super) fn locked_of(moments: &Moments) -> Vec<LockedStatistics> {
    moments.iter().map(|(_, locked)| locked.clone()).collect()
}

/// Returns the record at an address and its patch, if both are in the store and valid.
pub(super) fn recall(store: &Store, address: &Digest) -> Result<Option<(Record, Patch)>, StoreError> {
    let record: Option<Record> =
        store.recall(EntryKind::Report, address, |bytes| serde_json::from_slice(bytes).ok())?;
    let Some(record) = record else { return Ok(None) };
    let patch = store.recall(EntryKind::Patch, &record.patch, |bytes| Patch::from_bytes(bytes).ok())?;
    Ok(patch.map(|patch| (record, patch)))
}

/// Returns the statistics of the setup's layer, and their record for the lock. They are summed over the corpus if the
/// store does not have them and the project does not require an import.
///
/// # Errors
/// If the corpus, the model or the store fails, or if required imported statistics are not in the store.
pub fn statistics(
    project: &Project,
    base: &Base,
    setup: &Setup,
    store: &Store,
    progress: &dyn Progress,
) -> Result<(Cached, LockedStatistics), Failure> {
    let found = stats::find(store, &setup.provenance).map_err(|error| unsound(project, &error))?;
    let cached = match (found, &setup.provenance.imported) {
        (Some(cached), _) => cached,
        (None, Some(file)) => return Err(Failure::stale(not_imported(setup.layer, file))),
        (None, None) => sum(project, base, setup, store, progress)?,
    };
    let locked = LockedStatistics {
        layer: setup.layer as u64,
        digest: cached.content,
        corpus: setup.provenance.corpus,
        count: cached.keys,
        imported: cached.imported,
    };
    Ok((cached, locked))
}

/// Sums the second moment of the keys over the corpus.
fn sum(
    project: &Project,
    base: &Base,
    setup: &Setup,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Cached, Failure> {
    let run = pass(base, setup, &setup.provenance, store, progress);
    stats::build(&run).map_err(|error| unsound(project, &error))
}

/// Returns the inputs of a pass over the corpus.
pub(super) fn pass<'r>(
    base: &'r Base,
    setup: &'r Setup,
    provenance: &'r Provenance,
    store: &'r Store,
    progress: &'r dyn Progress,
) -> stats::Run<'r> {
    let (model, tokens, corpus) = (&base.model, &base.tokens, setup.corpus.as_path());
    stats::Run { model, tokens, provenance, corpus, store, progress, save_every: SAVE_EVERY }
}

/// Returns the Cholesky factor of the statistics and its ridge. If reading the statistics in full shows that they are
/// damaged, they are summed again.
///
/// # Errors
/// If the statistics cannot be factored, or the store fails.
pub fn factor(
    project: &Project,
    base: &Base,
    setup: &Setup,
    cached: &Cached,
    store: &Store,
    progress: &dyn Progress,
) -> Result<(Factor, f64), Failure> {
    let factor = match stats::factor(store, &setup.provenance, cached) {
        Err(Problem::Store(StoreError::Damaged { .. })) if cached.imported.is_none() => {
            let cached = sum(project, base, setup, store, progress)?;
            stats::factor(store, &setup.provenance, &cached)
        }
        factor => factor,
    };
    factor.map_err(|error| unsound(project, &error))
}

/// Returns a problem with the statistics as an error at the place where the project names the corpus.
pub fn unsound(project: &Project, error: &Problem) -> Failure {
    let code = match error {
        Problem::Corpus(_) | Problem::Document { .. } => Code::CorpusUnusable,
        Problem::Store(_) => Code::StoreFailed,
        Problem::Statistics(_) => Code::StatisticsForeign,
        Problem::NotFinite { .. } => Code::ModelUnusable,
        Problem::Deficient(_) => Code::StatisticsDeficient,
    };
    let mut finding = Diagnostic::new(code, error.to_string());
    if let Some(statistics) = project.config.statistics.as_ref().filter(|_| code != Code::StoreFailed) {
        finding = finding.at(project.config.file, &statistics.span, "the corpus");
    }
    if code == Code::StatisticsDeficient {
        finding = finding.help("use a longer corpus: its keys span more directions");
    }
    Failure::from(finding).with_sources(&project.edits.sources)
}

/// Checks, before anything is computed, that the lock can be written.
fn check_writable(root: &Path) -> Result<(), Failure> {
    atomic::Staged::new(&root.join(LOCK_FILE)).map(drop).map_err(|error| {
        let why = match &error {
            StoreError::Io { source, .. } => format!("{LOCK_FILE} cannot be written next to {PROJECT_FILE}: {source}"),
            other => other.to_string(),
        };
        let finding =
            Diagnostic::new(Code::StoreFailed, why).help("make the project's folder writable, or use --locked");
        Failure::from(finding)
    })
}

/// Rejects a build whose statistics must be imported but are not in the store. Summing them instead could take hours
/// and would give another patch.
fn check_imported(base: &Base, setup: &Setup, store: &Store) -> Result<(), Failure> {
    let layers = setup.layers(base).into_iter();
    let findings: Vec<Diagnostic> = layers
        .filter_map(|layer| {
            let provenance = setup.beside(layer).provenance;
            let file = provenance.imported?;
            let found = stats::find(store, &provenance).ok()?;
            found.is_none().then(|| not_imported(layer, &file))
        })
        .collect();
    if findings.is_empty() {
        return Ok(());
    }
    Err(Failure { kind: FailureKind::Stale, findings, sources: Sources::default() })
}

/// Returns the error for imported statistics that the project requires and the store does not have.
fn not_imported(layer: usize, file: &Digest) -> Diagnostic {
    let message = format!("the statistics of layer {layer} were imported from {file}, but are not in the store");
    Diagnostic::new(Code::StatisticsMissing, message)
        .help(format!("run `corrigenda stats import FILE --layer {layer}` with the same file"))
        .help(format!("or compute them instead: run `corrigenda stats build --layer {layer}`"))
}

fn check_base(before: &Lock, base: &Base) -> Result<(), Failure> {
    let LockedBase { digest, .. } = &before.base;
    if *digest == base.locked.digest {
        return Ok(());
    }
    let mut stop = stale_base(before, base, "the lock");
    for finding in &mut stop.findings {
        finding.help.push("to use the new base, run `corrigenda build --update-base`".to_owned());
    }
    Err(stop)
}

/// Returns the error for a base that is not the one a lock names; it lists every file that differs.
pub(super) fn stale_base(before: &Lock, base: &Base, whose: &str) -> Failure {
    let fresh = Lock { base: base.locked.clone(), ..before.clone() };
    let differences = before.differences(&fresh);
    let files = differences.iter().filter(|difference| matches!(difference.item, LockItem::BaseFile(_)));
    let message = format!("the base model is not the one that {whose} names");
    let finding = files.fold(Diagnostic::new(Code::BaseChanged, message), |finding, file| finding.help(sentence(file)));
    Failure::stale(finding)
}

/// Rejects a lock that git merged from two locks. Two branches that each built their own set can merge into a set that
/// was never built.
///
/// # Errors
/// If the lock's patch was built from other edits than the lock lists.
pub fn check_merged(lock: &Lock) -> Result<(), Failure> {
    if !lock.is_merged() {
        return Ok(());
    }
    let message = format!("this set of edits was never built: {LOCK_FILE} was merged, and its patch is of other edits");
    let finding = Diagnostic::new(Code::LockMerged, message)
        .help("run `corrigenda build` and `corrigenda test` on the merge, and commit the lock");
    Err(Failure::stale(finding))
}

/// Checks, before anything is computed, that the lock matches the inputs.
fn check_inputs(before: &Lock, base: &Base, setup: &Setup, plan: &Plan<'_>) -> Result<(), Failure> {
    stale(&plan.differences(before, base, setup))
}

/// Returns an error that lists the differences, or `Ok` if there are none.
fn stale(differences: &[Difference]) -> Result<(), Failure> {
    if differences.is_empty() {
        return Ok(());
    }
    let mut finding = Diagnostic::new(Code::LockStale, format!("{LOCK_FILE} is not what a build would write now"));
    for difference in differences.iter().take(MOST_SHOWN) {
        finding = finding.help(sentence(difference));
    }
    if let Some(more) = differences.len().checked_sub(MOST_SHOWN).filter(|more| *more > 0) {
        finding = finding.help(format!("{more} more differences"));
    }
    let finding = finding.help("run `corrigenda build` without --locked, look at the change, and commit the lock");
    Err(Failure::stale(finding))
}

/// The maximum number of differences that are listed.
const MOST_SHOWN: usize = 20;

fn sentence(difference: &Difference) -> String {
    let Difference { item, field, locked, fresh } = difference;
    let short = |text: &str| text.parse().map_or_else(|_| text.to_owned(), |digest: Digest| digest.short());
    format!("{item}, {field}: the lock has {}, found {}", short(locked), short(fresh))
}

/// Writes the lock if it changed, and returns whether it did. With `locked`, a change is an error.
fn write_lock(project: &Project, before: Option<&Lock>, lock: &Lock, locked: bool) -> Result<bool, Failure> {
    if let Some(before) = before.filter(|_| locked) {
        stale(&before.differences(lock))?;
    }
    let config = &project.config;
    // The file is read again because another model may have been built during this build; its lock must be preserved.
    let found = project.lock_file()?;
    let fresh =
        found.clone().unwrap_or_default().with(config.model.name.as_deref(), lock.clone(), &config.model_names());
    if found.as_ref() == Some(&fresh) {
        return Ok(false);
    }
    if locked {
        // The lock of this model is up to date, so the difference can only be locks of models that the project no
        // longer has.
        return Err(left_over(&found.unwrap_or_default(), &fresh));
    }
    atomic::write(&config.root.join(LOCK_FILE), fresh.render().as_bytes())?;
    Ok(true)
}

/// Returns the error for a lock file with locks of models that the project does not have.
fn left_over(found: &LockFile, fresh: &LockFile) -> Failure {
    let gone = found.entries.keys().filter(|name| !fresh.entries.contains_key(*name));
    let gone: Vec<String> = gone
        .map(|name| name.as_ref().map_or_else(|| "one without a name".into(), |name| format!("`{name}`")))
        .collect();
    let message = format!("{LOCK_FILE} has models that the project does not have: {}", gone.join(", "));
    let finding = Diagnostic::new(Code::LockStale, message);
    Failure::stale(finding.help("run `corrigenda build` without --locked, look at the change, and commit the lock"))
}
