//! Opens a model folder: validates its files and memory-maps its weights. Never writes to the folder.
//!
//! - [`checkpoint`]: an opened model folder in the layout of the Hugging Face Hub;
//! - [`tensor`]: one tensor of a checkpoint;
//! - `tied`: checks the output matrix that a model with tied embeddings stores;
//! - [`hub`]: finds models of the Hub in the local cache, and limits where links in a model folder may lead;
//! - [`remark`]: warnings about a model that can be opened;
//! - `storage`: errors that explain why a model cannot be opened;
//! - `files`: finds and memory-maps the weights files.

pub mod checkpoint;
pub(crate) mod files;
pub mod hub;
pub mod remark;
pub(crate) mod storage;
pub mod tensor;
pub(crate) mod tied;
