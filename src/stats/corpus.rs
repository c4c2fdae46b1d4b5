//! Reads the documents of a corpus: the lines of a UTF-8 text file that are not blank.
//!
//! The digest of a corpus is the digest of its text with `\n` line ends and without a byte order mark, so that
//! checkouts on different systems have the same digest.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::digest::{Digest, Hashing};
use crate::regular_file;
use crate::regular_file::NormalizedText;

/// The maximum length of a document in bytes. It limits the memory that is needed to read a file without line breaks.
const MOST_LINE_BYTES: u64 = 1 << 26;

/// The reason why a corpus cannot be used: it cannot be read, is not UTF-8, has a line of more than 64 MiB, has no
/// document, or changed while it was read.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    #[error("reading the corpus {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the corpus {} is not UTF-8 text at line {line}", path.display())]
    NotText {
        path: PathBuf,
        /// The number of the first line that is not UTF-8, from 1.
        line: u64,
    },
    #[error("the corpus {} has a line of more than 64 MiB, line {line}: a document is one line", path.display())]
    LongLine {
        path: PathBuf,
        /// The number of the first line that is too long, from 1.
        line: u64,
    },
    #[error("the corpus {} holds no document: every line is blank", .0.display())]
    Empty(PathBuf),
    /// The corpus does not have the expected digest, or changed while it was read.
    #[error("the corpus {} changed while it was read: try again when nothing writes to it", .0.display())]
    Changed(PathBuf),
}

/// An iterator over the documents of a corpus, which are its lines that are not blank.
pub struct Documents {
    path: PathBuf,
    reader: BufReader<Hashing<NormalizedText<File>>>,
    line: u64,
    buffer: Vec<u8>,
}

impl Documents {
    /// Opens the corpus at `path`. The iterator starts at the first document.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, CorpusError> {
        let file = regular_file::open(path).map_err(|source| CorpusError::Read { path: path.to_owned(), source })?;
        let text = NormalizedText::new(file).map_err(|source| CorpusError::Read { path: path.to_owned(), source })?;
        let reader = BufReader::with_capacity(1 << 16, Hashing::new(text));
        Ok(Self { path: path.to_owned(), reader, line: 0, buffer: Vec::new() })
    }

    /// Reads the rest of the corpus and returns the digest of the whole text. The digest also covers the documents that
    /// were already read.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn digest(mut self) -> Result<Digest, CorpusError> {
        let rest = io::copy(&mut self.reader, &mut io::sink());
        rest.map_err(|source| CorpusError::Read { path: self.path.clone(), source })?;
        Ok(self.reader.get_ref().digest())
    }

    fn read(&mut self) -> Result<Option<String>, CorpusError> {
        loop {
            self.buffer.clear();
            let read = self.reader.by_ref().take(MOST_LINE_BYTES + 1).read_until(b'\n', &mut self.buffer);
            let read = read.map_err(|source| CorpusError::Read { path: self.path.clone(), source })?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if self.buffer.len() as u64 > MOST_LINE_BYTES {
                return Err(CorpusError::LongLine { path: self.path.clone(), line: self.line });
            }
            let text = std::str::from_utf8(&self.buffer)
                .map_err(|_| CorpusError::NotText { path: self.path.clone(), line: self.line })?;
            let text = text.trim_end_matches(['\n', '\r']);
            if !text.trim().is_empty() {
                return Ok(Some(text.to_owned()));
            }
        }
    }
}

impl Iterator for Documents {
    type Item = Result<String, CorpusError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Returns the number of documents in the corpus at `path`, and the digest of the whole corpus. Counts at most `most`
/// documents; `None` means no limit.
///
/// # Errors
/// If the corpus cannot be read, is not UTF-8, has a line that is too long, or has no document.
pub fn count(path: &Path, most: Option<u64>) -> Result<(u64, Digest), CorpusError> {
    let most = usize::try_from(most.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let mut count = 0;
    let mut documents = Documents::open(path)?;
    for document in documents.by_ref().take(most) {
        document?;
        count += 1;
    }
    if count == 0 { Err(CorpusError::Empty(path.to_owned())) } else { Ok((count, documents.digest()?)) }
}

/// Returns the length and the modification time of a file. The caller compares two results to detect that the file was
/// written to between the calls. Returns `None` if the operating system does not report the length or the time.
pub fn state(path: &Path) -> Option<(u64, SystemTime)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_say_something() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("corpus.txt");
        std::fs::write(&path, "one\r\n\n  \n two \nthree").expect("written");
        let texts: Vec<_> = Documents::open(&path).expect("there").map(|text| text.expect("text")).collect();
        assert_eq!(texts, ["one", " two ", "three"]);
        let digest = Digest::of(b"one\n\n  \n two \nthree");
        assert_eq!(count(&path, None).expect("three"), (3, digest));
        assert_eq!(count(&path, Some(2)).expect("two"), (2, digest), "the digest covers the whole corpus");
        std::fs::write(&path, "\u{feff}one\r\n\r\n  \r\n two \r\nthree").expect("written");
        assert_eq!(count(&path, None).expect("three"), (3, digest), "a byte order mark and CRLF are ignored");
        std::fs::write(&path, b"\xff\xfeo\0n\0e\0").expect("written");
        assert!(count(&path, None).expect_err("wide").to_string().contains("UTF-16"));
        std::fs::write(&path, b"one\n\xff\n").expect("written");
        assert!(matches!(count(&path, None), Err(CorpusError::NotText { line: 2, .. })));
        std::fs::write(&path, "\n \n").expect("written");
        assert!(matches!(count(&path, None), Err(CorpusError::Empty(_))));
        assert!(matches!(count(&folder.path().join("none"), None), Err(CorpusError::Read { .. })));
    }
}
