//! Repeats the build that `corrigenda.lock` records, in an empty store, and compares the digests of the results with
//! those in `corrigenda.lock`.
//!
//! Imported statistics cannot be computed again, so they are copied from the project's store.

use serde_json::json;

use super::{Audit, Check, CheckState, VerifyContext, count};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::numeric::{Isa, NUMERICS};
use crate::pipeline::setup::CorpusDigest;
use crate::pipeline::{BuildOptions, Built, Setup, build, plan};
use crate::progress::Progress;
use crate::project::{LOCK_FILE, Project};
use crate::stats;
use crate::store::{EntryKind, Store};

/// Builds the project in an empty store and compares the results with `corrigenda.lock`. Writes neither to the project
/// nor to the project's store.
///
/// # Errors
/// If `corrigenda.lock` is missing or the build fails. A `corrigenda.lock` that does not match the project is a failed
/// check and not an error.
pub fn rebuild(
    project: &Project,
    context: &VerifyContext<'_>,
    isa: Isa,
    progress: &dyn Progress,
) -> Result<Audit, Failure> {
    let Some(lock) = &context.lock else {
        let finding = Diagnostic::new(Code::LockMissing, format!("{}: nothing was built yet", project.no_lock()));
        return Err(Failure::stale(finding.help("run `corrigenda build`")));
    };
    let mut audit = Audit::new("rebuild");
    audit.fields = json!({ "numerics": NUMERICS, "expected": lock.patch.id });
    let setup = Setup::new(project, &context.base, context.store, CorpusDigest::Fresh)?.with_imports_of(lock);
    let differences = plan(project, &context.base, &setup, context.store)?.differences(lock, &context.base, &setup);
    if !differences.is_empty() {
        let said = format!("{} from the lock: nothing was computed", count(differences.len(), "difference"));
        let mut check = Check::wrong("inputs", LOCK_FILE, said).state(CheckState::Stale);
        for one in &differences {
            check = check.detail(format!("{}, {}: expected {}, found {}", one.item, one.field, one.locked, one.fresh));
        }
        audit.add(check);
        audit.repair("corrigenda build");
        return Ok(audit);
    }
    audit.add(Check::ok("inputs", LOCK_FILE, "base, corpus, edits and settings are as it names them, read again"));
    let folder = tempfile::tempdir().map_err(|error| {
        let message = format!("a temporary folder for an empty store cannot be created: {error}");
        Failure::from(Diagnostic::new(Code::StoreFailed, message))
    })?;
    let empty = Store::open(folder.path().join("store"));
    let imported = copy_imported_statistics(&mut audit, context, &setup, &empty)?;
    let options = BuildOptions { isa, locked: true, update_base: false };
    match build(project, &empty, options, progress) {
        Ok(built) => compare_results(&mut audit, context, &empty, (&built, &imported))?,
        // The inputs match `corrigenda.lock`, so this error means that the results of the build differ.
        Err(stop) if stop.findings.iter().any(|one| one.code == Code::LockStale) => {
            report_difference(&mut audit, &stop)
        }
        Err(stop) => return Err(stop),
    }
    audit.verdict = format!(
        "everything was computed again with {NUMERICS}, from the corpus to the patch: the same bytes, {}",
        lock.patch.id
    );
    Ok(audit)
}

/// Copies imported statistics from the project's store to the store of the repeated build. Returns their layer indices.
fn copy_imported_statistics(
    audit: &mut Audit,
    context: &VerifyContext<'_>,
    setup: &Setup,
    empty: &Store,
) -> Result<Vec<u64>, Failure> {
    let mut out = Vec::new();
    for layer in setup.layers(&context.base) {
        let provenance = setup.for_layer(layer).provenance;
        let found = stats::find(context.store, &provenance).ok().flatten();
        let Some((cached, file)) = found.and_then(|cached| Some((cached, cached.imported?))) else { continue };
        let Some(bytes) = context.store.get(EntryKind::Statistics, &cached.address)? else { continue };
        empty.put(EntryKind::Statistics, &cached.address, &bytes)?;
        let said = format!("imported from {file}, not computed: used unchanged");
        audit.add(Check::ok("statistics", format!("layer {layer}"), said));
        out.push(layer as u64);
    }
    Ok(out)
}

fn compare_results(
    audit: &mut Audit,
    context: &VerifyContext<'_>,
    empty: &Store,
    (built, imported): (&Built, &[u64]),
) -> Result<(), Failure> {
    for statistics in built.lock.statistics.iter().filter(|one| !imported.contains(&one.layer)) {
        let said = format!("computed again from {} keys: as in the lock", statistics.count);
        audit.add(Check::ok("statistics", format!("layer {}", statistics.layer), said));
    }
    audit.add(Check::ok("values", count(built.compiled, "edit"), "computed again"));
    let id = built.record.patch;
    audit.fields["found"] = json!(id);
    audit.add(Check::ok("patch", id.short(), "linked again: as in the lock"));
    let made = empty.get(EntryKind::Patch, &id)?;
    let check = match context.store.get(EntryKind::Patch, &id) {
        Ok(Some(bytes)) if Some(&bytes) == made.as_ref() => Check::ok("store", id.short(), "holds the same bytes"),
        Ok(Some(_)) => Check::wrong("store", id.short(), "holds other bytes"),
        Ok(None) => Check::ok("store", id.short(), "does not hold this patch"),
        Err(error) => Check::wrong("store", id.short(), "holds a damaged patch").detail(error.to_string()),
    };
    if check.state != CheckState::Ok {
        audit.repair("corrigenda build");
    }
    audit.add(check);
    Ok(())
}

/// Adds a failed check for a repeated build whose patch differs from that in `corrigenda.lock` although the inputs are
/// the same. The details of the check are the help lines of `stop` that explain the difference.
fn report_difference(audit: &mut Audit, stop: &Failure) {
    let mut check = Check::wrong("patch", NUMERICS, "the same inputs gave other bytes than the lock names");
    for line in stop.findings.iter().flat_map(|finding| &finding.help) {
        // Help lines that begin with `run ` advise the user to write a new `corrigenda.lock`. They do not explain the
        // difference, so they are left out.
        if !line.starts_with("run ") {
            check = check.detail(line.clone());
        }
    }
    audit.add(check);
    audit.repair("corrigenda build");
}
