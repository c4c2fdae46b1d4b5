//! Stores the attention keys and values of positions that precede the computed positions of a text.

use std::ops::Range;
use std::sync::Arc;

use super::rows::Rows;
use crate::numeric::attention::Heads;

/// The KV cache of one layer. For each token sequence of a batch, it contains the attention keys and values of the
/// preceding positions, `[cached positions, kv_heads · head_width]`. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    pub keys: Vec<Arc<Vec<f32>>>,
    pub values: Vec<Arc<Vec<f32>>>,
}

/// An empty KV cache, for token sequences that are computed from their first position.
pub(crate) static EMPTY: KvCache = KvCache { keys: Vec::new(), values: Vec::new() };

impl KvCache {
    /// Returns the KV cache with more positions: the attention keys and values from `qkv` are appended to those of each
    /// token sequence. Each row of `qkv` contains the query, the key and the value of one position.
    pub(crate) fn extended(&self, qkv: &[f32], rows: &Rows, heads: Heads) -> Self {
        let part = |cached: &[Arc<Vec<f32>>], row: usize, part: Range<usize>| {
            let positions = rows.range(row);
            let own =
                copy_columns(&qkv[positions.start * heads.qkv_width()..positions.end * heads.qkv_width()], heads, part);
            match cached.get(row).filter(|cached| !cached.is_empty()) {
                None => Arc::new(own),
                Some(cached) => Arc::new([cached.as_slice(), &own].concat()),
            }
        };
        Self {
            keys: (0..rows.count()).map(|row| part(&self.keys, row, heads.keys())).collect(),
            values: (0..rows.count()).map(|row| part(&self.values, row, heads.values())).collect(),
        }
    }
}

/// Copies the columns `part` of the matrix `qkv`. Each row of `qkv` contains the query, the key and the value of one
/// position.
pub(crate) fn copy_columns(qkv: &[f32], heads: Heads, part: Range<usize>) -> Vec<f32> {
    qkv.chunks(heads.qkv_width()).flat_map(|row| &row[part.clone()]).copied().collect()
}

/// Writes `numbers` to the columns `part` of the matrix `qkv`. Each row of `qkv` contains the query, the key and the
/// value of one position. `numbers` has the layout that [`copy_columns`] returns.
pub(crate) fn write_columns(qkv: &mut [f32], heads: Heads, part: Range<usize>, numbers: &[f32]) {
    for (row, row_numbers) in qkv.chunks_mut(heads.qkv_width()).zip(numbers.chunks(part.len())) {
        row[part.clone()].copy_from_slice(row_numbers);
    }
}
