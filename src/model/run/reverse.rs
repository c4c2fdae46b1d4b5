//! Computes the hand-written backward pass: from the gradient of a block's output to the gradient of its input.
//!
//! Only hidden states need gradients, so there are four rules: norm, matrix product, attention, and activation
//! function. Gradients of weights are not computed here.

use super::block::{AttentionTape, BlockInput, BlockTape, MlpTape, Qkv, attention_inputs, each_grouped_index};
use super::kv_cache::{copy_columns, write_columns};
use super::low_rank::{LayerChanges, add_changes_reverse};
use super::model::Model;
use crate::model::arch::family::{NormKind, QkvLayout};
use crate::model::load::checkpoint::{Norm, Projection};
use crate::numeric::attention::attend_reverse;
use crate::numeric::elementwise::zip;
use crate::numeric::rows::{NormTape, add, each_row, layer_norm_reverse, rms_norm_reverse};
use crate::numeric::{View, matmul};

/// The gradients of the outputs of the MLP matrices that read the hidden state, `[positions, f]` with f = the
/// intermediate size.
pub(crate) struct MlpOutputGradients {
    /// The gradient of the gate's output, which is the input of the activation function. `None` if the MLP has no gate.
    pub gate: Option<Vec<f32>>,
    /// The gradient of the up-projection's output. If the MLP has no gate, this output is the input of the activation
    /// function.
    pub up: Vec<f32>,
}

impl Model {
    /// Computes `g Wᵀ`, the gradient of a projection's input, where `g` is the gradient of the projection's output and
    /// `W` its weight.
    fn project_reverse(&self, gradient: &[f32], projection: &Projection) -> Vec<f32> {
        let weight = self.weight(projection);
        let width = weight.columns();
        matmul(self.isa(), View::new(gradient, gradient.len() / width, width), weight.transposed())
    }

    /// Back-propagates through a norm in place: replaces the gradient of the norm's output by that of its input.
    /// `gradient` has rows of `width` elements.
    pub(crate) fn norm_reverse(&self, gradient: &mut [f32], width: usize, norm: &Norm, tape: &NormTape) {
        let reverse = match self.spec().family.norm {
            NormKind::Layer => layer_norm_reverse,
            NormKind::Rms => rms_norm_reverse,
        };
        reverse(gradient, width, &norm.gain.to_f32(), tape);
    }

    /// Back-propagates through one block. `gradient` is the gradient of the block's output at the positions that the
    /// forward pass computed. Returns the gradient of the block's input at all positions. `shape` is the input of the
    /// forward pass; its hidden states `x` are not used.
    pub(crate) fn block_reverse(
        &self,
        layer: usize,
        tape: &BlockTape,
        shape: BlockInput<'_>,
        gradient: Vec<f32>,
    ) -> Vec<f32> {
        self.changed_block_reverse(layer, tape, shape, gradient, &LayerChanges::default()).0
    }

    /// Back-propagates through one block with changed MLP matrices, as [`block_reverse`](Self::block_reverse) does
    /// without changes. Also returns the gradients of the outputs of the MLP matrices that read the hidden state.
    pub(crate) fn changed_block_reverse(
        &self,
        layer: usize,
        tape: &BlockTape,
        shape: BlockInput<'_>,
        gradient: Vec<f32>,
        changes: &LayerChanges<'_>,
    ) -> (Vec<f32>, MlpOutputGradients) {
        let (rows, last_n, width) = (shape.rows, shape.last_n, self.spec().hidden_size);
        let (mut through, mlp) = self.mlp_reverse(layer, &tape.mlp, &gradient, changes);
        add(&mut through, &gradient);
        // In a sequential block, the gradient of attention's output includes the gradient through the MLP. In a
        // parallel block, it does not, because the MLP does not read that output.
        let by_resid = if self.spec().parallel { &gradient } else { &through };
        let mut out = self.attention_reverse(layer, &tape.attention, shape, by_resid);
        if last_n == rows.lengths() {
            add(&mut out, &through);
            return (out, mlp);
        }
        for (index, position) in rows.last_positions(last_n).into_iter().enumerate() {
            add(&mut out[position * width..][..width], &through[index * width..][..width]);
        }
        (out, mlp)
    }

