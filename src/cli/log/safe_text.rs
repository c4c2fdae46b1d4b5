//! Makes the texts of commits and facts safe to print.

use crate::diagnostics::{escape_controls, truncate_middle};

/// Escapes the control characters of a text, including line breaks, and the sequence `##[`, which some build servers
/// read as the start of a command.
pub(super) fn shown(text: &str) -> String {
    escape_controls(text).replace("##[", "\\u{23}#[")
}

/// Truncates a text and escapes it like [`shown`], because texts of a commit can be megabytes long.
pub(super) fn brief(text: &str) -> String {
    shown(&truncate_middle(text))
}
