//! The network of MEND (Mitchell et al. 2022) for the matrices of one shape: two residual layers of low rank, with a
//! scale and a shift per matrix.
//!
//! A row z, `[D]`, is the whitened input and the whitened output gradient of a matrix, one after the other. A layer
//! computes `q = U V z + b`, `p = scale ⊙ q + shift` and `z + max(0, p)`. The slope of `max(0, p)` at 0 is taken as 1:
//! a new network has p = 0 everywhere, and with slope 0 it would never learn.

use crate::numeric::elementwise::zip;
use crate::numeric::random::NumpyRandomState;
use crate::numeric::rows::{add, add_serial, each_row};
use crate::numeric::{Isa, View, matmul};

/// The parameters of one residual layer, or their gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct MendLayer {
    /// The matrix V, `[r, D]` with r = the rank.
    pub v: Vec<f32>,
    /// The matrix U, `[D, r]`.
    pub u: Vec<f32>,
    /// The vector b, `[D]`.
    pub bias: Vec<f32>,
    /// The factors that multiply q, one row per edited matrix, `[matrices, D]`.
    pub scale: Vec<f32>,
    /// The numbers that are added to `scale ⊙ q`, one row per edited matrix, `[matrices, D]`.
    pub shift: Vec<f32>,
}

/// The network for all edited matrices of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct MendNetwork {
    /// D, the number of inputs plus the number of outputs of a matrix.
    pub width: usize,
    pub rank: usize,
    pub layers: [MendLayer; 2],
}

/// The intermediate results of the forward pass, which the backward pass needs.
pub struct MendTape {
    layers: Vec<LayerTape>,
}

struct LayerTape {
    /// The rows z that the layer reads, `[rows, D]`.
    z: Vec<f32>,
    /// The product `V z` of each row, `[rows, r]`.
    projected: Vec<f32>,
    q: Vec<f32>,
    p: Vec<f32>,
}

impl MendLayer {
    fn zeros(width: usize, rank: usize, matrices: usize) -> Self {
        Self {
            v: vec![0.0; rank * width],
            u: vec![0.0; width * rank],
            bias: vec![0.0; width],
            scale: vec![0.0; matrices * width],
            shift: vec![0.0; matrices * width],
        }
    }

    /// Returns the parameters in the order V, U, b, scale, shift.
    pub fn parts(&self) -> [&[f32]; 5] {
        [&self.v, &self.u, &self.bias, &self.scale, &self.shift]
    }

    /// Returns the parameters in the order V, U, b, scale, shift.
    pub fn parts_mut(&mut self) -> [&mut Vec<f32>; 5] {
        [&mut self.v, &mut self.u, &mut self.bias, &mut self.scale, &mut self.shift]
    }
}

impl MendNetwork {
    /// Creates a network that returns its input: U, V, b and the shifts are 0, and the scales are 1. Call
    /// [`MendNetwork::draw`] before training.
    pub fn identity(width: usize, rank: usize, matrices: usize) -> Self {
        let layer = |_| {
            let mut layer = MendLayer::zeros(width, rank, matrices);
            layer.scale.fill(1.0);
            layer
        };
        Self { width, rank, layers: [0, 1].map(layer) }
    }

    /// Draws V of both layers from the standard normal distribution.
    pub fn draw(&mut self, numbers: &mut NumpyRandomState) {
        for layer in &mut self.layers {
            layer.v.iter_mut().for_each(|x| *x = numbers.normal() as f32);
        }
    }

    /// Returns a network of the same shape in which all parameters are 0. Gradients are added to it.
    pub fn zeros_like(&self) -> Self {
        let matrices = self.layers[0].scale.len() / self.width;
        let layers = [0, 1].map(|_| MendLayer::zeros(self.width, self.rank, matrices));
        Self { width: self.width, rank: self.rank, layers }
    }

    /// Returns the transformed rows of `z`, `[rows, D]`, and the intermediate results for the backward pass.
    /// `matrices[i]` selects the scale and the shift of row `i`: it is the index of the edited matrix among those of
    /// this shape.
    pub fn forward(&self, isa: Isa, matrices: &[usize], z: Vec<f32>) -> (Vec<f32>, MendTape) {
        let (mut z, mut tapes) = (z, Vec::new());
        for layer in &self.layers {
            let rows = z.len() / self.width;
            let v = View::new(&layer.v, self.rank, self.width);
            let projected = matmul(isa, View::new(&z, rows, self.width), v.transposed());
            let u = View::new(&layer.u, self.width, self.rank);
            let mut q = matmul(isa, View::new(&projected, rows, self.rank), u.transposed());
            each_row(&mut q, self.width, |_, row| add_serial(row, &layer.bias));
            let mut p = q.clone();
            each_row(&mut p, self.width, |index, row| {
                let (scale, shift) = (self.of(&layer.scale, matrices[index]), self.of(&layer.shift, matrices[index]));
                row.iter_mut().zip(scale.iter().zip(shift)).for_each(|(x, (scale, shift))| *x = *x * scale + shift);
            });
            let mut next = z.clone();
            zip(isa, &mut next, &p, |x, step| if step >= 0.0 { x + step } else { x });
            tapes.push(LayerTape { z: std::mem::replace(&mut z, next), projected, q, p });
        }
        (z, MendTape { layers: tapes })
    }

    /// Back-propagates `gradient`, the gradient of the output, `[rows, D]`. Adds the gradients of the parameters to
    /// `sums`.
    pub fn reverse(&self, isa: Isa, matrices: &[usize], tape: &MendTape, gradient: Vec<f32>, sums: &mut Self) {
        let mut by_z = gradient;
        let (width, rank) = (self.width, self.rank);
        for ((layer, kept), total) in self.layers.iter().zip(&tape.layers).zip(&mut sums.layers).rev() {
            let rows = by_z.len() / width;
            let mut by_p = by_z.clone();
            zip(isa, &mut by_p, &kept.p, |g, p| if p >= 0.0 { g } else { 0.0 });
            let mut by_q = by_p.clone();
            for (row, matrix) in matrices.iter().enumerate() {
                let (columns, range) = (matrix * width..(matrix + 1) * width, row * width..(row + 1) * width);
                let (by_p_row, q_row) = (&by_p[range.clone()], &kept.q[range.clone()]);
                add_serial(&mut total.shift[columns.clone()], by_p_row);
                for (sum, (g, q)) in total.scale[columns.clone()].iter_mut().zip(by_p_row.iter().zip(q_row)) {
                    *sum += g * q;
                }
                for (g, scale) in by_q[range.clone()].iter_mut().zip(&layer.scale[columns]) {
                    *g *= scale;
                }
                add_serial(&mut total.bias, &by_q[range]);
            }
            let by_q = View::new(&by_q, rows, width);
            add(&mut total.u, &matmul(isa, by_q.transposed(), View::new(&kept.projected, rows, rank)));
            let by_projected = matmul(isa, by_q, View::new(&layer.u, width, rank));
            let by_projected = View::new(&by_projected, rows, rank);
            add(&mut total.v, &matmul(isa, by_projected.transposed(), View::new(&kept.z, rows, width)));
            add(&mut by_z, &matmul(isa, by_projected, View::new(&layer.v, rank, width)));
        }
    }

    fn of<'p>(&self, parameters: &'p [f32], matrix: usize) -> &'p [f32] {
        &parameters[matrix * self.width..][..self.width]
    }
}
