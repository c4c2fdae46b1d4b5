//! Lists the matrices that a trained editor changes, and adds low-rank changes to them.

use crate::model::load::checkpoint::MlpMatrix;
use crate::model::run::low_rank::{LowRank, Site};
use crate::model::{Model, Spec};

/// The number of edited blocks at the end of a model, as published.
pub const BLOCKS: usize = 3;

/// Returns the edited matrices in the order of the published settings: all MLP matrices of the last `blocks` blocks, or
/// of all blocks if the model has fewer. The order in a block is down, up for a plain MLP, and gate, up, down for a
/// gated MLP.
pub fn sites(spec: &Spec, blocks: usize) -> Vec<Site> {
    let matrices: &[MlpMatrix] = if spec.family.mlp_gate.is_some() {
        &[MlpMatrix::Gate, MlpMatrix::Up, MlpMatrix::Down]
    } else {
        &[MlpMatrix::Down, MlpMatrix::Up]
    };
    let block = |layer| matrices.iter().map(move |&matrix| Site { layer, matrix });
    (spec.layers.saturating_sub(blocks)..spec.layers).flat_map(block).collect()
}

/// Returns the layer of the first edited block.
pub fn first_layer(sites: &[Site]) -> usize {
    sites.iter().map(|site| site.layer).min().unwrap_or(0)
}

/// Returns a copy of the model with the change `changes[i]` added to the matrix `sites[i]`.
pub fn changed(model: &Model, sites: &[Site], changes: &[LowRank]) -> Model {
    sites.iter().zip(changes).fold(model.clone(), |model, (site, LowRank { a, b })| {
        if a.is_empty() { model } else { model.with_added(site.layer, site.matrix, a, b) }
    })
}
