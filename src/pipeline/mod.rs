//! Builds a patch and `corrigenda.lock` from the edits of a project and a base model.
//!
//! A build runs these steps:
//!
//! 1. [`base`](mod@base) opens the base model, and [`setup`] reads the settings.
//! 2. [`plan`](mod@plan) tokenizes every edit, and [`sinks`] chooses prefaces for subjects at an attention sink.
//! 3. [`objects`] compiles each edit alone, and [`statistics`] computes the second moments of the MLP keys.
//! 4. [`linker`] solves for all edits at once and makes the patch.
//! 5. [`record`] measures the patched model, and [`policy_limits`] checks the limits of the project.
//! 6. [`build`](mod@build) runs these steps in order, stores the patch and writes `corrigenda.lock`.
//!
//! The modules [`locked_patch`], [`obtain_patch`] and [`patch_ref`] find a patch for other commands.
//!
//! This module does not print and never writes to the base model. Outside the store it writes only `corrigenda.lock`,
//! and a provenance statement if the user requests one.

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
pub mod tasks;
mod warnings;

pub use base::Base;
pub use build::{BuildOptions, Built, build};
pub use build_inputs::BuildInputs;
pub use context::BuildContext;
pub use plan::plan;
pub use planned::{Plan, PlannedEdit};
pub use record::BuildRecord;
pub use setup::Setup;
