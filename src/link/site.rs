//! What a set of edits does to one layer.

use crate::digest::Digest;
use crate::model::Model;
use crate::patch::{PatchError, Target, materialise};

/// A change of one layer's second MLP matrix: `Σ u v`, a column and a row an edit.
#[derive(Clone, Debug)]
pub struct Site {
    /// The layer.
    pub layer: usize,
    /// Residuals, one `[d]` an edit: what an edit adds to the output where its key asks for all of it.
    pub columns: Vec<Vec<f64>>,
    /// Rows of `S⁻¹Aᵀ`, one `[f]` an edit.
    pub rows: Vec<Vec<f64>>,
}

impl Site {
    /// The change as a patch has it, for edits of these meanings; `digest` is that of the base's weight.
    pub fn target(&self, model: &Model, digest: Digest, edits: Vec<Digest>) -> Target {
        let (spec, weight) = (model.spec(), model.checkpoint().edited(self.layer));
        Target {
            base: digest,
            dtype: weight.stored.into(),
            layout: spec.family.layout,
            out: spec.width,
            inner: spec.inner,
            u: (0..spec.width).flat_map(|row| self.columns.iter().map(move |u| u[row] as f32)).collect(),
            v: self.rows.iter().flatten().map(|v| *v as f32).collect(),
            edits,
        }
    }

    /// `model` with this change laid on its weight, rounded as the base stores it.
    ///
    /// # Errors
    /// A number of the changed weight is not finite.
    pub fn laid_on(&self, model: &Model) -> Result<Model, PatchError> {
        let weight = model.checkpoint().edited(self.layer);
        // Neither digest nor meanings are looked at where a change is only laid on.
        let target = self.target(model, Digest::of(b""), vec![Digest::of(b""); self.columns.len()]);
        Ok(model.with_edited(self.layer, materialise(&weight.name, &target, &weight.wide())?))
    }
}
