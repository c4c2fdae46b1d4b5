//! Reads the patch that `corrigenda.lock` names, for commands that use a patch but do not build one.

use super::lock_checks::check_merged;
use super::setup::CorpusDigest;
use super::{Base, Setup, plan};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::Digest;
use crate::patch::Patch;
use crate::project::{LOCK_FILE, Lock, Project};
use crate::store::{EntryKind, Store};

const BUILD: &str = "run `corrigenda build`";

/// Returns the project's `corrigenda.lock` if it is up to date with the edits, the settings and the base model.
///
/// # Errors
/// If `corrigenda.lock` is missing, cannot be read or was merged from two branches, or if an input on which the patch
/// depends has changed since the last build.
pub fn lock(project: &Project, base: &Base, store: &Store) -> Result<Lock, Failure> {
    let Some(lock) = project.lock()? else {
        let finding = Diagnostic::new(Code::LockMissing, format!("{}: nothing was built yet", project.no_lock()));
        return Err(Failure::stale(finding.help(BUILD)));
    };
    check_merged(&lock)?;
    // Nothing is computed from the corpus here. The corpus is not read, and its digest is taken from `corrigenda.lock`.
    let corpus = CorpusDigest::of_lock(&lock);
    let setup = Setup::new(project, base, store, corpus)?.with_imports_of(&lock);
    let plan = plan(project, base, &setup, store)?;
    let differences = plan.differences(&lock, base, &setup);
    match differences.iter().find(|one| one.changes_weights()) {
        None => Ok(lock),
        Some(one) => {
            let message = format!("{LOCK_FILE} is older than the project: {}, {}", one.item, one.field);
            Err(Failure::stale(Diagnostic::new(Code::LockStale, message).help(BUILD)))
        }
    }
}

/// Reads the patch with this id from the store.
///
/// # Errors
/// If the store does not have the patch, or its bytes are damaged.
pub fn patch(store: &Store, id: &Digest) -> Result<Patch, Failure> {
    let failure = |message: String| {
        let finding = Diagnostic::new(Code::PatchMissing, message);
        Failure::from(finding.help("run `corrigenda build` to make it again"))
    };
    let bytes = store.get(EntryKind::Patch, id).map_err(|error| failure(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| failure(format!("the patch {id} is not in the store")))?;
    Patch::from_bytes(&bytes).map_err(|error| failure(error.to_string()))
}
