//! Sums the outer products `k kᵀ` of the MLP keys of several layers in one pass over a corpus. Only one batch of
//! documents is in memory at a time. An interrupted pass can be resumed.

use std::path::Path;
use std::time::{Duration, Instant};

use super::build::{CachedStatistics, StatisticsError, find, move_imported};
use super::corpus::{CorpusError, Documents, count, state};
use super::file::{Provenance, Statistics};
use super::moment::KeyBuffer;
use crate::model::{Model, Tokens};
use crate::progress::Progress;
use crate::store::{EntryKind, Store, StoreError};

/// The number of documents in a batch. The number is part of `portable-1`: a block of f32 sums never contains keys of
/// two batches, so the size of a batch affects how a sum is rounded.
pub const DOCUMENTS: usize = 32;

/// The default interval at which unfinished sums are saved. The interval grows if saving is slow.
pub const SAVE_EVERY: Duration = Duration::from_secs(30);

/// The approximate maximum memory for the sums of one pass: two gibibytes. A sum that is larger than this is computed
/// in a separate pass.
pub const SUM_BYTES: usize = 1 << 31;

/// The inputs of [`build`] and [`build_all`], which sum the outer products `k kᵀ` of MLP keys over a corpus.
pub struct SumRun<'a> {
    /// The base model, whose MLP keys are summed.
    pub model: &'a Model,
    /// The tokenizer of the base model, which encodes the documents.
    pub tokens: &'a Tokens,
    /// The provenance of the sums to compute. Its field `corpus` must be the digest of the file at [`SumRun::corpus`].
    pub provenance: &'a Provenance,
    pub corpus: &'a Path,
    /// The store for finished and unfinished sums.
    pub store: &'a Store,
    /// The receiver of progress reports, which count documents.
    pub progress: &'a dyn Progress,
    /// The minimum interval at which unfinished sums are saved.
    pub save_every: Duration,
}

/// Sums `k kᵀ` over the MLP keys `k` of the layer in `run.provenance`, and stores the sum.
///
/// # Errors
/// If the corpus cannot be read or changes, a document cannot be tokenized, the store cannot be read or written, or an
/// MLP key is not finite.
pub fn build(run: &SumRun) -> Result<CachedStatistics, StatisticsError> {
    let cached = build_all(run, &[run.provenance.layer])?;
    Ok(cached.into_iter().next().expect("sums of every layer that was asked for"))
}

/// Sums `k kᵀ` over the MLP keys `k` of each of `layers` (ascending) in one pass over the corpus, and stores the sums.
/// The stored sums are byte-identical to those of [`build`]. The layer in `run.provenance` is ignored. All sums are in
/// memory at the same time; [`groups`] splits layers into groups that fit into memory.
///
/// # Errors
/// If the corpus cannot be read or changes, a document cannot be tokenized, the store cannot be read or written, or the
/// MLP keys of a layer are not finite. In the last case, the sums of the lower layers are already stored.
pub fn build_all(run: &SumRun, layers: &[usize]) -> Result<Vec<CachedStatistics>, StatisticsError> {
    run.store.check_writable()?;
    let before = state(run.corpus);
    let (total, digest) = count(run.corpus, run.provenance.max_documents)?;
    run.unchanged(digest == run.provenance.corpus)?;
    let sums = layers.iter().map(|&layer| run.resume(layer)).collect::<Result<Vec<_>, _>>()?;
    let mut pass = CorpusPass { run, sums, total };
    run.progress.begin(&format!("keys of {}, documents", named(layers)), total);
    let summed = pass.sum(|| state(run.corpus) == before);
    run.progress.end();
    summed?;
    pass.sums.iter().map(|(sum, _)| run.keep(sum)).collect()
}

/// Splits layers (ascending) into groups whose sums, for MLP keys of length `inner`, need at most [`SUM_BYTES`]
/// together. Each group needs one pass over the corpus.
pub fn groups(layers: &[usize], inner: usize) -> impl Iterator<Item = &[usize]> {
    let bytes = inner.saturating_mul(inner).saturating_mul(size_of::<f64>());
    layers.chunks((SUM_BYTES / bytes.max(1)).max(1))
}

fn named(layers: &[usize]) -> String {
    match layers {
        [layer] => format!("layer {layer}"),
        [first, second] => format!("layers {first} and {second}"),
        [first, .., last] => format!("{} layers from {first} to {last}", layers.len()),
        [] => "no layer".to_owned(),
    }
}

