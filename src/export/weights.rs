//! Reads safetensors files by their headers and computes the tensors that a patch replaces in them.
//!
//! Files are read in byte ranges, so at most one unchanged tensor is in memory at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use super::ExportError;
use super::folder::{Listing, Member};
use crate::digest::Digest;
use crate::numeric::Elements;
use crate::numeric::half::append;
use crate::patch::{Patch, Target, materialise};
use crate::project::LockedBase;
use crate::regular_file;
use crate::safetensors::{Header, TensorInfo};

/// A safetensors file of a checkpoint, of which only the header is in memory.
#[derive(Clone, Debug)]
pub struct Weights {
    /// The file name in the checkpoint's folder.
    pub name: String,
    /// The parsed header: the tensors with their types, shapes and byte ranges.
    pub header: Header,
    path: PathBuf,
    size: u64,
}

/// The new bytes of a tensor that the patch changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The byte offset of the tensor in the file.
    pub start: u64,
    /// The digest of the tensor's bytes in the base.
    pub before: Digest,
    /// The digest of the patched bytes.
    pub after: Digest,
    /// The patched bytes; their number is the same as in the base.
    pub bytes: Vec<u8>,
}

/// The replaced tensors of a patch, by file name and tensor name.
pub type Laid = BTreeMap<String, BTreeMap<String, Replaced>>;

/// Returns whether a file has the standard name of a weights file: `model.safetensors` or `model-*.safetensors`.
pub fn is_weights(name: &str) -> bool {
    name == "model.safetensors" || name.starts_with("model-") && name.ends_with(".safetensors")
}

/// Opens the base's own weights files, which are the files that were loaded as the model.
///
/// # Errors
/// If a file cannot be read or its header is invalid.
pub fn open_all(listing: &Listing, base: &LockedBase) -> Result<Vec<Weights>, ExportError> {
    let own = |member: &&Member| member.name.ends_with(".safetensors") && base.has(&member.name);
    listing.files.iter().filter(own).map(Weights::open).collect()
}

impl Weights {
    /// Reads and checks the header of a weights file.
    ///
    /// # Errors
    /// If the file cannot be read or its header is invalid.
    pub fn open(member: &Member) -> Result<Self, ExportError> {
        let reading = || ExportError::io("reading", &member.path);
        let refused = |source| ExportError::Header { path: member.path.clone(), source };
        let file = regular_file::open(&member.path).map_err(reading())?;
        let size = file.metadata().map_err(reading())?.len();
        let mut bytes = Vec::new();
        (&file).take(8).read_to_end(&mut bytes).map_err(reading())?;
        let end = Header::end(size, &bytes).map_err(refused)?;
        file.take(end - 8).read_to_end(&mut bytes).map_err(reading())?;
        let header = Header::parse(size, &bytes).map_err(refused)?;
        Ok(Self { name: member.name.clone(), header, path: member.path.clone(), size })
    }

    /// Reads the bytes of a tensor as stored, without conversion.
    ///
    /// # Errors
    /// If the file cannot be opened, or ends before the tensor does.
    pub fn read(&self, info: &TensorInfo) -> Result<Vec<u8>, ExportError> {
        let read = || {
            let mut bytes = vec![0; (info.end - info.start) as usize];
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(info.start))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(ExportError::io("reading", &self.path))
    }

    /// Returns the digest of a tensor's bytes without loading them into memory.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn digest(&self, info: &TensorInfo) -> Result<Digest, ExportError> {
        let read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(info.start))?;
            Digest::of_reader(file.take(info.end - info.start))
        };
        read().map(|(digest, _)| digest).map_err(ExportError::io("reading", &self.path))
    }

    /// Writes the file with some tensors replaced; all other bytes are copied unchanged.
    ///
    /// # Errors
    /// If reading or writing fails.
    pub fn write_with(&self, replaced: &BTreeMap<String, Replaced>, out: &mut dyn Write) -> io::Result<()> {
        let mut places: Vec<&Replaced> = replaced.values().collect();
        places.sort_by_key(|one| one.start);
        let mut file = File::open(&self.path)?;
        let mut at = 0;
        for one in places {
            copy(&mut file, one.start - at, out)?;
            out.write_all(&one.bytes)?;
            at = one.start + one.bytes.len() as u64;
            file.seek(SeekFrom::Start(at))?;
        }
        copy(&mut file, self.size - at, out)
    }
}

/// Copies exactly `count` bytes; a file that has become shorter is an error.
fn copy(from: &mut File, count: u64, to: &mut dyn Write) -> io::Result<()> {
    match io::copy(&mut from.take(count), to)? {
        copied if copied == count => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Applies every target of a patch to the weights and returns the replaced tensors.
///
/// # Errors
/// If the patch was made for another base, or a weight would not be finite.
pub fn lay(weights: &[Weights], patch: &Patch) -> Result<Laid, ExportError> {
    let mut laid = Laid::new();
    for (parameter, target) in patch.targets() {
        let found = weights.iter().filter_map(|file| Some((file, file.header.tensors.get(parameter)?)));
        let found: Vec<_> = found.collect();
        let [(file, info)] = found[..] else {
            return Err(ExportError::NotOnce { parameter: parameter.clone(), count: found.len() });
        };
        let replaced = lay_one(parameter, target, info, &file.read(info)?)?;
        laid.entry(file.name.clone()).or_default().insert(parameter.clone(), replaced);
    }
    Ok(laid)
}

fn lay_one(parameter: &str, target: &Target, info: &TensorInfo, bytes: &[u8]) -> Result<Replaced, ExportError> {
    let before = Digest::of(bytes);
    target.check_base(parameter, info.dtype, &info.shape, &before)?;
    let Some(stored) = info.dtype.weight_dtype() else {
        return Err(ExportError::Dtype { parameter: parameter.to_owned(), found: info.dtype });
    };
    let patched = materialise(parameter, target, &Elements::of_bytes(stored, bytes).to_f32())?;
    let mut bytes = Vec::with_capacity(bytes.len());
    patched.iter().for_each(|number| append(stored, *number, &mut bytes));
    Ok(Replaced { start: info.start, before, after: Digest::of(&bytes), bytes })
}
