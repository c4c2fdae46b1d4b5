//! Reads neutral text in the form of ME-PPL (Yang et al., 2024): a JSON array, or one JSON record per line, with the
//! texts `Corpus` and `Text`.
//!
//! The published texts begin with a space and end without a full stop. White space at both ends of a text is removed,
//! because a document of neutral text begins with a word. No full stop is added, so that only tokens of the published
//! text are predicted. Both models read the same tokens. The perplexity is that of at most 64 texts of at most 128
//! tokens, so it cannot be compared with the published ME-PPL of the same file.

use std::path::Path;

use serde_json::Value;

use super::task::records::json_values;
use crate::regular_file;

/// The maximum size of a file of neutral text in bytes (64 MiB).
const MOST_BYTES: u64 = 1 << 26;

/// The reason why a file cannot be used as neutral text in the form of ME-PPL.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    #[error("reading {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{path} is not UTF-8 text at line {line}")]
    NotText { path: String, line: usize },
    #[error("{path}, line {line}: {why}{}", more(*others))]
    Record {
        path: String,
        /// The line of the first record that cannot be used.
        line: usize,
        why: String,
        /// The number of further records that cannot be used.
        others: usize,
    },
    #[error("{0} has no record")]
    Empty(String),
}

fn more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" (and {others} more)") }
}

/// Returns the texts of all records, without white space at both ends.
pub(super) fn texts(path: &Path) -> Result<Vec<String>, RecordsError> {
    let shown = || path.display().to_string();
    let bytes = regular_file::read(path, MOST_BYTES).map_err(|source| RecordsError::Read { path: shown(), source })?;
    let line_of = |offset: usize, all: &[u8]| all[..offset].iter().filter(|byte| **byte == b'\n').count() + 1;
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| RecordsError::NotText { path: shown(), line: line_of(error.valid_up_to(), &bytes) })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut out, mut wrong) = (Vec::new(), Vec::new());
    for record in json_values(text, usize::MAX) {
        match record.value.and_then(|value| text_of(&value)) {
            Ok(document) => out.push(document),
            Err(why) => wrong.push((line_of(record.span.start, text.as_bytes()), why)),
        }
    }
    let others = wrong.len().saturating_sub(1);
    match wrong.into_iter().next() {
        Some((line, why)) => Err(RecordsError::Record { path: shown(), line, why, others }),
        None if out.is_empty() => Err(RecordsError::Empty(shown())),
        None => Ok(out),
    }
}

fn text_of(record: &Value) -> Result<String, String> {
    match (&record["Corpus"], &record["Text"]) {
        (Value::String(_), Value::String(text)) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        (Value::String(_), Value::String(_)) => Err("`Text` is blank".to_owned()),
        _ => Err("a record of ME-PPL has the texts `Corpus` and `Text`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("n.json");
        std::fs::write(&path, bytes).expect("the file is written");
        texts(&path).map_err(|error| error.to_string().replace(&path.display().to_string(), "n.json"))
    }

    #[test]
    fn both_forms_give_the_texts() {
        let one = "{\"Corpus\": \"Wikipedia\", \"Text\": \" Regions and cities Australia has six states\"}";
        let two = "{\"Corpus\": \"C4\", \"Text\": \" Read more \"}";
        let wanted = Ok(vec!["Regions and cities Australia has six states".to_owned(), "Read more".to_owned()]);
        assert_eq!(read(format!("[{one},\n{two}]").as_bytes()), wanted);
        assert_eq!(read(format!("\u{feff}{one}\n\n{two}\n").as_bytes()), wanted);
    }

    #[test]
    fn bad_records_name_their_line() {
        let good = "{\"Corpus\": \"C4\", \"Text\": \"a b\"}";
        let cases = [
            (
                format!("{good}\n{{\"Text\": \"a\"}}\n[]\n"),
                "n.json, line 2: a record of ME-PPL has the texts `Corpus` and `Text` (and 1 more)",
            ),
            ("[\n{\"Corpus\": \"C4\", \"Text\": \" \"}\n]".to_owned(), "n.json, line 2: `Text` is blank"),
            (format!("{good}\nplain text\n"), "n.json, line 2: it is not valid JSON: expected value"),
            ("[]".to_owned(), "n.json has no record"),
            (" \n".to_owned(), "n.json has no record"),
        ];
        for (text, wanted) in cases {
            assert_eq!(read(text.as_bytes()), Err(wanted.to_owned()));
        }
        assert_eq!(read(b"{}\n\xff"), Err("n.json is not UTF-8 text at line 2".to_owned()));
    }
}
