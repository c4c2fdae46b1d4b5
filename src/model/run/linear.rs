//! Applies the projections and norms of a model to matrices of hidden states.

use super::block::MlpTape;
use super::model::Model;
use crate::model::arch::family::NormKind;
use crate::model::load::checkpoint::{Norm, Projection};
use crate::model::load::tensor::Tensor;
use crate::numeric::rows::{NormTape, add_serial, each_row, layer_norm, rms_norm};
use crate::numeric::{View, matmul_then};
use crate::safetensors::Layout;

impl Model {
    /// Returns a projection's weight as an `[inputs, outputs]` matrix. The file may store the weight in either
    /// orientation.
    pub(crate) fn weight<'a>(&self, projection: &'a Projection) -> View<'a> {
        let view = projection.weight.view();
        match self.spec().family.layout {
            Layout::Conv1d => view,
            Layout::Linear => view.transposed(),
        }
    }

    /// Computes `x W + b` for each row vector of `x`.
    pub(crate) fn project(&self, x: &[f32], projection: &Projection) -> Vec<f32> {
        self.project_onto(x, projection, None)
    }

    /// Computes `(x W + b) + onto` for each row vector of `x`, or `x W + b` if `onto` is `None`.
    pub(super) fn project_onto(&self, x: &[f32], projection: &Projection, onto: Option<&[f32]>) -> Vec<f32> {
        let weight = self.weight(projection);
        let (x, width) = (View::new(x, x.len() / weight.rows(), weight.rows()), weight.columns());
        let bias = projection.bias.as_ref().map(Tensor::to_f32);
        matmul_then(self.isa(), x, weight, |row, first, part| {
            if let Some(bias) = &bias {
                add_serial(part, &bias[first..]);
            }
            if let Some(onto) = onto {
                add_serial(part, &onto[row * width + first..]);
            }
        })
    }

    /// Applies a norm to each row of `x`. A row has `width` elements. Returns the normalised rows, and the intermediate
    /// results for the backward pass.
    pub(crate) fn norm(&self, x: &[f32], width: usize, norm: &Norm) -> (NormTape, Vec<f32>) {
        let epsilon = self.spec().epsilon;
        match (&self.spec().family.norm, &norm.bias) {
            (NormKind::Layer, Some(bias)) => layer_norm(x, width, &norm.gain.to_f32(), &bias.to_f32(), epsilon),
            _ => rms_norm(x, width, &norm.gain.to_f32(), epsilon),
        }
    }

    /// Recomputes the normalised input of an MLP from the stored intermediate results, `[positions, d]`.
    pub(super) fn mlp_input(&self, layer: usize, tape: &MlpTape) -> Vec<f32> {
        let block = &self.checkpoint().blocks[layer];
        let norm = block.mlp_norm.as_ref().unwrap_or(&block.attention_norm);
        let (gain, bias) = (norm.gain.to_f32(), norm.bias.as_ref().map(Tensor::to_f32));
        let mut out = tape.norm.unit.clone();
        each_row(&mut out, gain.len(), |_, row| {
            row.iter_mut().zip(gain.iter()).for_each(|(x, gain)| *x *= gain);
            if let Some(bias) = &bias {
                add_serial(row, bias);
            }
        });
        out
    }
}
