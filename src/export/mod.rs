//! Exports a patch in the formats that other programs load.
//!
//! - [`folder`]: lists the files of a checkpoint folder and checks where its links point;
//! - [`weights`]: reads safetensors headers and computes the tensors that a patch replaces;
//! - [`fact`]: finds the texts of the facts in a patch;
//! - [`manifest`], [`card`]: describe an export, for programs and for people;
//! - [`destination`]: checks the destination and moves the export to it atomically;
//! - [`checkpoint`](mod@checkpoint): writes the whole base with the patch applied;
//! - [`lora`]: converts a patch to LoRA factors of one rank;
//! - [`peft`](mod@peft): writes the factors in the PEFT format, for transformers;
//! - [`gguf`], [`llama_cpp`](mod@llama_cpp): encode GGUF files and write the factors as one, for llama.cpp.
//!
//! A checkpoint export uses only tensor names and headers, so it does not depend on the model family. An adapter
//! names modules, which depend on the family. The bytes of an export depend only on base, patch, facts, settings and
//! the base's name; they contain no time, host or path. Every export is read back and compared before it is moved to
//! its destination. The base is only read.

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
