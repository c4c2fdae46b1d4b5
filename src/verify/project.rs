//! Checks whether `corrigenda.lock` matches the project, and whether the entries of the store are undamaged.

use std::path::Path;

use serde_json::json;

use super::{Audit, Check, CheckState, count};
use crate::compile::Object;
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::Digest;
use crate::export::{folder, weights};
use crate::numeric::Isa;
use crate::patch::Patch;
use crate::pipeline::base::protected_folder;
use crate::pipeline::setup::CorpusDigest;
use crate::pipeline::{Base, BuildInputs, Setup, plan};
use crate::project::{ChangeKind, EditChange, LOCK_FILE, Lock, Project};
use crate::stats;
use crate::store::{EntryKind, Store, StoreError, memo};

const BUILD: &str = "corrigenda build";
const BASE: &str = "restore the base's files; or, to use the new base, corrigenda build --update-base";

/// Checks `corrigenda.lock` against the base, the corpus, the edits and the settings, and then checks all entries of
/// the store.
///
/// # Errors
/// If `corrigenda.lock` is missing or damaged, or the base that it names cannot be opened.
pub fn project(project: &Project, store: &Store, isa: Isa) -> Result<Audit, Failure> {
    let Some(lock) = project.lock()? else {
        let finding = Diagnostic::new(Code::LockMissing, format!("{}: nothing was built yet", project.no_lock()));
        return Err(Failure::stale(finding.help("run `corrigenda build`")));
    };
    let mut audit = Audit::new("project");
    let same = check_base(&mut audit, project, &lock);
    check_corpus(&mut audit, project, &lock);
    if same {
        check_inputs(&mut audit, project, store, isa, &lock)?
    } else {
        add_changes(&mut audit, &Lock::changes(Some(&lock), &project.edits))
    }
    check_objects(&mut audit, store, &lock);
    check_patch(&mut audit, project, store, &lock)?;
    check_store(&mut audit, store);
    add_rebuild_commands(&mut audit, store, &lock, same);
    audit.verdict = format!(
        "everything matches {LOCK_FILE}: {} on base {}, patch {}",
        count(lock.edits.len(), "edit"),
        lock.base.digest.short(),
        lock.patch.id.short()
    );
    audit.fields = json!({ "base": lock.base.digest, "patch": lock.patch.id, "edits": lock.edits.len() });
    Ok(audit)
}

/// Compares the digest of every file of the base with `corrigenda.lock`. Returns whether all digests are equal.
fn check_base(audit: &mut Audit, project: &Project, lock: &Lock) -> bool {
    let place = protected_folder(project);
    let mut same = true;
    for locked in &lock.base.files {
        let check = |said: &str| Check::wrong("base", &locked.path, said).state(CheckState::Stale);
        let check = match memo::digest_file_fresh(&place.join(&locked.path)) {
            _ if !folder::is_plain_name(&locked.path) => check("not a file of the base's folder: it was not read"),
            Ok(digest) if digest == locked.digest => Check::ok("base", &locked.path, "as in the lock, read again"),
            Ok(digest) => check("not the file that the lock names")
                .detail(format!("expected {}", locked.digest))
                .detail(format!("found    {digest}")),
            Err(error) => check("cannot be read").detail(error.to_string()),
        };
        same &= check.state == CheckState::Ok;
        audit.add(check);
    }
    if !same {
        audit.repair(BASE);
    }
    same
}

/// Checks the digest of the corpus. A missing corpus is not a failure, because the store has the statistics of the
/// corpus.
fn check_corpus(audit: &mut Audit, project: &Project, lock: &Lock) {
    let Some(statistics) = &project.config.statistics else { return };
    let (path, name) = (project.config.resolve(&statistics.corpus), statistics.corpus.display().to_string());
    let Some(locked) = lock.statistics.first().map(|locked| locked.corpus) else { return };
    if std::fs::symlink_metadata(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return audit.add(Check::ok("corpus", name, "missing, but not needed: the statistics were computed from it"));
    }
    let stale = |said: &str| Check::wrong("corpus", &name, said).state(CheckState::Stale);
    let check = match memo::digest_text_fresh(&path) {
        Ok(digest) if digest == locked => Check::ok("corpus", &name, "as in the lock, read again"),
        Ok(digest) => stale("not the corpus that the lock names")
            .detail(format!("expected {locked}"))
            .detail(format!("found    {digest}")),
        Err(error) => stale("cannot be read").detail(error.to_string()),
    };
    audit.add(check);
}

/// Checks the edits and the settings against `corrigenda.lock`, as `build --locked` does. Also checks that the store
/// has intact statistics for every layer in `corrigenda.lock`.
fn check_inputs(audit: &mut Audit, project: &Project, store: &Store, isa: Isa, lock: &Lock) -> Result<(), Failure> {
    let base = Base::open(project, store, isa, false)?;
    let setup = Setup::new(project, &base, store, CorpusDigest::of_lock(lock))?.with_imports_of(lock);
    let plan = plan(project, &base, &setup, store)?;
    let differences = plan.differences(lock, &base, &setup);
    let mut check = Check::ok("edits", count(project.edits.edits.len(), "edit"), "as the lock names them");
    if !differences.is_empty() {
        let said = format!("{} from the lock", count(differences.len(), "difference"));
        check = Check::wrong("edits", &check.name, said).state(CheckState::Stale);
        for one in &differences {
            check = check.detail(format!("{}, {}: expected {}, found {}", one.item, one.field, one.locked, one.fresh));
        }
    }
    audit.add(check);
    for locked in &lock.statistics {
        let layer = usize::try_from(locked.layer).unwrap_or(usize::MAX);
        let provenance = setup.for_layer(layer).provenance;
        // Statistics that an earlier version of this program imported have a different address in the store. `find`
        // also looks for them there.
        let stored = stats::find(store, &provenance).ok().flatten();
        let address = stored.map_or_else(|| provenance.address(), |found| found.address);
        let name = format!("layer {}", locked.layer);
        let found = store.check(EntryKind::Statistics, &address);
        let entry = entry_check("statistics", &name, found, |digest| {
            if digest == locked.digest { Ok(()) } else { Err((locked.digest, digest)) }
        });
        audit.add(entry);
    }
    Ok(())
}

