//! corrigenda.

pub mod digest;
pub mod safetensors;
