//! Lists the element types of the safetensors format, with their names and sizes.

use std::fmt;

use crate::numeric::WeightDtype;

/// An element type of the safetensors format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    /// One byte, 0 or 1.
    Bool,
    /// Four-bit float, two per byte.
    F4,
    /// Six-bit float, 2 exponent and 3 mantissa bits.
    F6E2m3,
    /// Six-bit float, 3 exponent and 2 mantissa bits.
    F6E3m2,
    U8,
    I8,
    /// Eight-bit float, 5 exponent and 2 mantissa bits.
    F8E5m2,
    /// Eight-bit float, 4 exponent and 3 mantissa bits.
    F8E4m3,
    /// A power of two, stored as an eight-bit exponent.
    F8E8m0,
    /// Eight-bit float, 4 exponent and 3 mantissa bits, without negative zero.
    F8E4m3Fnuz,
    /// Eight-bit float, 5 exponent and 2 mantissa bits, without negative zero.
    F8E5m2Fnuz,
    I16,
    U16,
    /// IEEE 754 half precision: 5 exponent and 10 mantissa bits.
    F16,
    /// bfloat16: the upper 16 bits of an F32, with 8 exponent and 7 mantissa bits.
    BF16,
    I32,
    U32,
    F32,
    /// A complex number of two F32.
    C64,
    F64,
    I64,
    U64,
}

/// Every type with its name in a header and its size in bits, in the order of the variants.
const TABLE: [(Dtype, &str, u64); 22] = [
    (Dtype::Bool, "BOOL", 8),
    (Dtype::F4, "F4", 4),
    (Dtype::F6E2m3, "F6_E2M3", 6),
    (Dtype::F6E3m2, "F6_E3M2", 6),
    (Dtype::U8, "U8", 8),
    (Dtype::I8, "I8", 8),
    (Dtype::F8E5m2, "F8_E5M2", 8),
    (Dtype::F8E4m3, "F8_E4M3", 8),
    (Dtype::F8E8m0, "F8_E8M0", 8),
    (Dtype::F8E4m3Fnuz, "F8_E4M3FNUZ", 8),
    (Dtype::F8E5m2Fnuz, "F8_E5M2FNUZ", 8),
    (Dtype::I16, "I16", 16),
    (Dtype::U16, "U16", 16),
    (Dtype::F16, "F16", 16),
    (Dtype::BF16, "BF16", 16),
    (Dtype::I32, "I32", 32),
    (Dtype::U32, "U32", 32),
    (Dtype::F32, "F32", 32),
    (Dtype::C64, "C64", 64),
    (Dtype::F64, "F64", 64),
    (Dtype::I64, "I64", 64),
    (Dtype::U64, "U64", 64),
];

impl Dtype {
    /// Returns the name of the type in a safetensors header, for example `BF16`.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Returns the size of one element in bits.
    pub fn bits(self) -> u64 {
        TABLE[self as usize].2
    }

    /// Returns the size of one element in bytes. For the packed types `F4` and `F6_*`, the result is 1; use
    /// [`Dtype::byte_len`] for their tensors.
    pub fn size(self) -> usize {
        self.bits().div_ceil(8) as usize
    }

    /// Returns the type that has this name in a header; `None` if the name is unknown.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|(_, known, _)| *known == name).map(|(dtype, ..)| *dtype)
    }

    /// Returns the size of a tensor of `shape`, in bytes; `None` if the size overflows or is not a whole number of
    /// bytes.
    pub fn byte_len(self, shape: &[u64]) -> Option<u64> {
        let elements = shape.iter().try_fold(1_u64, |product, &side| product.checked_mul(side))?;
        let bits = elements.checked_mul(self.bits())?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

impl Dtype {
    /// Returns the corresponding type of model weights; `None` for types that the model cannot compute with.
    pub fn weight_dtype(self) -> Option<WeightDtype> {
        match self {
            Self::F32 => Some(WeightDtype::F32),
            Self::F16 => Some(WeightDtype::F16),
            Self::BF16 => Some(WeightDtype::BF16),
            _ => None,
        }
    }
}

impl From<WeightDtype> for Dtype {
    fn from(stored: WeightDtype) -> Self {
        match stored {
            WeightDtype::F32 => Self::F32,
            WeightDtype::F16 => Self::F16,
            WeightDtype::BF16 => Self::BF16,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_variants() {
        for (index, (dtype, name, _)) in TABLE.iter().enumerate() {
            assert_eq!(*dtype as usize, index);
            assert_eq!(Dtype::from_name(name), Some(*dtype));
        }
    }

    #[test]
    fn lengths() {
        assert_eq!(Dtype::F32.byte_len(&[2, 3]), Some(24));
        assert_eq!(Dtype::F64.byte_len(&[]), Some(8));
        assert_eq!(Dtype::F4.byte_len(&[3]), None);
        assert_eq!(Dtype::F6E2m3.byte_len(&[4]), Some(3));
        assert_eq!(Dtype::U8.byte_len(&[u64::MAX, 2]), None);
        assert_eq!(Dtype::U8.byte_len(&[u64::MAX]), None);
        assert_eq!(Dtype::BF16.size(), 2);
    }
}
