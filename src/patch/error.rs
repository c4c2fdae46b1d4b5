//! What can be wrong with a patch, or with what it is laid on.

use crate::digest::Digest;
use crate::safetensors::{Dtype, HeaderError};

use super::bytes::FORMAT;

/// A patch that cannot be read, made or applied.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// Not safetensors at all.
    #[error("reading the patch's header: {0}")]
    Header(#[from] HeaderError),
    /// The metadata is not ours.
    #[error("this is no patch: its metadata should have the single key `corrigenda`, it has {found:?}")]
    NotAPatch {
        /// The keys found.
        found: Vec<String>,
    },
    /// Made by a later release.
    #[error("the patch has format {found}, this program reads up to {FORMAT}: it needs a newer corrigenda")]
    Newer {
        /// The format found.
        found: u64,
    },
    /// The metadata says something else than a patch does.
    #[error("reading the patch's metadata `corrigenda`: {0}")]
    Metadata(String),
    /// A tensor is not there.
    #[error("the patch lacks the tensor `{tensor}`")]
    Missing {
        /// Its name.
        tensor: String,
    },
    /// A tensor belongs to no target.
    #[error("the patch holds the tensor `{tensor}`, which belongs to none of its targets")]
    Extra {
        /// Its name.
        tensor: String,
    },
    /// A tensor has another type or shape than its target says.
    #[error("patch tensor `{tensor}`: expected F32 of shape {expected:?}, found {dtype} of shape {found:?}")]
    Shape {
        /// Its name.
        tensor: String,
        /// The shape by its target.
        expected: [u64; 2],
        /// The type found.
        dtype: Dtype,
        /// The shape found.
        found: Vec<u64>,
    },
    /// The same content in other bytes: it would have a second address.
    #[error("the patch is not in canonical form: its bytes differ from byte {offset} on")]
    NotCanonical {
        /// Offset of the first differing byte.
        offset: usize,
    },
    /// The stored type cannot be patched.
    #[error("patching `{parameter}`: a base of type {found} cannot be patched (F32, F16 and BF16 can)")]
    Dtype {
        /// The parameter.
        parameter: String,
        /// Its type.
        found: Dtype,
    },
    /// No edit, no output or no input.
    #[error("patching `{parameter}` changes nothing: it has no name, no edit or no size")]
    Nothing {
        /// The parameter.
        parameter: String,
    },
    /// Edits out of order or twice.
    #[error("patching `{parameter}`: edits must be strictly ascending, {second} follows {first}")]
    EditOrder {
        /// The parameter.
        parameter: String,
        /// The edit before.
        first: Digest,
        /// The edit after.
        second: Digest,
    },
    /// A factor of the wrong size.
    #[error("patching `{parameter}`: {factor} should hold {expected:?} numbers, it holds {found}")]
    FactorLength {
        /// The parameter.
        parameter: String,
        /// `u` or `v`.
        factor: &'static str,
        /// Rows and columns.
        expected: [usize; 2],
        /// Numbers found.
        found: usize,
    },
    /// NaN or infinity in a factor.
    #[error("patching `{parameter}`: {factor} holds {value} at row {row}, column {column}")]
    NotFinite {
        /// The parameter.
        parameter: String,
        /// `u` or `v`.
        factor: &'static str,
        /// Row.
        row: usize,
        /// Column.
        column: usize,
        /// The value.
        value: f32,
    },
    /// An edit without effect.
    #[error("patching `{parameter}`: the edit {edit} is null, its part of {factor} is all zero")]
    Null {
        /// The parameter.
        parameter: String,
        /// `u` or `v`.
        factor: &'static str,
        /// The edit.
        edit: Digest,
    },
    /// The base has no such tensor to patch.
    #[error("the base has no weight `{parameter}` that can be edited: the patch is for another model")]
    NoParameter {
        /// The parameter.
        parameter: String,
    },
    /// The base stores another type.
    #[error(
        "`{parameter}` is {found} in this base, the patch was made for {expected}: build it again for this base, or \
         use the base in {expected}"
    )]
    BaseDtype {
        /// The parameter.
        parameter: String,
        /// The type it was made for.
        expected: Dtype,
        /// The type found.
        found: Dtype,
    },
    /// The base has another shape.
    #[error("`{parameter}` has shape {found:?} in this base, the patch was made for {expected:?}")]
    BaseShape {
        /// The parameter.
        parameter: String,
        /// The shape it was made for.
        expected: [u64; 2],
        /// The shape found.
        found: Vec<u64>,
    },
    /// The base holds other numbers.
    #[error("`{parameter}` is {found} in this base, the patch was made for {expected}: this is another model")]
    BaseDigest {
        /// The parameter.
        parameter: String,
        /// The digest it was made for.
        expected: Digest,
        /// The digest found.
        found: Digest,
    },
    /// The weight given has another number of elements.
    #[error("applying the patch to `{parameter}`: expected {expected} numbers, {found} were given")]
    WeightLength {
        /// The parameter.
        parameter: String,
        /// Numbers by the target's shape.
        expected: usize,
        /// Numbers given.
        found: usize,
    },
    /// NaN or infinity in the patched weight.
    #[error(
        "applying the patch to `{parameter}` gives a number that is not finite at [{row}, {column}], element {index}"
    )]
    Diverged {
        /// The parameter.
        parameter: String,
        /// Row as stored.
        row: usize,
        /// Column as stored.
        column: usize,
        /// Index into the stored tensor.
        index: usize,
    },
}
