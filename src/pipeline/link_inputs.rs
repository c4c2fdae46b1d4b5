//! Gathers the inputs of a link: compiled edits, Cholesky factors, and the sentences for refinement.

use aho_corasick::AhoCorasick;

use super::build::{factor, pass, statistics, unsound};
use super::linker::{Linking, Upper};
use super::objects::{keys, objects};
use super::{Base, Plan, Setup};
use crate::diagnostics::Failure;
use crate::link::Refinement;
use crate::progress::Progress;
use crate::project::{LockedStatistics, Project};
use crate::stats::corpus::{CorpusError, Documents};
use crate::stats::{self, Cached, Problem};
use crate::store::Store;

/// The second moments of every layer that a build changes, the edited layer first: the store's entry, and the record
/// for the lock.
pub type Moments = Vec<(Cached, LockedStatistics)>;

/// A set that is ready to be linked.
pub struct Prepared<'a> {
    /// The compiled edits and the linear systems of the changed layers.
    pub linking: Linking<'a>,
    /// The number of edits that were compiled; the others came from the store.
    pub compiled: usize,
    /// The ridge that was added to the diagonal of `C` before its factorisation, as a share of the mean diagonal; the
    /// largest one of all layers.
    pub ridge: f64,
}

/// Returns the second moments of every layer that a build changes. Those that are not in the store are summed over the
/// corpus.
///
/// # Errors
/// If the corpus, the model or the store fails, or imported statistics are not in the store.
pub fn moments(
    project: &Project,
    base: &Base,
    setup: &Setup,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Moments, Failure> {
    moments_of(project, base, setup, &setup.layers(base), store, progress)
}

/// Returns the second moments of the given layers, which must be ascending. Those that are not in the store are summed
/// together, in as few passes over the corpus as memory permits.
///
/// # Errors
/// As for [`moments`].
pub fn moments_of(
    project: &Project,
    base: &Base,
    setup: &Setup,
    layers: &[usize],
    store: &Store,
    progress: &dyn Progress,
) -> Result<Moments, Failure> {
    let failed = |error: Problem| unsound(project, &error);
    let mut missing = Vec::new();
    for &layer in layers {
        let provenance = setup.beside(layer).provenance;
        // Imported statistics are never replaced by a sum; if they are missing, the lookup below returns an error.
        if provenance.imported.is_none() && stats::find(store, &provenance).map_err(failed)?.is_none() {
            missing.push(layer);
        }
    }
    let provenance = setup.provenance.summed();
    for group in stats::groups(&missing, setup.provenance.inner) {
        let run = pass(base, setup, &provenance, store, progress);
        stats::build_all(&run, group).map_err(failed)?;
    }
    layers.iter().map(|&layer| statistics(project, base, &setup.beside(layer), store, progress)).collect()
}

/// Compiles the missing edits and collects everything that the link needs.
///
/// # Errors
/// If an edit cannot be compiled, the statistics cannot be factored, the corpus cannot be read, or the store fails.
pub fn prepare<'a>(
    project: &'a Project,
    base: &'a Base,
    setup: &'a Setup,
    plan: &'a Plan<'a>,
    moments: &Moments,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Prepared<'a>, Failure> {
    let (objects, compiled) = objects(project, base, setup, plan, store, progress)?;
    let (own, mut most) = factor(project, base, setup, &moments[0].0, store, progress)?;
    let mut linking = Linking::new(project, base, setup, plan, &objects, &own);
    if let Some(refinement) = &setup.refinement {
        for (layer, (cached, _)) in setup.layers(base).into_iter().zip(moments).skip(1) {
            let beside = setup.beside(layer);
            let keys = keys(base, &beside, plan, store, progress)?;
            let (factor, ridge) = factor(project, base, &beside, cached, store, progress)?;
            most = if ridge > most { ridge } else { most };
            linking.uppers.push(Upper::new(layer, &factor, &keys));
        }
        let names = project.edits.edits.iter().flat_map(|edit| edit.names().map(|(name, _)| name));
        linking.sentences = sentences(base, setup, names, refinement).map_err(|error| unsound(project, &error))?;
    }
    Ok(Prepared { linking, compiled, ridge: most })
}

/// Returns tokenized sentences of the corpus that contain no edited subject, evenly spaced among all such sentences.
///
/// # Errors
/// If the corpus cannot be read or tokenized, or its digest is not that of the setup.
pub fn sentences<'n>(
    base: &Base,
    setup: &Setup,
    names: impl Iterator<Item = &'n str>,
    refinement: &Refinement,
) -> Result<Vec<Vec<u32>>, Problem> {
    let Ok(names) = AhoCorasick::new(names) else { return Ok(Vec::new()) };
    let mut fitting = Vec::new();
    for (number, document) in (0..limit(setup)).zip(Documents::open(&setup.corpus)?) {
        if !names.is_match(&document?) {
            fitting.push(number);
        }
    }
    let wanted = refinement.sentences.min(fitting.len());
    let chosen: Vec<u64> = (0..wanted).map(|index| fitting[index * fitting.len() / wanted]).collect();
    let mut documents = Documents::open(&setup.corpus)?;
    let (mut out, mut next) = (Vec::with_capacity(wanted), chosen.iter().peekable());
    for (number, document) in (0..limit(setup)).zip(documents.by_ref()) {
        if next.next_if_eq(&&number).is_none() {
            continue;
        }
        let cut = base.tokens.encode(&document?);
        let mut ids = cut.map_err(|source| Problem::Document { document: number + 1, source })?.ids;
        ids.truncate(refinement.tokens.min(base.model.spec().max_positions));
        out.push(ids);
    }
    out.retain(|ids| !ids.is_empty());
    match documents.digest()? == setup.provenance.corpus {
        true => Ok(out),
        false => Err(CorpusError::Changed(setup.corpus.clone()).into()),
    }
}

fn limit(setup: &Setup) -> u64 {
    setup.provenance.max_documents.unwrap_or(u64::MAX)
}
