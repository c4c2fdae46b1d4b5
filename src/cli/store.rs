//! Implements `store`: lists, checks, removes, exports and imports the entries of the store, which is the cache of
//! compiled edits, patches, statistics and measurements.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use crate::behaviour::CacheHeader;
use crate::cli::answers::store::{
    ListedProblem, RefusedFile, StoreCheck, StoreCleanup, StoreEntries, StoreFolder, StoreImport, store_entries,
};
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Sources, escape_controls};
use crate::digest::Digest;
use crate::pipeline::BuildInputs;
use crate::project::{LOCK_FILE, Lock, LockFile, PROJECT_FILE};
use crate::report::Outcome;
use crate::report::table;
use crate::stats::factor_address;
use crate::store::{Collected, EntryKind, Store, StoreEntry, StoreError};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Print the store's folder
    Dir,
    /// List all entries of the store: kind, key and size
    Ls {
        /// Print all 64 hexadecimal digits of the entries' keys
        #[arg(long)]
        full: bool,
    },
    /// Read all entries in full and check them (exit code 1 if an entry is damaged)
    Verify,
    /// Remove all entries that the project's corrigenda.lock does not name
    ///
    /// The compiled edits, the patch and the statistics that corrigenda.lock names are kept, and so is everything
    /// computed or measured from them. Entries younger than an hour are kept too, because another build may have just
    /// written them. Entries that only other projects need are removed; the next build of such a project computes them
    /// again.
    Gc {
        /// Also remove entries younger than an hour, and the stored digests of base models
        #[arg(long)]
        all: bool,
    },
    /// Copy the compiled edits and the patch that the project's corrigenda.lock names to a folder
    ///
    /// The measurements of the build are copied too. Without a corrigenda.lock, all compiled edits and all patches are
    /// copied.
    Export {
        /// Copy all compiled edits and all patches
        #[arg(long)]
        all: bool,
        /// Also copy the statistics, so that a build on another machine needs no corpus
        #[arg(long, conflicts_with = "all")]
        statistics: bool,
        /// The target folder; it is created if it does not exist
        #[arg(value_name = "DIR")]
        to: PathBuf,
    },
    /// Import what `store export` wrote; every file is checked (exit code 1 if a file is rejected)
    Import {
        /// The folder that `store export` wrote
        #[arg(value_name = "DIR")]
        from: PathBuf,
    },
}

pub(super) fn run(context: &Context, action: &Action) -> Outcome {
    let store = match context.store() {
        Ok(store) => store,
        Err(finding) => return context.fail(finding),
    };
    let done = match action {
        Action::Dir => Ok(dir(context, &store)),
        Action::Ls { full } => ls(context, &store, *full),
        Action::Verify => Ok(verify(context, &store)),
        Action::Gc { all } => gc(context, &store, *all),
        Action::Export { all, statistics, to } => export(context, &store, *all, *statistics, to),
        Action::Import { from } => import(context, &store, from),
    };
    match done {
        Ok(outcome) => outcome,
        Err(error @ StoreError::Missing { .. }) => context.fail(
            Diagnostic::new(Code::StoreFailed, error.to_string())
                .help("run `corrigenda build`: it builds everything that the lock names"),
        ),
        Err(error) => context.fail_store(&error),
    }
}

fn dir(context: &Context, store: &Store) -> Outcome {
    let root = store.root().display().to_string();
    answer(context, Outcome::Ok, StoreFolder { path: &root }, &root)
}

fn ls(context: &Context, store: &Store, full: bool) -> Result<Outcome, StoreError> {
    let entries = store.ls()?;
    let mut text = String::new();
    for StoreEntry { kind, key, size } in &entries {
        let key = if full { key.hex() } else { key.short() };
        // Results of `writeln!` are ignored, here and below, because writing to a `String` cannot fail. The width 10 is
        // that of the longest kind, `statistics`.
        let _ = writeln!(text, "{:<10}  {key}  {:>10}", kind.to_string(), table::bytes(*size));
    }
    let total = bytes(&entries);
    match entries.len() {
        0 => text = format!("the store at {} is empty", shown(store.root())),
        count => text += &format!("{}, {}", counted(count, "entry", "entries"), table::bytes(total)),
    }
    Ok(answer(context, Outcome::Ok, StoreEntries { entries: store_entries(&entries), bytes: total }, &text))
}

fn verify(context: &Context, store: &Store) -> Outcome {
    let report = store.verify();
    let mut text = String::new();
    let mut problems = Vec::new();
    for problem in &report.problems {
        let (path, why) = (shown(&problem.path), escape_controls(&problem.why));
        let _ = writeln!(text, "{path}\n  {why}\n  {}", problem.repair.as_str());
        problems.push(ListedProblem {
            path: problem.path.display().to_string(),
            why: &problem.why,
            repair: problem.repair.as_str(),
        });
    }
    let found = match problems.len() {
        0 => "no problems".to_owned(),
        count => counted(count, "problem", "problems"),
    };
    text += &format!("{} checked, {found}", counted(report.checked, "entry", "entries"));
    let outcome = if problems.is_empty() { Outcome::Ok } else { Outcome::Findings };
    answer(context, outcome, StoreCheck { checked: report.checked, problems }, &text)
}

