//! AlphaEdit (Fang et al. 2025): changes only in directions in which the keys of the corpus hardly reach.
//! `Δ = R (KᵀP K + μ I)⁻¹ (P K)ᵀ`, with `P` the projector on the eigenvectors of `C` whose eigenvalues are small.

use std::collections::BTreeMap;
use std::rc::Rc;

use rayon::prelude::*;

use super::spread::Rows;
use super::system::{Parallel, System};
use crate::numeric::eigen::Eigen;

/// Which eigenvalues are small.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Small {
    /// Those below a number, as published: it goes by the scale of a model's keys, and is right for few.
    Below(f64),
    /// The smallest of them, as long as they make up no more than this share of the trace.
    Share(f64),
}

/// The projector on the eigenvectors of small eigenvalues, by its complement or by itself, whichever has fewer.
pub struct Projector {
    /// Eigenvectors, `[f]` each.
    vectors: Vec<Vec<f64>>,
    /// Whether these are the ones that are kept.
    kept: bool,
}

impl Projector {
    /// Of the eigenvectors of `C`, those that are small.
    pub fn new(eigen: &Eigen, small: Small) -> Self {
        let order = eigen.values.len();
        let mut trace = 0.0;
        for value in &eigen.values {
            trace += value;
        }
        // Ascending: the small ones come first.
        let mut sum = 0.0;
        let is_small = |value: &&f64| {
            sum += **value;
            match small {
                Small::Below(most) => **value < most,
                Small::Share(share) => sum <= share * trace,
            }
        };
        let count = eigen.values.iter().take_while(is_small).count();
        let kept = count <= order / 2;
        let vectors = if kept { &eigen.vectors[..count] } else { &eigen.vectors[count..] };
        Self { vectors: vectors.to_vec(), kept }
    }

    /// How many directions are kept, of how many.
    pub fn rank(&self, order: usize) -> usize {
        if self.kept { self.vectors.len() } else { order - self.vectors.len() }
    }

    /// `P k`.
    fn apply(&self, key: &[f32]) -> Vec<f64> {
        let mut out = vec![0.0; key.len()];
        for vector in &self.vectors {
            let mut along = 0.0;
            for (v, k) in vector.iter().zip(key) {
                along += v * f64::from(*k);
            }
            out.iter_mut().zip(vector).for_each(|(out, v)| *out += along * v);
        }
        if !self.kept {
            out.iter_mut().zip(key).for_each(|(out, k)| *out = f64::from(*k) - *out);
        }
        out
    }
}

/// How AlphaEdit takes its keys.
pub struct AlphaEdit {
    /// The projector of every layer.
    pub projectors: BTreeMap<usize, Rc<Projector>>,
    /// μ: the published code's `L2`.
    pub ridge: f64,
}

/// μ in the published settings.
pub const RIDGE: f64 = 10.0;

impl Rows for AlphaEdit {
    fn rows(&self, layer: usize, keys: &[&[f32]]) -> Result<Vec<Vec<f64>>, Parallel> {
        let projector = &self.projectors[&layer];
        // Threads split the keys; each is projected on its own.
        let shared: &Projector = projector;
        let projected = keys.par_iter().map(|key| shared.apply(key)).collect();
        let all: Vec<usize> = (0..keys.len()).collect();
        Ok(System::of(keys, projected).solve_with(&all, self.ridge)?.rows)
    }
}
