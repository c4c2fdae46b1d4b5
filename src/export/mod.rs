//! A patch laid on its base and written somewhere else, in the forms that other programs load.
//!
//! Read in the order of the flow:
//!
//! - [`folder`]: the files of a checkpoint folder, and where links may lead;
//! - [`weights`]: safetensors files by their headers, and the tensors that a patch replaces in them;
//! - [`fact`]: what a patch is for, in words;
//! - [`manifest`], [`card`]: what an export says about itself, for programs and for people;
//! - [`place`]: where an export may stand, and how it gets there whole;
//! - [`checkpoint`](mod@checkpoint): the base with the patch laid on, every file of it;
//! - [`lora`]: the patch as factors of one rank;
//! - [`peft`](mod@peft): the factors for transformers;
//! - [`gguf`], [`llama_cpp`](mod@llama_cpp): the factors for llama.cpp, and the format of its files.
//!
//! A checkpoint knows names and headers, not families: what a tensor means is the patch's affair. An adapter names
//! modules, which is a family's. The bytes are a function of base, patch and facts: no time, no host, no path. Every
//! export is read back and compared before it stands at its place, and the base is only ever read.

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