fn gc(context: &Context, store: &Store, all: bool) -> Result<Outcome, StoreError> {
    let kept = match locked(context, "no entry is kept for a project") {
        Ok(Some(locks)) => kept(store, &locks)?.into_iter().chain(measured(store, &locks)?).collect(),
        Ok(None) if all => BTreeSet::new(),
        Ok(None) => {
            let message = "without a project and its lock it is unknown which entries are needed";
            let finding = Diagnostic::new(Code::LockMissing, message);
            return Ok(
                context.fail(finding.help("name the project with `-C DIR`, or empty the whole store with `--all`"))
            );
        }
        Err(outcome) => return Ok(outcome),
    };
    let Collected { entries, others, bytes } = store.gc(&kept, all)?;
    for StoreEntry { kind, key, size } in &entries {
        context.ui.detail(&format!("removed {kind} {} ({})", key.short(), table::bytes(*size)));
    }
    for path in &others {
        context.ui.detail(&format!("removed {}", path.display()));
    }
    let mut text = format!("removed {}", counted(entries.len(), "entry", "entries"));
    match (entries.len(), others.len()) {
        (0, 0) if all => text = "nothing to remove".into(),
        (0, 0) => text = "nothing to remove (entries younger than an hour are kept without --all)".into(),
        (_, 0) => text += &format!(", {}", table::bytes(bytes)),
        (_, count) => text += &format!(" and {}, {}", counted(count, "other file", "other files"), table::bytes(bytes)),
    }
    let others: Vec<_> = others.iter().map(|path| path.display().to_string()).collect();
    Ok(answer(context, Outcome::Ok, StoreCleanup { removed: store_entries(&entries), others, bytes }, &text))
}

fn export(context: &Context, store: &Store, all: bool, statistics: bool, to: &Path) -> Result<Outcome, StoreError> {
    let folders = EntryKind::ALL.iter().map(|kind| to.join(kind.folder()));
    if let Some(why) = [to.to_owned()].into_iter().chain(folders).find_map(|place| context.may_write(&place).err()) {
        return Ok(context.fail(Diagnostic::new(Code::StoreFailed, why)));
    }
    let locks = if all { Ok(None) } else { locked(context, "every compiled edit and every patch is copied") };
    let keys = match locks {
        Ok(Some(locks)) => Some(kept(store, &locks)?),
        Ok(None) => None,
        Err(outcome) => return Ok(outcome),
    };
    let carried = |kind| {
        matches!(kind, EntryKind::Object | EntryKind::Patch | EntryKind::Report | EntryKind::Refusal) || statistics
    };
    let here =
        |(kind, key): &(EntryKind, Digest)| carried(*kind) && (!optional(*kind) || store.path(*kind, key).exists());
    let keys = keys.map(|keys| keys.into_iter().filter(here).collect());
    let entries = store.export(keys.as_ref(), to)?;
    let of = |kind| entries.iter().filter(|entry| entry.kind == kind).count();
    let (objects, patches) = (of(EntryKind::Object), of(EntryKind::Patch));
    let text = if entries.is_empty() {
        format!("nothing to copy: the store at {} contains no object and no patch", shown(store.root()))
    } else {
        let (objects, patches) = (counted(objects, "object", "objects"), counted(patches, "patch", "patches"));
        format!("{} contains {objects} and {patches}, {}", shown(to), table::bytes(bytes(&entries)))
    };
    Ok(answer(context, Outcome::Ok, StoreEntries { entries: store_entries(&entries), bytes: bytes(&entries) }, &text))
}

fn import(context: &Context, store: &Store, from: &Path) -> Result<Outcome, StoreError> {
    let imported = store.import(from)?;
    let mut text = String::new();
    let mut refused = Vec::new();
    for refusal in &imported.refused {
        let _ = writeln!(text, "{}\n  refused: {}", shown(&refusal.path), escape_controls(&refusal.why));
        refused.push(RefusedFile::new(&refusal.path, &refusal.why));
    }
    let (new_count, present_count) = (imported.new.len(), imported.present.len());
    text += &format!("{new_count} new, {present_count} already here, {} refused", refused.len());
    let outcome = if refused.is_empty() { Outcome::Ok } else { Outcome::Findings };
    let (new, present) = (store_entries(&imported.new), store_entries(&imported.present));
    Ok(answer(context, outcome, StoreImport { new, present, refused }, &text))
}

