//! Computes the forward and the backward pass from the MLP down-projection of one layer to the logits, so that
//! different weights of that projection can be evaluated.
//!
//! A change of the weight affects every position. It affects neither the inputs of the projection (the MLP keys) nor
//! the residual stream to which the output of the projection is added. Both are therefore computed once. The backward
//! pass returns the gradient of the MLP outputs. The product of the MLP keys and this gradient is the gradient of the
//! weight.

use super::block::{BlockInput, BlockTape};
use super::kv_cache::EMPTY;
use super::model::Model;
use super::rows::Rows;
use crate::numeric::elementwise::zip;
use crate::numeric::rows::{NormTape, add};

/// A batch of token sequences, computed up to the MLP key of one layer.
pub struct WeightPass {
    layer: usize,
    rows: Rows,
    last_n: Vec<usize>,
    /// The MLP keys of all positions, `[positions, f]`.
    keys: Vec<f32>,
    /// The residual stream to which the MLP output of the layer is added, `[positions, d]`.
    resid_mid: Vec<f32>,
}

/// The logits of one forward pass, and the intermediate results for its backward pass.
pub struct WeightTape {
    /// The logits of the labelled positions (those whose next token is scored), `[labelled positions, vocabulary]`.
    pub logits: Vec<f32>,
    blocks: Vec<BlockTape>,
    norm: NormTape,
}

/// The inputs of the MLP down-projection in one layer, and the gradient of its outputs. The matrices have one row per
/// computed position.
pub struct LayerGradient<'a> {
    pub layer: usize,
    /// The inputs of the down-projection, which are the MLP keys, `[positions, f]`.
    pub keys: &'a [f32],
    /// The gradient of the loss with respect to the outputs of the down-projection, `[positions, d]`.
    pub gradient: &'a [f32],
}

impl WeightPass {
    /// Runs token sequences up to the MLP key of `layer`. The last `last_n[i]` positions of each sequence `i` are
    /// labelled: logits are only computed for them.
    pub fn new(model: &Model, layer: usize, tokens: &[&[u32]], last_n: &[usize]) -> Self {
        let rows = Rows::new(tokens.iter().map(|row| row.len()));
        let x = model.hidden_states(tokens, layer);
        let (mid, _) = model.run_attention(layer, BlockInput::whole(&x, &rows), false);
        let keys = model.mlp_key(layer, &mid, false).0;
        Self { layer, last_n: last_n.to_vec(), keys, resid_mid: mid.resid, rows }
    }

    /// Returns the total number of positions of all token sequences.
    pub fn positions(&self) -> usize {
        self.rows.positions()
    }

    /// Runs the token sequences through `model`, from the MLP down-projection of the layer given to [`WeightPass::new`]
    /// to the logits.
    pub fn forward(&self, model: &Model) -> WeightTape {
        let width = model.spec().hidden_size;
        let (x, blocks) = self.run_blocks(model);
        let (norm, normed) = model.norm(&x, width, &model.checkpoint().final_norm);
        WeightTape { logits: model.unembed(&normed), blocks, norm }
    }

    /// Returns the hidden states after the last layer of `model`, `[labelled positions, d]`. A position is labelled if
    /// its next token is scored.
    pub fn last_states(&self, model: &Model) -> Vec<f32> {
        self.run_blocks(model).0
    }

    fn run_blocks(&self, model: &Model) -> (Vec<f32>, Vec<BlockTape>) {
        let mut x = model.mlp_value(self.layer, &self.keys);
        add(&mut x, &self.resid_mid);
        let mut blocks = Vec::new();
        for layer in self.layer + 1..model.spec().layers {
            let last_n = self.last_n_of(model, layer);
            let input = BlockInput { x: &x, rows: &self.rows, cache: &EMPTY, last_n: &last_n };
            let (resid_post, tape) = model.run_block_taped(layer, input);
            x = resid_post;
            blocks.push(tape);
        }
        if blocks.is_empty() {
            x = Rows::gather(&x, model.spec().hidden_size, &self.rows.last_positions(&self.last_n));
        }
        (x, blocks)
    }

    /// Back-propagates `logits`, the gradient of the logits. Calls `seen` for each layer, from the last layer down to
    /// the layer given to [`WeightPass::new`], with the inputs and the output gradient of the MLP down-projection.
    pub fn reverse(
        &self,
        model: &Model,
        pass_tape: &WeightTape,
        logits: &[f32],
        mut seen: impl FnMut(LayerGradient<'_>),
    ) {
        let width = model.spec().hidden_size;
        let mut gradient = model.unembed_reverse(logits);
        model.norm_reverse(&mut gradient, width, &model.checkpoint().final_norm, &pass_tape.norm);
        for (index, tape) in pass_tape.blocks.iter().enumerate().rev() {
            let layer = self.layer + 1 + index;
            seen(LayerGradient { layer, keys: &keys_of(model, tape), gradient: &gradient });
            let last_n = self.last_n_of(model, layer);
            let shape = BlockInput { x: &[], rows: &self.rows, cache: &EMPTY, last_n: &last_n };
            gradient = model.block_reverse(layer, tape, shape, gradient);
        }
        if pass_tape.blocks.is_empty() {
            let mut all = vec![0.0; self.rows.positions() * width];
            for (index, position) in self.rows.last_positions(&self.last_n).into_iter().enumerate() {
                all[position * width..][..width].copy_from_slice(&gradient[index * width..][..width]);
            }
            gradient = all;
        }
        seen(LayerGradient { layer: self.layer, keys: &self.keys, gradient: &gradient });
    }

    /// Returns, for each token sequence, how many positions at its end are computed in `layer`. The last layer computes
    /// only the labelled positions (those whose next token is scored). All other layers compute all positions.
    fn last_n_of(&self, model: &Model, layer: usize) -> Vec<usize> {
        self.rows.computed(&self.last_n, layer + 1 == model.spec().layers)
    }
}

/// Recomputes the MLP keys of a block from its tape, the stored intermediate results. The tape contains the input of
/// the activation function and, for a gated MLP, the output of the up-projection.
pub(super) fn keys_of(model: &Model, tape: &BlockTape) -> Vec<f32> {
    let mut keys = tape.mlp.activation_input.clone();
    model.spec().activation.apply(model.isa(), &mut keys);
    if let Some(factor) = &tape.mlp.up {
        zip(model.isa(), &mut keys, factor, |x, factor| x * factor);
    }
    keys
}
