//! Defines the errors of reading, making and applying a patch.

use crate::digest::Digest;
use crate::safetensors::{Dtype, HeaderError};

use super::bytes::FORMAT;

/// A patch that cannot be read, made or applied.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The bytes are not a safetensors file.
    #[error("reading the patch's header: {0}")]
    Header(#[from] HeaderError),
    /// The metadata does not have the single key of a patch.
    #[error("this is not a patch: its metadata should have the single key `corrigenda`, but has {found:?}")]
    NotAPatch {
        /// The metadata keys that the file has instead.
        found: Vec<String>,
    },
    /// The patch was made by a newer release.
    #[error("the patch has format {found}, but this version reads up to {FORMAT}: use a newer corrigenda")]
    Newer {
        /// The format number in the patch, which is larger than [`FORMAT`].
        found: u64,
    },
    /// The value of the metadata key is not the JSON of a patch.
    #[error("reading the patch's metadata `corrigenda`: {0}")]
    Metadata(String),
    /// The patch file lacks `u` or `v`, one of the two low-rank factors of an edited weight.
    #[error("the patch lacks the tensor `{tensor}`")]
    Missing {
        /// The name that is missing: `<parameter>.u` or `<parameter>.v`.
        tensor: String,
    },
    /// The patch file contains a tensor that is not a factor of any of the edited weights.
    #[error("the patch contains the tensor `{tensor}`, which does not belong to any of its targets")]
    Extra {
        /// The name in the patch file.
        tensor: String,
    },
    /// A factor in the patch file is not F32, or does not have the shape that its edited weight and number of edits
    /// require.
    #[error("patch tensor `{tensor}`: expected F32 of shape {expected:?}, found {dtype} of shape {found:?}")]
    Shape {
        /// The name in the patch file: `<parameter>.u` or `<parameter>.v`.
        tensor: String,
        /// The required shape.
        expected: [u64; 2],
        /// The dtype in the patch file.
        dtype: Dtype,
        /// The shape in the patch file.
        found: Vec<u64>,
    },
    /// The content is valid, but the bytes are not canonical. Such bytes are rejected, because the same patch would
    /// otherwise have two addresses.
    #[error("the patch is not in canonical form: its bytes differ from byte {offset} on")]
    NotCanonical {
        /// The offset of the first byte that differs.
        offset: usize,
    },
    /// The stored dtype cannot be patched.
    #[error("patching `{parameter}`: a base of type {found} cannot be patched (F32, F16 and BF16 can)")]
    Dtype {
        /// The name of the weight in the base's files.
        parameter: String,
        /// The dtype in which the base stores the weight.
        found: Dtype,
    },
    /// The edited weight has an empty name or a dimension of 0, or no edit changes it.
    #[error("patching `{parameter}` changes nothing: it has no name, no edit or no size")]
    Nothing {
        /// The name of the weight in the base's files; may be empty.
        parameter: String,
    },
    /// The edits are out of order or repeated.
    #[error("patching `{parameter}`: edits must be strictly ascending, {second} follows {first}")]
    EditOrder {
        /// The name of the weight in the base's files.
        parameter: String,
        /// The meaning digest of the edit that is listed first.
        first: Digest,
        /// The meaning digest of the next edit, which is not larger than `first`.
        second: Digest,
    },
    /// A factor has the wrong number of elements.
    #[error("patching `{parameter}`: {factor} should have {expected:?} numbers, but has {found}")]
    FactorLength {
        /// The name of the weight in the base's files.
        parameter: String,
        /// Which factor it is: `u` or `v`.
        factor: &'static str,
        /// The expected numbers of rows and columns.
        expected: [usize; 2],
        /// The number of elements of the factor.
        found: usize,
    },
    /// A factor contains NaN or infinity.
    #[error("patching `{parameter}`: {factor} has {value} at row {row}, column {column}")]
    NotFinite {
        /// The name of the weight in the base's files.
        parameter: String,
        /// Which factor it is: `u` or `v`.
        factor: &'static str,
        /// The row in the factor, from 0.
        row: usize,
        /// The column in the factor, from 0.
        column: usize,
        /// The value, NaN or infinity.
        value: f32,
    },
    /// An edit changes nothing, because its column of `u` or its row of `v` is zero.
    #[error("patching `{parameter}`: the edit {edit} changes nothing: its part of {factor} is all zero")]
    Null {
        /// The name of the weight in the base's files.
        parameter: String,
        /// Which factor it is: `u` or `v`.
        factor: &'static str,
        /// The meaning digest of the edit.
        edit: Digest,
    },
    /// The base has no editable weight of this name.
    #[error("the base has no weight `{parameter}` that can be edited: the patch is for another model")]
    NoParameter {
        /// The name of the weight in the base's files.
        parameter: String,
    },
    /// The base stores the weight in another dtype.
    #[error(
        "`{parameter}` is {found} in this base, but the patch was made for {expected}: build it again for this base, \
         or use the base in {expected}"
    )]
    BaseDtype {
        /// The name of the weight in the base's files.
        parameter: String,
        /// The dtype that the patch requires.
        expected: Dtype,
        /// The dtype in the base.
        found: Dtype,
    },
    /// The weight has another shape in the base.
    #[error("`{parameter}` has shape {found:?} in this base, but the patch was made for {expected:?}")]
    BaseShape {
        /// The name of the weight in the base's files.
        parameter: String,
        /// The shape that the patch requires.
        expected: [u64; 2],
        /// The shape in the base.
        found: Vec<u64>,
    },
    /// The weight has other bytes in the base.
    #[error("`{parameter}` is {found} in this base, but the patch was made for {expected}: this is another model")]
    BaseDigest {
        /// The name of the weight in the base's files.
        parameter: String,
        /// The SHA-256 that the patch requires.
        expected: Digest,
        /// The SHA-256 of the weight in the base.
        found: Digest,
    },
    /// The given weight has the wrong number of elements.
    #[error("applying the patch to `{parameter}`: expected {expected} numbers, found {found}")]
    WeightLength {
        /// The name of the weight in the base's files.
        parameter: String,
        /// The number of elements in the target's shape.
        expected: usize,
        /// The number of elements that were given.
        found: usize,
    },
    /// The patched weight contains NaN or infinity.
    #[error(
        "applying the patch to `{parameter}` gives a number that is not finite at [{row}, {column}], element {index}"
    )]
    Diverged {
        /// The name of the weight in the base's files.
        parameter: String,
        /// The row in the stored orientation, from 0.
        row: usize,
        /// The column in the stored orientation, from 0.
        column: usize,
        /// The index into the stored tensor, from 0.
        index: usize,
    },
}
