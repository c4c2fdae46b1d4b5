//! Describes an architecture as data, without weights.
//!
//! - [`family`]: the tensor names and the wiring of each architecture, as constants;
//! - [`spec`]: the dimensions and options in a parsed `config.json`;
//! - [`rope`]: the table of rotary position embeddings; `rope_config`: the keys of `config.json` that describe it;
//! - [`activation`]: the activation functions of the MLP and their derivatives;
//! - `config` and `windows`: readers of `config.json` and of its sliding windows.

pub mod activation;
pub(crate) mod config;
pub mod family;
pub mod rope;
pub(crate) mod rope_config;
pub mod spec;
pub(crate) mod windows;
