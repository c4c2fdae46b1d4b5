/// The element type of a weight tensor in a file. Weights of other types are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightDtype {
    F32,
    /// IEEE 754 half precision: 5 exponent and 10 mantissa bits.
    F16,
    /// bfloat16: the upper 16 bits of an F32, with 8 exponent and 7 mantissa bits.
    BF16,
}
