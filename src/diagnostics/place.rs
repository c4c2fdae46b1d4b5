//! Represents a range in a file by lines and columns instead of byte offsets, for people and other programs.

use std::ops::Range;

use schemars::JsonSchema;
use serde::Serialize;

use super::{FileId, Sources};

/// A range in a file. Lines and columns are counted from 1, and columns are counted in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Place {
    /// The path of the file, relative to the project's folder.
    pub file: String,
    /// The first line; null if the range is the whole file.
    pub line: Option<usize>,
    /// The column of the first character; null if the range is the whole file.
    pub column: Option<usize>,
    /// The line of the end of the range; null if the range is the whole file.
    pub end_line: Option<usize>,
    /// The column after the last character; null if the range is the whole file.
    pub end_column: Option<usize>,
}

impl Place {
    /// Converts a byte range to lines and columns. If the text of the file is empty, because the file could not be
    /// read, the result has no lines and columns.
    pub fn new(file: FileId, span: &Range<usize>, sources: &Sources) -> Self {
        let known = !sources.text(file).is_empty();
        let start = known.then(|| sources.position(file, span.start));
        let end = known.then(|| sources.position(file, span.end.max(span.start)));
        Self {
            file: sources.path(file).to_owned(),
            line: start.map(|position| position.line),
            column: start.map(|position| position.column),
            end_line: end.map(|position| position.line),
            end_column: end.map(|position| position.column),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_span_has_a_place() {
        let mut sources = Sources::default();
        let file = sources.add("a.toml", "é = 1\r\n\nb");
        for start in 0..14 {
            for end in 0..14 {
                let place = Place::new(file, &(start..end), &sources);
                assert!((place.line, place.column) <= (place.end_line, place.end_column));
            }
        }
    }
}
