//! Stores the attention keys and values of positions that precede the computed positions.

use std::ops::Range;
use std::sync::Arc;

use super::rows::Rows;
use crate::numeric::attention::Heads;

/// The KV cache of one layer: attention keys and values of the positions before each row,
/// `[cached, kv_heads · head_width]` per row. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    pub keys: Vec<Arc<Vec<f32>>>,
    pub values: Vec<Arc<Vec<f32>>>,
}

/// The cache of rows without cached positions.
pub(crate) static EMPTY: KvCache = KvCache { keys: Vec::new(), values: Vec::new() };

impl KvCache {
    /// Returns this cache extended by the attention keys and values in a `[positions, qkv]` matrix, row by row.
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

/// Copies the columns `part` of a `[positions, qkv]` matrix, for example the columns of the queries.
pub(crate) fn copy_columns(qkv: &[f32], heads: Heads, part: Range<usize>) -> Vec<f32> {
    qkv.chunks(heads.qkv_width()).flat_map(|row| &row[part.clone()]).copied().collect()
}

/// Writes `numbers`, in the layout that [`copy_columns`] returns, to the columns `part` of a `[positions, qkv]` matrix.
pub(crate) fn write_columns(qkv: &mut [f32], heads: Heads, part: Range<usize>, numbers: &[f32]) {
    for (row, row_numbers) in qkv.chunks_mut(heads.qkv_width()).zip(numbers.chunks(part.len())) {
        row[part.clone()].copy_from_slice(row_numbers);
    }
}
