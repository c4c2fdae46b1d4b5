//! Stores the files that error messages quote, and converts byte offsets in these files to lines and columns.

use std::ops::Range;

/// The index of a file in [`Sources`], the files that error messages quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(u32);

/// A line and a column as editors count them: both start at 1, and the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

#[derive(Clone, Debug)]
struct SourceFile {
    path: String,
    text: String,
    /// The byte offset of the beginning of each line of the text.
    lines: Vec<usize>,
}

/// The files that error messages quote. Each file has a path, which messages show, and a text.
#[derive(Clone, Debug, Default)]
pub struct Sources(Vec<SourceFile>);

impl Sources {
    /// Adds a file. A byte order mark is dropped, and byte offsets count from the first character after it.
    ///
    /// For a file that could not be read, `text` is empty, and messages show only the path.
    pub fn add(&mut self, path: impl Into<String>, text: impl Into<String>) -> FileId {
        let mut text = text.into();
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let id = FileId(u32::try_from(self.0.len()).expect("fewer than 2^32 files"));
        self.0.push(SourceFile { path: path.into(), text, lines });
        id
    }

    fn source(&self, file: FileId) -> &SourceFile {
        // Only `add` creates ids, so this panics only for an id from another list of files.
        &self.0[file.0 as usize]
    }

    /// Returns the path of a file as messages show it.
    pub fn path(&self, file: FileId) -> &str {
        &self.source(file).path
    }

    /// Returns the text of a file, without a byte order mark; empty if the file could not be read.
    pub fn text(&self, file: FileId) -> &str {
        &self.source(file).text
    }

    /// Converts a byte offset to a line and a column. An offset after the end of the text is treated as the end.
    pub fn position(&self, file: FileId, offset: usize) -> Position {
        let source = self.source(file);
        let offset = source.text.floor_char_boundary(offset);
        let line = source.lines.partition_point(|start| *start <= offset);
        let start = source.lines[line - 1];
        Position { line, column: source.text[start..offset].chars().count() + 1 }
    }

    /// Returns the byte range of the lines that `span` touches, and the number of the first line, from 1.
    pub fn lines(&self, file: FileId, span: &Range<usize>) -> (Range<usize>, usize) {
        let source = self.source(file);
        let first = source.lines.partition_point(|start| *start <= span.start).max(1);
        let last = source.lines.partition_point(|start| *start < span.end).max(first);
        let end = source.lines.get(last).copied().unwrap_or(source.text.len());
        (source.lines[first - 1]..end, first)
    }

    /// Returns the path and the line of a byte offset, as `path:line`.
    pub fn place(&self, file: FileId, offset: usize) -> String {
        format!("{}:{}", self.path(file), self.position(file, offset).line)
    }

    /// Returns the paths of all files, in the order in which they were added.
    pub fn paths(&self) -> Vec<String> {
        self.0.iter().map(|source| source.path.clone()).collect()
    }

    /// Returns the number of files, including those that could not be read.
    pub fn len(&self) -> usize {
        self.0.len()
    }

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
