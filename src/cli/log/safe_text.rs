//! Makes the texts of commits and facts safe to print.

use crate::diagnostics::{escape_controls, truncate_middle};

/// Makes a text safe to print: on one line, and without `##[`, which some build servers read as a command.
pub(super) fn shown(text: &str) -> String {
    escape_controls(text).replace("##[", "\\u{23}#[")
}

/// Makes a text safe to print like [`shown`], and truncates it, because texts of a commit can be megabytes long.
pub(super) fn brief(text: &str) -> String {
    shown(&truncate_middle(text))
}
