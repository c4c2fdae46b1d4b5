//! Implements `export`: writes the patch or the patched model for other programs.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use crate::cli::answers::export::{CheckpointAnswer, GgufAnswer, OmittedFiles, PeftAnswer};
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources, escape_controls};
use crate::digest::Digest;
use crate::export::fact::{ExportedFact, facts};
use crate::export::manifest::TensorEntry;
use crate::export::peft::{BaseName, plain_name};
use crate::export::{
    AdapterBase, ExportRequest, ExportedCheckpoint, ExportedGguf, ExportedPeft, checkpoint, llama_cpp, peft,
};
use crate::model::load::hub::HubName;
use crate::patch::Patch;
use crate::pipeline::Base;
use crate::pipeline::locked_patch;
use crate::pipeline::patch_ref::find;
use crate::project::{MOST_TEXT_BYTES, Project};
use crate::report::Outcome;
use crate::report::table::{Table, bytes, plural};
use crate::safetensors::Dtype;
use crate::store::Store;

/// Write the patched model for other programs.
#[derive(Debug, Subcommand)]
pub(super) enum ExportVerb {
    /// Write a complete checkpoint: the base with the patch applied, a manifest, and the facts in its README
    ///
    /// Only the bytes of the edited tensors differ from the base. Pickle files and weights in other formats than the
    /// base's (`*.gguf`, `consolidated.safetensors` …) are not copied, because they contain the weights without the
    /// patch. All files are written to a temporary folder and checked. Then the folder is renamed, so the new folder is
    /// always complete.
    Checkpoint {
        #[command(flatten)]
        patch: PatchArgument,
        /// The folder to create; it must not exist, or must be empty
        #[arg(value_name = "DIR")]
        to: PathBuf,
    },
    /// Write a PEFT adapter, which transformers loads on top of the base
    ///
    /// An adapter is small, and can be loaded and unloaded while a model runs. It is added to the activations and not
    /// rounded into the weights, so answers differ from the checkpoint's by rounding. All modules have the same rank:
    /// the number of edits. vLLM accepts ranks up to 16 by default, or up to `--max-lora-rank` (32, 64, 128, 256, 320
    /// or 512), and serves no adapters on GPT-2 and GPT-J.
    Peft {
        #[command(flatten)]
        patch: PatchArgument,
        /// The name under which programs find the base: its name on the Hub, or a path on the machine where they run
        ///
        /// The name is written as `base_model_name_or_path`. The default is the name on the Hub if the base is in the
        /// Hub's cache, else the name of the base's folder.
        #[arg(long, value_name = "ORG/NAME|PATH")]
        base_name: Option<String>,
        /// The folder to create; it must not exist, or must be empty
        #[arg(value_name = "DIR")]
        to: PathBuf,
    },
    /// Write a LoRA adapter in GGUF, which llama.cpp loads with `--lora`
    ///
    /// llama.cpp must load the adapter on a GGUF file that its own converter wrote from this base model. As with
    /// `export peft`, answers can differ by rounding, and the rank is the number of edits.
    Gguf {
        #[command(flatten)]
        patch: PatchArgument,
        /// The file to create; it must not exist
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct PatchArgument {
    /// The patch to export: its id, the first digits of the id, or its file; by default, the patch that corrigenda.lock
    /// names
    #[arg(long, value_name = "ID|FILE")]
    patch: Option<String>,
}

pub(super) fn run(context: &Context, verb: &ExportVerb) -> Outcome {
    let (project, store) = match context.open_project_and_store() {
        Ok(opened) => opened,
        Err(outcome) => return outcome,
    };
    export(context, verb, &project, &store).unwrap_or_else(|stop| context.stop(&stop))
}

fn export(context: &Context, verb: &ExportVerb, project: &Project, store: &Store) -> Result<Outcome, Failure> {
    let (ExportVerb::Checkpoint { patch, to } | ExportVerb::Peft { patch, to, .. } | ExportVerb::Gguf { patch, to }) =
        verb;
    if let ExportVerb::Peft { base_name: Some(name), .. } = verb {
        check_name(name)?;
    }
    context.may_export(to)?;
    let base = context.base(project, store, true)?;
    let (patch, settings) = chosen(patch.patch.as_deref(), project, &base, store)?;
    let prefaces = project.lock()?.map(|lock| lock.prefaces(&project.edits)).unwrap_or_default();
    let facts = facts(&patch, &project.edits, &prefaces);
    let request = request(context, &base, store, (&patch, settings), &facts, to);
    let spec = base.model.spec();
    match verb {
        ExportVerb::Checkpoint { .. } => wrote(context, &base, to, &checkpoint(&request)?),
        ExportVerb::Peft { base_name, .. } => {
            let name = base_name.clone().unwrap_or_else(|| plain_name(&base.name()));
            let on_hub = if base_name.is_some() { HubName::is_repository(&name) } else { base.is_of_hub() };
            let adapter = peft(&request, AdapterBase { spec, name: BaseName { name: &name, on_hub } })?;
            let unknown = (base_name.is_none() && !on_hub).then(|| unfound(&name));
            let notes = [unknown, served(spec.family.model_type, adapter.rank), unrounded(&patch)];
            let notes = notes.into_iter().flatten().collect();
            answer_peft(context, &base, to, &adapter, notes);
        }
        ExportVerb::Gguf { .. } => {
            let adapter = llama_cpp(&request, spec)?;
            let notes = [untested(spec.family.model_type), unrounded(&patch)].into_iter().flatten().collect();
            answer_gguf(context, (&base, facts.len()), to, &adapter, notes);
        }
    }
    Ok(Outcome::Ok)
}

/// Collects the inputs of an export of `patch` to the path `to`. `settings` is the digest of the settings that the
/// patch was built with; `None` if it is unknown.
pub(super) fn request<'a>(
    context: &'a Context,
    base: &'a Base,
    store: &'a Store,
    (patch, settings): (&'a Patch, Option<Digest>),
    facts: &'a [ExportedFact],
    to: &'a Path,
) -> ExportRequest<'a> {
    let (folder, base, store, progress) = (&*base.folder, &base.locked, store.root(), &context.ui);
    ExportRequest { folder, base, patch, facts, settings, store, to, progress }
}

/// Returns the patch `name`, or the patch that `corrigenda.lock` names if `name` is `None`. Also returns the digest of
/// the settings that the patch was built with; `None` if `corrigenda.lock` does not name the patch.
fn chosen(
    name: Option<&str>,
    project: &Project,
    base: &Base,
    store: &Store,
) -> Result<(Patch, Option<Digest>), Failure> {
    match name {
        None => {
            let lock = locked_patch::lock(project, base, store)?;
            Ok((locked_patch::patch(store, &lock.patch.id)?, Some(lock.patch.settings)))
        }
        Some(name) => {
            let patch = find(store, name)?.patch()?;
            let lock = project.lock()?.filter(|lock| lock.patch.id == patch.id().0);
            Ok((patch, lock.map(|lock| lock.patch.settings)))
        }
    }
}

/// The values that vLLM accepts for its option `--max-lora-rank`, in ascending order. Without that option, vLLM loads
/// adapters up to the rank [`UNTOLD`].
const RANKS: [usize; 9] = [1, 8, 16, 32, 64, 128, 256, 320, 512];
const UNTOLD: usize = 16;

/// Returns a note that vLLM needs `--max-lora-rank` for this rank, or that vLLM cannot load the adapter; `None` if vLLM
/// loads the adapter without an option.
fn served(family: &str, rank: usize) -> Option<String> {
    if matches!(family, "gpt2" | "gptj") {
        return Some(format!("vLLM does not serve adapters on a model of type {family}: use a checkpoint"));
    }
    let most = RANKS.into_iter().find(|most| *most >= rank);
    match most {
        None => Some(format!("vLLM serves adapters up to rank 512, and this one has rank {rank}: use a checkpoint")),
        Some(most) if most > UNTOLD => {
            Some(format!("vLLM needs `--max-lora-rank {most}` for an adapter of rank {rank}"))
        }
        Some(_) => None,
    }
}

/// Returns a note if the base is stored in BF16 or F16. The patched weights are rounded to this type in a checkpoint,
/// but not in an adapter. The note says that a model with the adapter therefore gives slightly different outputs.
fn unrounded(patch: &Patch) -> Option<String> {
    let coarse = |dtype: &Dtype| matches!(dtype, Dtype::BF16 | Dtype::F16);
    let dtype = patch.targets().values().map(|target| target.dtype).find(coarse)?;
    Some(format!(
        "the base is in {dtype}: the patched weights of a checkpoint are rounded to it and those of an adapter are not, so \
         their outputs differ by the rounding"
    ))
}

/// Returns the note for an adapter whose `base_model_name_or_path` is only the name of the base's folder. The note says
/// where other programs search for this folder.
fn unfound(name: &str) -> String {
    format!(
        "base_model_name_or_path is `{name}`, the name of the base's folder: programs look for it in their working \
         directory and then on the Hub; use `--base-name ORG/NAME` or `--base-name PATH` to write another name"
    )
}

/// Rejects a `--base-name` that is blank, too long, or has control characters.
fn check_name(name: &str) -> Result<(), Failure> {
    if !name.trim().is_empty() && name.len() <= MOST_TEXT_BYTES && !name.contains(char::is_control) {
        return Ok(());
    }
    let finding = Diagnostic::new(Code::ExportRefused, "`--base-name` is not the name of a model");
    Err(Failure::from(finding.help("give the name on the Hub, `ORG/NAME`, or a path")))
}

/// Returns a note if the export was never tested with llama.cpp on a model of this family.
fn untested(family: &str) -> Option<String> {
    matches!(family, "gptj" | "seed_oss")
        .then(|| format!("this export was never tested with llama.cpp on a model of type {family}"))
}

/// Prints the output for an exported checkpoint: its folder, its changed tensors, and the files that were not copied.
pub(super) fn wrote(context: &Context, base: &Base, to: &Path, exported: &ExportedCheckpoint) {
    let manifest = &exported.manifest;
    let fields = CheckpointAnswer {
        path: to.display().to_string(),
        manifest,
        omitted: OmittedFiles { pickles: &exported.pickles, weights: &manifest.omitted, folders: &exported.folders },
    };
    let head = Head { base, patch: manifest.patch, facts: manifest.facts.len(), tensors: &manifest.tensors };
    let size = manifest.files.iter().map(|file| file.size).sum();
    let mut text = head.table(context, None, &wrote_folder(to, manifest.files.len() + 1, size));
    let omitted = [
        ("pickles", &exported.pickles),
        ("weights in other formats, which the patch does not change", &manifest.omitted),
        ("folders", &exported.folders),
    ];
    for (what, names) in omitted.into_iter().filter(|(_, names)| !names.is_empty()) {
        text.push_str(&format!("\nnot copied, {what}: {}\n", escape_controls(&names.join(", "))));
    }
    answer(context, fields, &text);
}

fn answer_peft(context: &Context, base: &Base, to: &Path, adapter: &ExportedPeft, notes: Vec<String>) {
    let ExportedPeft { manifest, rank } = adapter;
    let head = Head { base, patch: manifest.patch, facts: manifest.facts.len(), tensors: &manifest.tensors };
    let size = manifest.files.iter().map(|file| file.size).sum();
    let text = head.table(context, Some(*rank), &wrote_folder(to, manifest.files.len() + 1, size));
    let path = to.display().to_string();
    let fields = PeftAnswer { path, manifest, rank: *rank, notes: &notes };
    answer(context, fields, &noted(text, &notes));
}

fn answer_gguf(
    context: &Context,
    (base, facts): (&Base, usize),
    to: &Path,
    adapter: &ExportedGguf,
    notes: Vec<String>,
) {
    let ExportedGguf { file, patch, architecture, rank, tensors } = adapter;
    let head = Head { base, patch: *patch, facts, tensors };
    let wrote = format!("{}: {}, read back", to.display(), bytes(file.size));
    let text = head.table(context, Some(*rank), &wrote);
    let fields = GgufAnswer {
        path: to.display().to_string(),
        digest: file.digest,
        size: file.size,
        base: base.locked.digest,
        patch: *patch,
        architecture,
        rank: *rank,
        tensors,
        notes: &notes,
    };
    answer(context, fields, &noted(text, &notes));
}

fn wrote_folder(to: &Path, files: usize, size: u64) -> String {
    format!("{}: {}, {}, read back", to.display(), plural(files, "file"), bytes(size))
}

fn noted(mut text: String, notes: &[String]) -> String {
    for note in notes {
        text.push_str(&format!("\nnote: {}\n", escape_controls(note)));
    }
    text
}

/// The first lines of the output of every export: the base, the patch, the number of facts and the tensors.
struct Head<'a> {
    base: &'a Base,
    patch: Digest,
    facts: usize,
    tensors: &'a [TensorEntry],
}

