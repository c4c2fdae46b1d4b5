//! Converts between texts and tokens.
//!
//! - [`tokens`]: the tokenizer, and the last token of a subject;
//! - [`chat`]: renders a user message with the chat template of the model;
//! - `tokenizer_check`: rejects a tokenizer.json that would crash the tokenizers library or exhaust memory;
//! - `catch_panic`: turns a panic of a library into an error.

pub(crate) mod catch_panic;
pub mod chat;
pub(crate) mod tokenizer_check;
pub mod tokens;
