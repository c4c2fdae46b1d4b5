//! Escapes the texts of commits and facts for output, because their authors are not trusted.

use crate::diagnostics::{escape_controls, truncate_middle};

/// Escapes control characters, including line breaks, and the text `##[`, which some build servers read as the start of
/// a command.
pub(super) fn shown(text: &str) -> String {
    escape_controls(text).replace("##[", "\\u{23}#[")
}

/// Truncates a text and then escapes it as [`shown`] does. Texts of a commit can be megabytes long.
pub(super) fn brief(text: &str) -> String {
    shown(&truncate_middle(text))
}
