//! Escapes the texts of commits and facts for output, because their authors are not trusted.

use crate::diagnostics::{escape_controls, truncate_middle};

/// Escapes control characters, including line breaks, and the text `##[`, which some build servers read as the start of
/// a command.
pub(super) fn shown(text: &str) -> String {
    escape_controls(text).replace("##[", "\\u{23}#[")
}

/// Shortens a text of more than 4,096 bytes, and then escapes it as [`shown`] does. Without this limit, one text of a
/// commit could fill the output with megabytes.
pub(super) fn brief(text: &str) -> String {
    shown(&truncate_middle(text))
}
