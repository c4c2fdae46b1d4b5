//! Safetensors files by their headers, and the tensors that a patch replaces in them.
//!
//! Files are read in ranges and never held: a tensor at a time is in memory.

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
use crate::plain;
use crate::project::LockedBase;
use crate::safetensors::{Header, TensorInfo};

/// A weights file.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Its name in the folder.
    pub name: String,
    /// Its tensors.
    pub header: Header,
    path: PathBuf,
    size: u64,
}

/// A tensor with other bytes than the base's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Where it starts in the file.
    pub start: u64,
    /// The digest of the base's bytes.
    pub before: Digest,
    /// The digest of the new bytes.
    pub after: Digest,
    /// The new bytes, as many as before.
    pub bytes: Vec<u8>,
}

/// What a patch replaces: by file, by tensor.
pub type Laid = BTreeMap<String, BTreeMap<String, Replaced>>;

/// Whether a file of this name holds the model's weights.
pub fn is_weights(name: &str) -> bool {
    name == "model.safetensors" || name.starts_with("model-") && name.ends_with(".safetensors")
}

/// Opens the weights files that are the base's own: those that were opened as the model.
///
/// # Errors
/// A file cannot be read, or its header cannot be trusted.
pub fn open_all(listing: &Listing, base: &LockedBase) -> Result<Vec<Weights>, ExportError> {
    let own = |member: &&Member| member.name.ends_with(".safetensors") && base.has(&member.name);
    listing.files.iter().filter(own).map(Weights::open).collect()
}

impl Weights {
    /// Reads the header of a weights file.
    ///
    /// # Errors
    /// The file cannot be read, or its header cannot be trusted.
    pub fn open(member: &Member) -> Result<Self, ExportError> {
        let reading = || ExportError::io("reading", &member.path);
        let refused = |source| ExportError::Header { path: member.path.clone(), source };
        let file = plain::open(&member.path).map_err(reading())?;
        let size = file.metadata().map_err(reading())?.len();
        let mut bytes = Vec::new();
        (&file).take(8).read_to_end(&mut bytes).map_err(reading())?;
        let end = Header::end(size, &bytes).map_err(refused)?;
        file.take(end - 8).read_to_end(&mut bytes).map_err(reading())?;
        let header = Header::parse(size, &bytes).map_err(refused)?;
        Ok(Self { name: member.name.clone(), header, path: member.path.clone(), size })
    }

    /// The bytes of one of its tensors.
    ///
    /// # Errors
    /// They cannot be read.
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

    /// The digest of the bytes of one of its tensors, none of them held.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn digest(&self, info: &TensorInfo) -> Result<Digest, ExportError> {
        let read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(info.start))?;
            Digest::of_reader(file.take(info.end - info.start))
        };
        read().map(|(digest, _)| digest).map_err(ExportError::io("reading", &self.path))
    }

    /// Writes the file with some of its tensors replaced. Every other byte is as it was.
    ///
    /// # Errors
    /// Reading or writing fails.
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

/// Copies exactly so many bytes: a file that has become shorter is an error.
fn copy(from: &mut File, count: u64, to: &mut dyn Write) -> io::Result<()> {
    match io::copy(&mut from.take(count), to)? {
        copied if copied == count => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Lays every target of a patch on the weights.
///
/// # Errors
/// The patch is for another base, or a weight would not be finite.
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
    let Some(stored) = info.dtype.stored() else {
        return Err(ExportError::Dtype { parameter: parameter.to_owned(), found: info.dtype });
    };
    let patched = materialise(parameter, target, &Elements::of_bytes(stored, bytes).wide())?;
    let mut bytes = Vec::with_capacity(bytes.len());
    patched.iter().for_each(|number| append(stored, *number, &mut bytes));
    Ok(Replaced { start: info.start, before, after: Digest::of(&bytes), bytes })
}
