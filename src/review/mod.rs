//! Tests a set of edits, and compares two sides. A side is the base, a patch, a checkpoint, or a project on disk or at
//! a git revision.
//!
//! - [`answers`]: converts model predictions to the answers of a report;
//! - [`test_run`]: checks expectations, policy limits and accepted shortfalls, for the command `test`;
//! - [`bisect`]: finds the edits that break an expectation;
//! - [`measure`]: measures two models, using cached results;
//! - [`side`]: opens a side of a comparison by its name: the base, a patch, a folder, a revision;
//! - [`diff`](mod@diff): compares the facts, weights and behaviour of two sides.
//!
//! Every result is a [`Report`](crate::report::Report); this module does not print.

pub mod answers;
pub mod bisect;
mod continuations;
pub mod diff;
pub mod measure;
pub mod side;
pub mod test_run;