    /// Back-propagates through `mlp(norm(x))`: from the gradient of its output to the gradient of `x`.
    fn mlp_reverse(
        &self,
        layer: usize,
        tape: &MlpTape,
        gradient: &[f32],
        changes: &LayerChanges<'_>,
    ) -> (Vec<f32>, MlpOutputGradients) {
        let (spec, block) = (self.spec(), &self.checkpoint.blocks[layer]);
        let (isa, activation) = (self.isa(), spec.activation);
        let reverse = |by_output: &[f32], projection, of_matrix| {
            let mut by_input = self.project_reverse(by_output, projection);
            add_changes_reverse(isa, of_matrix, by_output, &mut by_input);
            by_input
        };
        let mut by_key = reverse(gradient, &block.mlp_out, &changes.down);
        let (mut out, mlp) = match (&block.mlp_gate, &tape.up) {
            (Some(gate), Some(up)) => {
                let mut by_up = by_key.clone();
                activation.mul(isa, &mut by_up, &tape.activation_input);
                let mut grads = up.clone();
                activation.mul_grad(isa, &mut grads, &tape.activation_input);
                zip(isa, &mut by_key, &grads, |g, grad| g * grad);
                let mut out = reverse(&by_key, gate, &changes.gate);
                add(&mut out, &reverse(&by_up, &block.mlp_in, &changes.up));
                (out, MlpOutputGradients { gate: Some(by_key), up: by_up })
            }
            _ => {
                activation.mul_grad(isa, &mut by_key, &tape.activation_input);
                (reverse(&by_key, &block.mlp_in, &changes.up), MlpOutputGradients { gate: None, up: by_key })
            }
        };
        let norm = block.mlp_norm.as_ref().unwrap_or(&block.attention_norm);
        self.norm_reverse(&mut out, spec.hidden_size, norm, &tape.norm);
        (out, mlp)
    }

    /// Back-propagates through `attention(norm(x))`. `gradient` is the gradient of the output of attention at the
    /// positions that the forward pass computed. Returns the gradient of `x` at all positions.
    fn attention_reverse(
        &self,
        layer: usize,
        tape: &AttentionTape,
        shape: BlockInput<'_>,
        gradient: &[f32],
    ) -> Vec<f32> {
        let (spec, block, heads) = (self.spec(), &self.checkpoint.blocks[layer], self.heads(layer));
        let attended = self.project_reverse(gradient, &block.attention_out);
        let inputs = attention_inputs(shape, &tape.inputs.qkv, heads);
        let mut qkv = attend_reverse(self.isa(), heads, &inputs, &tape.probabilities, &attended);
        let late = spec.family.head_norms_after_rope;
        if late {
            self.norm_heads_reverse(layer, &tape.inputs, &mut qkv);
        }
        self.apply_rope_transposed(layer, shape.rows, &mut qkv);
        if !late {
            self.norm_heads_reverse(layer, &tape.inputs, &mut qkv);
        }
        let mut out = self.project_qkv_reverse(layer, &qkv);
        self.norm_reverse(&mut out, spec.hidden_size, &block.attention_norm, &tape.inputs.norm);
        out
    }

    /// Back-propagates in place through the norms that are applied to the heads of attention queries and keys.
    fn norm_heads_reverse(&self, layer: usize, inputs: &Qkv, qkv: &mut [f32]) {
        let (Some(norms), Some(tapes)) = (&self.checkpoint.blocks[layer].head_norms, &inputs.head_norms) else {
            return;
        };
        let heads = self.heads(layer);
        for ((norm, tape), part) in norms.iter().zip(tapes).zip([heads.queries(), heads.keys()]) {
            let mut columns = copy_columns(qkv, heads, part.clone());
            self.norm_reverse(&mut columns, heads.head_width, norm, tape);
            write_columns(qkv, heads, part, &columns);
        }
    }

    /// Back-propagates through the query, key and value projections. `qkv` contains the gradients of queries, keys and
    /// values, with one row per position. Returns the gradient of the input of the projections.
    fn project_qkv_reverse(&self, layer: usize, qkv: &[f32]) -> Vec<f32> {
        let (projections, heads) = (&self.checkpoint.blocks[layer].attention_in, self.heads(layer));
        match (self.spec().family.attention_in, &projections[..]) {
            (QkvLayout::Separate(_), [query, key, value]) => {
                let mut out = self.project_reverse(&copy_columns(qkv, heads, heads.queries()), query);
                add(&mut out, &self.project_reverse(&copy_columns(qkv, heads, heads.keys()), key));
                add(&mut out, &self.project_reverse(&copy_columns(qkv, heads, heads.values()), value));
                out
            }
            (QkvLayout::FusedByHead(_), _) => {
                let mut grouped = qkv.to_vec();
                each_row(&mut grouped, heads.qkv_width(), |index, row| {
                    let qkv = &qkv[index * heads.qkv_width()..];
                    each_grouped_index(heads, |concatenated, by_head| row[by_head] = qkv[concatenated]);
                });
                self.project_reverse(&grouped, &projections[0])
            }
            _ => self.project_reverse(qkv, &projections[0]),
        }
    }

    /// Returns the gradient of the final norm's output, `[positions, d]`. `gradient` is the gradient of the logits,
    /// `[positions, vocabulary]`.
    pub(crate) fn unembed_reverse(&self, gradient: &[f32]) -> Vec<f32> {
        let vocabulary = self.spec().vocabulary;
        let head = self.checkpoint.head.weight.view();
        matmul(self.isa(), View::new(gradient, gradient.len() / vocabulary, vocabulary), head)
    }
}
