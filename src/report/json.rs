//! Formats a report as one line of JSON, for programs. Characters that a terminal or a build log would interpret are
//! escaped.

use std::fmt::Write as _;

use serde_json::json;

use super::Report;
use crate::diagnostics::{is_bidi, is_control};

/// Returns the report as one line of JSON, without a line break at its end.
pub fn render(report: &Report) -> String {
    let whole = serde_json::to_string(report);
    // Serialisation fails only for a map key that is not a string, and a report has no maps.
    inert(&whole.unwrap_or_else(|error| json!({ "outcome": "error", "error": error.to_string() }).to_string()))
}

/// Escapes the characters that a terminal or a build log would interpret.
///
/// A build log reads `##[` as a command, and a terminal interprets control characters. In JSON, these characters occur
/// only inside strings. They become `\u…`, so the parsed JSON stays the same.
pub(crate) fn inert(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for (at, character) in json.char_indices() {
        let command = character == '#' && json[at..].starts_with("##[");
        if command || is_control(character) || is_bidi(character) {
            // All escaped characters are below U+FFFF, so four digits are enough. Writing to a `String` cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{ReportVerb, samples};

    #[test]
    fn one_line_for_programs() {
        for report in [samples::diff(), samples::test(), samples::check(), samples::empty()] {
            let text = render(&report);
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert!(!text.contains('\n'));
            insta::assert_snapshot!(format!("json_{}", samples::name(&report)), format!("{value:#}"));
        }
    }

    #[test]
    fn control_sequences_are_escaped() {
        let attack = "###[error]x ::error::y \u{1b}[31m\u{9b}31m \u{202e}\u{2028} \" \\ </script>\n";
        let report = samples::hostile(ReportVerb::Diff, attack);
        let text = render(&report);
        assert!(!text.contains("##["));
        assert!(!text.chars().any(|character| is_control(character) || is_bidi(character)));
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["findings"][0]["message"], attack);
        assert_eq!(value, serde_json::to_value(&report).expect("plain data"));
    }
}
