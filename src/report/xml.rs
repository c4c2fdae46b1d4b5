//! Escapes texts for XML 1.0, which cannot represent most control characters.

use std::fmt::Write as _;

use crate::diagnostics::escape_controls;

/// Escapes a text for the content of an element. Line breaks are preserved.
pub(super) fn text(text: &str) -> String {
    text.split('\n').map(attribute).collect::<Vec<_>>().join("\n")
}

/// Escapes a text for the value of an attribute. Line breaks are escaped too, so the value is on one line.
pub(super) fn attribute(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in escape_controls(text).chars() {
        match character {
            '&' | '<' | '>' | '"' | '\'' => {
                // Writing to a `String` cannot fail.
                let _ = write!(out, "&#{};", u32::from(character));
            }
            // Unicode allows these two code points, but XML 1.0 does not.
            '\u{fffe}' | '\u{ffff}' => out.extend(character.escape_unicode()),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
#[path = "xml_tests.rs"]
pub(super) mod tests;
