//! Implements EMMET (Gupta et al. 2024, "A unified framework for model editing"), which treats the values as equality
//! constraints. The change of a weight is `Δ = R (KᵀC⁻¹K + μ w I)⁻¹ (C⁻¹K)ᵀ`.
//!
//! The columns of `K` are the MLP keys of the edits, and the columns of `R` are the desired changes of the outputs. `C`
//! is the second moment of the corpus keys, w is its weight, and μ is a ridge.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::distribute::{MassEditor, rows_with_ridge};
use super::system::ParallelKeys;
use crate::numeric::cholesky::Factor;

/// The weight w of the second moment in EasyEdit's settings for GPT-2 XL.
pub const WEIGHT: f64 = 10_000.0;
/// The weight w of the second moment in EasyEdit's settings for GPT-J and Llama.
pub const WEIGHT_GPTJ_LLAMA: f64 = 100_000.0;
/// The ridge μ in EasyEdit's settings.
pub const RIDGE: f64 = 0.1;

/// The EMMET editor. The ridge of a layer's linear system is the product `ridge · weight`.
pub struct Emmet {
    /// The Cholesky factor of the second moment `C` of each edited layer, by layer index.
    pub factors: BTreeMap<usize, Rc<Factor>>,
    /// The weight w of the second moment, by which the ridge μ is multiplied.
    pub weight: f64,
    /// The ridge μ. The number `μ w` is added to the diagonal of the linear system.
    pub ridge: f64,
}

impl MassEditor for Emmet {
    fn rows(&self, layer: usize, keys: &[&[f32]]) -> Result<Vec<Vec<f64>>, ParallelKeys> {
        rows_with_ridge(&self.factors[&layer], keys, self.weight * self.ridge)
    }
}
