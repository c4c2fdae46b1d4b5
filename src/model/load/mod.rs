//! Opens a model folder: validates it, maps its weights, and never writes to it.
//!
//! - [`checkpoint`]: a folder in the Hub's layout, which is validated and memory-mapped;
//! - [`tensor`]: one tensor of a checkpoint, in the type of the file; `tied`: output matrices that are stored twice;
//! - [`hub`]: resolves names of models on the Hub in the local cache, and defines which targets links may have;
//! - [`remark`]: warnings about a model that can be opened;
//! - `storage`: errors that explain why a model cannot be opened; `files`: finds and maps the weight files.

pub mod checkpoint;
pub(crate) mod files;
pub mod hub;
pub mod remark;
pub(crate) mod storage;
pub mod tensor;
pub(crate) mod tied;
