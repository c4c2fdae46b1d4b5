//! Defines findings: errors and warnings about a project, a model, the store or an export. All modules return findings
//! as values, and only the command line prints them.
//!
//! - [`Code`] is the stable name of a type of finding.
//! - [`Diagnostic`] is one finding, with help and with labels, which mark text in files.
//! - [`Sources`] has the texts of these files.
//! - [`Findings`] is a list of diagnostics with their [`Sources`].
//! - [`Failure`] is the error of a command: its findings, and the kind that determines the exit code.
//! - [`Place`] is a range in a file by lines and columns, for output to other programs.
//! - [`render()`] formats a diagnostic for a terminal.
//! - [`escape_controls`], [`quoted`] and [`truncate_middle`] make texts safe to print.
//! - [`nearest`] and [`most_similar`] find the name that the user probably meant.
//!
//! This module uses no other module of the crate.

mod code;
mod diagnostic;
mod escape;
mod failure;
mod place;
mod snippet;
mod sources;
mod suggest;

pub use code::{Code, Severity};
pub use diagnostic::{CappedFindings, Diagnostic, Findings, Label, sort, summary};
pub use escape::{escape_controls, escape_workflow_commands, is_bidi, is_control, quoted, truncate_middle};
pub use failure::{Failure, FailureKind};
pub use place::Place;
pub use snippet::{RenderStyle, render};
pub use sources::{FileId, Position, Sources};
pub use suggest::{did_you_mean, list_in_words, most_similar, nearest, shorten};
