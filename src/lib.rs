//! corrigenda.

pub mod digest;
