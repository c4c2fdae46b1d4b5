//! Implements `patch`: shows one patch, or applies it to a base, without a project.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::export::{request, wrote};
use crate::cli::answers::export::{PatchAnswer, PatchedEdit, PatchedTensor};
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Failure, Sources};
use crate::export::checkpoint;
use crate::export::fact::facts;
use crate::patch::{Patch, Target, delta_norms, edit_norms};
use crate::pipeline::patch_ref::find;
use crate::project::{EditSet, Prefaces};
use crate::report::Outcome;
use crate::report::table::{Table, bytes, plural};
use crate::safetensors::Layout;
use crate::store::Store;

/// Inspect a patch, or apply it to a model; needs no project
#[derive(Debug, Subcommand)]
pub(super) enum PatchVerb {
    /// Write a complete checkpoint: a base with the patch applied
    ///
    /// The bytes are those of `export checkpoint`, except in the README and the manifest. A patch does not contain the
    /// texts of its facts, so these two files name each fact by the digest of its subject, prompt and target. The base
    /// may be divided into shards differently from the base that the patch was made for. Exit code 3: the base is not
    /// the model that the patch was made for.
    Apply {
        /// The patch: its file, its id in the store, or the first digits of the id
        #[arg(value_name = "ID|FILE")]
        patch: String,
        /// The base model: its folder, or its name on the Hub if it is in the Hub's cache
        #[arg(long, value_name = "DIR|hf:NAME")]
        base: PathBuf,
        /// The folder to create; it must not exist, or must be empty
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Show the changed tensors of a patch, their digests in the base, and the norm of each edit
    Show {
        /// The patch: its file, its id in the store, or the first digits of the id
        #[arg(value_name = "ID|FILE")]
        patch: String,
    },
}

pub(super) fn run(context: &Context, verb: &PatchVerb) -> Outcome {
    let store = match context.store() {
        Ok(store) => store,
        Err(finding) => return context.fail(finding),
    };
    let done = match verb {
        PatchVerb::Apply { patch, base, out } => apply(context, &store, patch, base, out),
        PatchVerb::Show { patch } => show(context, &store, patch),
    };
    done.map_or_else(|stop| context.stop(&stop), |()| Outcome::Ok)
}

fn apply(context: &Context, store: &Store, name: &str, base: &Path, out: &Path) -> Result<(), Failure> {
    let patch = find(store, name)?.patch()?;
    context.may_export(out)?;
    let base = context.base_named(base, store, true)?;
    let facts = facts(&patch, &EditSet::default(), &Prefaces::default());
    let request = request(context, &base, store, (&patch, None), &facts, out);
    wrote(context, &base, out, &checkpoint(&request)?);
    Ok(())
}

fn show(context: &Context, store: &Store, name: &str) -> Result<(), Failure> {
    let patch = find(store, name)?.patch()?;
    let size = patch.to_bytes().len() as u64;
    match context.format {
        Format::Json => {
            let edits = edit_norms(&patch).into_iter().map(|(meaning, norm)| PatchedEdit { meaning, norm }).collect();
            let tensors = patch.targets().iter().map(|(parameter, target)| tensor(parameter, target)).collect();
            let answer = PatchAnswer { id: patch.id().0, size, tensors, edits };
            context.answer_json(Outcome::Ok, &[], &Sources::default(), answer);
        }
        _ => context.ui.answer(&human(context, &patch, size)),
    }
    Ok(())
}

fn tensor<'p>(name: &'p str, target: &Target) -> PatchedTensor<'p> {
    PatchedTensor {
        name,
        base: target.base,
        dtype: target.dtype.name(),
        layout: target.layout,
        shape: target.shape(),
        edits: target.edits.len(),
        norm: delta_norms(target).total,
    }
}

fn human(context: &Context, patch: &Patch, size: u64) -> String {
    let mut table = Table::new(&[], &[]);
    let edits = edit_norms(patch);
    table.row(["patch", &format!("{} ({}, {})", patch.id(), plural(edits.len(), "edit"), bytes(size))]);
    for (name, target) in patch.targets() {
        let [rows, columns] = target.shape();
        let layout = match target.layout {
            Layout::Linear => "linear",
            Layout::Conv1d => "conv1d",
        };
        let (edit_count, norm) = (plural(target.edits.len(), "edit"), delta_norms(target).total);
        table.row(["tensor", name]);
        table.row(["", &format!("{} [{rows}, {columns}], {layout}, {edit_count}, ‖Δ‖ {norm:.3}", target.dtype)]);
        table.row(["", &format!("of base {}", target.base)]);
    }
    for (meaning, norm) in &edits {
        table.row(["edit", &format!("{}  ‖Δ‖ {norm:.3}", meaning.short())]);
    }
    table.render(context.ui.width())
}
