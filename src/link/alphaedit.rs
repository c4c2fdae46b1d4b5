//! Implements AlphaEdit (Fang et al. 2025), which changes a weight only in directions in which the MLP keys of the
//! corpus have small components. The change is `Δ = R (KᵀP K + μ I)⁻¹ (P K)ᵀ`.
//!
//! The columns of `K` are the MLP keys of the edits, the columns of `R` are the desired changes of the outputs, and μ
//! is a ridge. `P` projects onto the eigenvectors with small eigenvalues of `C`, the second moment of the corpus keys.

use std::collections::BTreeMap;
use std::rc::Rc;

use rayon::prelude::*;

use super::distribute::MassEditor;
use super::system::{KeySystem, ParallelKeys};
use crate::numeric::eigen::Eigen;

/// The rule that selects small eigenvalues of the second moment of the corpus keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EigenCutoff {
    /// The eigenvalues below an absolute threshold, as published. A good threshold depends on the scale of a model's
    /// keys.
    Below(f64),
    /// The smallest eigenvalues, as many as possible, whose sum is at most this share of the sum of all eigenvalues.
    Share(f64),
}

/// The projector onto the eigenvectors of the second moment that an [`EigenCutoff`] selects. To save memory, it stores
/// either the selected or the remaining eigenvectors, depending on which are fewer.
pub struct Projector {
    /// Orthonormal eigenvectors of the second moment, each `[intermediate_size]`.
    vectors: Vec<Vec<f64>>,
    /// Whether `vectors` are the selected eigenvectors. Otherwise they are the remaining eigenvectors, and the
    /// projection of a key is the key minus its projection onto them.
    kept: bool,
}

impl Projector {
    /// Returns the projector onto the eigenvectors of the second moment whose eigenvalues `small` selects.
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

    /// Returns the rank of the projector. `order` is the number of rows of the second moment.
    pub fn rank(&self, order: usize) -> usize {
        if self.kept { self.vectors.len() } else { order - self.vectors.len() }
    }

    /// Returns the projection of an MLP key, `[intermediate_size]`.
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

/// The AlphaEdit editor. It solves the linear system of a layer with projected MLP keys.
pub struct AlphaEdit {
    /// The projector of each edited layer, by layer index.
    pub projectors: BTreeMap<usize, Rc<Projector>>,
    /// The ridge μ: the number that is added to the diagonal of the linear system. The published code calls it `L2`.
    pub ridge: f64,
}

/// The ridge μ in the published settings of AlphaEdit.
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
