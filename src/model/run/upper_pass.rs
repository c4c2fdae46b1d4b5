//! Computes the forward and the backward pass from the input of one block to the logits, with low-rank changes of the
//! MLP matrices of this and the later blocks.
//!
//! The earlier blocks do not change, so their output is computed once. For every MLP matrix, the backward pass returns
//! the input and the gradient of the output. The product of the two is the gradient of the matrix, which this module
//! does not compute.

use std::ops::Range;

use super::block::{BlockInput, BlockTape};
use super::kv_cache::EMPTY;
use super::low_rank::BatchChanges;
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
    /// The range of rows of each group of token sequences in [`BatchChanges::groups`].
    pub groups: Vec<Range<usize>>,
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
        let lengths: Vec<usize> = tokens.iter().map(|row| row.len()).collect();
        Self::from_states(first_layer, &lengths, last_n, model.hidden_states(tokens, first_layer))
    }

    /// Creates a pass from hidden states that are already computed. `resid_pre` has the hidden states before block
    /// `first_layer`, `[positions, d]`, for token sequences of the given lengths. The last `last_n[i]` positions of
    /// each sequence `i` are labelled.
    pub fn from_states(first_layer: usize, lengths: &[usize], last_n: &[usize], resid_pre: Vec<f32>) -> Self {
        Self { first_layer, rows: Rows::new(lengths.iter().copied()), last_n: last_n.to_vec(), resid_pre }
    }

    /// Returns the hidden states before the first block of this pass, `[positions, d]`.
    pub fn into_states(self) -> Vec<f32> {
        self.resid_pre
    }

    /// Computes the logits of the labelled positions with changed MLP matrices.
    pub fn forward(&self, model: &Model, changes: BatchChanges<'_>) -> UpperTape {
        let (x, blocks) = self.run_blocks(model, changes);
        let (norm, normed) = model.norm(&x, model.spec().hidden_size, &model.checkpoint().final_norm);
        UpperTape { logits: model.unembed(&normed), blocks, norm }
    }

    /// Returns the hidden states after the last block of the unchanged model, `[labelled positions, d]`.
    pub fn last_states(&self, model: &Model) -> Vec<f32> {
        self.run_blocks(model, BatchChanges::NONE).0
    }

    fn run_blocks(&self, model: &Model, changes: BatchChanges<'_>) -> (Vec<f32>, Vec<BlockTape>) {
        let mut x = self.resid_pre.clone();
        let mut blocks = Vec::new();
        for layer in self.first_layer..model.spec().layers {
            let last_n = self.last_n_of(model, layer);
            let input = BlockInput { x: &x, rows: &self.rows, cache: &EMPTY, last_n: &last_n };
            let (resid_post, tape) = model.run_changed_block(layer, input, &changes.of_layer(layer, &last_n));
            x = resid_post;
            blocks.push(tape);
        }
        (x, blocks)
    }

    /// Back-propagates `logits`, the gradient of the logits. `changes` must be the same as in the forward pass. Calls
    /// `seen` for each block, from the last block down to `first_layer`, with the inputs and the output gradients of
    /// its MLP matrices. The last block has only the labelled positions, all other blocks have all positions.
    pub fn reverse(
        &self,
        model: &Model,
        changes: BatchChanges<'_>,
        tape: &UpperTape,
        logits: &[f32],
        mut seen: impl FnMut(usize, MlpGradients),
    ) {
        let width = model.spec().hidden_size;
        let mut gradient = model.unembed_reverse(logits);
        model.norm_reverse(&mut gradient, width, &model.checkpoint().final_norm, &tape.norm);
        for (index, block) in tape.blocks.iter().enumerate().rev() {
            let layer = self.first_layer + index;
            let last_n = self.last_n_of(model, layer);
            let shape = BlockInput { x: &[], rows: &self.rows, cache: &EMPTY, last_n: &last_n };
            let of_layer = changes.of_layer(layer, &last_n);
            let (below, outputs) = model.changed_block_reverse(layer, block, shape, gradient.clone(), &of_layer);
            let down = std::mem::replace(&mut gradient, below);
            let (normed, key) = (model.mlp_input(layer, &block.mlp), keys_of(model, block));
            let groups = changes.ranges(&last_n);
            seen(layer, MlpGradients { groups, normed, gate: outputs.gate, up: outputs.up, key, down });
        }
    }

    /// Returns, for each token sequence, how many positions at its end are computed in `layer`. The last layer computes
    /// only the labelled positions (those whose next token is scored). All other layers compute all positions.
    fn last_n_of(&self, model: &Model, layer: usize) -> Vec<usize> {
        self.rows.computed(&self.last_n, layer + 1 == model.spec().layers)
    }
}
