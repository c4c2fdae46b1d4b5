//! The types in which a model stores its weights.

/// The types in which a model stores its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightDtype {
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16: the upper half of an F32.
    BF16,
}
