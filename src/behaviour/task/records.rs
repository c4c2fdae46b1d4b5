//! Splits the text of a task's file into JSON values. The text is a JSON array, or has one JSON value per line (JSON
//! Lines). A line that is not valid JSON does not stop the reading of the other lines.

use std::ops::Range;

use serde_json::Value;

/// A part of a file: its byte range, and the value that is read from it, or the reason why it cannot be read.
pub(in crate::behaviour) struct Located<T> {
    pub(in crate::behaviour) span: Range<usize>,
    pub(in crate::behaviour) value: Result<T, String>,
}

/// Returns the JSON values of a text, at most `most`. After a mistake in a JSON array, the rest of the array is not
/// read.
pub(in crate::behaviour) fn json_values(text: &str, most: usize) -> Vec<Located<Value>> {
    let start = text.len() - text.trim_start().len();
    if text[start..].starts_with('[') { array(text, start + 1, most) } else { lines(text).take(most).collect() }
}

fn lines(text: &str) -> impl Iterator<Item = Located<Value>> {
    let mut end = 0;
    text.split_inclusive('\n').filter_map(move |line| {
        let start = end;
        end += line.len();
        let trimmed = line.trim();
        let from = start + (line.len() - line.trim_start().len());
        let value = || serde_json::from_str(trimmed).map_err(|error| reason(&error));
        (!trimmed.is_empty()).then(|| Located { span: from..from + trimmed.len(), value: value() })
    })
}

/// Reads the elements of a JSON array whose first element begins at or after the byte offset `from`.
fn array(text: &str, from: usize, most: usize) -> Vec<Located<Value>> {
    let mut at = skip_space(text, from);
    let mut out = Vec::new();
    if text[at..].starts_with(']') {
        return out;
    }
    while out.len() < most {
        let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter();
        let found = values.next().unwrap_or_else(|| Err(serde::de::Error::custom("the array has no end")));
        let end = at + values.byte_offset();
        match found {
            Ok(value) => out.push(Located { span: at..end, value: Ok(value) }),
            Err(error) => {
                out.push(Located { span: at..line_end(text, at), value: Err(reason(&error)) });
                return out;
            }
        }
        let next = skip_space(text, end);
        match text.as_bytes().get(next) {
            Some(b',') => at = skip_space(text, next + 1),
            Some(b']') => {
                let rest = skip_space(text, next + 1);
                if rest < text.len() {
                    let value = Err("this text follows the end of the array".to_owned());
                    out.push(Located { span: rest..line_end(text, rest), value });
                }
                return out;
            }
            _ => {
                let value = Err("a comma or the end of the array is missing after this value".to_owned());
                out.push(Located { span: at..end, value });
                return out;
            }
        }
    }
    out
}

fn skip_space(text: &str, from: usize) -> usize {
    text.len() - text[from..].trim_start().len()
}

/// Returns the byte offset of the end of the line that contains `at`.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |length| at + length)
}

/// Returns the message of a JSON error without its position, because the finding states the position in the file.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let message = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
    format!("it is not valid JSON: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(&str, Result<Value, String>)> {
        json_values(text, 9).into_iter().map(|one| (&text[one.span], one.value)).collect()
    }

    #[test]
    fn lines_and_arrays_give_the_same_values() {
        let lines = read("{\"a\": 1}\r\n\n  {\"a\": 2}  \n");
        let array = read(" [\n{\"a\": 1},\n {\"a\": 2} ]\n");
        assert_eq!(lines, array);
        assert_eq!((lines.len(), lines[1].0), (2, "{\"a\": 2}"));
        assert!(read(" [ ] ").is_empty() && read(" \n").is_empty());
        assert_eq!(json_values("[1, 2, 3]", 2).len(), 2);
        assert_eq!(json_values("1\n2\n3\n", 2).len(), 2);
    }

    #[test]
    fn a_bad_line_does_not_hide_the_next() {
        let found = read("{\"a\": }\n{\"a\": 2}\n{\"a\"");
        let wrong: Vec<bool> = found.iter().map(|(_, value)| value.is_err()).collect();
        assert_eq!(wrong, [true, false, true]);
        assert_eq!(found[0].1, Err("it is not valid JSON: expected value".to_owned()));
    }

    #[test]
    fn a_broken_array_is_an_error() {
        for text in
            ["[{\"a\": 1} {\"a\": 2}]", "[{\"a\": 1},", "[{\"a\": 1}", "[1, ]", "[tru]", "[", "[1] {\"a\"", "[1] [2]"]
        {
            assert!(read(text).last().is_some_and(|(_, value)| value.is_err()), "{text}");
        }
    }
}
