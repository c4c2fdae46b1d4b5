//! Compares the tensors of a checkpoint, byte by byte, with those of the patched base.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::export::manifest::TensorEntry;
use crate::export::weights::{self, AppliedTensors};
use crate::export::{ExportError, ExportManifest};
use crate::numeric::Elements;
use crate::safetensors::{Dtype, File, TensorInfo};

use super::Check;

/// A tensor of the base, and the tensor with the same file name and tensor name in the checkpoint. One of the two may
/// be missing.
#[derive(Clone, Debug)]
pub struct TensorPair {
    /// The name of the weights file, the same in the base and in the checkpoint.
    pub file: String,
    pub name: String,
    /// The tensor in the base: type, shape, position and digest; `None` if the base has no such tensor.
    pub base: Option<(TensorInfo, Digest)>,
    /// The tensor in the checkpoint: type, shape, position and digest; `None` if the checkpoint has no such tensor.
    pub found: Option<(TensorInfo, Digest)>,
}

/// Pairs the tensors of the same name, for every weights file that both the base and the checkpoint have.
///
/// # Errors
/// If a file cannot be read.
pub fn pair_tensors(base: &[File], found: &BTreeMap<&str, &File>) -> Result<Vec<TensorPair>, ExportError> {
    let mut pairs = Vec::new();
    for file in base {
        let Some(other) = found.get(file.name.as_str()) else { continue };
        let mut names: Vec<&String> = file.header.tensors.keys().chain(other.header.tensors.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            pairs.push(TensorPair {
                file: file.name.clone(),
                name: name.clone(),
                base: with_digest(file, name)?,
                found: with_digest(other, name)?,
            });
        }
    }
    Ok(pairs)
}

fn with_digest(file: &File, name: &str) -> Result<Option<(TensorInfo, Digest)>, ExportError> {
    let Some(info) = file.tensor(name) else { return Ok(None) };
    Ok(Some((info.clone(), weights::digest(file, info)?)))
}

impl TensorPair {
    /// Returns the digest that the tensor should have: that of the patched bytes if the patch replaces the tensor,
    /// otherwise that of the bytes in the base. `None` if the base does not have the tensor.
    pub fn expected(&self, applied: &AppliedTensors) -> Option<Digest> {
        let after = applied.get(&self.file).and_then(|tensors| tensors.get(&self.name)).map(|one| one.after);
        after.or(self.base.as_ref().map(|(_, digest)| *digest))
    }

    /// Returns whether the tensor has the same bytes in the base and in the checkpoint.
    pub fn is_unchanged(&self) -> bool {
        let digest = |side: &Option<(TensorInfo, Digest)>| side.as_ref().map(|(_, digest)| *digest);
        digest(&self.base) == digest(&self.found)
    }

    /// Returns whether an entry of the manifest has the same file, name and digests as this tensor. An entry has two
    /// digests: of the tensor in the base and in the checkpoint. False if the base or the checkpoint does not have the
    /// tensor.
    pub fn is_claimed(&self, manifest: &ExportManifest) -> bool {
        let (Some((_, before)), Some((_, after))) = (&self.base, &self.found) else { return false };
        let claims = |tensor: &TensorEntry| {
            (&tensor.file, &tensor.name) == (&self.file, &self.name)
                && (&tensor.before, &tensor.after) == (before, after)
        };
        manifest.tensors.iter().any(claims)
    }

    /// Checks the bytes of the tensor. They must be the patched bytes or, if the patch does not replace the tensor, the
    /// bytes of the base.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn check(&self, applied: &AppliedTensors, base: &File, found: &File) -> Result<Check, ExportError> {
        let wrong = |said: &str| Check::wrong("tensor", &self.name, said);
        let (Some((ours, before)), Some(theirs)) = (&self.base, &self.found) else {
            return Ok(match self.base {
                Some(_) => wrong("missing"),
                None => wrong("extra: the base has no such tensor"),
            });
        };
        let (info, digest) = theirs;
        if (info.dtype, &info.shape) != (ours.dtype, &ours.shape) {
            return Ok(wrong("of another type or shape")
                .detail(format!("expected {} {:?}", ours.dtype, ours.shape))
                .detail(format!("found    {} {:?}", info.dtype, info.shape)));
        }
        let replaced = applied.get(&self.file).and_then(|tensors| tensors.get(&self.name));
        match replaced {
            None if digest == before => Ok(Check::ok("tensor", &self.name, "same as in the base").collapsible()),
            Some(one) if *digest == one.after => Ok(Check::ok("tensor", &self.name, "base + patch")),
            Some(one) if digest == before => Ok(wrong("same as in the base: the patch is not in it")
                .detail(format!("expected {}", one.after))
                .detail(format!("found    {digest}"))),
            replaced => {
                let read = || weights::read(base, ours);
                let expected = replaced.map_or_else(read, |one| Ok(one.bytes.clone()))?;
                let what = if replaced.is_some() {
                    "neither the base nor base + patch"
                } else {
                    "not the same as in the base"
                };
                let check = wrong(what)
                    .detail(format!("expected {}", Digest::of(&expected)))
                    .detail(format!("found    {digest}"));
                Ok(check.detail(difference(info.dtype, &expected, &weights::read(found, info)?)))
            }
        }
    }
}

/// Returns the number of elements that differ and the largest absolute difference, as text for the report.
fn difference(dtype: Dtype, expected: &[u8], found: &[u8]) -> String {
    let size = dtype.size();
    let pairs = expected.chunks(size).zip(found.chunks(size));
    let (all, differ) = pairs.fold((0_u64, 0_u64), |(all, differ), (a, b)| (all + 1, differ + u64::from(a != b)));
    let said = format!("{differ} of {all} elements differ");
    let Some(stored) = dtype.weight_dtype() else { return said };
    let [expected, found] = [expected, found].map(|bytes| Elements::of_bytes(stored, bytes).to_f32());
    let mut largest = 0_f64;
    for (a, b) in expected.iter().zip(&*found) {
        let apart = (f64::from(*a) - f64::from(*b)).abs();
        if a.to_bits() != b.to_bits() && !apart.is_finite() {
            return format!("{said}, one of them is not finite");
        }
        if apart > largest {
            largest = apart;
        }
    }
    format!("{said}, by {largest:e} at most")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    #[test]
    fn differences_are_counted_and_measured() {
        let base = bytes(&[1.0, 2.0, f32::NAN]);
        let said = |numbers: &[f32]| difference(Dtype::F32, &base, &bytes(numbers));
        assert_eq!(said(&[1.0, 2.5, f32::NAN]), "1 of 3 elements differ, by 5e-1 at most");
        assert_eq!(said(&[-1.0, 2.5, f32::NAN]), "2 of 3 elements differ, by 2e0 at most");
        assert_eq!(said(&[1.0, 2.0, 0.0]), "1 of 3 elements differ, one of them is not finite");
        assert_eq!(difference(Dtype::I16, &[0, 1, 2, 3], &[0, 1, 2, 4]), "1 of 2 elements differ");
        let said_of_bf16 = difference(Dtype::BF16, &[0, 0, 0x80, 0x3f], &[0, 0, 0, 0x40]);
        assert_eq!(said_of_bf16, "1 of 2 elements differ, by 1e0 at most");
    }
}
