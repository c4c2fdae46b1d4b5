//! Describes ragged batches, which are several rows of tokens, concatenated without padding.

use std::ops::Range;

/// The layout of a ragged batch: where each row is in a `[positions, width]` matrix, and how many cached positions
/// precede it.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    starts: Vec<usize>,
    lengths: Vec<usize>,
    past: Vec<usize>,
}

impl Rows {
    /// Lays out rows of the given lengths, without cached positions.
    pub fn new(lengths: impl IntoIterator<Item = usize>) -> Self {
        Self::with_cached(lengths.into_iter().map(|length| (0, length)))
    }

    /// Lays out rows, each given as (number of cached positions, length).
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

    /// Number of rows (texts) in the batch.
    pub fn count(&self) -> usize {
        self.starts.len()
    }

    /// Number of positions of all rows, cached positions not counted.
    pub fn positions(&self) -> usize {
        self.starts.last().map_or(0, |start| start + self.lengths[self.lengths.len() - 1])
    }

    /// The positions of row `row` in the `[positions, width]` matrix.
    pub fn range(&self, row: usize) -> Range<usize> {
        self.starts[row]..self.starts[row] + self.lengths[row]
    }

    /// Length of row `row`, cached positions not counted.
    pub fn length(&self, row: usize) -> usize {
        self.lengths[row]
    }

    /// Lengths of all rows, cached positions not counted.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Number of cached positions before row `row`.
    pub fn cached(&self, row: usize) -> usize {
        self.past[row]
    }

    /// Returns, for every position of the matrix, the position in the row's text, cached positions counted.
    pub fn text_positions(&self) -> Vec<usize> {
        (0..self.count()).flat_map(|row| self.past[row]..self.past[row] + self.lengths[row]).collect()
    }

    /// Returns the indices, in a `[positions, width]` matrix, of the last `tails[row]` positions of every row.
    pub fn last_positions(&self, tails: &[usize]) -> Vec<usize> {
        let mut out = Vec::new();
        for (row, &tail) in tails.iter().enumerate() {
            let end = self.range(row).end;
            out.extend(end - tail..end);
        }
        out
    }

    /// Copies the rows at `positions` of a `[positions, width]` matrix, in the given order.
    pub fn gather(matrix: &[f32], width: usize, positions: &[usize]) -> Vec<f32> {
        let mut out = Vec::with_capacity(positions.len() * width);
        for &position in positions {
            out.extend_from_slice(&matrix[position * width..][..width]);
        }
        out
    }
}
