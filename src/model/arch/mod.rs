//! Describes an architecture as data, without weights.
//!
//! - [`family`]: the tensor names and the optional parts of each architecture, as constants;
//! - [`spec`]: the dimensions and options of one model, read from `config.json`; `llama`: those of the families with the
//!   blocks of Llama;
//! - [`rope`]: rotary position embedding; `rope_config`: the keys of `config.json` that describe it;
//! - [`activation`]: the activation functions of the MLP and their derivatives;
//! - `config`: typed access to the values of `config.json`; `windows`: the attention window of each layer, and
//!   which layers apply RoPE.

pub mod activation;
pub(crate) mod config;
pub mod family;
mod llama;
pub mod rope;
pub(crate) mod rope_config;
pub mod spec;
pub(crate) mod windows;