fn add_changes(audit: &mut Audit, changes: &[EditChange]) {
    let word = |change: &EditChange| match change.kind {
        ChangeKind::Added => "not in the lock".to_owned(),
        ChangeKind::Removed => "only in the lock".to_owned(),
        ChangeKind::Changed => {
            let parts: Vec<&str> = change.parts.iter().map(|part| part.as_str()).collect();
            format!("other {} than in the lock", parts.join(", "))
        }
    };
    for change in changes {
        audit.add(Check::wrong("edit", &change.id, word(change)).state(CheckState::Stale));
    }
}

/// Returns the check of a store entry. The check passes if the entry is intact and `judge` accepts the digest of its
/// payload. If `judge` rejects the digest, it returns the expected and the found digest.
fn entry_check(
    group: &'static str,
    name: &str,
    found: Result<Option<Digest>, StoreError>,
    judge: impl FnOnce(Digest) -> Result<(), (Digest, Digest)>,
) -> Check {
    match found {
        Ok(Some(digest)) => match judge(digest) {
            Ok(()) => Check::ok(group, name, "in the store, intact"),
            Err((expected, actual)) => Check::wrong(group, name, "not what the lock names")
                .detail(format!("expected {expected}"))
                .detail(format!("found    {actual}")),
        },
        Ok(None) => Check::wrong(group, name, "not in the store"),
        Err(StoreError::Damaged { why, .. }) => Check::wrong(group, name, "damaged").detail(why),
        Err(error) => Check::wrong(group, name, "cannot be read").detail(error.to_string()),
    }
}

fn check_objects(audit: &mut Audit, store: &Store, lock: &Lock) {
    for edit in &lock.edits {
        let read = store.get(EntryKind::Object, &edit.object);
        let check = match read {
            Ok(Some(bytes)) => match Object::from_bytes(&bytes) {
                Ok(_) => Check::ok("object", &edit.id, "in the store, intact").collapsible(),
                Err(error) => Check::wrong("object", &edit.id, "not an object").detail(error.to_string()),
            },
            Ok(None) => Check::wrong("object", &edit.id, "not in the store"),
            Err(error) => entry_check("object", &edit.id, Err(error), |_| Ok(())),
        };
        audit.add(check);
    }
}

/// Checks the patch that `corrigenda.lock` names. The patch must be in the store, be undamaged and fit the base.
fn check_patch(audit: &mut Audit, project: &Project, store: &Store, lock: &Lock) -> Result<(), Failure> {
    let name = lock.patch.id.short();
    let check = match store.get(EntryKind::Patch, &lock.patch.id) {
        Ok(Some(bytes)) => match Patch::from_bytes(&bytes) {
            Ok(patch) => {
                let listing = folder::list(&protected_folder(project))?;
                match weights::open_all(&listing, &lock.base).and_then(|weights| weights::apply(&weights, &patch)) {
                    Ok(_) => Check::ok("patch", name, "in the store, intact, and for this base"),
                    Err(error) => Check::wrong("patch", name, "not for this base").detail(error.to_string()),
                }
            }
            Err(error) => Check::wrong("patch", name, "not a patch").detail(error.to_string()),
        },
        read => entry_check("patch", &name, read.map(|_| None), |_| Ok(())),
    };
    audit.add(check);
    Ok(())
}

/// Checks all entries of the store, including those that `corrigenda.lock` does not name.
fn check_store(audit: &mut Audit, store: &Store) {
    let report = store.verify();
    let name = format!("{} {}", report.checked, if report.checked == 1 { "entry" } else { "entries" });
    let mut check = Check::ok("store", &name, "all intact");
    if !report.problems.is_empty() {
        check = Check::wrong("store", &name, count(report.problems.len(), "problem"));
        for problem in &report.problems {
            if problem.repair.removes() {
                audit.repair(removal(&problem.path));
            }
            check = check.detail(format!("{}: {}; {}", problem.path.display(), problem.why, problem.repair.as_str()));
        }
    }
    audit.add(check);
}

/// Adds the commands that rebuild missing entries of the store. `same` is true if the base matches `corrigenda.lock`.
fn add_rebuild_commands(audit: &mut Audit, store: &Store, lock: &Lock, same: bool) {
    let failed = |group| audit.checks.iter().any(|check| check.group == group && check.state != CheckState::Ok);
    // If the store has the report of this build, `build` does not compile the edits again. Therefore the report must be
    // removed first.
    let report = store.path(EntryKind::Report, &BuildInputs::of_lock(lock).record_address());
    if failed("object") && report.exists() {
        audit.repair(removal(&report));
    }
    if same && audit.state() != CheckState::Ok {
        audit.repair(BUILD);
    }
}

/// Returns the shell command that removes a file or a folder. The path is quoted for a POSIX shell.
fn removal(path: &Path) -> String {
    let quoted = path.display().to_string().replace('\'', "'\\''");
    format!("rm -r '{quoted}'")
}
