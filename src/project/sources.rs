//! The texts that diagnostics point into.

use std::ops::Range;

/// A file of a [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(u32);

/// Lines and columns as editors count them: both from one, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

#[derive(Clone, Debug)]
struct Source {
    path: String,
    text: String,
    /// The first byte of every line.
    lines: Vec<usize>,
}

/// Files by display path and text.
#[derive(Clone, Debug, Default)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Adds a file. A byte order mark is dropped: offsets count from the first character after it.
    ///
    /// A file whose text is empty is shown by its path alone, which is right for one that could not be read.
    pub fn add(&mut self, path: impl Into<String>, text: impl Into<String>) -> FileId {
        let mut text = text.into();
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let id = FileId(u32::try_from(self.0.len()).expect("a project of four thousand million files"));
        self.0.push(Source { path: path.into(), text, lines });
        id
    }

    fn source(&self, file: FileId) -> &Source {
        // An id is only ever made by `add`; mixing two `Sources` is the mistake that this would show.
        &self.0[file.0 as usize]
    }

    /// The path as people are shown it.
    pub fn path(&self, file: FileId) -> &str {
        &self.source(file).path
    }

    /// The text, without a byte order mark.
    pub fn text(&self, file: FileId) -> &str {
        &self.source(file).text
    }

    /// The line and column of a byte offset; an offset past the end is the end.
    pub fn position(&self, file: FileId, offset: usize) -> Position {
        let source = self.source(file);
        let offset = source.text.floor_char_boundary(offset);
        let line = source.lines.partition_point(|start| *start <= offset);
        let start = source.lines[line - 1];
        Position { line, column: source.text[start..offset].chars().count() + 1 }
    }

    /// The bytes of the lines that `span` touches, and the number of the first of them.
    pub fn lines(&self, file: FileId, span: &Range<usize>) -> (Range<usize>, usize) {
        let source = self.source(file);
        let first = source.lines.partition_point(|start| *start <= span.start).max(1);
        let last = source.lines.partition_point(|start| *start < span.end).max(first);
        let end = source.lines.get(last).copied().unwrap_or(source.text.len());
        (source.lines[first - 1]..end, first)
    }

    /// `path:line`, the short way to say where something is.
    pub fn place(&self, file: FileId, offset: usize) -> String {
        format!("{}:{}", self.path(file), self.position(file, offset).line)
    }

    /// The paths of all files, in the order in which they were added.
    pub fn paths(&self) -> Vec<String> {
        self.0.iter().map(|source| source.path.clone()).collect()
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters() {
        let mut sources = Sources::default();
        let file = sources.add("a.toml", "\u{feff}é = 1\r\nb = 2\n");
        assert_eq!(sources.position(file, 0), Position { line: 1, column: 1 });
        assert_eq!(sources.position(file, 3), Position { line: 1, column: 3 });
        assert_eq!(sources.position(file, 8), Position { line: 2, column: 1 });
        assert_eq!(sources.position(file, 999), Position { line: 3, column: 1 });
        assert_eq!(sources.lines(file, &(9..10)), (8..14, 2));
        assert_eq!(sources.lines(file, &(0..9)), (0..14, 1));
        assert_eq!(sources.place(file, 9), "a.toml:2");
        assert_eq!(sources.len(), 1);
    }
}
