//! Tests a set of edits, and compares two sides. A side is the base model, a patch, a checkpoint, or a project on disk
//! or at a git revision.
//!
//! - [`answers`]: converts model predictions to the answers of a report;
//! - [`test_run`]: checks the expectations and limits of a project, for the command `test`;
//! - [`bisect`]: finds the edits that break an expectation;
//! - [`measure`]: measures two models, and reuses cached results;
//! - [`side`]: opens a side of a comparison by its name;
//! - [`consequences`]: asks the conditions of consequences;
//! - [`diff`](mod@diff): compares the facts, weights and behaviour of two sides.
//!
//! This module does not print: it returns its results as a [`Report`](crate::report::Report).

pub mod answers;
pub mod bisect;
pub mod consequences;
mod continuations;
pub mod diff;
pub mod measure;
pub mod side;
pub mod test_run;
