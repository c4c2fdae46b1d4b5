//! Lists the matrices that a trained editor changes, and adds low-rank changes to them.

use crate::model::load::checkpoint::MlpMatrix;
use crate::model::{Model, Spec};

/// The number of edited blocks at the end of a model, as published.
const BLOCKS: usize = 3;

/// A matrix that a trained editor changes.
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

/// Returns the edited matrices in the order of the published settings: all MLP matrices of the last three blocks, or of
/// all blocks if the model has fewer. The order in a block is down, up for a plain MLP, and gate, up, down for a gated
/// MLP.
pub fn sites(spec: &Spec) -> Vec<Site> {
    let matrices: &[MlpMatrix] = if spec.family.mlp_gate.is_some() {
        &[MlpMatrix::Gate, MlpMatrix::Up, MlpMatrix::Down]
    } else {
        &[MlpMatrix::Down, MlpMatrix::Up]
    };
    let block = |layer| matrices.iter().map(move |&matrix| Site { layer, matrix });
    (spec.layers.saturating_sub(BLOCKS)..spec.layers).flat_map(block).collect()
}

/// A change `aᵀ b` that is added to a matrix W, which maps row vectors to `x W`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// The factor a of the change `aᵀ b`, `[rank, inputs]`.
    pub a: Vec<f32>,
    /// The factor b of the change `aᵀ b`, `[rank, outputs]`.
    pub b: Vec<f32>,
}

/// Returns a copy of the model with the change `changes[i]` added to the matrix `sites[i]`.
pub fn changed(model: &Model, sites: &[Site], changes: &[LowRank]) -> Model {
    sites.iter().zip(changes).fold(model.clone(), |model, (site, LowRank { a, b })| {
        if a.is_empty() { model } else { model.with_added(site.layer, site.matrix, a, b) }
    })
}
