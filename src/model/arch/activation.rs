//! Applies the activation functions of an MLP and their derivatives to slices. The result does not depend on the
//! instruction set.

use crate::numeric::Isa;
use crate::numeric::elementary as on;
use crate::numeric::elementwise::{map, mapped, zip};

/// The activation function of an MLP, as config.json names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    GeluTanh,
    /// GELU by its definition, `x Φ(x)`, where Φ is the cumulative distribution function of the normal distribution.
    Gelu,
    /// SiLU, `x σ(x)`, where σ is the logistic function.
    Silu,
    /// ReLU, `max(x, 0)`.
    Relu,
}

/// Every match arm names its function instead of passing a function pointer, so that the function is inlined into the
/// loop and compiled for the loop's instruction set.
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

    /// Returns `f(x)` of every `x`.
    pub fn applied(self, isa: Isa, xs: &[f32]) -> Vec<f32> {
        match self {
            Self::GeluTanh => mapped(isa, xs, on::gelu),
            Self::Gelu => mapped(isa, xs, on::gelu_exact),
            Self::Silu => mapped(isa, xs, on::silu),
            Self::Relu => mapped(isa, xs, on::relu),
        }
    }

    /// Computes `g ← g f(x)` in place, for the reverse pass of a gated MLP.
    pub fn mul(self, isa: Isa, gs: &mut [f32], xs: &[f32]) {
        match self {
            Self::GeluTanh => zip(isa, gs, xs, |g, x| g * on::gelu(x)),
            Self::Gelu => zip(isa, gs, xs, |g, x| g * on::gelu_exact(x)),
            Self::Silu => zip(isa, gs, xs, |g, x| g * on::silu(x)),
            Self::Relu => zip(isa, gs, xs, |g, x| g * on::relu(x)),
        }
    }

    /// Computes `g ← g f′(x)` in place: the reverse pass of [`Activation::apply`].
    pub fn mul_grad(self, isa: Isa, gs: &mut [f32], xs: &[f32]) {
        match self {
            Self::GeluTanh => zip(isa, gs, xs, |g, x| g * on::gelu_grad(x)),
            Self::Gelu => zip(isa, gs, xs, |g, x| g * on::gelu_exact_grad(x)),
            Self::Silu => zip(isa, gs, xs, |g, x| g * on::silu_grad(x)),
            Self::Relu => zip(isa, gs, xs, |g, x| g * on::relu_grad(x)),
        }
    }
}
