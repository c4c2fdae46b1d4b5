//! Reads and writes the safetensors format: a strict parser of headers and a canonical writer.
//!
//! A file consists of `n` (u64, little endian), `n` bytes of JSON, and the tensors' bytes without gaps. Headers are
//! untrusted input: [`Header::parse`] rejects a file unless every byte after its header belongs to exactly one tensor.
//! [`write`] does not use the `safetensors` crate, because the bytes are hashed: the same tensors must always give the
//! same file. Only [`File`] and [`MappedFile`] do I/O. Pickles are rejected and never read.

mod dtype;
mod file;
mod header;
mod layout;
mod pickle;
mod write;

pub use dtype::Dtype;
pub use file::{File, FileError, MappedFile};
pub use header::{Header, HeaderError, MAX_HEADER, TensorInfo};
pub use layout::Layout;
pub use pickle::{PickleError, refuse_pickle};
pub use write::{TensorData, header_bytes, write};
