//! Applies the activation functions of an MLP, and their derivatives, to slices. The results have the same bits with
//! every instruction set.

use crate::numeric::Isa;
use crate::numeric::elementary as on;
use crate::numeric::elementwise::{map, mapped, zip};

/// The activation function of an MLP, which config.json states under `hidden_act` or `activation_function`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    GeluTanh,
    /// The exact GELU, `x Φ(x)`, where Φ is the cumulative distribution function of the normal distribution.
    Gelu,
    /// SiLU, `x σ(x)`, where σ is the logistic function.
    Silu,
    /// ReLU, `max(x, 0)`.
    Relu,
}

/// Every method selects the activation function with one `match`, outside the loop over the elements, and calls it
/// directly. The compiler can therefore inline the function into the loop and use the instruction set of the loop.
impl Activation {
    /// Replaces every `x` by `f(x)`, where `f` is the activation function.
    pub fn apply(self, isa: Isa, xs: &mut [f32]) {
        match self {
            Self::GeluTanh => map(isa, xs, on::gelu),
            Self::Gelu => map(isa, xs, on::gelu_exact),
            Self::Silu => map(isa, xs, on::silu),
            Self::Relu => map(isa, xs, on::relu),
        }
    }

    /// Returns `f(x)` for every `x` in `xs`, where `f` is the activation function.
    pub fn applied(self, isa: Isa, xs: &[f32]) -> Vec<f32> {
        match self {
            Self::GeluTanh => mapped(isa, xs, on::gelu),
            Self::Gelu => mapped(isa, xs, on::gelu_exact),
            Self::Silu => mapped(isa, xs, on::silu),
            Self::Relu => mapped(isa, xs, on::relu),
        }
    }

    /// Multiplies each `g` in `gs` by `f(x)`, where `x` is the element of `xs` at the same index and `f` is the
    /// activation function. The backward pass of a gated MLP needs this product.
    pub fn mul(self, isa: Isa, gs: &mut [f32], xs: &[f32]) {
        match self {
            Self::GeluTanh => zip(isa, gs, xs, |g, x| g * on::gelu(x)),
            Self::Gelu => zip(isa, gs, xs, |g, x| g * on::gelu_exact(x)),
            Self::Silu => zip(isa, gs, xs, |g, x| g * on::silu(x)),
            Self::Relu => zip(isa, gs, xs, |g, x| g * on::relu(x)),
        }
    }

    /// Multiplies each gradient `g` in `gs` by `f′(x)`, where `f′` is the derivative of the activation function and `x`
    /// is the element of `xs` at the same index. This is the backward pass of [`Activation::apply`].
    pub fn mul_grad(self, isa: Isa, gs: &mut [f32], xs: &[f32]) {
        match self {
            Self::GeluTanh => zip(isa, gs, xs, |g, x| g * on::gelu_grad(x)),
            Self::Gelu => zip(isa, gs, xs, |g, x| g * on::gelu_exact_grad(x)),
            Self::Silu => zip(isa, gs, xs, |g, x| g * on::silu_grad(x)),
            Self::Relu => zip(isa, gs, xs, |g, x| g * on::relu_grad(x)),
        }
    }
}
