//! Reads untrusted files: opens only regular files, drops byte order marks, normalises line ends, and resolves links in
//! paths.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read, Seek as _};
use std::path::{Component, Path, PathBuf};

/// The first bytes of a Git LFS pointer file, in the current format and in the oldest format.
const POINTERS: [&[u8]; 2] = [b"version https://git-lfs.", b"version https://hawser."];
/// Every Git LFS pointer file is smaller than this number of bytes, according to the Git LFS specification.
const POINTER_BYTES: u64 = 1024;

/// The error for a Git LFS pointer. Such a small text file takes the place of a large file until `git lfs pull` fetches
/// the large file.
#[derive(Debug, thiserror::Error)]
#[error("this is a Git LFS pointer, not the file itself: run `git lfs pull` in the clone that it is from")]
pub(crate) struct LfsPointer;

/// Opens a regular file, or a symbolic link to a regular file, for reading. Pipes and devices are rejected, because
/// reading them might never end.
///
/// # Errors
/// If the path is not a regular file; if the file is a Git LFS pointer; or if the system cannot open it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not a plain file"));
    }
    let mut file = File::open(path)?;
    if (1..POINTER_BYTES).contains(&metadata.len()) {
        refuse_pointer(&mut file)?;
    }
    Ok(file)
}

/// Returns an error if the file is a Git LFS pointer; otherwise rewinds the file to its start.
fn refuse_pointer(file: &mut File) -> io::Result<()> {
    let mut text = Vec::new();
    file.by_ref().take(POINTER_BYTES).read_to_end(&mut text)?;
    file.rewind()?;
    let is_pointer =
        POINTERS.iter().any(|first| text.starts_with(first)) && text.windows(5).any(|some| some == b"\noid ");
    if is_pointer { Err(io::Error::new(io::ErrorKind::InvalidData, LfsPointer)) } else { Ok(()) }
}

/// Returns whether an error of [`open`] was caused by a Git LFS pointer.
pub(crate) fn is_pointer(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<LfsPointer>())
}

/// Reads a whole regular file of at most `most` bytes.
///
/// # Errors
/// If [`open`] returns an error, or the file is larger than `most` bytes.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {most} bytes"));
    if file.metadata()?.len() > most {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    // The file may have grown since its size was read.
    if bytes.len() as u64 > most { Err(too_large()) } else { Ok(bytes) }
}

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns whether the first bytes of a text are a UTF-16 byte order mark.
pub(crate) fn is_utf16(first: &[u8]) -> bool {
    first.starts_with(b"\xff\xfe") || first.starts_with(b"\xfe\xff")
}

/// A reader that drops a UTF-8 byte order mark and replaces every `\r\n` by `\n`. All other bytes are unchanged,
/// including a `\r` without a following `\n`.
pub(crate) struct NormalizedText<R> {
    inner: BufReader<Chain<Cursor<Vec<u8>>, R>>,
    /// Whether the last byte read from `inner` is a `\r` that is withheld until the next byte is known.
    pending_cr: bool,
}

impl<R: Read> NormalizedText<R> {
    /// Creates a reader of `inner`. Its first bytes are read at once, to drop a UTF-8 byte order mark and to reject
    /// UTF-16.
    ///
    /// # Errors
    /// If the text cannot be read, or is UTF-16.
    pub(crate) fn new(mut inner: R) -> io::Result<Self> {
        let mut first = Vec::new();
        inner.by_ref().take(MARK.len() as u64).read_to_end(&mut first)?;
        if is_utf16(&first) {
            let why = "it is UTF-16 text: save it as UTF-8";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        if first == MARK {
            first.clear();
        }
        Ok(Self { inner: BufReader::with_capacity(1 << 16, Cursor::new(first).chain(inner)), pending_cr: false })
    }
}

impl<R: Read> Read for NormalizedText<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let there = self.inner.fill_buf()?;
            if self.pending_cr {
                self.pending_cr = false;
                if there.first() != Some(&b'\n') {
                    out[0] = b'\r';
                    return Ok(1);
                }
            }
            let most = there.len().min(out.len());
            let plain = if there[..most].contains(&b'\r') {
                there[..most].iter().position(|byte| *byte == b'\r').unwrap_or(most)
            } else {
                most
            };
            if plain > 0 || most == 0 {
                out[..plain].copy_from_slice(&there[..plain]);
                self.inner.consume(plain);
                return Ok(plain);
            }
            self.inner.consume(1);
            self.pending_cr = true;
        }
    }
}

/// Decodes a whole file as UTF-8 and drops a byte order mark. Line ends are not changed.
///
/// # Errors
/// If the bytes are not UTF-8. The error is a message for the user.
pub(crate) fn text(bytes: Vec<u8>) -> Result<String, &'static str> {
    if is_utf16(&bytes) {
        return Err("it is UTF-16 text: save it as UTF-8");
    }
    let text = String::from_utf8(bytes).map_err(|_| "stream did not contain valid UTF-8")?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// Returns the path with symbolic links and `..` resolved. Unlike `Path::canonicalize`, this function accepts a path