impl SumRun<'_> {
    /// Returns [`CorpusError::Changed`] if `yes`, the result of a check that the corpus is unchanged, is false.
    fn unchanged(&self, yes: bool) -> Result<(), CorpusError> {
        if yes { Ok(()) } else { Err(CorpusError::Changed(self.corpus.to_owned())) }
    }

    /// Returns the sum that an earlier, interrupted run saved for a layer, or an empty sum.
    fn resume(&self, layer: usize) -> Result<(Statistics, KeyBuffer), StatisticsError> {
        let provenance = Provenance { layer, ..self.provenance.clone() };
        // Sums are saved only after complete batches, so a valid saved sum contains a multiple of [`DOCUMENTS`]
        // documents.
        let sound = |sum: &Statistics| sum.documents.is_multiple_of(DOCUMENTS as u64);
        let partial = self.store.recall(EntryKind::Partial, &provenance.address(), |bytes| {
            Statistics::read(bytes, &provenance).ok().filter(sound)
        })?;
        Ok((partial.unwrap_or_else(|| Statistics::new(provenance)), KeyBuffer::default()))
    }

    /// Stores a finished sum, and removes the unfinished sum of the same layer from the store. Rejects a sum with a
    /// number that is not finite.
    fn keep(&self, sum: &Statistics) -> Result<CachedStatistics, StatisticsError> {
        if sum.moment.lower().any(|row| row.iter().any(|x| !x.is_finite())) {
            return Err(StatisticsError::NotFinite { layer: sum.provenance.layer });
        }
        let address = sum.provenance.address();
        move_imported(self.store, &sum.provenance)?;
        self.store.put_with(EntryKind::Statistics, &address, |out| sum.write(out))?;
        self.store.remove(EntryKind::Partial, &address)?;
        let missing = StoreError::Missing { kind: EntryKind::Statistics, key: address };
        find(self.store, &sum.provenance)?.ok_or(missing.into())
    }
}

/// A pass over a corpus: the sums so far, and the number of documents to read.
struct CorpusPass<'r, 'a> {
    run: &'r SumRun<'a>,
    /// One sum per layer. Sums that an interrupted run saved can contain different numbers of documents.
    sums: Vec<(Statistics, KeyBuffer)>,
    /// The number of documents to read: all documents of the corpus, or the limit in the provenance if it is lower.
    total: u64,
}

impl CorpusPass<'_, '_> {
    fn sum(&mut self, settled: impl Fn() -> bool) -> Result<(), StatisticsError> {
        let run = self.run;
        let mut at = self.sums.iter().map(|(sum, _)| sum.documents).min().unwrap_or(self.total);
        let mut documents = Documents::open(run.corpus)?;
        if let Some(last) = usize::try_from(at).unwrap_or(usize::MAX).checked_sub(1) {
            documents.nth(last).transpose()?;
        }
        let (mut saved, mut every) = (Instant::now(), run.save_every);
        while at < self.total {
            let most = (self.total - at).min(DOCUMENTS as u64) as usize;
            at += self.batch(at, documents.by_ref().take(most))?;
            run.progress.set_position(at);
            if at < self.total && saved.elapsed() >= every {
                run.unchanged(settled())?;
                let began = Instant::now();
                self.save(at)?;
                // Saving the sums of many layers is slow. The interval grows, up to twenty times the minimum, so that
                // saving takes at most about a tenth of the time.
                every = (began.elapsed() * 10).min(run.save_every * 20).max(run.save_every);
                saved = Instant::now();
            }
        }
        Ok(run.unchanged(settled() && documents.digest()? == run.provenance.corpus)?)
    }

    /// Saves the unfinished sums that contain exactly the first `at` documents.
    fn save(&self, at: u64) -> Result<(), StoreError> {
        let come = self.sums.iter().map(|(sum, _)| sum).filter(|sum| sum.documents == at);
        for sum in come {
            self.run.store.put_with(EntryKind::Partial, &sum.provenance.address(), |out| sum.write(out))?;
        }
        Ok(())
    }

    /// Adds the MLP keys of one batch of documents to the sums that contain exactly the first `at` documents. Returns
    /// the number of documents in the batch.
    fn batch(
        &mut self,
        at: u64,
        documents: impl Iterator<Item = Result<String, CorpusError>>,
    ) -> Result<u64, StatisticsError> {
        let run = self.run;
        let mut rows = Vec::with_capacity(DOCUMENTS);
        for text in documents {
            let document = at + rows.len() as u64 + 1;
            let cut = run.tokens.encode(&text?).map_err(|source| StatisticsError::Document { document, source })?;
            let mut row = cut.ids;
            row.truncate(run.provenance.max_tokens);
            rows.push(row);
        }
        if rows.is_empty() {
            return Err(CorpusError::Changed(run.corpus.to_owned()).into());
        }
        let read = rows.len() as u64;
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).filter(|row| !row.is_empty()).collect();
        let mut open: Vec<_> = self.sums.iter_mut().filter(|(sum, _)| sum.documents == at).collect();
        let layers: Vec<usize> = open.iter().map(|(sum, _)| sum.provenance.layer).collect();
        run.model.keys_at(&layers, &rows, |index, keys| {
            let (sum, pieces) = &mut *open[index];
            pieces.take(&mut sum.moment, run.model.isa(), &keys);
        });
        for (sum, pieces) in open {
            pieces.end(&mut sum.moment, run.model.isa());
            sum.documents += read;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_as_many_sums_as_fit() {
        let layers: Vec<usize> = (0..30).collect();
        let sizes = |inner| groups(&layers, inner).map(<[usize]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(1536), [30]);
        // In GPT-2 XL, an MLP key has 6400 elements. The sum of a layer is a matrix of 6400² numbers in f64, 328 MB, so
        // six sums fit in `SUM_BYTES`.
        assert_eq!(sizes(6400), [6; 5]);
        assert_eq!(sizes(1 << 20), [1; 30]);
        assert_eq!(groups(&[], 4).count(), 0);
        assert_eq!(groups(&layers, 6400).flatten().copied().collect::<Vec<_>>(), layers);
    }
}
