//! Finds, imports and factors the second moments in the store.

use serde::{Deserialize, Serialize};

use super::corpus::CorpusError;
use super::file::{Provenance, Statistics, StatisticsFileError, StatisticsHeader, read_triangle, write_triangle};
use super::moment::{RankDeficient, SecondMoment};
use super::published::Published;
use crate::digest::{Digest, FieldHasher};
use crate::model::ModelError;
use crate::numeric::NUMERICS;
use crate::numeric::cholesky::Factor;
use crate::store::{EntryKind, Store, StoreError};

/// The reason why a second moment or its Cholesky factor is not available: the corpus or the store cannot be read, a
/// document cannot be tokenized, the stored statistics are invalid or of another provenance, an MLP key is not finite,
/// or no ridge makes the second moment positive definite.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error messages describe the variants")]
pub enum StatisticsError {
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    #[error("document {document} of the corpus: {source}")]
    Document { document: u64, source: ModelError },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Statistics(#[from] StatisticsFileError),
    #[error("the keys of layer {layer} over the corpus are not finite: the model's weights hold NaN or infinity")]
    NotFinite { layer: usize },
    #[error(transparent)]
    Deficient(#[from] RankDeficient),
}

/// A second moment in the store: its address, and the values in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedStatistics {
    pub address: Digest,
    /// The SHA-256 of the statistics file, which `corrigenda.lock` records.
    pub content: Digest,
    /// The number of documents that were read; 0 if the statistics were imported.
    pub documents: u64,
    /// The number of MLP keys in the sum, one key per token.
    pub keys: u64,
    /// The size of the statistics file in bytes, without the checksum that the store adds.
    pub size: u64,
    /// The digest of the file from which the statistics were imported; `None` if this program computed them.
    pub imported: Option<Digest>,
}

/// The number of bytes that are read from the start of a statistics file to parse its header. The header is much
/// shorter.
const HEAD: u64 = 1 << 16;

/// Returns the statistics of `provenance` after checking all of their bytes, or `None` if the store does not have them.
/// Damaged or unfinished statistics are treated as missing. Imported statistics are returned only if `provenance` has
/// the digest of their file.
///
/// # Errors
/// If the store cannot be read, or the entry is of another model, layer or corpus.
pub fn find(store: &Store, provenance: &Provenance) -> Result<Option<CachedStatistics>, StatisticsError> {
    let asked = |found: &CachedStatistics| found.imported == provenance.imported;
    let own = find_at(store, provenance, provenance.address())?.filter(asked);
    match own {
        // Earlier versions of the program stored imported statistics at an address that did not depend on the digest of
        // the imported file.
        None if provenance.imported.is_some() => {
            Ok(find_at(store, provenance, provenance.summed().address())?.filter(asked))
        }
        own => Ok(own),
    }
}

fn find_at(
    store: &Store,
    provenance: &Provenance,
    address: Digest,
) -> Result<Option<CachedStatistics>, StatisticsError> {
    // `corrigenda.lock` records values from the header, so the checksum of the whole entry is verified before the
    // header is read.
    let checked = store
        .check(EntryKind::Statistics, &address)
        .and_then(|content| Ok(content.zip(store.read_prefix(EntryKind::Statistics, &address, HEAD)?)));
    let Some((content, (first, size))) = store.unless_damaged(checked)? else { return Ok(None) };
    let Ok(StatisticsHeader { provenance: found, documents, keys, imported }) = Statistics::describe(&first, size)
    else {
        // The entry is intact, but another version of the program wrote it in another format. It is removed to make
        // room for an entry of this format.
        store.remove(EntryKind::Statistics, &address)?;
        return Ok(None);
    };
    provenance.expect(&found)?;
    Ok(Some(CachedStatistics { address, content, documents, keys, size, imported }))
}

/// Moves imported statistics from the address that earlier versions of the program used to their present address. Only
/// the present address depends on the digest of the imported file.
pub(super) fn move_imported(store: &Store, provenance: &Provenance) -> Result<(), StatisticsError> {
    let address = provenance.address();
    let there = find_at(store, provenance, address)?;
    let Some(file) = there.and_then(|there| there.imported) else { return Ok(()) };
    let own = Provenance { imported: Some(file), ..provenance.clone() }.address();
    if let Some(bytes) = store.unless_damaged(store.mmap(EntryKind::Statistics, &address))? {
        store.put_with(EntryKind::Statistics, &own, |out| out.write_all(&bytes))?;
    }
    store.remove(EntryKind::Statistics, &address)?;
    Ok(())
}

/// Stores a published second moment as the imported statistics of `provenance`.
///
/// # Errors
/// If the store cannot be read or written.
pub fn import(
    store: &Store,
    provenance: &Provenance,
    published: Published,
) -> Result<CachedStatistics, StatisticsError> {
    let Published { file, moment } = published;
    let provenance = Provenance { imported: Some(file), ..provenance.clone() };
    let statistics = Statistics { provenance: provenance.summed(), documents: 0, imported: Some(file), moment };
    let address = provenance.address();
    store.replace_with(EntryKind::Statistics, &address, |out| statistics.write(out))?;
    let missing = StoreError::Missing { kind: EntryKind::Statistics, key: address };
    find(store, &provenance)?.ok_or(missing.into())
}

/// Reads the sum `Σ k kᵀ` of the statistics `cached` from the store.
///
/// # Errors
/// If the store cannot be read or does not have the statistics, or their provenance differs from `provenance`.
pub fn moment(
    store: &Store,
    provenance: &Provenance,
    cached: &CachedStatistics,
) -> Result<SecondMoment, StatisticsError> {
    let bytes = store.mmap(EntryKind::Statistics, &cached.address)?;
    let bytes = bytes.ok_or(StoreError::Missing { kind: EntryKind::Statistics, key: cached.address })?;
    Ok(Statistics::read(&bytes, provenance)?.moment)
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FactorMetadata {
    format: u32,
    statistics: Digest,
    order: usize,
    /// The ridge that was added to the diagonal of the second moment, as a share of the mean of this diagonal.
    ridge: f64,
}

const TENSOR: &str = "factor";

/// Returns the address of a Cholesky factor in the store. `statistics` is the SHA-256 of the statistics file.
pub fn factor_address(statistics: &Digest) -> Digest {
    FieldHasher::new("factor/1").text("numerics", NUMERICS).digest("statistics", statistics).finish()
}

/// Returns the Cholesky factor of the second moment with a ridge on its diagonal, and the ridge as a share of the mean
/// diagonal. Reads the factor from the store, or computes it and stores it.
///
/// # Errors
/// If the store cannot be read or written, the provenance of the statistics differs from `provenance`, or no ridge
/// makes the second moment positive definite.
pub fn factor(
    store: &Store,
    provenance: &Provenance,
    cached: &CachedStatistics,
) -> Result<(Factor, f64), StatisticsError> {
    let address = factor_address(&cached.content);
    if let Some(bytes) = store.unless_damaged(store.mmap(EntryKind::Factor, &address))? {
        if let Some(found) = read_factor(&bytes, provenance.inner) {
            return Ok(found);
        }
        store.remove(EntryKind::Factor, &address)?;
    }
    let (factor, ridge) = moment(store, provenance, cached)?.factor()?;
    let metadata = FactorMetadata { format: 1, statistics: cached.content, order: factor.order(), ridge };
    let rows = factor.lower().chunks(factor.order()).enumerate().map(|(row, lower)| &lower[..=row]);
    store.put_with(EntryKind::Factor, &address, |out| {
        write_triangle(out, TENSOR, factor.order(), &serde_json::to_string(&metadata)?, rows)
    })?;
    Ok((factor, ridge))
}

fn read_factor(bytes: &[u8], order: usize) -> Option<(Factor, f64)> {
    let (metadata, packed): (FactorMetadata, Vec<f64>) = read_triangle(bytes, TENSOR).ok()?;
    if metadata.order != order || packed.len() != order * (order + 1) / 2 {
        return None;
    }
    let mut lower = vec![0.0; order * order];
    let mut packed = packed.into_iter();
    for row in 0..order {
        for value in &mut lower[row * order..=row * order + row] {
            *value = packed.next()?;
        }
    }
    Factor::from_lower(order, lower).map(|factor| (factor, metadata.ridge))
}
