//! Opens the weights files of a checkpoint and computes the tensors that a patch replaces.
//!
//! Files are read by byte range, so large files do not have to fit in memory.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::ExportError;
use super::folder::{FolderFile, FolderListing};
use crate::digest::Digest;
use crate::numeric::Elements;
use crate::numeric::half::append;
use crate::patch::{Patch, Target, materialise};
use crate::project::LockedBase;
use crate::safetensors::{File, TensorInfo};

/// A tensor that a patch changes: its position in the file, its new bytes, and its digests before and after the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplacedTensor {
    /// The byte offset of the tensor in its file.
    pub start: u64,
    /// The digest of the tensor's bytes in the base.
    pub before: Digest,
    /// The digest of the patched bytes.
    pub after: Digest,
    /// The bytes of the patched tensor. They have the same length as the bytes of the tensor in the base.
    pub bytes: Vec<u8>,
}

/// The tensors that a patch replaces, by the name of the weights file and then by the name of the tensor.
pub type AppliedTensors = BTreeMap<String, BTreeMap<String, ReplacedTensor>>;

/// Returns whether a weights file has a standard name: `model.safetensors` or `model-*.safetensors`.
pub fn is_weights(name: &str) -> bool {
    name == "model.safetensors" || name.starts_with("model-") && name.ends_with(".safetensors")
}

/// Opens the safetensors files from which the base is loaded.
///
/// # Errors
/// If a file cannot be read or its header is invalid.
pub fn open_all(listing: &FolderListing, base: &LockedBase) -> Result<Vec<File>, ExportError> {
    let own = |member: &&FolderFile| member.name.ends_with(".safetensors") && base.has(&member.name);
    listing.files.iter().filter(own).map(open).collect()
}

/// Opens a weights file and checks its header.
///
/// # Errors
/// If the file cannot be read or its header is invalid.
pub fn open(member: &FolderFile) -> Result<File, ExportError> {
    File::open(&member.name, &member.path).map_err(|error| ExportError::weights(&member.path, error))
}

/// Reads the bytes of a tensor without converting its elements to another type.
///
/// # Errors
/// If the file cannot be read or is shorter than its header states.
pub fn read(file: &File, info: &TensorInfo) -> Result<Vec<u8>, ExportError> {
    file.read(info).map_err(ExportError::io("reading", &file.path))
}

/// Returns the digest of a tensor's bytes without loading the whole tensor into memory.
///
/// # Errors
/// If the file cannot be read.
pub fn digest(file: &File, info: &TensorInfo) -> Result<Digest, ExportError> {
    file.digest(info).map_err(ExportError::io("reading", &file.path))
}

/// Writes a copy of a weights file to `out`. The tensors in `replaced` get their new bytes; all other bytes are
/// unchanged.
///
/// # Errors
/// If the file cannot be read or `out` cannot be written.
pub fn write_with(file: &File, replaced: &BTreeMap<String, ReplacedTensor>, out: &mut dyn Write) -> io::Result<()> {
    let mut ranges: Vec<(u64, &[u8])> = replaced.values().map(|one| (one.start, one.bytes.as_slice())).collect();
    ranges.sort_by_key(|(start, _)| *start);
    file.write_with(ranges, out)
}

/// Applies a patch to the weights and returns the replaced tensors.
///
/// # Errors
/// If the patch was made for a different base, a patched weight would be infinite or NaN, or a file cannot be read.
pub fn apply(weights: &[File], patch: &Patch) -> Result<AppliedTensors, ExportError> {
    let mut applied = AppliedTensors::new();
    for (parameter, target) in patch.targets() {
        let found: Vec<_> = weights.iter().filter_map(|file| Some((file, file.tensor(parameter)?))).collect();
        let [(file, info)] = found[..] else {
            return Err(ExportError::NotOnce { parameter: parameter.clone(), count: found.len() });
        };
        let replaced = apply_target(parameter, target, info, &read(file, info)?)?;
        applied.entry(file.name.clone()).or_default().insert(parameter.clone(), replaced);
    }
    Ok(applied)
}

fn apply_target(
    parameter: &str,
    target: &Target,
    info: &TensorInfo,
    bytes: &[u8],
) -> Result<ReplacedTensor, ExportError> {
    let before = Digest::of(bytes);
    target.check_base(parameter, info.dtype, &info.shape, &before)?;
    let Some(stored) = info.dtype.weight_dtype() else {
        return Err(ExportError::Dtype { parameter: parameter.to_owned(), found: info.dtype });
    };
    let patched = materialise(parameter, target, &Elements::of_bytes(stored, bytes).to_f32())?;
    let mut patched_bytes = Vec::with_capacity(bytes.len());
    patched.iter().for_each(|number| append(stored, *number, &mut patched_bytes));
    Ok(ReplacedTensor { start: info.start, before, after: Digest::of(&patched_bytes), bytes: patched_bytes })
}
