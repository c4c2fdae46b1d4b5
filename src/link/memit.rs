//! Implements MEMIT (Meng et al. 2023, equation 14). The change of a weight is
//! `Δ = R Kᵀ (λ C + K Kᵀ)⁻¹ = R (KᵀC⁻¹K + λ I)⁻¹ (C⁻¹K)ᵀ`.
//!
//! The columns of `K` are the MLP keys of the edits, and the columns of `R` are the desired changes of the outputs. `C`
//! is the second moment of the corpus keys, and λ is its weight.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::distribute::{MassEditor, rows_with_ridge};
use super::system::ParallelKeys;
use crate::numeric::cholesky::Factor;

/// λ, the weight of the second moment, as published for GPT-2 XL.
pub const WEIGHT: f64 = 20_000.0;
/// λ, the weight of the second moment, as published for GPT-J. EasyEdit also uses this weight for Llama and other
/// models.
pub const WEIGHT_GPTJ_LLAMA: f64 = 15_000.0;

/// The MEMIT editor. The ridge of a layer's linear system is λ, the field `weight`.
pub struct Memit {
    /// The Cholesky factor of the second moment `C` of each edited layer, by layer index.
    pub factors: BTreeMap<usize, Rc<Factor>>,
    /// λ, the factor of the second moment in the matrix `λ C + K Kᵀ`.
    pub weight: f64,
}

impl MassEditor for Memit {
    fn rows(&self, layer: usize, keys: &[&[f32]]) -> Result<Vec<Vec<f64>>, ParallelKeys> {
        rows_with_ridge(&self.factors[&layer], keys, self.weight)
    }
}
