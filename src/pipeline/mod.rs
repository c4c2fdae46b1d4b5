//! Builds a patch and a lock from declared facts and a base model.
//!
//! The modules, in the order of the data flow:
//!
//! - [`base`](mod@base): the base model, its tokenizer, and the digests that identify it;
//! - [`setup`]: the project's settings, or the defaults: layer, context templates, optimisation, statistics;
//! - [`plan`](mod@plan): every edit resolved to tokens and positions, with findings that point into its file;
//! - `planned`: the resolved edits, and their entries in the lock;
//! - [`other_base`]: the tokens and predictions of the facts with another base model;
//! - [`sinks`]: subjects that end at an attention sink, and the prefaces that avoid it;
//! - [`objects`]: each edit compiled alone, or read from the store;
//! - [`refusal`]: why an edit cannot be compiled, stored so that the search is not repeated;
//! - [`statistics`]: the second moments of the keys and their factors, read from the store or computed;
//! - [`link_inputs`]: the inputs of a link: objects, factors and neutral sentences;
//! - [`linker`]: the link: one solve for all edits, and the patch;
//! - [`plan_linker`]: the linker of a plan, with errors that point into the files of the edits;
//! - [`key_similarity`]: warnings about edits whose keys are nearly parallel;
//! - [`policy_limits`]: the policy limits that need the patched model;
//! - [`locked_patch`]: the patch that the lock names, for commands that do not build;
//! - [`patch_ref`]: a patch that the user names by id or by file;
//! - [`obtain_patch`]: the patch of a project on disk or at a past revision, read from the store or built;
//! - [`record`]: the measured figures of a build, stored so that a build without changes only reads them;
//! - [`build_inputs`]: the inputs that these figures depend on, and their address in the store;
//! - `linked_set`: a linked set with its figures, read from the store or computed;
//! - [`lock_checks`]: compares the lock with the base and the inputs, and writes it;
//! - [`provenance`]: an unsigned provenance statement of a patch;
//! - `warnings`: warnings about the facts, the corpus and the size of a set;
//! - `context`: the inputs that the steps of a build share;
//! - [`build`](mod@build): the steps of a build in order, and the lock.
//!
//! This module does not print and never writes to the base. Outside the store it writes only the lock, and the
//! provenance statement if one is requested.

pub mod base;
pub mod build;
pub mod build_inputs;
mod context;
pub mod key_similarity;
pub mod link_inputs;
mod linked_set;
pub mod linker;
pub mod lock_checks;
pub mod locked_patch;
pub mod objects;
pub mod obtain_patch;
pub mod other_base;
pub mod patch_ref;
pub mod plan;
pub mod plan_linker;
mod planned;
pub mod policy_limits;
pub mod provenance;
pub mod record;
pub mod refusal;
pub mod setup;
pub mod sinks;
pub mod statistics;
mod warnings;

pub use base::Base;
pub use build::{BuildOptions, Built, build};
pub use build_inputs::BuildInputs;
pub use context::BuildContext;
pub use plan::plan;
pub use planned::{Plan, PlannedEdit};
pub use record::BuildRecord;
pub use setup::Setup;
