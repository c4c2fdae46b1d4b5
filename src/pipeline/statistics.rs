//! Loads the second moments of the MLP keys and their Cholesky factors from the store, or computes them from the
//! corpus.

use super::{Base, BuildContext, Setup};
use crate::diagnostics::{Code, Diagnostic, Failure, FailureKind, Sources};
use crate::digest::Digest;
use crate::numeric::cholesky::Factor;
use crate::project::{LockedStatistics, Project};
use crate::stats::{self, CachedStatistics, Provenance, SAVE_EVERY, StatisticsError};
use crate::store::{Store, StoreError};

/// The second moments of the MLP keys at several layers, in ascending order of the layers. For each layer, the pair has
/// the cached second moment and the entry for `corrigenda.lock`.
pub type LayerStatistics = Vec<(CachedStatistics, LockedStatistics)>;

/// Returns the second moments of the MLP keys at every layer that a build changes, the edited layer first. Second
/// moments that are not in the store are computed from the corpus.
///
/// # Errors
/// If the corpus or the store cannot be read, an MLP key is not finite, or an imported second moment is not in the
/// store.
pub fn load_or_compute_changed(context: BuildContext<'_>) -> Result<LayerStatistics, Failure> {
    load_or_compute_layers(context, &context.setup.layers(context.base))
}

/// Returns the second moments of the MLP keys at `layers`, which must be ascending. Second moments that are not in the
/// store are computed from the corpus. One pass over the corpus computes the second moments of as many layers as fit
/// into memory.
///
/// # Errors
/// As for [`load_or_compute_changed`].
pub fn load_or_compute_layers(context: BuildContext<'_>, layers: &[usize]) -> Result<LayerStatistics, Failure> {
    let BuildContext { project, setup, store, .. } = context;
    let mut missing = Vec::new();
    for &layer in layers {
        let provenance = setup.for_layer(layer).provenance;
        // An imported second moment is never computed from the corpus. If it is not in the store, `load_or_compute`
        // returns an error below.
        if provenance.imported.is_none()
            && stats::find(store, &provenance).map_err(|error| statistics_error(project, &error))?.is_none()
        {
            missing.push(layer);
        }
    }
    let provenance = setup.provenance.summed();
    for group in stats::groups(&missing, setup.provenance.inner) {
        let pass = corpus_pass(context, &provenance);
        stats::build_all(&pass, group).map_err(|error| statistics_error(project, &error))?;
    }
    layers.iter().map(|&layer| load_or_compute(context.with_setup(&setup.for_layer(layer)))).collect()
}

/// Returns the second moment of the MLP keys at the setup's layer, and the entry for `corrigenda.lock`. A second moment
/// that is not in the store is computed from the corpus, unless the project requires an imported one.
///
/// # Errors
/// As for [`load_or_compute_changed`].
pub fn load_or_compute(context: BuildContext<'_>) -> Result<(CachedStatistics, LockedStatistics), Failure> {
    let BuildContext { project, setup, store, .. } = context;
    let found = stats::find(store, &setup.provenance).map_err(|error| statistics_error(project, &error))?;
    let cached = match (found, &setup.provenance.imported) {
        (Some(cached), _) => cached,
        (None, Some(file)) => return Err(Failure::stale(import_missing(setup.layer, file))),
        (None, None) => compute(context)?,
    };
    let locked = LockedStatistics {
        layer: setup.layer as u64,
        digest: cached.content,
        corpus: setup.provenance.corpus,
        count: cached.keys,
        imported: cached.imported,
    };
    Ok((cached, locked))
}

/// Computes the second moment of the MLP keys at the setup's layer from the corpus.
fn compute(context: BuildContext<'_>) -> Result<CachedStatistics, Failure> {
    let pass = corpus_pass(context, &context.setup.provenance);
    stats::build(&pass).map_err(|error| statistics_error(context.project, &error))
}

