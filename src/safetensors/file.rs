//! Opens safetensors files on disk: reads the header, and reads tensors as byte ranges or through a memory map.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::{Header, HeaderError, TensorInfo};
use crate::digest::Digest;
use crate::regular_file;

/// A safetensors file whose header was parsed and checked when the file was opened. Tensors are read by byte range, so
/// the file is never in memory as a whole. Cloning is cheap: clones share the header.
#[derive(Clone, Debug)]
pub struct File {
    /// The file name in the checkpoint's folder. `path` can end in another name if it is the resolved target of a
    /// symbolic link with this name.
    pub name: String,
    /// The path that was given when the file was opened. [`File::read`] opens this path again.
    pub path: PathBuf,
    pub header: Arc<Header>,
    size: u64,
}

/// A safetensors file that is memory-mapped. Cloning is cheap: clones share the map.
#[derive(Clone, Debug)]
pub struct MappedFile {
    pub file: File,
    /// The bytes of the whole file, including the header.
    pub map: Arc<Mmap>,
}

/// The reason why a file cannot be opened: it cannot be read, or its header is invalid. The message does not contain
/// the path of the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Header(#[from] HeaderError),
}

impl File {
    /// Reads and checks the header of the file at `path`. `name` is the file name in the checkpoint's folder.
    ///
    /// # Errors
    /// If the file cannot be read or its header is invalid.
    pub fn open(name: &str, path: &Path) -> Result<Self, FileError> {
        let file = regular_file::open(path)?;
        let size = file.metadata()?.len();
        let mut bytes = Vec::new();
        (&file).take(8).read_to_end(&mut bytes)?;
        let end = Header::end(size, &bytes)?;
        file.take(end - 8).read_to_end(&mut bytes)?;
        let header = Arc::new(Header::parse(size, &bytes)?);
        Ok(Self { name: name.to_owned(), path: path.to_owned(), header, size })
    }

    /// Returns the type, shape and byte range of a tensor; `None` if the file does not contain the tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.header.tensors.get(name)
    }

    /// Reads the bytes of a tensor as stored, without conversion.
    ///
    /// # Errors
    /// If the file cannot be opened, or ends before the tensor does.
    pub fn read(&self, info: &TensorInfo) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (info.end - info.start) as usize];
        let mut file = fs::File::open(&self.path)?;
        file.seek(SeekFrom::Start(info.start))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Returns the SHA-256 of a tensor's bytes. The tensor is read in pieces, not into memory as a whole.
    ///
    /// # Errors
    /// If the bytes cannot be read.
    pub fn digest(&self, info: &TensorInfo) -> io::Result<Digest> {
        let mut file = fs::File::open(&self.path)?;
        file.seek(SeekFrom::Start(info.start))?;
        Digest::of_reader(file.take(info.end - info.start)).map(|(digest, _)| digest)
    }

    /// Copies the file to `out` with some byte ranges replaced. `replaced` has the start and the new bytes of each
    /// range, in ascending order.
    ///
    /// # Errors
    /// If reading or writing fails.
    pub fn write_with<'b>(
        &self,
        replaced: impl IntoIterator<Item = (u64, &'b [u8])>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut file = fs::File::open(&self.path)?;
        let mut position = 0;
        for (start, bytes) in replaced {
            copy(&mut file, start - position, out)?;
            out.write_all(bytes)?;
            position = start + bytes.len() as u64;
            file.seek(SeekFrom::Start(position))?;
        }
        copy(&mut file, self.size - position, out)
    }
}

/// Copies exactly `count` bytes. Returns an error if fewer than `count` bytes are left in `from`.
fn copy(from: &mut fs::File, count: u64, to: &mut dyn Write) -> io::Result<()> {
    if io::copy(&mut from.take(count), to)? == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

impl MappedFile {
    /// Maps the file at `path` and checks its header. `name` is the file name in the checkpoint's folder.
    ///
    /// # Errors
    /// If the file cannot be read or its header is invalid.
    #[expect(unsafe_code, reason = "weights are memory-mapped")]
    pub fn open(name: &str, path: &Path) -> Result<Self, FileError> {
        let opened = regular_file::open(path)?;
        let size = opened.metadata()?.len();
        if size == 0 {
            // An empty file cannot be mapped.
            return Err(HeaderError::Empty.into());
        }
        // SAFETY: the map is read-only. If another process truncates the file while it is mapped, a read can end this
        // process (SIGBUS); this program never writes to a base model.
        let map = unsafe { Mmap::map(&opened) }?;
        let header = Arc::new(Header::parse(size, &map)?);
        let file = File { name: name.to_owned(), path: path.to_owned(), header, size };
        Ok(Self { file, map: Arc::new(map) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::safetensors::{Dtype, TensorData, write};

    fn tensor(name: String, data: &[u8]) -> TensorData<'_> {
        TensorData { name, dtype: Dtype::F32, shape: vec![data.len() as u64 / 4], data }
    }

    #[test]
    fn ranges_and_maps_have_the_same_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("w");
        let [a, b] = [[1; 8], [2; 8]];
        let bytes = write(&[tensor("a".into(), &a), tensor("b".into(), &b)], &BTreeMap::new());
        fs::write(&path, &bytes).expect("written");
        let (file, mapped) = (File::open("w", &path).expect("a file"), MappedFile::open("w", &path).expect("a map"));
        assert_eq!((&file.header, &mapped.map[..]), (&mapped.file.header, bytes.as_slice()));
        let info = file.tensor("b").expect("a tensor");
        assert_eq!(file.read(info).expect("read"), b);
        assert_eq!(file.digest(info).expect("read"), Digest::of(&b));
        let mut out = Vec::new();
        file.write_with([(info.start, [3; 8].as_slice())], &mut out).expect("written");
        assert_eq!(out, write(&[tensor("a".into(), &a), tensor("b".into(), &[3; 8])], &BTreeMap::new()));
    }
}
