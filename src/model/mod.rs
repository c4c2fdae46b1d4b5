//! Reads and runs decoder-only language models. The weights are read in place from the mapped file, and a hook reads
//! the keys and values of one layer's MLP.
//!
//! - [`family`]: the tensor names and the wiring of each architecture, as constants;
//! - [`spec`]: the dimensions and options in a parsed `config.json`; [`rotary`]: RoPE;
//! - `storage`: errors that explain why a model cannot be opened;
//! - [`checkpoint`]: a folder in the Hub's layout, which is validated and memory-mapped, and never written to;
//! - [`tensor`]: one tensor of a checkpoint, in the type of the file;
//! - [`remark`]: warnings about a model that can be opened;
//! - [`hub`]: resolves names of models on the Hub in the local cache, and defines which targets links may have;
//! - [`tokens`]: the tokenizer, and the last token of a subject;
//! - [`chat`]: the chat template, rendered around a user message;
//! - [`rows`]: ragged batches of texts, without padding;
//! - [`decoder`]: the forward pass, block by block, with the hook; `halves`: the two halves of a block;
//! - [`reverse`]: the hand-written reverse pass, which computes gradients of hidden states and never of weights;
//! - [`continued`]: incremental decoding with a KV cache;
//! - [`openings`]: the KV cache of prefixes that several rows share;
//! - [`above`]: the layers above the edited one, for evaluations in which one hidden state of each row changes;
//! - [`upper`]: the layers from one MLP down-projection upward, for evaluations in which its weight changes;
//! - [`neurons`]: the inputs of one MLP's activation at one position, and their gradients;
//! - [`traced`]: activation caches of whole runs, and patched runs that resume from them.
//!
//! The result of a row depends only on the row: not on the other rows of its batch, and not on the number of threads.

pub mod above;
pub mod activation;
mod caught;
pub mod chat;
pub mod checkpoint;
mod config;
pub mod continued;
pub mod decoder;
mod error;
pub mod family;
mod files;
mod halves;
pub mod hub;
pub mod neurons;
pub mod openings;
mod precheck;
pub mod remark;
pub mod reverse;
mod rope;
pub mod rotary;
pub mod rows;
pub mod spec;
mod storage;
pub mod tensor;
mod tied;
pub mod tokens;
pub mod traced;
pub mod upper;
mod windows;

pub use chat::Prompt;
pub use checkpoint::Checkpoint;
pub use decoder::Model;
pub use error::ModelError;
pub use rows::Rows;
pub use spec::Spec;
pub use tensor::Tensor;
pub use tokens::Tokens;
