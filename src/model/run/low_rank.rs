//! Adds low-rank changes to MLP matrices without changing the matrices, so that each token sequence of a batch can have
//! other changes.
//!
//! A matrix W maps row vectors to `x W`. With a change `aᵀ b`, it maps them to `x W + (x aᵀ) b`.

use std::ops::Range;

use rayon::prelude::*;

use crate::model::Spec;
use crate::model::load::checkpoint::MlpMatrix;
use crate::numeric::rows::add_serial;
use crate::numeric::{Isa, View, matmul};

/// An MLP matrix of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    pub layer: usize,
    pub matrix: MlpMatrix,
}

impl Site {
    /// Returns the numbers of inputs and outputs of the matrix.
    pub fn shape(self, spec: &Spec) -> (usize, usize) {
        match self.matrix {
            MlpMatrix::Gate | MlpMatrix::Up => (spec.hidden_size, spec.intermediate_size),
            MlpMatrix::Down => (spec.intermediate_size, spec.hidden_size),
        }
    }
}

/// A change `aᵀ b` that is added to a matrix W, which maps row vectors to `x W`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LowRank {
    /// The factor a of the change `aᵀ b`, `[rank, inputs]`.
    pub a: Vec<f32>,
    /// The factor b of the change `aᵀ b`, `[rank, outputs]`.
    pub b: Vec<f32>,
}

impl LowRank {
    /// Returns whether all numbers of both factors are finite.
    pub fn is_finite(&self) -> bool {
        self.a.iter().chain(&self.b).all(|x| x.is_finite())
    }
}

/// Changes of MLP matrices for consecutive groups of the token sequences in a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchChanges<'c> {
    /// The changed matrices.
    pub sites: &'c [Site],
    /// For each group: the number of token sequences, and the change of each matrix in `sites`.
    pub groups: &'c [(usize, &'c [LowRank])],
}

impl<'c> BatchChanges<'c> {
    /// No change of any matrix.
    pub const NONE: Self = Self { sites: &[], groups: &[] };

    /// Returns the position range of each group in a matrix with `last_n[i]` rows for each token sequence `i`.
    pub(super) fn ranges(&self, last_n: &[usize]) -> Vec<Range<usize>> {
        let (mut start, mut sequences) = (0, last_n.iter());
        let range = |(count, _): &(usize, &[LowRank])| {
            let end = start + sequences.by_ref().take(*count).sum::<usize>();
            std::mem::replace(&mut start, end)..end
        };
        self.groups.iter().map(range).collect()
    }

    /// Returns the changes of the matrices in one layer.
    pub(super) fn of_layer(&self, layer: usize, last_n: &[usize]) -> LayerChanges<'c> {
        let ranges = self.ranges(last_n);
        let of_matrix = |matrix: MlpMatrix| {
            let Some(index) = self.sites.iter().position(|site| *site == Site { layer, matrix }) else {
                return Vec::new();
            };
            let groups = ranges.iter().cloned().zip(self.groups);
            groups.map(|(range, (_, changes))| (range, &changes[index])).collect()
        };
        LayerChanges {
            gate: of_matrix(MlpMatrix::Gate),
            up: of_matrix(MlpMatrix::Up),
            down: of_matrix(MlpMatrix::Down),
        }
    }
}

/// The changes of the MLP matrices of one layer, each with the range of positions to which it applies.
#[derive(Default)]
pub(crate) struct LayerChanges<'c> {
    pub gate: MatrixChanges<'c>,
    pub up: MatrixChanges<'c>,
    pub down: MatrixChanges<'c>,
}

/// The changes of one matrix. The ranges of positions are consecutive and start at 0.
pub(crate) type MatrixChanges<'c> = Vec<(Range<usize>, &'c LowRank)>;

/// Adds `(x aᵀ) b` to the outputs `y` of a matrix, `[positions, outputs]`, for its inputs `x`, `[positions, inputs]`.
pub(crate) fn add_changes(isa: Isa, changes: &MatrixChanges<'_>, x: &[f32], y: &mut [f32]) {
    add_products(isa, changes, x, y, |change| (&change.a, &change.b));
}

/// Adds `(g bᵀ) a` to the gradient `by_x` of a matrix's inputs, `[positions, inputs]`, for the gradient `g` of its
/// outputs, `[positions, outputs]`.
pub(crate) fn add_changes_reverse(isa: Isa, changes: &MatrixChanges<'_>, gradient: &[f32], by_x: &mut [f32]) {
    add_products(isa, changes, gradient, by_x, |change| (&change.b, &change.a));
}

/// Adds `(x fᵀ) s` to `y` for each group of positions, where f is the first factor and s the second.
fn add_products<'c>(
    isa: Isa,
    changes: &MatrixChanges<'c>,
    x: &[f32],
    y: &mut [f32],
    factors: impl Fn(&'c LowRank) -> (&'c [f32], &'c [f32]) + Sync,
) {
    let positions = changes.last().map_or(0, |(range, _)| range.end);
    if positions == 0 {
        return;
    }
    let (x_width, y_width) = (x.len() / positions, y.len() / positions);
    let (mut rest, mut parts) = (y, Vec::new());
    for (range, change) in changes {
        let (part, later) = rest.split_at_mut(range.len() * y_width);
        parts.push((range.clone(), *change, part));
        rest = later;
    }
    parts.into_par_iter().for_each(|(range, change, part)| {
        let (first, second) = factors(change);
        let rank = first.len() / x_width;
        if rank == 0 || range.is_empty() {
            return;
        }
        let rows = View::new(&x[range.start * x_width..range.end * x_width], range.len(), x_width);
        let inner = matmul(isa, rows, View::new(first, rank, x_width).transposed());
        let product = matmul(isa, View::new(&inner, range.len(), rank), View::new(second, rank, y_width));
        add_serial(part, &product);
    });
}
