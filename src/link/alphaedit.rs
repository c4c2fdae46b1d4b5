//! Implements AlphaEdit (Fang et al. 2025), which changes the weight only in directions in which the MLP keys of the
//! corpus are small.
//! `Δ = R (KᵀP K + μ I)⁻¹ (P K)ᵀ`, where the columns of `K` are the keys of the edits, the columns of `R` are their
//! residuals, μ is a ridge, and `P` is the projector onto the span of the eigenvectors with small eigenvalues of `C`,
//! the second moment of the corpus keys.

use std::collections::BTreeMap;
use std::rc::Rc;

use rayon::prelude::*;

use super::distribute::MassEditor;
use super::system::{KeySystem, ParallelKeys};
use crate::numeric::eigen::Eigen;

/// The criterion for small eigenvalues of the second moment `C`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EigenCutoff {
    /// Eigenvalues below an absolute threshold, as published. The right threshold depends on the scale of a model's
    /// keys.
    Below(f64),
    /// The smallest eigenvalues whose sum is at most this share of the trace.
    Share(f64),
}

/// The projector onto the span of the eigenvectors of `C` that the cutoff selects. To save memory, it stores either
/// these eigenvectors or the other eigenvectors of `C`, whichever are fewer.
pub struct Projector {
    /// Orthonormal eigenvectors of `C`, each of length f.
    vectors: Vec<Vec<f64>>,
    /// Whether `vectors` are the selected eigenvectors. Otherwise `vectors` are the remaining eigenvectors, and `P k`
    /// is `k` minus the projection of `k` onto their span.
    kept: bool,
}

impl Projector {
    /// Builds the projector onto the span of the eigenvectors of `C` that `small` selects.
    pub fn new(eigen: &Eigen, small: EigenCutoff) -> Self {
        let order = eigen.values.len();
        let mut trace = 0.0;
        for value in &eigen.values {
            trace += value;
        }
        // Eigenvalues are ascending, so the small eigenvalues are first.
        let mut sum = 0.0;
        let is_small = |value: &&f64| {
            sum += **value;
            match small {
                EigenCutoff::Below(most) => **value < most,
                EigenCutoff::Share(share) => sum <= share * trace,
            }
        };
        let count = eigen.values.iter().take_while(is_small).count();
        let kept = count <= order / 2;
        let vectors = if kept { &eigen.vectors[..count] } else { &eigen.vectors[count..] };
        Self { vectors: vectors.to_vec(), kept }
    }

    /// Returns the rank of the projector; `order` is the order of `C`.
    pub fn rank(&self, order: usize) -> usize {
        if self.kept { self.vectors.len() } else { order - self.vectors.len() }
    }

    /// Returns the projection `P k` of an MLP key, `[f]`.
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

/// The method AlphaEdit: computes the rows of a layer from the projected keys `P K` instead of `C⁻¹K`.
pub struct AlphaEdit {
    /// The projector of each edited layer, by layer index.
    pub projectors: BTreeMap<usize, Rc<Projector>>,
    /// The absolute ridge μ, called `L2` in the published code.
    pub ridge: f64,
}

/// The absolute ridge μ in the published settings.
pub const RIDGE: f64 = 10.0;

impl MassEditor for AlphaEdit {
    fn rows(&self, layer: usize, keys: &[&[f32]]) -> Result<Vec<Vec<f64>>, ParallelKeys> {
        let projector = &self.projectors[&layer];
        // An `Rc` cannot be shared between threads, so the threads borrow the projector inside it.
        let shared: &Projector = projector;
        let projected = keys.par_iter().map(|key| shared.apply(key)).collect();
        let all: Vec<usize> = (0..keys.len()).collect();
        Ok(KeySystem::of(keys, projected).solve_with(&all, self.ridge)?.rows)
    }
}
