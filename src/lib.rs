//! corrigenda.

pub mod digest;
pub mod numeric;
