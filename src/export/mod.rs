//! Exports a patch in the formats that other programs load.
//!
//! - [`folder`]: lists the files of a checkpoint folder and checks where its links point;
//! - [`weights`]: reads safetensors headers and computes the tensors that a patch replaces;
//! - [`fact`]: collects the texts of the facts in a patch;
//! - [`manifest`]: describes an export for programs;
//! - [`card`]: describes an export for people;
//! - [`destination`]: checks the destination and moves the export to it atomically;
//! - [`checkpoint`](mod@checkpoint): exports the whole base with the patch applied;
//! - [`lora`]: converts a patch to LoRA factors;
//! - [`peft`](mod@peft): exports the factors as a PEFT adapter, for transformers;
//! - [`gguf`], [`llama_cpp`](mod@llama_cpp): encode and export the factors as a GGUF adapter, for llama.cpp.
//!
//! The bytes of an export depend only on the base, its name, the patch, the facts and the settings. Every export is
//! read back and compared before it is moved to its destination. Files of the base are never changed.

pub mod card;
pub mod checkpoint;
pub mod destination;
mod error;
pub mod fact;
pub mod folder;
pub mod gguf;
pub mod llama_cpp;
pub mod lora;
pub mod manifest;
pub mod peft;
pub mod weights;

pub use checkpoint::{ExportRequest, ExportedCheckpoint, checkpoint};
pub use error::ExportError;
pub use fact::ExportedFact;
pub use llama_cpp::{ExportedGguf, llama_cpp};
pub use manifest::{ExportManifest, MANIFEST_FILE};
pub use peft::{AdapterBase, ExportedPeft, peft};
