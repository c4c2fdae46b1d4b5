//! Describes ragged batches: rows (token sequences) of different lengths, concatenated without padding.

use std::ops::Range;

/// The layout of a ragged batch: the position range of each row (token sequence) in a `[positions, width]` matrix, and
/// the number of cached positions before it.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    starts: Vec<usize>,
    lengths: Vec<usize>,
    past: Vec<usize>,
}

impl Rows {
    /// Creates the layout of a batch without a KV cache: token sequences with the given lengths, all of which start at
    /// text position 0.
    pub fn new(lengths: impl IntoIterator<Item = usize>) -> Self {
        Self::with_cached(lengths.into_iter().map(|length| (0, length)))
    }

    /// Creates the layout for token sequences, each given as (number of cached positions before it, length).
    pub fn with_cached(rows: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut out = Self::default();
        let mut start = 0;
        for (past, length) in rows {
            out.starts.push(start);
            out.lengths.push(length);
            out.past.push(past);
            start += length;
        }
        out
    }

    /// Returns the number of token sequences in the batch.
    pub fn count(&self) -> usize {
        self.starts.len()
    }

    /// Returns the number of positions of all token sequences in the batch. Cached positions are not counted.
    pub fn positions(&self) -> usize {
        self.starts.last().map_or(0, |start| start + self.lengths[self.lengths.len() - 1])
    }

    /// Returns the range of matrix rows that belong to the token sequence with the index `row`.
    pub fn range(&self, row: usize) -> Range<usize> {
        self.starts[row]..self.starts[row] + self.lengths[row]
    }

    /// Returns the length of the token sequence with the index `row`. Cached positions are not counted.
    pub fn length(&self, row: usize) -> usize {
        self.lengths[row]
    }

    /// Returns the lengths of all token sequences. Cached positions are not counted.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Returns, for each token sequence, how many positions at its end a layer computes: `last_n[i]` in the last layer,
    /// and all positions in every other layer.
    pub fn computed(&self, last_n: &[usize], last_layer: bool) -> Vec<usize> {
        if last_layer { last_n.to_vec() } else { self.lengths.clone() }
    }

    /// Returns the number of cached positions before the token sequence with the index `row`.
    pub fn cached(&self, row: usize) -> usize {
        self.past[row]
    }

    /// Returns the text position of each row of a `[positions, width]` matrix. If a token sequence follows 3 cached
    /// positions, its first row is at text position 3.
    pub fn text_positions(&self) -> Vec<usize> {
        (0..self.count()).flat_map(|row| self.past[row]..self.past[row] + self.lengths[row]).collect()
    }

    /// Returns the row indices in a `[positions, width]` matrix of the last `tails[i]` positions of each token sequence
    /// `i`.
    pub fn last_positions(&self, tails: &[usize]) -> Vec<usize> {
        let mut out = Vec::new();
        for (row, &tail) in tails.iter().enumerate() {
            let end = self.range(row).end;
            out.extend(end - tail..end);
        }
        out
    }

    /// Copies some rows of a `[positions, width]` matrix. `positions` contains their indices, in the order of the
    /// result.
    pub fn gather(matrix: &[f32], width: usize, positions: &[usize]) -> Vec<f32> {
        let mut out = Vec::with_capacity(positions.len() * width);
        for &position in positions {
            out.extend_from_slice(&matrix[position * width..][..width]);
        }
        out
    }
}
