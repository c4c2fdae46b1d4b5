//! What stands between the matrices of an MLP.

use crate::numeric::Isa;
use crate::numeric::elementary as on;
use crate::numeric::elementwise::{map, mapped, zip};

/// What stands between the MLP's matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// GELU by its tanh form.
    GeluTanh,
    /// GELU as it is defined.
    Gelu,
    /// `x σ(x)`.
    Silu,
    /// `x` where it is above 0.
    Relu,
}

/// The functions are named where they are called, not handed on as pointers: so they are compiled into the loop, for
/// the instructions of that loop.
impl Activation {
    /// `x ← f(x)`.
    pub fn apply(self, isa: Isa, xs: &mut [f32]) {
        match self {
            Self::GeluTanh => map(isa, xs, on::gelu),
            Self::Gelu => map(isa, xs, on::gelu_exact),
            Self::Silu => map(isa, xs, on::silu),
            Self::Relu => map(isa, xs, on::relu),
        }
    }

    /// `f(x)` beside `x`.
    pub fn applied(self, isa: Isa, xs: &[f32]) -> Vec<f32> {
        match self {
            Self::GeluTanh => mapped(isa, xs, on::gelu),
            Self::Gelu => mapped(isa, xs, on::gelu_exact),
            Self::Silu => mapped(isa, xs, on::silu),
            Self::Relu => mapped(isa, xs, on::relu),
        }
    }

    /// `g ← g f(x)`.
    pub fn times(self, isa: Isa, gs: &mut [f32], xs: &[f32]) {
        match self {
            Self::GeluTanh => zip(isa, gs, xs, |g, x| g * on::gelu(x)),
            Self::Gelu => zip(isa, gs, xs, |g, x| g * on::gelu_exact(x)),
            Self::Silu => zip(isa, gs, xs, |g, x| g * on::silu(x)),
            Self::Relu => zip(isa, gs, xs, |g, x| g * on::relu(x)),
        }
    }

    /// `g ← g f′(x)`.
    pub fn times_slope(self, isa: Isa, gs: &mut [f32], xs: &[f32]) {
        match self {
            Self::GeluTanh => zip(isa, gs, xs, |g, x| g * on::gelu_slope(x)),
            Self::Gelu => zip(isa, gs, xs, |g, x| g * on::gelu_exact_slope(x)),
            Self::Silu => zip(isa, gs, xs, |g, x| g * on::silu_slope(x)),
            Self::Relu => zip(isa, gs, xs, |g, x| g * on::relu_slope(x)),
        }
    }
}
