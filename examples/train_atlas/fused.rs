//! Implements tensor operations that act on each row separately, each with its own backward pass.
//!
//! candle composes these operations from about a dozen passes over memory, and the fused operations of candle-nn have
//! no backward pass. In this module, a rule defines both directions for one row. The tests compare the gradient of
//! every parameter with finite differences.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use corrigenda::numeric::elementary::{exp, gelu, gelu_grad};
use corrigenda::numeric::rows::{dot, softmax, sum};

/// A function that maps a row to a row of the same width, with its backward pass.
pub(crate) trait Rule: Send + Sync + 'static {
    /// The name of the operation, for candle's error messages.
    const NAME: &'static str;
    /// Replaces the row with index `index` by the output of the function.
    fn forward(&self, index: usize, row: &mut [f32]);
    /// Converts `gradient` in place: from the gradient with respect to the output row `y` to the gradient with respect
    /// to the input row `x`.
    fn reverse(&self, x: &[f32], y: &[f32], gradient: &mut [f32]);
}

/// The candle operation that applies a rule to each row of the last dimension.
struct Rowwise<R>(R);

/// Applies a rule to every row of `x`, as an operation with a gradient in candle's autograd.
pub(crate) fn apply(x: &Tensor, rule: impl Rule) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Rowwise(rule))
}

/// Returns the elements of a tensor, or an error if the tensor is not contiguous.
fn elements<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("a row must lie in one piece"),
    }
}

/// Returns a copy of a tensor's elements, in row-major order.
fn copied(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

impl<R: Rule> CustomOp1 for Rowwise<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut out = elements(storage, layout)?.to_vec();
        let width = layout.dims()[layout.dims().len() - 1];
        out.chunks_mut(width).enumerate().for_each(|(index, row)| self.0.forward(index, row));
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let width = arg.dim(candle_core::D::Minus1)?;
        let mut out = copied(gradient)?;
        let (xs, ys) = (copied(arg)?, copied(result)?);
        for ((row_gradient, x), y) in out.chunks_mut(width).zip(xs.chunks(width)).zip(ys.chunks(width)) {
            self.0.reverse(x, y, row_gradient);
        }
        Ok(Some(Tensor::from_vec(out, arg.shape(), arg.device())?))
    }
}

/// The activation `gelu_new` of GPT-2: GELU with the tanh approximation.
pub(crate) struct Gelu;

impl Rule for Gelu {
    const NAME: &'static str = "gelu";

    fn forward(&self, _: usize, row: &mut [f32]) {
        row.iter_mut().for_each(|x| *x = gelu(*x));
    }

    fn reverse(&self, x: &[f32], _: &[f32], gradient: &mut [f32]) {
        gradient.iter_mut().zip(x).for_each(|(gradient, x)| *gradient *= gelu_grad(*x));
    }
}

/// Layer normalisation without weights: `(x − mean) / √(variance + ε)`.
pub(crate) struct Normalise {
    pub epsilon: f32,
}

impl Normalise {
    fn moments(&self, row: &[f32]) -> (f32, f32) {
        let mean = sum(row) / row.len() as f32;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / row.len() as f32;
        (mean, 1.0 / (variance + self.epsilon).sqrt())
    }
}

impl Rule for Normalise {
    const NAME: &'static str = "normalise";

    fn forward(&self, _: usize, row: &mut [f32]) {
        let (mean, inverse) = self.moments(row);
        row.iter_mut().for_each(|x| *x = (*x - mean) * inverse);
    }

    fn reverse(&self, x: &[f32], y: &[f32], gradient: &mut [f32]) {
        let (_, inverse) = self.moments(x);
        let count = x.len() as f32;
        let (mean, along) = (sum(gradient) / count, dot(gradient, y) / count);
        gradient.iter_mut().zip(y).for_each(|(gradient, y)| *gradient = inverse * (*gradient - mean - y * along));
    }
}

/// Causal softmax of the scaled attention scores of square matrices: row `i` attends to the columns `0..=i`.
pub(crate) struct CausalSoftmax {
    pub scale: f32,
}

impl Rule for CausalSoftmax {
    const NAME: &'static str = "causal softmax";

    fn forward(&self, index: usize, row: &mut [f32]) {
        let (seen, hidden) = row.split_at_mut(index % row.len() + 1);
        seen.iter_mut().for_each(|x| *x *= self.scale);
        softmax(seen);
        hidden.fill(0.0);
    }

    fn reverse(&self, _: &[f32], y: &[f32], gradient: &mut [f32]) {
        let along = dot(gradient, y);
        gradient.iter_mut().zip(y).for_each(|(gradient, y)| *gradient = self.scale * y * (*gradient - along));
    }
}

/// The weighted cross entropy `Σ weight · −log softmax(logits)[label]`, a scalar.
pub(crate) struct CrossEntropy {
    pub labels: Vec<u32>,
    pub weights: Vec<f32>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = elements(storage, layout)?;
        let mut total = 0.0_f64;
        for ((row, &label), &weight) in logits.chunks(layout.dims()[1]).zip(&self.labels).zip(&self.weights) {
            let peak = row.iter().fold(f32::NEG_INFINITY, |peak, &x| if x > peak { x } else { peak });
            let mass: f32 = row.iter().map(|x| exp(x - peak)).sum();
            total += f64::from(weight) * f64::from(peak + mass.ln() - row[label as usize]);
        }
        Ok((CpuStorage::F32(vec![total as f32]), Shape::from(())))
    }

    fn bwd(&self, arg: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let outer = gradient.to_scalar::<f32>()?;
        let mut out = copied(arg)?;
        for ((row, &label), &weight) in out.chunks_mut(arg.dim(1)?).zip(&self.labels).zip(&self.weights) {
            softmax(row);
            row[label as usize] -= 1.0;
            row.iter_mut().for_each(|x| *x *= weight * outer);
        }
        Ok(Some(Tensor::from_vec(out, arg.shape(), arg.device())?))
    }
}
