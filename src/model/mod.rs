//! A decoder described by data: weights read in place from the map, tokens, the hook at one MLP.
//!
//! - [`family`]: what distinguishes one architecture from another, as constants; [`spec`]: the numbers of a parsed
//!   `config.json`; [`rotary`]: positions that are turned instead of added; `storage`: what is said of models that cannot
//!   be opened;
//! - [`checkpoint`]: a folder in the Hub's layout, whole or in shards, opened, validated, mapped; never written;
//!   [`tensor`]: one tensor of it, in the type of the file;
//! - [`remark`]: what a person should know of a model that can be opened;
//! - [`hub`]: models by their name on the Hub, in the cache on this machine; where links may lead;
//! - [`tokens`]: the tokenizer, and where a subject ends; [`chat`]: what a model reads where a user says something;
//! - [`rows`]: several texts laid end to end, without padding;
//! - [`decoder`]: the forward pass, block by block, with the hook; `halves` has what is in a block;
//! - [`reverse`]: its hand-written reverse pass, for the gradient by a hidden state (never by a weight);
//! - [`continued`]: going on with a text without computing what came before again;
//! - [`openings`]: how texts begin that begin alike, computed once for all of them;
//! - [`above`]: the part of a model above one layer, with everything that is constant computed once, where one state of
//!   each row moves; [`upper`]: the same where a whole matrix does;
//! - [`neurons`]: the inputs of one MLP's activation at one position, and the gradient by them;
//! - [`traced`]: runs that are recorded, and rows that go on from them.
//!
//! A row's result depends on the row alone: not on the rows beside it, not on threads.

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
