//! Represents the change of one layer by a set of edits, and applies it to a model.

use crate::digest::Digest;
use crate::model::Model;
use crate::patch::{PatchError, Target, materialise};

/// A change of the weight of one MLP down-projection: `Σ u v`, the sum over the edits of a column `u` times a row `v`.
#[derive(Clone, Debug)]
pub struct LayerUpdate {
    /// The index of the changed layer, from 0.
    pub layer: usize,
    /// The columns `u`, one `[d]` per edit. With the ridge μ = 0, the edit adds its column to the matrix's output for
    /// an input equal to the edit's key.
    pub columns: Vec<Vec<f64>>,
    /// The rows `v`, one `[f]` per edit: the rows of `S⁻¹Aᵀ` in the closed form, whose symbols the module `system`
    /// defines.
    pub rows: Vec<Vec<f64>>,
}

impl LayerUpdate {
    /// Returns the change as a target of a patch (the change of one weight). `edits` are the digests of the edits'
    /// meanings, and `digest` is the SHA-256 of the base weight.
    pub fn target(&self, model: &Model, digest: Digest, edits: Vec<Digest>) -> Target {
        let (spec, weight) = (model.spec(), model.checkpoint().edited(self.layer));
        Target {
            base: digest,
            dtype: weight.dtype.into(),
            layout: spec.family.layout,
            out: spec.hidden_size,
            inner: spec.intermediate_size,
            u: (0..spec.hidden_size).flat_map(|row| self.columns.iter().map(move |u| u[row] as f32)).collect(),
            v: self.rows.iter().flatten().map(|v| *v as f32).collect(),
            edits,
        }
    }

    /// Returns `model` with this change applied to its weight, rounded to the stored dtype.
    ///
    /// # Errors
    /// If a number of the changed weight is not finite.
    pub fn apply_to(&self, model: &Model) -> Result<Model, PatchError> {
        let weight = model.checkpoint().edited(self.layer);
        // The digest and the meanings do not affect the weight, so placeholders suffice.
        let target = self.target(model, Digest::of(b""), vec![Digest::of(b""); self.columns.len()]);
        Ok(model.with_edited(self.layer, materialise(&weight.name, &target, &weight.to_f32())?))
    }
}
