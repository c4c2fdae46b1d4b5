//! A linear layer with weight normalisation (Salimans and Kingma 2016), and its backward pass.

use rayon::prelude::*;

use crate::numeric::rows::{add, add_scaled, dot, each_row};
use crate::numeric::{Isa, View, matmul};

/// A layer `y = (g / ‖v‖) v x + b` with weight normalisation (Salimans and Kingma 2016), or the gradients of its
/// parameters. The norm is that of a row of v.
#[derive(Clone, Debug, PartialEq)]
pub struct NormalisedLayer {
    pub inputs: usize,
    /// The directions of the weights, `[outputs, inputs]`.
    pub v: Vec<f32>,
    /// The norm of the weight row of each output, `[outputs]`.
    pub g: Vec<f32>,
    pub bias: Vec<f32>,
}

impl NormalisedLayer {
    pub fn zeros(inputs: usize, outputs: usize) -> Self {
        Self { inputs, v: vec![0.0; outputs * inputs], g: vec![0.0; outputs], bias: vec![0.0; outputs] }
    }

    /// Returns the parameters in the order v, g, bias.
    pub fn parts_mut(&mut self) -> [&mut Vec<f32>; 3] {
        [&mut self.v, &mut self.g, &mut self.bias]
    }

    /// Returns `g / ‖v‖` for each output.
    fn scales(&self) -> Vec<f32> {
        let rows = self.v.par_chunks(self.inputs).zip(&self.g);
        rows.map(|(v, g)| g / dot(v, v).sqrt()).collect()
    }

    /// Applies the layer to each row of `x`, `[rows, inputs]`.
    pub(super) fn apply(&self, isa: Isa, x: &[f32]) -> Vec<f32> {
        let (outputs, scales) = (self.g.len(), self.scales());
        let v = View::new(&self.v, outputs, self.inputs);
        let mut out = matmul(isa, View::new(x, x.len() / self.inputs, self.inputs), v.transposed());
        each_row(&mut out, outputs, |_, row| {
            for (y, (scale, bias)) in row.iter_mut().zip(scales.iter().zip(&self.bias)) {
                *y = *y * scale + bias;
            }
        });
        out
    }

    /// Back-propagates `gradient`, the gradient of the outputs, `[rows, outputs]`, for the inputs `x`, `[rows, inputs]`.
    /// Adds the gradients of the parameters to `sums`, and returns the gradient of the inputs.
    pub(super) fn reverse(&self, isa: Isa, x: &[f32], gradient: &[f32], sums: &mut Self) -> Vec<f32> {
        let (rows, outputs, scales) = (x.len() / self.inputs, self.g.len(), self.scales());
        gradient.chunks(outputs).for_each(|row| add(&mut sums.bias, row));
        let by_y = View::new(gradient, rows, outputs);
        // The gradient of the weight (g / ‖v‖) v, `[outputs, inputs]`.
        let by_weight = matmul(isa, by_y.transposed(), View::new(x, rows, self.inputs));
        let weights = by_weight.par_chunks(self.inputs).zip(self.v.par_chunks(self.inputs)).zip(&self.g);
        let totals = sums.v.par_chunks_mut(self.inputs).zip(&mut sums.g);
        weights.zip(totals).for_each(|(((by_row, v), g), (by_v, by_g))| {
            let norm = dot(v, v).sqrt();
            let along = dot(by_row, v) / norm;
            *by_g += along;
            add_scaled(by_v, g / norm, by_row);
            add_scaled(by_v, -(g / norm) * (along / norm), v);
        });
        let mut by_product = gradient.to_vec();
        each_row(&mut by_product, outputs, |_, row| row.iter_mut().zip(&scales).for_each(|(y, scale)| *y *= scale));
        matmul(isa, View::new(&by_product, rows, outputs), View::new(&self.v, outputs, self.inputs))
    }
}
