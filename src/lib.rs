//! Compiles facts, declared in versioned files, into one small, content-addressed weight patch for a language model.
//! The patch has the same bytes on every machine.
//!
//! The modules of a build, from the bottom up:
//!
//! - [`diagnostics`]: findings as values: codes, labels, help. It depends on no other module.
//! - [`numeric`]: `portable-1`, the arithmetic that determines the bytes. It does no I/O and does not depend on models.
//! - [`safetensors`]: the strict header reader and the canonical writer.
//! - [`patch`]: the patch file: canonical bytes, strict reading, application to the base's tensors, norms.
//! - [`store`]: content-addressed files: atomic writes, verified reads, removal, export and import.
//! - [`project`]: the files of a project: edit sets, settings and `corrigenda.lock`. One run reports all findings of
//!   all files. The module does not depend on models.
//! - [`history`]: git: the project at a commit, and when, by whom and why each fact changed. No other module uses git.
//! - [`model`]: a decoder-only transformer, described by data: memory-mapped weights, tokenizer, the hook at one MLP,
//!   the forward pass and its hand-written backward pass.
//! - [`compile`]: compiles one edit against the base, independently of other edits: its key and its value.
//! - [`stats`]: the second moment of the keys, over a corpus or as published, and its Cholesky factor.
//! - [`link`]: links all edits of a set into one change of the weights: the closed form, its refinement, and the
//!   editors MEMIT, EMMET and AlphaEdit.
//! - [`behaviour`]: measures the answers of a model, and whether a patch changes them.
//! - [`pipeline`]: builds a patch and `corrigenda.lock` from declared facts and a base. It also has the steps of `plan`
//!   and `test`.
//!
//! The modules that use a patch:
//!
//! - [`review`]: expectations, limits and comparisons for the review of a change.
//! - [`export`]: writes the patched model for other programs, as a checkpoint or as one of two kinds of adapter.
//! - [`verify`]: checks the lock, the store, exports and patches against their digests, or by repeating the build.
//! - [`research`]: benchmarks of editing methods, causal tracing, and the search for a layer.
//!
//! The modules of the interface:
//!
//! - [`cli`]: the command line, with one module per command.
//! - [`report`]: the result of a command as one value, and its formats for people and programs.
//! - [`schema`]: the JSON Schemas of the project's files and of reports; those of the other answers are in [`cli`].
//! - [`ui`] and [`progress`]: the output to the terminal, and the progress reports of long work.
//!
//! Small helpers: [`digest`] (SHA-256, and the hash of structured values), `regular_file` (reads untrusted files) and
//! `home` (expands `~` in paths that no shell has expanded).
//!
//! Invariants: no code writes to a base model, opens a socket, or executes data. The result of a row in a batch does
//! not depend on the other rows.
//!
//! # Use as a library
//!
//! The items at the root of the crate are its interface: load a [`Project`], open a [`Store`], [`build()`], and apply
//! the [`Patch`] to a [`Base`]. The modules are internal and may change in every version.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use corrigenda::{BuildOptions, Failure, Isa, NoProgress, Project, RenderStyle, Store, build, render};
//!
//! fn patch_id(folder: &Path, cache: &Path) -> Result<String, Failure> {
//!     let project = Project::load(folder)?;
//!     let store = Store::open(cache.to_owned());
//!     // As `corrigenda build --locked`: an error if the lock would change.
//!     let options = BuildOptions { isa: Isa::detect(), locked: true, update_base: false };
//!     let built = build(&project, &store, options, &NoProgress)?;
//!     Ok(built.record.patch.to_string())
//! }
//!
//! match patch_id(Path::new("facts"), Path::new("cache")) {
//!     Ok(id) => println!("{id}"),
//!     Err(failure) => {
//!         for finding in &failure.findings {
//!             eprintln!("{}", render(finding, &failure.sources, RenderStyle::default()));
//!         }
//!     }
//! }
//! ```

#[doc(hidden)]
pub mod behaviour;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod compile;
#[doc(hidden)]
pub mod diagnostics;
#[doc(hidden)]
pub mod digest;
#[doc(hidden)]
pub mod export;
#[doc(hidden)]
pub mod history;
mod home;
#[doc(hidden)]
pub mod link;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod numeric;
#[doc(hidden)]
pub mod patch;
#[doc(hidden)]
pub mod pipeline;
#[doc(hidden)]
pub mod progress;
#[doc(hidden)]
pub mod project;
mod regular_file;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod research;
#[doc(hidden)]
pub mod review;
#[doc(hidden)]
pub mod safetensors;
#[doc(hidden)]
pub mod schema;
#[doc(hidden)]
pub mod stats;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod ui;
#[doc(hidden)]
pub mod verify;

pub use diagnostics::{Code, Diagnostic, Failure, FailureKind, Findings, RenderStyle, Severity, Sources, render};
pub use numeric::Isa;
pub use patch::{Patch, PatchError};
pub use pipeline::{Base, BuildOptions, BuildRecord, Built, build};
pub use progress::{NoProgress, Progress};
pub use project::{Lock, Project};
pub use store::{Store, StoreError};
