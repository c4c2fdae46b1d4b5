//! Defines the patch of a model: the change of its weights by a set of edits.
//!
//! For each edited weight `W`, a patch has a factor `u` with one column per edit, and a factor `v` with one row per
//! edit. In `[out, in]` orientation, the weight becomes `W + Σ u·v`, where each edit adds its column times its row. The
//! change by each edit is therefore known separately. The base may store the weight in either orientation.
//!
//! A patch is stored as canonical bytes ([`Patch::to_bytes`]), and its id is the SHA-256 of these bytes. It contains no
//! fact ids, paths, times or program versions. Every value of type [`Patch`] is valid.

mod apply;
mod bytes;
mod error;
mod measure;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::safetensors::{Dtype, Layout};

pub use apply::{materialise, materialise_with};
pub use bytes::FORMAT;
pub use error::PatchError;
pub use measure::{DeltaNorms, delta_norms, edit_norms, norm, surviving_share};

/// The change of one weight matrix of the base, as a product of two factors: `u v = Σ u_e v_e`. Each edit e contributes
/// its column `u_e` of `u` and its row `v_e` of `v`.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The SHA-256 of the weight's bytes in the base file.
    pub base: Digest,
    /// The dtype in which the base stores the weight: F32, F16 or BF16.
    pub dtype: Dtype,
    /// The orientation in which the base stores the weight: `[out, in]` or `[in, out]`.
    pub layout: Layout,
    /// The number of outputs of the linear map. It does not depend on the orientation of the stored weight.
    pub out: usize,
    /// The number of inputs of the linear map. It does not depend on the orientation of the stored weight.
    pub inner: usize,
    /// One digest for each of the n edits, computed from its subject, its prompt, its target and its option `chat`. The
    /// digests are in strictly ascending order.
    pub edits: Vec<Digest>,
    /// The left factor of the change, `[out, n]` for n edits, row-major. Column e belongs to `edits[e]`.
    pub u: Vec<f32>,
    /// The right factor of the change, `[n, in]` for n edits, row-major. Row e belongs to `edits[e]`.
    pub v: Vec<f32>,
}

impl Target {
    /// Returns the shape of the weight in the base file, outermost dimension first.
    pub fn shape(&self) -> [u64; 2] {
        match self.layout {
            Layout::Linear => [self.out as u64, self.inner as u64],
            Layout::Conv1d => [self.inner as u64, self.out as u64],
        }
    }

    /// Checks that the tensor named `parameter` in a base is the weight for which this patch was made.
    ///
    /// # Errors
    /// If the dtype, the shape or the digest differs. The dtype is compared first, because the user may have the right
    /// model in another dtype.
    pub fn check_base(&self, parameter: &str, dtype: Dtype, shape: &[u64], digest: &Digest) -> Result<(), PatchError> {
        let parameter = parameter.to_owned();
        if dtype != self.dtype {
            return Err(PatchError::BaseDtype { parameter, expected: self.dtype, found: dtype });
        }
        if *shape != self.shape() {
            return Err(PatchError::BaseShape { parameter, expected: self.shape(), found: shape.to_vec() });
        }
        if *digest == self.base {
            Ok(())
        } else {
            Err(PatchError::BaseDigest { parameter, expected: self.base, found: *digest })
        }
    }

    /// Returns the part of the change that one edit contributes. `edit` is the index of the edit in `self.edits`.
    pub fn alone(&self, edit: usize) -> Self {
        Self {
            edits: vec![self.edits[edit]],
            u: self.u.iter().skip(edit).step_by(self.edits.len()).copied().collect(),
            v: self.row(edit).to_vec(),
            ..self.clone()
        }
    }

    /// Returns the column of `u` for the edit at index `edit`. Its length is `self.out`.
    fn column(&self, edit: usize) -> Vec<f64> {
        self.u.iter().skip(edit).step_by(self.edits.len()).map(|&x| f64::from(x)).collect()
    }

    /// Returns the row of `v` for the edit at index `edit`. Its length is `self.inner`.
    fn row(&self, edit: usize) -> &[f32] {
        &self.v[edit * self.inner..(edit + 1) * self.inner]
    }