impl Head<'_> {
    fn table(&self, context: &Context, rank: Option<usize>, wrote: &str) -> String {
        let mut table = Table::new(&[1], &[]);
        table.row(["base", &format!("{}  {}", self.base.name(), self.base.locked.digest.short())]);
        table.row(["patch", &format!("{} ({})", self.patch, plural(self.facts, "fact"))]);
        for tensor in self.tensors {
            let said = match rank {
                None => format!("{}  {} → {}", tensor.name, tensor.before.short(), tensor.after.short()),
                Some(rank) => format!("{}  {} + rank {rank}", tensor.name, tensor.before.short()),
            };
            table.row(["tensor", &said]);
        }
        table.row(["wrote", wrote]);
        table.render(context.ui.width().max(80))
    }
}

fn answer(context: &Context, fields: impl Serialize, text: &str) {
    match context.format {
        Format::Json => context.answer_json(Outcome::Ok, &[], &Sources::default(), fields),
        _ => context.ui.answer(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_get_notes_on_rank_and_family() {
        let said = |rank| served("llama", rank).unwrap_or_default();
        assert_eq!((said(1), said(16)), (String::new(), String::new()));
        for (rank, flag) in [(17, "--max-lora-rank 32`"), (65, "--max-lora-rank 128`"), (320, "320`"), (512, "512`")] {
            assert!(said(rank).contains(flag), "{rank}: {}", said(rank));
        }
        assert!(said(513).contains("up to rank 512"));
        for family in ["gpt2", "gptj"] {
            assert!(served(family, 1).is_some_and(|note| note.contains("does not serve adapters")));
        }
        assert_eq!((untested("llama"), untested("gptj").is_some()), (None, true));
    }
}
