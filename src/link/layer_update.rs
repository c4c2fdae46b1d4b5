//! Represents the change that a set of edits makes to the weight of one layer, and applies the change to a model.

use crate::digest::Digest;
use crate::model::Model;
use crate::patch::{PatchError, Target, materialise};

/// A change of the weight of one MLP down-projection: `Σ u v`, the sum over the edits of a column `u` times a row `v`.
#[derive(Clone, Debug)]
pub struct LayerUpdate {
    /// The index of the changed layer, from 0.
    pub layer: usize,
    /// The columns `u`, one `[hidden_size]` per edit. If the linear system has no ridge, the output of the weight for
    /// the MLP key of an edit changes by exactly the edit's column.
    pub columns: Vec<Vec<f64>>,
    /// The rows `v`, one `[intermediate_size]` per edit. They are the solution of the layer's linear system.
    pub rows: Vec<Vec<f64>>,
}

impl LayerUpdate {
    /// Returns the change as a tensor entry of a patch, with its columns and rows rounded to f32. `digest` is the
    /// SHA-256 of the base weight, and `edits` are the digests of the edits' meanings.
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
        // The digests do not affect the weight, so placeholders suffice.
        let target = self.target(model, Digest::of(b""), vec![Digest::of(b""); self.columns.len()]);
        Ok(model.with_edited(self.layer, materialise(&weight.name, &target, &weight.to_f32())?))
    }
}