/// that does not exist.
pub(crate) fn canonicalize_lenient(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for there in whole.ancestors() {
        if let (Ok(real), Ok(rest)) = (there.canonicalize(), whole.strip_prefix(there)) {
            let up = rest.components().any(|part| part == Component::ParentDir);
            // A `..` can lead from a missing folder back to existing folders with links, so the result is resolved
            // again.
            return if up { canonicalize_lenient(&append_folding_parents(real, rest)) } else { real.join(rest) };
        }
    }
    whole
}

fn append_folding_parents(mut real: PathBuf, rest: &Path) -> PathBuf {
    for part in rest.components() {
        match part {
            Component::ParentDir => drop(real.pop()),
            part => real.push(part),
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn links_and_missing_parts_of_paths_are_resolved() {
        let folder = tempfile::tempdir().expect("a folder");
        let real = folder.path().canonicalize().expect("there");
        fs::create_dir_all(real.join("model/sub")).expect("made");
        std::os::unix::fs::symlink("model", real.join("link")).expect("linked");
        for (path, leads) in [
            ("new/x", "new/x"),
            ("link/new", "model/new"),
            ("no/../link/new", "model/new"),
            ("no/way/../../model", "model"),
            ("link/sub/../..", ""),
            ("no/../../..", "../.."),
        ] {
            let leads = real.join(leads).canonicalize().unwrap_or(real.join(leads));
            assert_eq!(canonicalize_lenient(&folder.path().join(path)), leads, "{path}");
        }
    }

    /// Returns the output of [`NormalizedText`] for a text. Checks that reading all bytes at once and reading them one
    /// by one give the same output.
    fn normal(bytes: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        NormalizedText::new(bytes).and_then(|mut text| text.read_to_end(&mut whole)).expect("in memory");
        let mut small = Vec::new();
        let mut text = NormalizedText::new(bytes).expect("in memory");
        let mut one = [0];
        while text.read(&mut one).expect("in memory") > 0 {
            small.push(one[0]);
        }
        assert_eq!(whole, small);
        whole
    }

    #[test]
    fn line_ends_and_byte_order_marks_are_normalised() {
        for text in ["", "a", "a\nb\n", "a\rb", "\r", "a\n\nb"] {
            let other = text.replace('\n', "\r\n");
            for saved in [text.to_owned(), other.clone(), format!("\u{feff}{text}"), format!("\u{feff}{other}")] {
                assert_eq!(normal(saved.as_bytes()), text.as_bytes(), "{saved:?}");
            }
        }
        // A `\r` without a following `\n` is unchanged, also at the end of the text.
        assert_eq!(normal(b"a\r\r\nb\r"), b"a\r\nb\r");
        let long = [vec![b'x'; (1 << 16) - 1], b"\r\n\ry".to_vec()].concat();
        assert_eq!(normal(&long), [vec![b'x'; (1 << 16) - 1], b"\n\ry".to_vec()].concat());
        assert_eq!(normal(b"\xef\xbb"), b"\xef\xbb");
        for wide in [&b"\xff\xfea\0"[..], b"\xfe\xff\0a"] {
            assert!(NormalizedText::new(wide).err().expect("refused").to_string().contains("UTF-16"));
            assert!(super::text(wide.to_vec()).expect_err("refused").contains("UTF-16"));
        }
        assert_eq!(super::text("\u{feff}a\r\n".into()).expect("a text"), "a\r\n");
    }

    #[test]
    fn pointers_of_git_lfs_are_detected() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        let oid = "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
        for first in ["version https://git-lfs.github.com/spec/v1\n", "version https://hawser.github.com/spec/v1\n"] {
            fs::write(&path, format!("{first}{oid}")).expect("written");
            for error in [open(&path).expect_err("a pointer"), read(&path, 4096).expect_err("a pointer")] {
                assert!(is_pointer(&error) && error.to_string().contains("`git lfs pull`"), "{error}");
            }
            // Files that only resemble a pointer are accepted: a quoted pointer, a pointer without an `oid` line, and a
            // long file.
            for text in [format!("a {first}{oid}"), first.to_owned(), format!("{first}{oid}").repeat(20)] {
                fs::write(&path, &text).expect("written");
                assert_eq!(read(&path, 1 << 16).expect("a file"), text.as_bytes());
            }
        }
        assert!(!is_pointer(&open(&folder.path().join("b")).expect_err("nothing")));
    }

    #[test]
    fn only_small_regular_files_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        fs::write(&path, b"four").expect("written");
        assert_eq!(read(&path, 4).expect("small"), b"four");
        assert_eq!(read(&path, 3).expect_err("large").kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(open(folder.path()).expect_err("a folder").kind(), io::ErrorKind::InvalidInput);
        assert_eq!(open(&folder.path().join("b")).expect_err("nothing").kind(), io::ErrorKind::NotFound);
        #[cfg(target_os = "linux")]
        assert_eq!(read(Path::new("/dev/zero"), 4).expect_err("a device").kind(), io::ErrorKind::InvalidInput);
    }
}
