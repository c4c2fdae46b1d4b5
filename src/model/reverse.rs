//! The hand-written reverse pass: the gradient by the input of a block from the gradient by its output.
//!
//! Only a hidden state needs a gradient, so there are four rules: norm, product (for its input), attention,
//! activation. No gradient is taken for a weight.

use super::checkpoint::Tensor;
use super::decoder::{AttentionTape, MlpTape, Model, Past, offered};
use super::rows::Rows;
use crate::numeric::attention::attend_reverse;
use crate::numeric::elementary::gelu_slope;
use crate::numeric::rows::{add, each_row, layer_norm_reverse};
use crate::numeric::{View, matmul};

impl Model {
    /// `g Wᵀ`: the gradient by the input of a projection.
    fn project_reverse(&self, gradient: &[f32], [weight, _]: &[Tensor; 2]) -> Vec<f32> {
        let weight = self.weight(weight);
        let width = weight.columns();
        matmul(self.isa(), View::new(gradient, gradient.len() / width, width), weight.transposed())
    }

    /// Through `x + mlp(norm(x))`.
    pub(super) fn mlp_half_reverse(&self, layer: usize, tape: &MlpTape, gradient: Vec<f32>) -> Vec<f32> {
        let (spec, block) = (self.spec(), &self.checkpoint.blocks[layer]);
        let mut inner = self.project_reverse(&gradient, &block.mlp_out);
        each_row(&mut inner, spec.inner, |index, row| {
            for (g, x) in row.iter_mut().zip(&tape.before[index * spec.inner..]) {
                *g *= gelu_slope(*x);
            }
        });
        let mut out = self.project_reverse(&inner, &block.mlp_in);
        layer_norm_reverse(&mut out, spec.width, block.mlp_norm[0].data(), &tape.norm);
        add(&mut out, &gradient);
        out
    }

    /// Through `x + attention(norm(x))`, from the gradient by its tails to the gradient by all positions.
    pub(super) fn attention_half_reverse(
        &self,
        layer: usize,
        tape: &AttentionTape,
        rows: &Rows,
        past: &Past,
        tails: &[usize],
        gradient: &[f32],
    ) -> Vec<f32> {
        let (spec, block) = (self.spec(), &self.checkpoint.blocks[layer]);
        let attended = self.project_reverse(gradient, &block.attention_out);
        let offered = offered(rows, past, &tape.fused, tails, spec.width);
        let fused = attend_reverse(self.heads(layer), &offered, &tape.probabilities, &attended);
        let mut out = self.project_reverse(&fused, &block.attention_in);
        layer_norm_reverse(&mut out, spec.width, block.attention_norm[0].data(), &tape.norm);
        for (tail, position) in rows.tail_positions(tails).into_iter().enumerate() {
            add(&mut out[position * spec.width..][..spec.width], &gradient[tail * spec.width..][..spec.width]);
        }
        out
    }

    /// The gradient by the final norm's output from the gradient by the logits, `[positions, vocabulary]`.
    pub(super) fn unembed_reverse(&self, gradient: &[f32]) -> Vec<f32> {
        let spec = self.spec();
        let head = View::new(self.checkpoint.head.data(), spec.vocabulary, spec.width);
        matmul(self.isa(), View::new(gradient, gradient.len() / spec.vocabulary, spec.vocabulary), head)
    }
}
