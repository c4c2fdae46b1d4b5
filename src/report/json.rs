//! The report for programs: one line of JSON.

use std::fmt::Write as _;

use serde_json::json;

use super::Report;
use crate::project::render::{is_bidi, is_control};

/// The report as one line of JSON, without a line break at its end.
pub fn render(report: &Report) -> String {
    let whole = serde_json::to_string(report);
    // A report is plain data: only a key that is no text could be refused, and it has none.
    inert(&whole.unwrap_or_else(|error| json!({ "outcome": "error", "error": error.to_string() }).to_string()))
}

/// The same JSON in characters that nobody who shows it acts on.
///
/// All that is replaced can only stand inside a string, and is written there as `\u…`: to a reader of JSON nothing
/// changes. A build log takes `##[` for a command of its own, and a terminal acts on control characters.
pub(crate) fn inert(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for (at, character) in json.char_indices() {
        let command = character == '#' && json[at..].starts_with("##[");
        if command || is_control(character) || is_bidi(character) {
            // All of them are below U+FFFF; writing to a `String` cannot fail.
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
    use crate::report::samples;

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
    fn a_log_reader_does_not_act_on_it() {
        let attack = "###[error]x ::error::y \u{1b}[31m\u{9b}31m \u{202e}\u{2028} \" \\ </script>\n";
        let report = samples::hostile("diff", attack);
        let text = render(&report);
        assert!(!text.contains("##["));
        assert!(!text.chars().any(|character| is_control(character) || is_bidi(character)));
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["findings"][0]["message"], attack);
        assert_eq!(value, serde_json::to_value(&report).expect("plain data"));
    }
}
