//! The patch that the lock names, for verbs that ask it and make nothing.

use super::run::check_merged;
use super::setup::Corpus;
use super::{Base, Setup, Stop, plan};
use crate::digest::Digest;
use crate::patch::Patch;
use crate::project::{Code, Diagnostic, LOCK_FILE, Lock, Project, Sources};
use crate::store::{Kind, Store};

const BUILD: &str = "run `corrigenda build`";

/// The project's lock, if it speaks of these edits on this base.
///
/// # Errors
/// There is none, it cannot be read, or it is older than the project.
pub fn lock(project: &Project, base: &Base, store: &Store) -> Result<Lock, Stop> {
    let Some(lock) = project.lock()? else {
        let finding = Diagnostic::new(Code::LockMissing, format!("{}: nothing was built yet", project.no_lock()));
        return Err(Stop::stale(vec![finding.help(BUILD)], &Sources::default()));
    };
    check_merged(&lock)?;
    // The patch is asked, not made: the corpus need not even be here.
    let corpus = Corpus::of(&lock);
    let setup = Setup::new(project, base, store, corpus)?.locked(&lock);
    let plan = plan(project, base, &setup, store)?;
    let differences = plan.differences(&lock, base, &setup);
    match differences.iter().find(|one| one.changes_weights()) {
        None => Ok(lock),
        Some(one) => {
            let message = format!("{LOCK_FILE} is older than the project: {}, {}", one.place, one.field);
            Err(Stop::stale(vec![Diagnostic::new(Code::LockStale, message).help(BUILD)], &Sources::default()))
        }
    }
}

/// A patch of the store.
///
/// # Errors
/// It is not there, or not sound.
pub fn patch(store: &Store, id: &Digest) -> Result<Patch, Stop> {
    let refuse = |message: String| {
        let finding = Diagnostic::new(Code::PatchMissing, message);
        Stop::wrong(vec![finding.help("`corrigenda build` makes it anew")], &Sources::default())
    };
    let bytes = store.get(Kind::Patch, id).map_err(|error| refuse(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| refuse(format!("the patch {id} is not in the store")))?;
    Patch::from_bytes(&bytes).map_err(|error| refuse(error.to_string()))
}
