//! Converts between texts and tokens.
//!
//! - [`tokens`]: the tokenizer, and the last token of a subject;
//! - [`chat`]: the chat template, rendered around a user message;
//! - `tokenizer_check`: rejects tokenizer files that would end the process or exhaust memory in the library;
//! - `catch_panic`: turns a panic of a library into an error.

pub(crate) mod catch_panic;
pub mod chat;
pub(crate) mod tokenizer_check;
pub mod tokens;
