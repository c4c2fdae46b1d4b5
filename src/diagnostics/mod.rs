//! Findings: what is wrong with a project, a model, the store or an export, as values that every part of the program
//! returns and only the top of it prints.
//!
//! - [`Code`] is the table of all codes: stable name, default severity, one sentence.
//! - [`Diagnostic`] is one finding, with labels that mark places in [`Sources`], and help.
//! - [`Findings`] is a list of diagnostics with the texts that they mark.
//! - [`Place`] is a place in a file by lines and columns, for output to other programs.
//! - [`render()`] shows a diagnostic on a terminal; [`visible`], [`quoted`] and [`legible`] escape texts.
//!
//! This module depends on no other module of the crate.

mod code;
mod diagnostic;
mod escape;
mod place;
mod snippet;
mod sources;

pub use code::{Code, Severity};
pub use diagnostic::{Capped, Diagnostic, Findings, Label, sort, summary};
pub use escape::{is_bidi, is_control, legible, quoted, visible};
pub use place::Place;
pub use snippet::{RenderStyle, render};
pub use sources::{FileId, Position, Sources};
