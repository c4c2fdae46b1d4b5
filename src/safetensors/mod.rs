//! The safetensors format: a strict reader of headers and a canonical writer.
//!
//! A file is `n` (u64, little endian), `n` bytes of JSON, then the tensors' bytes without gaps. Headers are untrusted
//! input: [`Header::parse`] rejects a file unless every byte of it is accounted for exactly once. [`write`] is our own
//! because the bytes are hashed: the same tensors always give the same file. Nothing here does I/O, and pickles are
//! rejected, never read.

mod dtype;
mod header;
mod pickle;
mod write;

pub use dtype::Dtype;
pub use header::{Header, HeaderError, MAX_HEADER, TensorInfo};
pub use pickle::{PickleError, refuse_pickle};
pub use write::{Tensor, header_bytes, write};
