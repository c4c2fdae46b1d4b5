//! A decoder described by data: weights read in place from the map, tokens, the hook at one MLP.
//!
//! - [`family`]: what distinguishes one architecture from another, as constants and a parsed `config.json`;
//! - [`checkpoint`]: a folder in the Hub's layout, opened, validated, mapped; never written;
//! - [`tokens`]: the tokenizer, and where a subject ends;
//! - [`rows`]: several texts laid end to end, without padding;
//! - [`decoder`]: the forward pass, block by block, with the hook;
//! - [`reverse`]: its hand-written reverse pass, for the gradient by a hidden state (never by a weight);
//! - [`continued`]: going on with a text without computing what came before again;
//! - [`above`]: the part of a model above one layer, with everything that is constant computed once.
//!
//! A row's result depends on the row alone: not on the rows beside it, not on threads.

pub mod above;
pub mod checkpoint;
pub mod continued;
pub mod decoder;
mod error;
pub mod family;
pub mod reverse;
pub mod rows;
pub mod tokens;

pub use checkpoint::{Checkpoint, Tensor};
pub use decoder::Model;
pub use error::ModelError;
pub use family::Spec;
pub use rows::Rows;
pub use tokens::Tokens;
