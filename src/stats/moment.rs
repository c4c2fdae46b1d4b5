//! The running sum `Σ k kᵀ`, and the factor of `C = (1/n) Σ k kᵀ`.

use rayon::prelude::*;

use crate::numeric::cholesky::{Factor, NotPositiveDefinite};
use crate::numeric::matmul::BLOCK;
use crate::numeric::{Isa, View, matmul};

/// The running sum `Σ k kᵀ` of one layer.
///
/// Keys enter in blocks of [`BLOCK`]: products are summed in f32 inside a block and in f64 across blocks, so the
/// order of the corpus and the boundaries of the calls to [`Moment::add`] define the bytes, and threads do not.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    inner: usize,
    count: u64,
    /// Row-major `[f, f]`; only the lower triangle means anything.
    sum: Vec<f64>,
}

/// Keys of one layer that come in pieces and enter a sum as if they had come at once.
#[derive(Debug, Default)]
pub(super) struct Pieces(Vec<f32>);

impl Pieces {
    /// Takes the next keys, `[n, f]`; whole blocks of what is there enter the sum.
    pub(super) fn take(&mut self, moment: &mut Moment, isa: Isa, keys: &[f32]) {
        self.0.extend_from_slice(keys);
        let block = BLOCK * moment.inner;
        let whole = self.0.len() / block * block;
        moment.add(isa, &self.0[..whole]);
        self.0.drain(..whole);
    }

    /// The last of the keys have come: the rest enters the sum as a block that may be short.
    pub(super) fn end(&mut self, moment: &mut Moment, isa: Isa) {
        moment.add(isa, &self.0);
        self.0.clear();
    }
}

/// `C` is so deficient that no ridge of the schedule makes it positive definite.
#[derive(Debug, thiserror::Error)]
#[error("the second moment of {count} keys of width {inner} cannot be factored: {last}")]
pub struct Deficient {
    count: u64,
    inner: usize,
    last: NotPositiveDefinite,
}

/// Ridges tried in turn, as shares of the mean diagonal of C.
const RIDGES: [f64; 4] = [0.0, 1e-8, 1e-6, 1e-4];

impl Moment {
    /// An empty sum for keys of width `inner`.
    pub fn new(inner: usize) -> Self {
        Self { inner, count: 0, sum: vec![0.0; inner * inner] }
    }

    /// Adds keys, `[n, f]`.
    pub fn add(&mut self, isa: Isa, keys: &[f32]) {
        let f = self.inner;
        for block in keys.chunks(BLOCK * f) {
            let count = block.len() / f;
            let keys = View::new(block, count, f);
            // Bands of rows, each up to its last diagonal element: the rest is the mirror image.
            self.sum.par_chunks_mut(64 * f).enumerate().for_each(|(band, sum)| {
                let first = band * 64;
                let rows = sum.len() / f;
                let columns = first + rows;
                let product = matmul(isa, keys.column_band(first, rows).transposed(), keys.column_band(0, columns));
                for (row, (sum, product)) in sum.chunks_mut(f).zip(product.chunks(columns)).enumerate() {
                    for (sum, product) in sum[..=first + row].iter_mut().zip(product) {
                        *sum += f64::from(*product);
                    }
                }
            });
            self.count += count as u64;
        }
    }

    /// The sum and the count of a file, if their sizes fit; `lower` is the lower triangle, row by row.
    pub fn from_lower(inner: usize, count: u64, lower: impl ExactSizeIterator<Item = f64>) -> Option<Self> {
        if lower.len() != inner.checked_mul(inner + 1)? / 2 {
            return None;
        }
        let mut moment = Self { inner, count, sum: vec![0.0; inner * inner] };
        let mut lower = lower;
        for (row, sum) in moment.sum.chunks_mut(inner).enumerate() {
            for (sum, value) in sum[..=row].iter_mut().zip(&mut lower) {
                *sum = value;
            }
        }
        Some(moment)
    }

    /// Rows of the sum's lower triangle: row i has i + 1 elements.
    pub fn lower(&self) -> impl Iterator<Item = &[f64]> {
        self.sum.chunks(self.inner).enumerate().map(|(row, sum)| &sum[..=row])
    }

    /// Width of a key.
    pub fn inner(&self) -> usize {
        self.inner
    }

    /// Number of keys.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// `C`, row-major `[f, f]`; its lower triangle.
    pub fn matrix(&self) -> Vec<f64> {
        let count = self.count as f64;
        self.sum.iter().map(|sum| sum / count).collect()
    }

    /// The Cholesky factor of `C + ridge · mean diagonal · I` with the first ridge of the schedule that serves, and
    /// that ridge (a share of the mean diagonal; 0 for a C of full rank).
    ///
    /// # Errors
    /// If the last ridge does not serve either.
    pub fn factor(&self) -> Result<(Factor, f64), Deficient> {
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
        Err(Deficient { count: self.count, inner: f, last })
    }
}
