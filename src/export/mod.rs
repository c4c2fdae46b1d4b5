//! Exports a patch in the forms that other programs load.
//!
//! Read in the order of the flow:
//!
//! - [`folder`]: the files of a checkpoint folder, and where its links may point;
//! - [`weights`]: safetensors files by their headers, and the tensors that a patch replaces;
//! - [`fact`]: the facts of a patch, with their texts;
//! - [`manifest`], [`card`]: the description of an export, for programs and for people;
//! - [`place`]: the checked destination, and the atomic move to it;
//! - [`checkpoint`](mod@checkpoint): the whole base with the patch applied;
//! - [`lora`]: the patch as LoRA factors of one rank;
//! - [`peft`](mod@peft): the factors in the PEFT format, for transformers;
//! - [`gguf`], [`llama_cpp`](mod@llama_cpp): the GGUF format, and the factors in it, for llama.cpp.
//!
//! A checkpoint export uses tensor names and headers only; it needs no knowledge of the model family. An adapter
//! names modules, which depend on the family. The bytes of an export depend only on base, patch, facts, settings and
//! the base's name; they contain no time, host or path. Every export is read back and compared before it is moved to
//! its destination. The base is only read.

pub mod card;
pub mod checkpoint;
mod error;
pub mod fact;
pub mod folder;
pub mod gguf;
pub mod llama_cpp;
pub mod lora;
pub mod manifest;
pub mod peft;
pub mod place;
pub mod weights;

pub use checkpoint::{Exported, Request, checkpoint};
pub use error::ExportError;
pub use fact::Fact;
pub use llama_cpp::{LlamaCpp, llama_cpp};
pub use manifest::{MANIFEST_FILE, Manifest};
pub use peft::{Named, Peft, peft};
