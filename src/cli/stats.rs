//! Implements `stats`: computes, shows and imports the second moments of the MLP keys.

use std::path::PathBuf;

use crate::cli::answers::statistics::StatisticsAnswer;
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::pipeline::setup::CorpusDigest;
use crate::pipeline::statistics::{factor, load_or_compute, statistics_error};
use crate::pipeline::{Base, BuildContext, Setup};
use crate::project::Project;
use crate::report::Outcome;
use crate::report::table::{Table, bytes, thousands};
use crate::stats::{self, CachedStatistics, published};
use crate::store::{EntryKind, Store, requested};

/// Compute, show or import the second moments of the MLP keys.
#[derive(Debug, clap::Subcommand)]
pub(super) enum StatsVerb {
    /// Compute the second moment of the edited layer's MLP keys over the corpus; an interrupted run is resumed
    Build(LayerArgument),
    /// Show from which inputs the second moment was computed
    Show(LayerArgument),
    /// Import the second moment that ROME published for the model, instead of computing it
    ///
    /// The file does not name its model and its layer. By importing the file, you assert that it belongs to the
    /// project's base and to this layer, and the import records your assertion. Builds of this project then use the
    /// imported second moment instead of one over the corpus; builds of other projects do not. corrigenda.lock names
    /// the digest of the file, so another machine must import the same file.
    Import(Import),
}

#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The published .npz file with the second moment
    file: PathBuf,
    #[command(flatten)]
    layer: LayerArgument,
    /// Replace the second moment that the project already has
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct LayerArgument {
    /// The layer to use instead of the layer that the project edits
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
}

pub(super) fn run(context: &Context, verb: &StatsVerb) -> Outcome {
    let (project, store) = match context.open_project_and_store() {
        Ok(opened) => opened,
        Err(outcome) => return outcome,
    };
    let done = match verb {
        StatsVerb::Build(layer) => build(context, &project, &store, layer.layer),
        StatsVerb::Show(layer) => show(context, &project, &store, layer.layer),
        StatsVerb::Import(arguments) => import(context, &project, &store, arguments),
    };
    done.unwrap_or_else(|stop| context.stop(&stop))
}

/// Opens the base and determines the settings of a build that edits only `layer`. If `layer` is `None`, the layers are
/// those that the project sets.
fn open_base(
    context: &Context,
    project: &Project,
    store: &Store,
    layer: Option<usize>,
) -> Result<(Base, Setup), Failure> {
    let base = context.base(project, store, false)?;
    let mut project = project.clone();
    if let Some(layer) = layer {
        project.config.rome.layer = Some(layer);
        project.config.rome.layer_span = None;
    }
    let setup = Setup::new(&project, &base, store, CorpusDigest::Remembered)?;
    Ok((base, setup))
}

fn build(context: &Context, project: &Project, store: &Store, layer: Option<usize>) -> Result<Outcome, Failure> {
    let (base, mut setup) = open_base(context, project, store, layer)?;
    let imported = setup.imports.remove(&setup.layer).is_some();
    let setup = setup.for_layer(setup.layer);
    let (cached, _) =
        load_or_compute(BuildContext { project, base: &base, setup: &setup, store, progress: &context.ui })?;
    if imported {
        requested::request(store, &project.config.root, &setup.provenance.address(), None)?;
    }
    answer(context, project, store, &base, &setup, &cached)
}

fn import(context: &Context, project: &Project, store: &Store, arguments: &Import) -> Result<Outcome, Failure> {
    let (base, setup) = open_base(context, project, store, arguments.layer.layer)?;
    let refused = |finding: Diagnostic| Failure::from(finding).with_sources(&project.edits.sources);
    let published = published::read(&arguments.file, setup.provenance.inner)
        .map_err(|error| refused(Diagnostic::new(Code::StatisticsForeign, error.to_string())))?;
    let there = stats::find(store, &setup.provenance).map_err(|error| statistics_error(project, &error))?;
    if !arguments.replace && there.is_some_and(|there| there.imported != Some(published.file)) {
        let message = format!("the store already has statistics of layer {}", setup.layer);
        let finding = Diagnostic::new(Code::StatisticsForeign, message);
        return Err(refused(
            finding.help("replace them with `--replace`; run `corrigenda stats show` to see what they are"),
        ));
    }
    let file = published.file;
    let cached =
        stats::build::import(store, &setup.provenance, published).map_err(|error| statistics_error(project, &error))?;
    requested::request(store, &project.config.root, &setup.provenance.summed().address(), Some(&file))?;
    answer(context, project, store, &base, &setup, &cached)
}

fn show(context: &Context, project: &Project, store: &Store, layer: Option<usize>) -> Result<Outcome, Failure> {
    let (base, setup) = open_base(context, project, store, layer)?;
    match stats::find(store, &setup.provenance).map_err(|error| statistics_error(project, &error))? {
        Some(cached) => answer(context, project, store, &base, &setup, &cached),
        None => {
            let message = format!("the statistics of layer {} were not built yet", setup.layer);
            let which = layer.map_or_else(String::new, |layer| format!(" --layer {layer}"));
            let finding =
                Diagnostic::new(Code::StatisticsMissing, message).help(format!("run `corrigenda stats build{which}`"));
            Err(Failure::from(finding).with_sources(&project.edits.sources))
        }
    }
}

/// Prints the inputs of the second moment, and the ridge that a build adds to it. To find the ridge, this function
/// computes the Cholesky factorisation.
fn answer(
    context: &Context,
    project: &Project,
    store: &Store,
    base: &Base,
    setup: &Setup,
    cached: &CachedStatistics,
) -> Result<Outcome, Failure> {
    let (_, ridge) = factor(BuildContext { project, base, setup, store, progress: &context.ui }, cached)?;
    let found = &setup.provenance;
    let CachedStatistics { documents, keys, size, .. } = *cached;
    match context.format {
        Format::Json => {
            let answer = StatisticsAnswer {
                digest: cached.content,
                provenance: found,
                documents,
                keys,
                imported: cached.imported,
                ridge,
                path: store.path(EntryKind::Statistics, &cached.address).display().to_string(),
            };
            context.answer_json(Outcome::Ok, &[], &project.edits.sources, answer);
        }
        _ => {
            let limit = found.max_documents.map_or_else(String::new, |most| format!(" (at most {})", thousands(most)));
            let ridge = if ridge > 0.0 { format!("{ridge:e} of the mean diagonal") } else { "none needed".to_owned() };
            let mut table = Table::new(&[], &[]);
            table.row(["digest", &cached.content.to_string()]);
            table.row(["model", &format!("{}  {}", base.name(), found.base)]);
            table.row(["layer", &format!("{}, keys of width {}", found.layer, thousands(found.inner as u64))]);
            table.row(["corpus", &found.corpus.to_string()]);
            match cached.imported {
                Some(file) => table.row(["imported", &format!("from {file}: model and layer as given at the import")]),
                None => {
                    let cut = format!("{}{limit}, cut at {} tokens", thousands(documents), found.max_tokens);
                    table.row(["documents", &cut]);
                }
            }
            table.row(["keys", &thousands(keys)]);
            table.row(["ridge", &ridge]);
            table.row(["numerics", &found.numerics]);
            table.row([
                "file",
                &format!("{} ({})", store.path(EntryKind::Statistics, &cached.address).display(), bytes(size)),
            ]);
            context.ui.answer(&table.render(usize::MAX));
        }
    }
    Ok(Outcome::Ok)
}
