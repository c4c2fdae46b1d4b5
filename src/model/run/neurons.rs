//! Computes the inputs of one MLP's activation function at the last position of a text, and their gradients. The
//! attribution of knowledge neurons (Dai et al. 2022) uses them.

use super::block::BlockInput;
use super::kv_cache::EMPTY;
use super::model::Model;
use super::rows::Rows;
use super::suffix_pass::SuffixPass;
use crate::numeric::rows::softmax;
use crate::numeric::{View, matmul};

/// A token sequence for which the inputs of one MLP's activation function were computed. [`Neurons::at`] multiplies the
/// inputs at the last position by different factors. It returns the resulting probabilities of a next token and their
/// gradients.
pub struct Neurons<'m> {
    model: &'m Model,
    layer: usize,
    suffix: SuffixPass<'m>,
    copies: usize,
    /// The inputs of the activation function at the last position, `[f]`.
    pub inputs: Vec<f32>,
    /// The output of the MLP for the unscaled inputs, `[d]`.
    value: Vec<f32>,
}

impl<'m> Neurons<'m> {
    /// Computes the inputs of the activation function in the MLP of `layer` for the token sequence `row`. Each call of
    /// [`Neurons::at`] then evaluates `copies` copies of the sequence, with different factors for these inputs at the
    /// last position. Returns `None` if the MLP is gated, because the MLP key then depends on more than these inputs.
    pub fn new(model: &'m Model, layer: usize, row: &[u32], copies: usize) -> Option<Self> {
        if model.checkpoint().blocks[layer].mlp_gate.is_some() {
            return None;
        }
        let rows = Rows::new([row.len()]);
        let x = model.hidden_states(&[row], layer);
        let input = BlockInput { x: &x, rows: &rows, cache: &EMPTY, last_n: &[1] };
        let (mid, _) = model.run_attention(layer, input, false);
        let (_, tape) = model.mlp_key(layer, &mid, true);
        let inputs = tape?.activation_input;
        let last = vec![row.len() - 1; copies];
        let hooked = model.run_hook(layer, &vec![row; copies], &last);
        let suffix = SuffixPass::new(model, layer, &hooked, &last, &vec![1; copies]);
        let value = hooked.values.into_iter().next()?;
        Some(Self { model, layer, suffix, copies, inputs, value })
    }

    /// Evaluates one copy of the token sequence for each factor in `scales`, with [`Neurons::inputs`] multiplied by
    /// that factor. Returns the probability of `token` as the next token for each copy, and the gradients of these
    /// probabilities with respect to the scaled inputs, `[copies, f]`.
    pub fn at(&self, scales: &[f32], token: u32) -> (Vec<f64>, Vec<f32>) {
        let (spec, isa) = (self.model.spec(), self.model.isa());
        assert_eq!(scales.len(), self.copies, "a scale for every copy");
        let scaled: Vec<f32> = scales.iter().flat_map(|scale| self.inputs.iter().map(move |x| scale * x)).collect();
        let mut keys = scaled.clone();
        spec.activation.apply(isa, &mut keys);
        let mut changes = self.model.mlp_value(self.layer, &keys);
        for change in changes.chunks_mut(spec.hidden_size) {
            change.iter_mut().zip(&self.value).for_each(|(x, value)| *x -= value);
        }
        let tape = self.suffix.evaluate_each(&changes.chunks(spec.hidden_size).collect::<Vec<_>>());
        let mut gradient = tape.logits.clone();
        let mut probabilities = Vec::with_capacity(self.copies);
        for row in gradient.chunks_mut(spec.vocabulary) {
            softmax(row);
            let p = row[token as usize];
            // `row` contains softmax(logits), and is replaced by the gradient of `p`, the probability of `token`:
            // ∂p/∂logits = p · (onehot(token) − softmax(logits)).
            row.iter_mut().for_each(|q| *q *= -p);
            row[token as usize] += p;
            probabilities.push(f64::from(p));
        }
        let value_gradient = self.suffix.reverse_each(&tape, &gradient).concat();
        let weight = self.model.weight(&self.model.checkpoint().blocks[self.layer].mlp_out);
        let mut input_gradient =
            matmul(isa, View::new(&value_gradient, self.copies, spec.hidden_size), weight.transposed());
        spec.activation.mul_grad(isa, &mut input_gradient, &scaled);
        (probabilities, input_gradient)
    }
}
