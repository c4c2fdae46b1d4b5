//! Converts a patch to its canonical bytes and back. Two equal patches have the same canonical bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Patch, PatchError, Target};
use crate::digest::Digest;
use crate::safetensors::Layout;
use crate::safetensors::{Dtype, Header, TensorData, write};

/// The version of the patch format that this program writes. A patch with a later version is rejected.
pub const FORMAT: u64 = 1;

/// The only metadata key of the safetensors file. Its value is a [`Manifest`] as JSON.
const KEY: &str = "corrigenda";

/// The JSON in the metadata of a patch file. The fields are in alphabetical order, so that the JSON is canonical.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u64,
    targets: BTreeMap<String, TargetEntry>,
}

/// The JSON object that describes one edited weight. The fields are in alphabetical order, so that the JSON is
/// canonical.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetEntry {
    base: Digest,
    dtype: String,
    edits: Vec<Digest>,
    layout: Layout,
    shape: [u64; 2],
}

impl Patch {
    /// Returns the bytes of the patch file. They are canonical: equal patches have equal bytes.
    ///
    /// The file is a safetensors file. For each edited weight with the name `<parameter>`, it has the F32 tensors
    /// `<parameter>.u`, `[out, n]`, and `<parameter>.v`, `[n, in]`, where n is the number of edits. The metadata has
    /// one key, whose value is JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        let manifest = Manifest { format: FORMAT, targets: self.targets.iter().map(entry).collect() };
        let json = serde_json::to_string(&manifest).expect("a manifest of texts and numbers always serialises");
        let factors: Vec<_> = self.targets.iter().flat_map(factors).collect();
        let tensors: Vec<_> = factors
            .iter()
            .map(|(name, shape, data)| TensorData {
                name: name.clone(),
                dtype: Dtype::F32,
                shape: shape.to_vec(),
                data,
            })
            .collect();
        write(&tensors, &BTreeMap::from([(KEY.to_owned(), json)]))
    }

    /// Reads and validates a patch file. Only the canonical bytes of a patch are accepted ([`Patch::to_bytes`]).
    ///
    /// # Errors
    /// If the bytes are not a patch in a safetensors file, have a newer format version or are not canonical; if the
    /// JSON in the metadata has an unknown key; if a tensor is missing, unexpected or of the wrong shape; if the
    /// digests of the edits are not strictly ascending; or if a factor has a number that is not finite, or only zeros
    /// for an edit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PatchError> {
        let header = Header::parse(bytes.len() as u64, bytes)?;
        let manifest = manifest(&header)?;
        let mut targets = BTreeMap::new();
        for (parameter, entry) in manifest.targets {
            let target = read_target(&header, bytes, &parameter, entry)?;
            targets.insert(parameter, target);
        }
        let known = |name: &str| {
            let parameter = name.strip_suffix(".u").or_else(|| name.strip_suffix(".v"));
            parameter.is_some_and(|parameter| targets.contains_key(parameter))
        };
        if let Some(tensor) = header.tensors.keys().find(|name| !known(name)) {
            return Err(PatchError::Extra { tensor: tensor.clone() });
        }
        let patch = Self::new(targets)?;
        let canonical = patch.to_bytes();
        if canonical == bytes {
            return Ok(patch);
        }
        let offset = canonical.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        Err(PatchError::NotCanonical { offset })
    }
}

fn entry((parameter, target): (&String, &Target)) -> (String, TargetEntry) {
    let entry = TargetEntry {
        base: target.base,
        dtype: target.dtype.name().to_owned(),
        edits: target.edits.clone(),
        layout: target.layout,
        shape: target.shape(),
    };
    (parameter.clone(), entry)
}

fn factors((parameter, target): (&String, &Target)) -> [(String, [u64; 2], Vec<u8>); 2] {
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let (out, edits, inner) = (target.out as u64, target.edits.len() as u64, target.inner as u64);
    [
        (format!("{parameter}.u"), [out, edits], bytes(&target.u)),
        (format!("{parameter}.v"), [edits, inner], bytes(&target.v)),
    ]
}

fn manifest(header: &Header) -> Result<Manifest, PatchError> {
    let text = header.metadata.get(KEY).filter(|_| header.metadata.len() == 1);
    let text = text.ok_or_else(|| PatchError::NotAPatch { found: header.metadata.keys().cloned().collect() })?;
    // The version is read first, because a newer format may have unknown keys. An error about the version then helps
    // the user more than an error about a key.
    #[derive(Deserialize)]
    struct Format {
        format: u64,
    }
    let malformed = |error: serde_json::Error| PatchError::Metadata(error.to_string());
    match serde_json::from_str::<Format>(text).map_err(malformed)?.format {
        FORMAT => serde_json::from_str(text).map_err(malformed),
        0 => Err(PatchError::Metadata("format 0 does not exist".to_owned())),
        found => Err(PatchError::Newer { found }),
    }
}

fn read_target(header: &Header, bytes: &[u8], parameter: &str, entry: TargetEntry) -> Result<Target, PatchError> {
    let (out, inner) = match (entry.layout, entry.shape) {
        (Layout::Linear, [out, inner]) | (Layout::Conv1d, [inner, out]) => (out, inner),
    };
    let dtype = Dtype::from_name(&entry.dtype);
    let dtype = dtype.ok_or_else(|| PatchError::Metadata(format!("unknown dtype `{}`", entry.dtype)))?;
    let edits = entry.edits.len() as u64;
    let side = |side: u64| {
        usize::try_from(side).map_err(|_| PatchError::Metadata(format!("`{parameter}` has a side of {side}")))
    };
    Ok(Target {
        base: entry.base,
        dtype,
        layout: entry.layout,
        out: side(out)?,
        inner: side(inner)?,
        u: read_factor(header, bytes, format!("{parameter}.u"), [out, edits])?,
        v: read_factor(header, bytes, format!("{parameter}.v"), [edits, inner])?,
        edits: entry.edits,
    })
}

fn read_factor(header: &Header, bytes: &[u8], tensor: String, expected: [u64; 2]) -> Result<Vec<f32>, PatchError> {
    let Some(info) = header.tensors.get(&tensor) else {
        return Err(PatchError::Missing { tensor });
    };
    if info.dtype != Dtype::F32 || info.shape != expected {
        return Err(PatchError::Shape { tensor, expected, dtype: info.dtype, found: info.shape.clone() });
    }
    // The header was checked against the length of `bytes`, so the byte range is valid and fits in `usize`.
    let data = &bytes[info.start as usize..info.end as usize];
    let (numbers, _) = data.as_chunks::<4>();
    Ok(numbers.iter().map(|&number| f32::from_le_bytes(number)).collect())
}

#[cfg(test)]
#[path = "bytes_tests.rs"]
mod tests;
