//! Computes the forward and the backward pass from the input of one block to the logits, for models that differ in the
//! MLP weights of this and the later blocks.
//!
//! The earlier blocks do not change, so their output is computed once. For every MLP matrix, the backward pass returns
//! the input and the gradient of the output. The product of the two is the gradient of the matrix, which this module
//! does not compute.

use super::block::{BlockInput, BlockTape};
use super::kv_cache::EMPTY;
use super::model::Model;
use super::rows::Rows;
use super::weight_pass::keys_of;
use crate::numeric::rows::NormTape;

/// A batch of token sequences, computed up to the input of one block.
pub struct UpperPass {
    first_layer: usize,
    rows: Rows,
    last_n: Vec<usize>,
    /// The hidden states before `first_layer`, `[positions, d]` with d = the hidden size.
    resid_pre: Vec<f32>,
}

/// The logits of one forward pass, and the intermediate results for its backward pass.
pub struct UpperTape {
    /// The logits of the labelled positions (those whose next token is scored), `[labelled positions, vocabulary]`.
    pub logits: Vec<f32>,
    blocks: Vec<BlockTape>,
    norm: NormTape,
}

/// The inputs of the MLP matrices of one block, and the gradients of their outputs. The matrices of this type have one
/// row per computed position.
pub struct MlpGradients {
    /// The input of the gate and of the up-projection: the normalised hidden state, `[positions, d]`.
    pub normed: Vec<f32>,
    /// The gradient of the gate's output, `[positions, f]` with f = the intermediate size. `None` if the MLP has no
    /// gate.
    pub gate: Option<Vec<f32>>,
    /// The gradient of the up-projection's output, `[positions, f]`.
    pub up: Vec<f32>,
    /// The input of the down-projection: the MLP key, `[positions, f]`.
    pub key: Vec<f32>,
    /// The gradient of the down-projection's output, `[positions, d]`.
    pub down: Vec<f32>,
}

impl UpperPass {
    /// Runs token sequences up to the input of block `first_layer`. The last `last_n[i]` positions of each sequence `i`
    /// are labelled: logits are only computed for them.
    pub fn new(model: &Model, first_layer: usize, tokens: &[&[u32]], last_n: &[usize]) -> Self {
        let rows = Rows::new(tokens.iter().map(|row| row.len()));
        Self { first_layer, rows, last_n: last_n.to_vec(), resid_pre: model.hidden_states(tokens, first_layer) }
    }

    /// Computes the logits of the labelled positions with `model`, from the input of block `first_layer`.
    pub fn forward(&self, model: &Model) -> UpperTape {
        let mut x = self.resid_pre.clone();
        let mut blocks = Vec::new();
        for layer in self.first_layer..model.spec().layers {
            let last_n = self.last_n_of(model, layer);
            let input = BlockInput { x: &x, rows: &self.rows, cache: &EMPTY, last_n: &last_n };
            let (resid_post, tape) = model.run_block_taped(layer, input);
            x = resid_post;
            blocks.push(tape);
        }
        let (norm, normed) = model.norm(&x, model.spec().hidden_size, &model.checkpoint().final_norm);
        UpperTape { logits: model.unembed(&normed), blocks, norm }
    }

    /// Back-propagates `logits`, the gradient of the logits. Calls `seen` for each block, from the last block down to
    /// `first_layer`, with the inputs and the output gradients of its MLP matrices. The last block has only the
    /// labelled positions, all other blocks have all positions.
    pub fn reverse(&self, model: &Model, tape: &UpperTape, logits: &[f32], mut seen: impl FnMut(usize, MlpGradients)) {
        let width = model.spec().hidden_size;
        let mut gradient = model.unembed_reverse(logits);
        model.norm_reverse(&mut gradient, width, &model.checkpoint().final_norm, &tape.norm);
        for (index, block) in tape.blocks.iter().enumerate().rev() {
            let layer = self.first_layer + index;
            let last_n = self.last_n_of(model, layer);
            let shape = BlockInput { x: &[], rows: &self.rows, cache: &EMPTY, last_n: &last_n };
            let (below, outputs) = model.block_reverse_with_mlp(layer, block, shape, gradient.clone());
            let down = std::mem::replace(&mut gradient, below);
            let (normed, key) = (model.mlp_input(layer, &block.mlp), keys_of(model, block));
            seen(layer, MlpGradients { normed, gate: outputs.gate, up: outputs.up, key, down });
        }
    }

    /// Returns, for each token sequence, how many positions at its end are computed in `layer`. The last layer computes
    /// only the labelled positions (those whose next token is scored). All other layers compute all positions.
    fn last_n_of(&self, model: &Model, layer: usize) -> Vec<usize> {
        if layer + 1 == model.spec().layers { self.last_n.clone() } else { self.rows.lengths().to_vec() }
    }
}
