//! corrigenda.

pub mod digest;
pub mod project;
