//! Makes untrusted texts safe for terminals and messages: escapes control characters, and shortens long texts.

use std::fmt::Write as _;

/// Returns whether a character is a Unicode bidirectional control character, which can change the order in which the
/// characters around it are displayed.
pub fn is_bidi(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns whether a character must not reach a terminal: a control character, which can begin an escape sequence, or a
/// Unicode line or paragraph separator, which some programs treat as the end of a line.
pub fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Escapes control characters and Unicode bidirectional control characters as `\u{…}`. The result is one line.
pub fn escape_controls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_control(character) || is_bidi(character) {
            // Writing to a `String` cannot fail.
            let _ = write!(shown, "{}", character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Returns the text in double quotes. Control characters and Unicode bidirectional control characters are escaped.
pub fn quoted(text: &str) -> String {
    escape_controls(&format!("{text:?}"))
}

/// The maximum length of a text in a message, in bytes. Longer texts are shortened, because the names in project files
/// may be very long.
const MOST_BYTES: usize = 4096;

/// Shortens a text of more than 4,096 bytes for a message, to about 3,072 bytes of its beginning and 1,024 of its end.
pub fn truncate_middle(text: &str) -> String {
    if text.len() <= MOST_BYTES {
        return text.to_owned();
    }
    let (head, tail) =
        (text.floor_char_boundary(MOST_BYTES / 4 * 3), text.ceil_char_boundary(text.len() - MOST_BYTES / 4));
    format!("{} … ({} bytes) … {}", &text[..head], tail - head, &text[tail..])
}

/// Escapes the lines that GitHub Actions would execute as commands: those that begin with `::` or contain `##[`.
pub fn escape_workflow_commands(text: &str) -> String {
    let line = |line: &str| {
        let begins = line.trim_start().starts_with("::");
        let line = line.replace("##[", "\\u{23}#[");
        if begins { line.replacen("::", "\\u{3a}:", 1) } else { line }
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workflow_commands_are_escaped() {
        let text = "::error::x\n  ::set-output name=a::b\na::b ##[error]y\n ##[add-mask]z\nplain";
        let said = escape_workflow_commands(text);
        assert!(said.lines().all(|line| !line.trim_start().starts_with("::") && !line.contains("##[")), "{said}");
        assert_eq!(said.lines().count(), 5);
        assert!(said.contains("a::b") && said.ends_with("plain"));
    }
}
