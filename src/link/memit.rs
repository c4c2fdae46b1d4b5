//! MEMIT (Meng et al. 2023, equation 14): `Δ = R Kᵀ (λ C + K Kᵀ)⁻¹`, which is `R (KᵀC⁻¹K + λ I)⁻¹ (C⁻¹K)ᵀ`.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::spread::{Rows, ridged};
use super::system::Parallel;
use crate::numeric::cholesky::Factor;

/// The weight of the second moment that was published for GPT-2 XL.
pub const WEIGHT: f64 = 20_000.0;
/// The weight that was published for GPT-J, and that EasyEdit uses for Llama and others.
pub const OTHERS: f64 = 15_000.0;

/// The MEMIT solver for the rows of a layer.
pub struct Memit {
    /// The Cholesky factor of every layer's second moment.
    pub factors: BTreeMap<usize, Rc<Factor>>,
    /// λ, the weight of the second moment.
    pub weight: f64,
}

impl Rows for Memit {
    fn rows(&self, layer: usize, keys: &[&[f32]]) -> Result<Vec<Vec<f64>>, Parallel> {
        ridged(&self.factors[&layer], keys, self.weight)
    }
}
