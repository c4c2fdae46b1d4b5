//! A patch laid on its base and written somewhere else: a checkpoint that other programs load.
//!
//! Read in the order of the flow:
//!
//! - [`folder`]: the files of a checkpoint folder, and where links may lead;
//! - [`weights`]: safetensors files by their headers, and the tensors that a patch replaces in them;
//! - [`fact`]: what a patch is for, in words;
//! - [`manifest`], [`card`]: what an export says about itself, for programs and for people;
//! - [`checkpoint`](mod@checkpoint): all of it written into a new folder, read back, and put in its place.
//!
//! An export knows names and headers, not families: what a tensor means is the patch's affair. Its bytes are a
//! function of base, patch and facts: no time, no host, no path. The base is only ever read.

pub mod card;
pub mod checkpoint;
mod error;
pub mod fact;
pub mod folder;
pub mod manifest;
pub mod place;
pub mod weights;

pub use checkpoint::{Exported, Request, checkpoint};
pub use error::ExportError;
pub use fact::Fact;
pub use manifest::{MANIFEST_FILE, Manifest};
