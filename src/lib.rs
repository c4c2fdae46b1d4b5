//! corrigenda.

pub mod digest;
pub mod patch;
pub mod safetensors;
pub mod store;
