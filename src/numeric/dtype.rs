//! Defines the types in which a model stores its weights.

/// The type of the elements of a weight tensor in its file. Files with other types are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightDtype {
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16: the upper half of an F32.
    BF16,
}
