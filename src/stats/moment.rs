//! Computes the running sum `Σ k kᵀ` over n MLP keys `k`, and the Cholesky factor of the second moment, `(1/n) Σ k kᵀ`.

use rayon::prelude::*;

use crate::numeric::cholesky::{Factor, NotPositiveDefinite};
use crate::numeric::matmul::BLOCK;
use crate::numeric::{Isa, View, matmul};

/// The running sum `Σ k kᵀ` over the MLP keys `k` of one layer.
///
/// Keys are added in blocks of [`BLOCK`]. Products are summed in f32 within a block and in f64 across blocks. The bytes
/// therefore depend on the order of the keys and on how the keys are split over calls of [`SecondMoment::add`], but not
/// on the number of threads.
#[derive(Clone, Debug, PartialEq)]
pub struct SecondMoment {
    inner: usize,
    count: u64,
    /// The sum, `[inner, inner]` row-major. Only the lower triangle is used.
    sum: Vec<f64>,
}

/// A buffer for the MLP keys of one layer. Keys stay in the buffer until a block is complete, so that the sum does not
/// depend on how the keys are split over calls.
#[derive(Debug, Default)]
pub(super) struct KeyBuffer(Vec<f32>);

impl KeyBuffer {
    /// Appends MLP keys, `[keys, inner]`, and adds all complete blocks to the sum.
    pub(super) fn take(&mut self, moment: &mut SecondMoment, isa: Isa, keys: &[f32]) {
        self.0.extend_from_slice(keys);
        let block = BLOCK * moment.inner;
        let whole = self.0.len() / block * block;
        moment.add(isa, &self.0[..whole]);
        self.0.drain(..whole);
    }

    /// Adds the remaining MLP keys to the sum, as a block that may have fewer than [`BLOCK`] keys.
    pub(super) fn end(&mut self, moment: &mut SecondMoment, isa: Isa) {
        moment.add(isa, &self.0);
        self.0.clear();
    }
}

/// The error for a second moment that is not positive definite even with the largest ridge.
#[derive(Debug, thiserror::Error)]
#[error("the second moment of {count} keys of width {inner} cannot be factored: {last}")]
pub struct RankDeficient {
    count: u64,
    inner: usize,
    last: NotPositiveDefinite,
}

/// The ridges that are tried in order, as shares of the mean diagonal of the second moment.
const RIDGES: [f64; 4] = [0.0, 1e-8, 1e-6, 1e-4];

impl SecondMoment {
    /// Returns an empty sum for MLP keys of length `inner`.
    pub fn new(inner: usize) -> Self {
        Self { inner, count: 0, sum: vec![0.0; inner * inner] }
    }

    /// Adds the outer products of MLP keys, `[keys, inner]`, in blocks of [`BLOCK`] keys.
    pub fn add(&mut self, isa: Isa, keys: &[f32]) {
        let f = self.inner;
        for block in keys.chunks(BLOCK * f) {
            let count = block.len() / f;
            let view = View::new(block, count, f);
            // Only the lower triangle is needed. A task computes a band of 64 rows, up to the column of the band's last
            // diagonal element.
            self.sum.par_chunks_mut(64 * f).enumerate().for_each(|(band, sums)| {
                let first = band * 64;
                let rows = sums.len() / f;
                let columns = first + rows;
                let products = matmul(isa, view.column_band(first, rows).transposed(), view.column_band(0, columns));
                for (row, (row_sums, row_products)) in sums.chunks_mut(f).zip(products.chunks(columns)).enumerate() {
                    for (sum, product) in row_sums[..=first + row].iter_mut().zip(row_products) {
                        *sum += f64::from(*product);
                    }
                }
            });
            self.count += count as u64;
        }
    }

    /// Returns a sum over `count` MLP keys. `lower` is the lower triangle of the sum, row by row. Returns `None` if
    /// `lower` does not have `inner (inner + 1) / 2` elements.
    pub fn from_lower(inner: usize, count: u64, lower: impl ExactSizeIterator<Item = f64>) -> Option<Self> {
        if lower.len() != inner.checked_mul(inner + 1)? / 2 {
            return None;
        }
        let mut moment = Self { inner, count, sum: vec![0.0; inner * inner] };
        let mut lower = lower;
        for (row, row_sums) in moment.sum.chunks_mut(inner).enumerate() {
            for (sum, value) in row_sums[..=row].iter_mut().zip(&mut lower) {
                *sum = value;
            }
        }
        Some(moment)
    }

    /// Returns the rows of the sum's lower triangle; row i has i + 1 elements.
    pub fn lower(&self) -> impl Iterator<Item = &[f64]> {
        self.sum.chunks(self.inner).enumerate().map(|(row, sum)| &sum[..=row])
    }

    /// Returns the length of an MLP key.
    pub fn inner(&self) -> usize {
        self.inner
    }

    /// Returns the number of MLP keys in the sum.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the second moment: the sum divided by the number of keys, `[inner, inner]` row-major. Only the lower
    /// triangle is used.
    pub fn matrix(&self) -> Vec<f64> {
        let count = self.count as f64;
        self.sum.iter().map(|sum| sum / count).collect()
    }

    /// Returns the Cholesky factor of `C + r m I`, and the ridge `r`. `C` is the second moment, and `m` is the mean of
    /// its diagonal. `r` is the smallest of 0, 1e-8, 1e-6 and 1e-4 with which this matrix is positive definite.
    ///
    /// # Errors
    /// If the matrix is not positive definite even with the largest ridge.
    pub fn factor(&self) -> Result<(Factor, f64), RankDeficient> {
        let f = self.inner;
        let matrix = self.matrix();
        let mut trace = 0.0;
        for i in 0..f {
            trace += matrix[i * f + i];
        }
        let mut last = NotPositiveDefinite { index: 0, pivot: 0.0, floor: 0.0 };
        for ridge in RIDGES {
            let mut ridged = matrix.clone();
            for i in 0..f {
                ridged[i * f + i] += ridge * (trace / f as f64);
            }
            match Factor::new(f, ridged) {
                Ok(factor) => return Ok((factor, ridge)),
                Err(error) => last = error,
            }
        }
        Err(RankDeficient { count: self.count, inner: f, last })
    }
}
