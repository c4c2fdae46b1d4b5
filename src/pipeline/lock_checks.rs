//! Compares `corrigenda.lock` with the base model and the other inputs of a build, and writes the file.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Base, Plan, Setup};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::Digest;
use crate::project::{Difference, LOCK_FILE, Lock, LockField, LockFile, LockItem, PROJECT_FILE, Project};
use crate::store::{StoreError, atomic};

/// Checks that `corrigenda.lock` can be written. Without this check, a build could fail after hours of computation.
pub(super) fn check_writable(root: &Path) -> Result<(), Failure> {
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

/// Returns the error for `--locked` if `corrigenda.lock` is missing or has no entry for the chosen model.
pub(super) fn lock_missing(project: &Project) -> Failure {
    let message = match &project.config.model.name {
        None => format!("there is no {LOCK_FILE} in the project, and --locked was given"),
        Some(_) => format!("{}, and --locked was given", project.no_lock()),
    };
    let finding = Diagnostic::new(Code::LockMissing, message).help("run `corrigenda build` and commit the lock");
    Failure::stale(finding)
}

/// Rejects `base` if it is not the base model that `corrigenda.lock` names.
pub(super) fn check_base(before: &Lock, base: &Base) -> Result<(), Failure> {
    if before.base.digest == base.locked.digest {
        return Ok(());
    }
    let mut stop = base_changed(before, base, "the lock");
    for finding in &mut stop.findings {
        finding.help.push("to use the new base, run `corrigenda build --update-base`".to_owned());
    }
    Err(stop)
}

/// Returns the error that the base model is not the one in `corrigenda.lock`, with one help line per file that differs.
/// `whose` is the name of the lock in the message: `the lock`, or the name of its project or git revision.
pub(super) fn base_changed(before: &Lock, base: &Base, whose: &str) -> Failure {
    let with_new_base = Lock { base: base.locked.clone(), ..before.clone() };
    let differences = before.differences(&with_new_base);
    let files = differences.iter().filter(|difference| matches!(difference.item, LockItem::BaseFile(_)));
    let message = format!("the base model is not the one that {whose} names");
    let finding = files.fold(Diagnostic::new(Code::BaseChanged, message), |finding, file| finding.help(describe(file)));
    Failure::stale(finding)
}

/// Rejects a `corrigenda.lock` that git merged from two branches. Each branch built its own edits, but the merged set
/// of edits was never built.
///
/// # Errors
/// If the patch in the lock was built from other edits than those that the lock lists.
pub fn check_merged(lock: &Lock) -> Result<(), Failure> {
    if !lock.is_merged() {
        return Ok(());
    }
    let message = format!("this set of edits was never built: {LOCK_FILE} was merged, and its patch is of other edits");
    let finding = Diagnostic::new(Code::LockMerged, message)
        .help("run `corrigenda build` and `corrigenda test` on the merge, and commit the lock");
    Err(Failure::stale(finding))
}

/// Checks that `corrigenda.lock` matches the inputs of the build. This check runs before the edits are compiled, so
/// that an outdated lock is reported early.
pub(super) fn check_inputs(before: &Lock, base: &Base, setup: &Setup, plan: &Plan<'_>) -> Result<(), Failure> {
    check_unchanged(&plan.differences(before, base, setup))
}

/// Returns an error if there are differences between `corrigenda.lock` and the content that the build would write. The
/// error lists the first [`MAX_LISTED`] of `differences`.
fn check_unchanged(differences: &[Difference]) -> Result<(), Failure> {
    if differences.is_empty() {
        return Ok(());
    }
    let mut finding = Diagnostic::new(Code::LockStale, format!("{LOCK_FILE} is not what a build would write now"));
    for difference in differences.iter().take(MAX_LISTED) {
        finding = finding.help(describe(difference));
    }
    if let Some(more) = differences.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
        finding = finding.help(format!("{more} more differences"));
    }
    Err(Failure::stale(finding.help(BUILD_WITHOUT_LOCKED)))
}

const BUILD_WITHOUT_LOCKED: &str = "run `corrigenda build` without --locked, look at the change, and commit the lock";

/// The maximum number of differences in the error for an outdated `corrigenda.lock`.
const MAX_LISTED: usize = 20;

fn describe(difference: &Difference) -> String {
    let Difference { item, field, locked, fresh } = difference;
    let short = |text: &str| text.parse().map_or_else(|_| text.to_owned(), |digest: Digest| digest.short());
    format!("{item}, {field}: the lock has {}, found {}", short(locked), short(fresh))
}

/// Returns the names of the parts of `corrigenda.lock` that differ: `numerics`, `base`, `statistics` or `settings`.
/// Differences in the edits and the patch are left out.
pub(super) fn changed_inputs(differences: &[Difference]) -> Vec<&'static str> {
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

/// Writes `corrigenda.lock` if its content changed, and returns whether it was written. If `locked` is true, a changed
/// content is an error.
pub(super) fn write_lock(project: &Project, before: Option<&Lock>, lock: &Lock, locked: bool) -> Result<bool, Failure> {
    if let Some(before) = before.filter(|_| locked) {
        check_unchanged(&before.differences(lock))?;
    }
    let config = &project.config;
    // `corrigenda.lock` is read again, because a build of another model may have changed the file during this build.
    // The entry of that model must be kept.
    let found = project.lock_file()?;
    let fresh =
        found.clone().unwrap_or_default().with(config.model.name.as_deref(), lock.clone(), &config.model_names());
    if found.as_ref() == Some(&fresh) {
        return Ok(false);
    }
    if locked {
        // The entry of this model is unchanged, so the file differs only in entries of models that the project no
        // longer has.
        return Err(orphaned_models(&found.unwrap_or_default(), &fresh));
    }
    atomic::write(&config.root.join(LOCK_FILE), fresh.render().as_bytes())?;
    Ok(true)
}

/// Returns the error for a `corrigenda.lock` with entries of models that the project does not have.
fn orphaned_models(found: &LockFile, fresh: &LockFile) -> Failure {
    let orphaned = found.entries.keys().filter(|name| !fresh.entries.contains_key(*name));
    let names: Vec<String> = orphaned
        .map(|name| name.as_ref().map_or_else(|| "one without a name".into(), |name| format!("`{name}`")))
        .collect();
    let message = format!("{LOCK_FILE} has models that the project does not have: {}", names.join(", "));
    Failure::stale(Diagnostic::new(Code::LockStale, message).help(BUILD_WITHOUT_LOCKED))
}
