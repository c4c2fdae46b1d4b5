//! Facts to change in a language model are declared in versioned files; a compiler turns them into one small,
//! content-addressed weight patch, the same bytes on every machine.
//!
//! The map of the house, as far as it is built:
//!
//! - [`numeric`]: `portable-1`, the arithmetic that makes the bytes. No I/O; knows nothing of models.
//! - [`model`]: a decoder described by data: weights read in place, tokens, the hook at one MLP, the forward pass
//!   and its hand-written reverse.
//! - [`compile`]: one edit alone against the base: its key and its value.
//! - [`stats`]: the second moment of the keys, over a corpus or as it was published, and its factor.
//! - [`link`]: all edits of a set in one change of the weights: the closed form, its refinement, and the mass editors.
//! - [`build`]: declared facts and a base in, a patch and a lock out; `plan`, `build` and the ground of `test`.
//! - [`behaviour`]: what a model says, and whether it changed.
//! - [`trace`]: causal tracing: where in the model a fact is held.
//! - [`review`]: expectations, gates and comparisons: what a reviewer asks of a change.
//! - [`bench`]: published datasets, metrics and editors, side by side.
//! - [`safetensors`]: the strict header reader and the canonical writer.
//! - [`patch`]: the object that ships: canonical bytes, strict reading, materialising, norms.
//! - [`store`]: content-addressed files: atomic writes, verified reads, gc, export and import.
//! - [`project`]: what people write: edit sets, settings and the lock, with every finding of every file in one run.
//!   Knows no model.
//! - [`history`]: git: the project at a commit, and when, by whom and why each fact changed. Nothing else knows of git.
//! - `home`: `~` in paths that no shell has seen.
//! - [`figure`]: drawings, the same in dots, and their place on a page.
//! - [`export`]: a patch laid on its base, written somewhere else: a checkpoint, or an adapter of two kinds.
//! - [`audit`]: what `verify` finds: claims held against bytes, and a lock held against everything computed again.
//! - [`report`]: what a verb found, as one value, and the forms in which people and programs read it.
//! - [`cli`], [`ui`], [`progress`]: one file per verb; the only door to the terminal; what long work reports to.
//! - [`digest`]: SHA-256, and the one way in which structured things are hashed.
//!
//! Invariants: nothing writes to a base model; nothing opens a socket; nothing is executed from data; a row's
//! result depends on the row alone.

pub mod audit;
pub mod behaviour;
pub mod bench;
pub mod build;
pub mod cli;
pub mod compile;
pub mod digest;
pub mod export;
pub mod figure;
pub mod history;
mod home;
pub mod link;
pub mod model;
pub mod numeric;
pub mod patch;
mod plain;
pub mod progress;
pub mod project;
pub mod report;
pub mod review;
pub mod safetensors;
pub mod stats;
pub mod store;
pub mod trace;
pub mod ui;
