//! Collects the inputs of the linker, which solves for all edits together. The inputs are the compiled edits, the
//! Cholesky factors of the second moments of the MLP keys, and the neutral sentences for the refinement.

use aho_corasick::AhoCorasick;

use super::linker::{LayerSystem, RefinementInputs};
use super::objects::{keys, objects};
use super::plan_linker::PlanLinker;
use super::statistics::{LayerStatistics, factor, statistics_error};
use super::{Base, BuildContext, Plan, Setup};
use crate::diagnostics::Failure;
use crate::link::Refinement;
use crate::stats::StatisticsError;
use crate::stats::corpus::{CorpusError, Documents};

pub struct Prepared<'a> {
    pub linker: PlanLinker<'a>,
    /// The number of edits that were compiled in this run. The other compiled edits were read from the store.
    pub compiled: usize,
    /// The largest of the ridges that were added to the second moments of the changed layers, as a share of the mean
    /// diagonal entry. A ridge makes the Cholesky factorisation of a second moment without full rank possible. The
    /// value is 0 if no layer needs a ridge.
    pub ridge: f64,
}

/// Compiles the edits that are not in the store, and creates a linker for all edits of the plan.
///
/// # Errors
/// If an edit cannot be compiled, a second moment cannot be factored, the corpus cannot be read, or the store cannot be
/// read or written.
pub fn prepare<'a>(
    context: BuildContext<'a>,
    plan: &'a Plan<'a>,
    statistics: &LayerStatistics,
) -> Result<Prepared<'a>, Failure> {
    let BuildContext { project, base, setup, .. } = context;
    let (objects, compiled) = objects(context, plan)?;
    let (own_factor, mut ridge) = factor(context, &statistics[0].0)?;
    let linker = PlanLinker::new(&project.edits.sources, base, setup, plan, &objects, &own_factor);
    let Some(settings) = &setup.refinement else { return Ok(Prepared { linker, compiled, ridge }) };
    let mut layers = Vec::new();
    for (layer, (cached, _)) in setup.layers(base).into_iter().zip(statistics).skip(1) {
        let layer_setup = setup.for_layer(layer);
        let layer_context = context.with_setup(&layer_setup);
        let keys = keys(layer_context, plan)?;
        let (layer_factor, layer_ridge) = factor(layer_context, cached)?;
        ridge = if layer_ridge > ridge { layer_ridge } else { ridge };
        layers.push(LayerSystem::new(layer, &layer_factor, &keys));
    }
    let names = project.edits.edits.iter().flat_map(|edit| edit.names().map(|(name, _)| name));
    let sentences =
        neutral_sentences(base, setup, names, settings).map_err(|error| statistics_error(project, &error))?;
    let linker = linker.refined(RefinementInputs { settings, layers, sentences });
    Ok(Prepared { linker, compiled, ridge })
}

/// Returns the token ids of evenly spaced documents of the corpus. Documents that contain one of `names`, the subjects
/// and aliases of the edits, are left out.
///
/// # Errors
/// If the corpus cannot be read or tokenized, or if its digest is not the one in `setup`.
pub fn neutral_sentences<'n>(
    base: &Base,
    setup: &Setup,
    names: impl Iterator<Item = &'n str>,
    refinement: &Refinement,
) -> Result<Vec<Vec<u32>>, StatisticsError> {
    let Ok(subjects) = AhoCorasick::new(names) else { return Ok(Vec::new()) };
    let mut neutral = Vec::new();
    for (number, document) in (0..document_limit(setup)).zip(Documents::open(&setup.corpus)?) {
        if !subjects.is_match(&document?) {
            neutral.push(number);
        }
    }
    let count = refinement.sentences.min(neutral.len());
    let mut chosen = (0..count).map(|index| neutral[index * neutral.len() / count]).peekable();
    let mut documents = Documents::open(&setup.corpus)?;
    let mut sentences = Vec::with_capacity(count);
    for (number, document) in (0..document_limit(setup)).zip(documents.by_ref()) {
        if chosen.next_if_eq(&number).is_none() {
            continue;
        }
        let cut = base.tokens.encode(&document?);
        let mut ids = cut.map_err(|source| StatisticsError::Document { document: number + 1, source })?.ids;
        ids.truncate(refinement.tokens.min(base.model.spec().max_positions));
        sentences.push(ids);
    }
    sentences.retain(|ids| !ids.is_empty());
    if documents.digest()? != setup.provenance.corpus {
        return Err(CorpusError::Changed(setup.corpus.clone()).into());
    }
    Ok(sentences)
}

fn document_limit(setup: &Setup) -> u64 {
    setup.provenance.max_documents.unwrap_or(u64::MAX)
}
