use crate::digest::Digest;
use crate::safetensors::{Dtype, HeaderError};

use super::bytes::FORMAT;

/// The reason why a patch cannot be read, created or applied. In the variants, `parameter` is the name of a weight in
/// the base's files, and `factor` is `u` or `v`.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    #[error("reading the patch's header: {0}")]
    Header(#[from] HeaderError),
    #[error("this is not a patch: its metadata should have the single key `corrigenda`, but has {found:?}")]
    NotAPatch {
        /// The metadata keys of the file. A patch file has only the key `corrigenda`.
        found: Vec<String>,
    },
    #[error("the patch has format {found}, but this version reads up to {FORMAT}: use a newer corrigenda")]
    Newer {
        /// The format number in the patch, which is larger than [`FORMAT`].
        found: u64,
    },
    #[error("reading the patch's metadata `corrigenda`: {0}")]
    Metadata(String),
    /// The patch file lacks `u` or `v`, one of the two low-rank factors of an edited weight.
    #[error("the patch lacks the tensor `{tensor}`")]
    Missing {
        /// The name of the missing tensor: `<parameter>.u` or `<parameter>.v`.
        tensor: String,
    },
    #[error("the patch contains the tensor `{tensor}`, which does not belong to any of its targets")]
    Extra {
        /// The name of the unexpected tensor. It may be any text, because the file is untrusted.
        tensor: String,
    },
    /// A factor has a wrong dtype or shape. The expected shape follows from the shape of the edited weight and the
    /// number of edits.
    #[error("patch tensor `{tensor}`: expected F32 of shape {expected:?}, found {dtype} of shape {found:?}")]
    Shape {
        tensor: String,
        /// The required numbers of rows and columns of the tensor.
        expected: [u64; 2],
        dtype: Dtype,
        found: Vec<u64>,
    },
    /// The content is valid, but not in the form that this program writes. Such a file is rejected, because otherwise
    /// one patch could have two ids.
    #[error("the patch is not in canonical form: its bytes differ from byte {offset} on")]
    NotCanonical {
        /// The offset in bytes of the first byte that differs from the canonical bytes.
        offset: usize,
    },
    #[error("patching `{parameter}`: a base of type {found} cannot be patched (F32, F16 and BF16 can)")]
    Dtype {
        parameter: String,
        /// The dtype of the weight in the base: any dtype except F32, F16 and BF16.
        found: Dtype,
    },
    #[error("patching `{parameter}` changes nothing: it has no name, no edit or no size")]
    Nothing {
        /// The name of the weight in the base's files. It is empty if the missing name is the reason for this error.
        parameter: String,
    },
    #[error("patching `{parameter}`: edits must be strictly ascending, {second} follows {first}")]
    EditOrder {
        parameter: String,
        first: Digest,
        /// The digest that follows `first` in the list of edits, although it is not larger than `first`.
        second: Digest,
    },
    #[error("patching `{parameter}`: {factor} should have {expected:?} numbers, but has {found}")]
    FactorLength {
        parameter: String,
        factor: &'static str,
        /// The required numbers of rows and columns of the factor.
        expected: [usize; 2],
        found: usize,
    },
    #[error("patching `{parameter}`: {factor} has {value} at row {row}, column {column}")]
    NotFinite {
        parameter: String,
        factor: &'static str,
        /// The row of the number that is not finite, from 0, in the factor `u` or `v`.
        row: usize,
        /// The column of the number that is not finite, from 0, in the factor `u` or `v`.
        column: usize,
        value: f32,
    },
    #[error("patching `{parameter}`: the edit {edit} changes nothing: its part of {factor} is all zero")]
    Null {
        parameter: String,
        /// The factor in which all numbers of the edit are zero: `u` or `v`.
        factor: &'static str,
        edit: Digest,
    },
    #[error("the base has no weight `{parameter}` that can be edited: the patch is for another model")]
    NoParameter {
        /// The name of the weight in the base for which the patch was made.
        parameter: String,
    },
    #[error(
        "`{parameter}` is {found} in this base, but the patch was made for {expected}: build it again for this base, \
         or use the base in {expected}"
    )]
    BaseDtype {
        parameter: String,
        /// The dtype of the weight in the base for which the patch was made.
        expected: Dtype,
        found: Dtype,
    },
    #[error("`{parameter}` has shape {found:?} in this base, but the patch was made for {expected:?}")]
    BaseShape {
        parameter: String,
        /// The shape of the weight in the base for which the patch was made.
        expected: [u64; 2],
        found: Vec<u64>,
    },
    #[error("`{parameter}` is {found} in this base, but the patch was made for {expected}: this is another model")]
    BaseDigest {
        parameter: String,
        /// The SHA-256 of the weight in the base for which the patch was made.
        expected: Digest,
        found: Digest,
    },
    #[error("applying the patch to `{parameter}`: expected {expected} numbers, found {found}")]
    WeightLength {
        parameter: String,
        /// The number of elements of the weight for which the patch was made.
        expected: usize,
        found: usize,
    },
    #[error(
        "applying the patch to `{parameter}` gives a number that is not finite at [{row}, {column}], element {index}"
    )]
    Diverged {
        parameter: String,
        /// The row of the number that is not finite, from 0, in the orientation of the base file.
        row: usize,
        /// The column of the number that is not finite, from 0, in the orientation of the base file.
        column: usize,
        /// The row-major index of the number that is not finite, from 0, in the orientation of the base file.
        index: usize,
    },
}
