//! Compiles facts into a patch of the weights of a language model. The facts are declared in versioned files. The patch
//! has the same bytes on every machine, and its id is the SHA-256 of these bytes.
//!
//! The modules of a build, from the lowest level to the highest:
//!
//! - [`diagnostics`]: defines findings (errors and warnings), each with a code, labels and help. It uses no other
//!   module.
//! - [`numeric`]: implements `portable-1`, arithmetic that gives the same bytes on every machine.
//! - [`safetensors`]: reads the headers of safetensors files, and writes safetensors files.
//! - [`patch`]: reads, writes, applies and measures patches.
//! - [`store`]: stores files in the cache, and verifies them when they are read.
//! - [`project`]: reads the files of a project: edits, settings and `corrigenda.lock`. One run reports the findings of
//!   all files.
//! - [`history`]: reads the project's files in a git commit, and finds when, by whom and why each fact changed.
//! - [`model`]: opens and runs decoder-only transformers.
//! - [`compile`]: computes the MLP key and the MLP value of one edit, independently of other edits.
//! - [`stats`]: computes the second moment of the MLP keys over a corpus, and its Cholesky factor.
//! - [`link`]: combines several edits into one change of the weights: in closed form, by joint optimisation, or with
//!   MEMIT, EMMET or AlphaEdit.
//! - [`behaviour`]: measures the answers of a model, and whether a patch changes them.
//! - [`pipeline`]: builds a patch and `corrigenda.lock` from the declared facts and a base model.
//!
//! The modules that use a patch:
//!
//! - [`review`]: tests expectations and limits, and compares two versions of a project or model.
//! - [`export`]: writes the patched model as a checkpoint, or the patch as an adapter for transformers or llama.cpp.
//! - [`verify`]: checks models, patches and exports against the digests in `corrigenda.lock` and in the manifests of
//!   exports, and can repeat a build.
//! - [`research`]: compares editing methods, trains the editors MEND and KE, locates facts in a model by causal tracing,
//!   and searches for the layer to edit.
//!
//! The modules of the user interface:
//!
//! - [`cli`]: implements the command line, with one module per command.
//! - [`report`]: represents the result of a command as one value, and formats it for people and programs.
//! - [`schema`]: generates the JSON Schemas of project files and of reports; [`cli`] generates those of other output.
//! - [`ui`]: writes to the terminal.
//! - [`progress`]: defines the interface for progress reports of long computations.
//!
//! Three small modules are used everywhere: [`digest`] computes SHA-256 digests, `regular_file` reads untrusted files,
//! and `home` replaces a leading `~` in paths.
//!
//! No module writes to a base model, opens a socket, or reads pickle files, which could execute code. If a model runs
//! several texts in one batch, the result for each text is the same as without the other texts.
//!
//! # Use as a library
//!
//! The items that this page lists at the root of the crate are the public interface. Load a [`Project`], open a
//! [`Store`], call [`build()`], and apply the [`Patch`] to a [`Base`]. The modules are internal and may change in every
//! version.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use corrigenda::{BuildOptions, Failure, Isa, NoProgress, Project, RenderStyle, Store, build, render};
//!
//! fn patch_id(folder: &Path, cache: &Path) -> Result<String, Failure> {
//!     let project = Project::load(folder)?;
//!     let store = Store::open(cache.to_owned());
//!     // Like `corrigenda build --locked`, this build fails if it would change `corrigenda.lock`.
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