/// Returns the inputs of one pass over the corpus. The pass computes the second moments that `provenance` describes.
fn corpus_pass<'r>(context: BuildContext<'r>, provenance: &'r Provenance) -> stats::SumRun<'r> {
    let BuildContext { base, setup, store, progress, .. } = context;
    let (model, tokens, corpus) = (&base.model, &base.tokens, setup.corpus.as_path());
    stats::SumRun { model, tokens, provenance, corpus, store, progress, save_every: SAVE_EVERY }
}

/// Returns the Cholesky factor of the second moment `C`. Also returns the ridge that was added to the diagonal of `C`
/// before the factorisation, as a share of the mean diagonal entry. If the stored `C` is damaged and was not imported,
/// it is computed again.
///
/// # Errors
/// If `C` cannot be factored, or the store cannot be read or written.
pub fn factor(context: BuildContext<'_>, cached: &CachedStatistics) -> Result<(Factor, f64), Failure> {
    let BuildContext { project, setup, store, .. } = context;
    let factor = match stats::factor(store, &setup.provenance, cached) {
        Err(StatisticsError::Store(StoreError::Damaged { .. })) if cached.imported.is_none() => {
            let computed = compute(context)?;
            stats::factor(store, &setup.provenance, &computed)
        }
        factor => factor,
    };
    factor.map_err(|error| statistics_error(project, &error))
}

/// Returns the entries of `corrigenda.lock` for the second moments, one per layer.
pub fn locked(statistics: &LayerStatistics) -> Vec<LockedStatistics> {
    statistics.iter().map(|(_, locked)| locked.clone()).collect()
}

/// Rejects a build whose imported second moments are not in the store. Computing them from the corpus instead could
/// take hours and would give another patch.
///
/// # Errors
/// If imported second moments are missing; there is one error per layer.
pub(super) fn check_imported(base: &Base, setup: &Setup, store: &Store) -> Result<(), Failure> {
    let findings: Vec<Diagnostic> = setup
        .layers(base)
        .into_iter()
        .filter_map(|layer| {
            let provenance = setup.for_layer(layer).provenance;
            let file = provenance.imported?;
            let found = stats::find(store, &provenance).ok()?;
            found.is_none().then(|| import_missing(layer, &file))
        })
        .collect();
    if findings.is_empty() {
        Ok(())
    } else {
        Err(Failure { kind: FailureKind::Stale, findings, sources: Sources::default() })
    }
}

fn import_missing(layer: usize, file: &Digest) -> Diagnostic {
    let message = format!("the statistics of layer {layer} were imported from {file}, but are not in the store");
    Diagnostic::new(Code::StatisticsMissing, message)
        .help(format!("run `corrigenda stats import FILE --layer {layer}` with the same file"))
        .help(format!("or compute them instead: run `corrigenda stats build --layer {layer}`"))
}

/// Converts an error about the second moments to a failure. The failure contains the location of the corpus path in
/// `corrigenda.toml`, unless the cause is an error of the store.
pub fn statistics_error(project: &Project, error: &StatisticsError) -> Failure {
    let code = match error {
        StatisticsError::Corpus(_) | StatisticsError::Document { .. } => Code::CorpusUnusable,
        StatisticsError::Store(_) => Code::StoreFailed,
        StatisticsError::Statistics(_) => Code::StatisticsForeign,
        StatisticsError::NotFinite { .. } => Code::ModelUnusable,
        StatisticsError::Deficient(_) => Code::StatisticsDeficient,
    };
    let mut finding = Diagnostic::new(code, error.to_string());
    if let Some(statistics) = project.config.statistics.as_ref().filter(|_| code != Code::StoreFailed) {
        finding = finding.at(project.config.file, &statistics.span, "the corpus");
    }
    if code == Code::StatisticsDeficient {
        finding = finding.help("use a longer corpus: its keys span more directions");
    }
    Failure::from(finding).with_sources(&project.edits.sources)
}
