//! The safetensors format: a strict reader of headers and a canonical writer.
//!
//! A file is `n` (u64, little endian), `n` bytes of JSON, then the tensors' bytes with no gap. Headers come
//! from strangers, so [`Header::parse`] believes nothing: every byte of the file is accounted for exactly once
//! or the file is refused. [`write`] is ours because the bytes are hashed: the same tensors always give the
//! same file. Invariant: nothing here does I/O, and pickles are refused, never read.

mod dtype;
mod header;
mod pickle;
mod write;

pub use dtype::Dtype;
pub use header::{Header, HeaderError, MAX_HEADER, TensorInfo};
pub use pickle::{PickleError, refuse_pickle};
pub use write::{Tensor, header_bytes, write};
