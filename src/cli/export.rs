//! `export`: the patched model, for other programs.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::table::{Table, bytes, plural};
use super::{Context, Format, Outcome};
use crate::build::locked;
use crate::build::named::find;
use crate::build::{Base, Stop};
use crate::digest::Digest;
use crate::export::fact::facts;
use crate::export::{Exported, Request, checkpoint};
use crate::patch::Patch;
use crate::project::{Lock, Project, Sources, visible};
use crate::store::Store;

/// Write the patched model for other programs.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Write a complete checkpoint: the base with the patch laid on, a manifest, and the facts in its README
    ///
    /// Only the bytes of the edited tensors differ from the base's; pickles are not copied. The folder appears whole
    /// or not at all, and is read back before it does.
    Checkpoint(Checkpoint),
}

#[derive(Debug, clap::Args)]
pub(super) struct Checkpoint {
    /// Another patch than the lock's: its id, the first digits of it, or its file
    #[arg(long, value_name = "ID|FILE")]
    patch: Option<String>,
    /// The folder to make; it must not exist, or be empty
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

pub(super) fn run(context: &Context, verb: &Verb) -> Outcome {
    let (project, store) = match context.ground() {
        Ok(ground) => ground,
        Err(outcome) => return outcome,
    };
    let Verb::Checkpoint(arguments) = verb;
    exported(context, arguments, &project, &store).unwrap_or_else(|stop| context.stop(&stop))
}

fn exported(context: &Context, arguments: &Checkpoint, project: &Project, store: &Store) -> Result<Outcome, Stop> {
    let base = Base::open(project, store, context.isa, true)?;
    let (patch, settings) = chosen(arguments.patch.as_deref(), project, &base, store)?;
    let request = Request {
        folder: &base.folder,
        base: &base.locked,
        patch: &patch,
        facts: &facts(&patch, &project.edits),
        settings,
        store: store.root(),
        to: &arguments.to,
        progress: &context.ui,
    };
    let exported = checkpoint(&request)?;
    match context.format {
        Format::Json => {
            let whole = json!({
                "path": arguments.to.display().to_string(),
                "manifest": exported.manifest,
                "omitted": { "pickles": exported.pickles, "folders": exported.folders },
            });
            context.answer_json(Outcome::Ok, &[], &Sources::default(), whole);
        }
        _ => context.ui.answer(&human(context, &base, &arguments.to, &exported)),
    }
    Ok(Outcome::Ok)
}

/// The patch, and the digest of its settings where the lock names it.
fn chosen(name: Option<&str>, project: &Project, base: &Base, store: &Store) -> Result<(Patch, Option<Digest>), Stop> {
    match name {
        None => {
            let lock = locked::lock(project, base, store)?;
            Ok((locked::patch(store, &lock.patch.id)?, Some(lock.patch.settings)))
        }
        Some(name) => {
            let patch = find(store, name)?.patch()?;
            let lock = Lock::load(&project.config.root)?.filter(|lock| lock.patch.id == patch.id().0);
            Ok((patch, lock.map(|lock| lock.patch.settings)))
        }
    }
}

fn human(context: &Context, base: &Base, to: &Path, exported: &Exported) -> String {
    let manifest = &exported.manifest;
    let mut table = Table::new(&[1], &[]);
    table.row(["base", &format!("{}  {}", base.name(), manifest.base.digest.short())]);
    table.row(["patch", &format!("{} ({})", manifest.patch, plural(manifest.facts.len(), "fact"))]);
    for tensor in &manifest.tensors {
        table.row(["tensor", &format!("{}  {} → {}", tensor.name, tensor.before.short(), tensor.after.short())]);
    }
    let size = manifest.files.iter().map(|file| file.size).sum();
    let files = plural(manifest.files.len() + 1, "file");
    table.row(["wrote", &format!("{}: {files}, {}, read back", to.display(), bytes(size))]);
    let mut out = table.render(context.ui.width().max(80));
    let omitted = [("pickles", &exported.pickles), ("folders", &exported.folders)];
    for (what, names) in omitted.into_iter().filter(|(_, names)| !names.is_empty()) {
        out.push_str(&format!("\nnot copied, {what}: {}\n", visible(&names.join(", "))));
    }
    out
}
