//! Implements MEMIT (Meng et al. 2023, equation 14): `Δ = R Kᵀ (λ C + K Kᵀ)⁻¹`, which is `R (KᵀC⁻¹K + λ I)⁻¹ (C⁻¹K)ᵀ`.
//! The columns of `K` are the MLP keys of the edits, the columns of `R` are their residuals, and `C` is the second
//! moment of the corpus keys.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::distribute::{MassEditor, rows_with_ridge};
use super::system::ParallelKeys;
use crate::numeric::cholesky::Factor;

/// The weight λ of the second moment that was published for GPT-2 XL.
pub const WEIGHT: f64 = 20_000.0;
/// The weight λ that was published for GPT-J, and that EasyEdit uses for Llama and others.
pub const WEIGHT_GPTJ_LLAMA: f64 = 15_000.0;

/// The method MEMIT: computes the rows of a layer with the ridge λ.
pub struct Memit {
    /// The Cholesky factor of the second moment `C` of each edited layer, by layer index.
    pub factors: BTreeMap<usize, Rc<Factor>>,
    /// The weight λ of the second moment.
    pub weight: f64,
}

impl MassEditor for Memit {
    fn rows(&self, layer: usize, keys: &[&[f32]]) -> Result<Vec<Vec<f64>>, ParallelKeys> {
        rows_with_ridge(&self.factors[&layer], keys, self.weight)
    }
}
