//! Texts in XML 1.0, which has no way to write most control characters at all.

use std::fmt::Write as _;

use crate::project::visible;

/// A text for the content of an element; its lines stay lines.
pub(super) fn text(text: &str) -> String {
    text.split('\n').map(attribute).collect::<Vec<_>>().join("\n")
}

/// A text for the value of an attribute, on one line.
pub(super) fn attribute(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in visible(text).chars() {
        match character {
            '&' | '<' | '>' | '"' | '\'' => {
                // Writing to a `String` cannot fail.
                let _ = write!(out, "&#{};", u32::from(character));
            }
            // No characters to XML, though they are to Unicode.
            '\u{fffe}' | '\u{ffff}' => out.extend(character.escape_unicode()),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
#[path = "xml_tests.rs"]
pub(super) mod tests;