    fn verify(&self, parameter: &str) -> Result<(), PatchError> {
        let name = || parameter.to_owned();
        if !matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(PatchError::Dtype { parameter: name(), found: self.dtype });
        }
        if parameter.is_empty() || self.edits.is_empty() || self.out == 0 || self.inner == 0 {
            return Err(PatchError::Nothing { parameter: name() });
        }
        if let Some(pair) = self.edits.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(PatchError::EditOrder { parameter: name(), first: pair[0], second: pair[1] });
        }
        let factors = [("u", &self.u, self.out, self.edits.len()), ("v", &self.v, self.edits.len(), self.inner)];
        for (factor, values, rows, columns) in factors {
            if rows.checked_mul(columns) != Some(values.len()) {
                let found = values.len();
                return Err(PatchError::FactorLength { parameter: name(), factor, expected: [rows, columns], found });
            }
            if let Some(index) = values.iter().position(|x| !x.is_finite()) {
                let (row, column) = (index / columns, index % columns);
                return Err(PatchError::NotFinite { parameter: name(), factor, row, column, value: values[index] });
            }
        }
        for (index, &edit) in self.edits.iter().enumerate() {
            let null_u = self.u.iter().skip(index).step_by(self.edits.len()).all(|&x| x == 0.0);
            if null_u || self.row(index).iter().all(|&x| x == 0.0) {
                return Err(PatchError::Null { parameter: name(), factor: if null_u { "u" } else { "v" }, edit });
            }
        }
        Ok(())
    }
}

/// The changes of a base model's weights by a set of edits. [`Patch::new`] and [`Patch::from_bytes`] reject
/// invalid changes. The default patch has no edits and changes no weight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patch {
    targets: BTreeMap<String, Target>,
}

impl Patch {
    /// Returns the patch with the given changes of weights. The keys are the names of the weights in the base.
    ///
    /// # Errors
    /// If a change is not valid: the dtype cannot be patched; the name, the edits or the weight is empty; the digests
    /// of the edits are not strictly ascending; or a factor has the wrong length, contains a number that is not finite,
    /// or has only zeros for an edit.
    pub fn new(targets: BTreeMap<String, Target>) -> Result<Self, PatchError> {
        for (parameter, target) in &targets {
            target.verify(parameter)?;
        }
        Ok(Self { targets })
    }

    /// Returns the change of each edited weight, by the name of the weight in the base.
    pub fn targets(&self) -> &BTreeMap<String, Target> {
        &self.targets
    }

    /// Returns the digests of all edits in the patch, ascending and without duplicates. Each digest is computed from
    /// the subject, the prompt, the target and the option `chat` of one edit.
    pub fn edits(&self) -> Vec<Digest> {
        let mut edits: Vec<Digest> = self.targets.values().flat_map(|target| target.edits.iter().copied()).collect();
        edits.sort_unstable();
        edits.dedup();
        edits
    }

    /// Returns the SHA-256 of the canonical bytes. Every call serialises the patch.
    pub fn id(&self) -> PatchId {
        PatchId(Digest::of(&self.to_bytes()))
    }
}

/// The id of a patch: the SHA-256 of its canonical bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PatchId(pub Digest);

impl fmt::Display for PatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod samples;

#[cfg(test)]
mod tests {
    use super::samples::{patch, target};
    use super::*;

    fn refused(change: impl FnOnce(&mut Target), part: &str) {
        let mut target = target(Layout::Linear);
        change(&mut target);
        let error = Patch::new(BTreeMap::from([("w".to_owned(), target)])).expect_err(part).to_string();
        assert!(error.contains(part) && error.contains("`w`"), "{error}");
    }

    #[test]
    fn malformed_targets() {
        refused(|target| target.dtype = Dtype::F64, "F64");
        refused(|target| target.edits.clear(), "changes nothing");
        refused(|target| target.out = 0, "changes nothing");
        refused(|target| target.edits.reverse(), "ascending");
        refused(|target| target.edits[1] = target.edits[0], "ascending");
        refused(|target| target.u.truncate(5), "[3, 2]");
        refused(|target| target.v.push(1.0), "[2, 2]");
        refused(|target| target.u[3] = f32::NAN, "row 1, column 1");
        refused(|target| target.v[2] = f32::INFINITY, "row 1, column 0");
        refused(|target| target.v[..2].fill(-0.0), "changes nothing");
        refused(|target| target.u.iter_mut().step_by(2).for_each(|x| *x = 0.0), "changes nothing");
    }

    #[test]
    fn the_base_must_be_the_one() {
        let target = target(Layout::Conv1d);
        let check = |dtype, shape: &[u64], digest: &Digest| target.check_base("w", dtype, shape, digest);
        assert!(check(Dtype::F32, &[2, 3], &target.base).is_ok());
        assert!(matches!(check(Dtype::F16, &[2, 3], &target.base), Err(PatchError::BaseDtype { .. })));
        assert!(matches!(check(Dtype::F32, &[3, 2], &target.base), Err(PatchError::BaseShape { .. })));
        assert!(matches!(check(Dtype::F32, &[2, 3], &Digest::of(b"")), Err(PatchError::BaseDigest { .. })));
    }

    #[test]
    fn edits_are_listed_once() {
        let edits = patch().edits();
        assert_eq!(edits.len(), 2);
        assert!(edits[0] < edits[1]);
    }
}