/// Returns the store entries that the locks in `corrigenda.lock` need; this file has one lock per model. `gc` keeps
/// these entries, and `export` copies those that can be exported.
fn kept(store: &Store, locks: &LockFile) -> Result<BTreeSet<(EntryKind, Digest)>, StoreError> {
    let kept: Vec<_> = locks.entries.values().map(|lock| kept_of(store, lock)).collect::<Result<_, _>>()?;
    Ok(kept.into_iter().flatten().collect())
}

fn kept_of(store: &Store, lock: &Lock) -> Result<BTreeSet<(EntryKind, Digest)>, StoreError> {
    let mut kept: BTreeSet<_> = lock.edits.iter().map(|edit| (EntryKind::Object, edit.object)).collect();
    kept.insert((EntryKind::Patch, lock.patch.id));
    for StoreEntry { kind, key, .. } in store.ls()?.into_iter().filter(|entry| entry.kind == EntryKind::Statistics) {
        // `corrigenda.lock` has the digest of the statistics' content, but their key in the store is the digest of
        // their inputs, so the content is hashed here. Damaged statistics are not kept.
        let content = match store.content_digest(kind, &key) {
            Err(StoreError::Damaged { .. }) => None,
            content => content?,
        };
        if lock.statistics.iter().any(|locked| Some(locked.digest) == content) {
            kept.insert((kind, key));
        }
    }
    kept.extend(lock.statistics.iter().map(|locked| (EntryKind::Factor, factor_address(&locked.digest))));
    kept.insert((EntryKind::Report, BuildInputs::of_lock(lock).record_address()));
    Ok(kept)
}

/// Returns the cached model outputs that `gc` keeps. The outputs of a base model are kept if one of the `locks` (one
/// per model) has this base. The outputs of a patched model are kept only if each of its patches is also in a lock
/// with this base.
fn measured(store: &Store, locks: &LockFile) -> Result<BTreeSet<(EntryKind, Digest)>, StoreError> {
    let own = |head: &CacheHeader| {
        let patches: BTreeSet<Digest> = head.patches().collect();
        let on = locks.entries.values().filter(|lock| lock.base.digest == head.base);
        let known: BTreeSet<Digest> = on.map(|lock| lock.patch.id).collect();
        !known.is_empty() && patches.is_subset(&known)
    };
    let mut kept = BTreeSet::new();
    for StoreEntry { kind, key, .. } in store.ls()?.into_iter().filter(|entry| entry.kind == EntryKind::Measured) {
        if CacheHeader::of_entry(store, &key)?.as_ref().is_some_and(own) {
            kept.insert((kind, key));
        }
    }
    Ok(kept)
}

/// Returns whether an entry of this kind may be missing from the store, because it can be computed from other entries.
fn optional(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::Report | EntryKind::Factor)
}

/// Reads `corrigenda.lock`, which has the locks of all models. If this file or the project file does not exist, returns
/// `None` and prints a note that the file is missing. The note ends with `consequence`, which says what the command
/// then does.
///
/// # Errors
/// If the project's folder or `corrigenda.lock` cannot be read. The findings are printed, and the error is the outcome
/// of the run.
fn locked(context: &Context, consequence: &str) -> Result<Option<LockFile>, Outcome> {
    let root = &context.root;
    // A mistyped folder must not be treated as a project without `corrigenda.lock`, so a folder that does not exist is
    // an error.
    if let Err(error) = fs::metadata(root) {
        let message = format!("the project's folder `{}` cannot be read: {error}", root.display());
        let finding = Diagnostic::new(Code::ProjectMissing, message).help("name the project's folder with `-C DIR`");
        return Err(context.fail(finding));
    }
    let absent = |name: &&str| fs::symlink_metadata(root.join(name)).is_err_and(|e| e.kind() == ErrorKind::NotFound);
    match [PROJECT_FILE, LOCK_FILE].iter().find(|name| absent(name)) {
        Some(name) => {
            context.ui.note(&format!("there is no {name} in `{}`: {consequence}", root.display()));
            Ok(None)
        }
        None => {
            LockFile::load(root).map_err(|found| context.refuse(Outcome::Error, &found.diagnostics, &found.sources))
        }
    }
}

/// Prints `fields` in the JSON format, or `text` in the human format. Returns `outcome`.
fn answer(context: &Context, outcome: Outcome, fields: impl Serialize, text: &str) -> Outcome {
    match context.format {
        Format::Json => context.answer_json(outcome, &[], &Sources::default(), fields),
        _ => context.ui.answer(text),
    }
    outcome
}

fn bytes(entries: &[StoreEntry]) -> u64 {
    entries.iter().map(|entry| entry.size).sum()
}

/// Formats a path and escapes its control characters, because the file names in an imported folder are not trusted.
fn shown(path: &Path) -> String {
    escape_controls(&path.display().to_string())
}

/// Formats a count with its noun, such as "1 entry" or "2 entries".
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
