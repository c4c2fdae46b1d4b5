//! Implements Adam for parameters in f32. The arithmetic of each element is f64, and its results are rounded to f32.

use rayon::prelude::*;

use super::learner::Trained;
use crate::compile::optimiser::{BETA, EPSILON};

/// The number of elements that one thread updates at a time. The gradients of each such part are squared and added up
/// in order, and the sums of the parts are added up in order, so the number of threads does not affect the norm.
const PART: usize = 1 << 14;

/// The state of Adam (Kingma and Ba 2015) for all parameters of an editor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParameterAdam {
    /// The moments of each parameter: the mean gradient and the mean squared gradient.
    pub moments: Vec<[Vec<f32>; 2]>,
    /// β₁ᵗ and β₂ᵗ after t steps, for the bias correction. They are computed by repeated multiplication.
    powers: [f64; 2],
}

impl ParameterAdam {
    /// Creates the state before the first step for parameters with the given numbers of elements.
    pub fn new(widths: impl Iterator<Item = usize>) -> Self {
        Self { moments: widths.map(|width| [vec![0.0; width], vec![0.0; width]]).collect(), powers: [1.0, 1.0] }
    }

    /// Sets the state to that after `steps` steps. The moments must be set separately.
    pub fn skip(&mut self, steps: usize) {
        self.powers = [1.0, 1.0];
        (0..steps).for_each(|_| self.count_step());
    }

    fn count_step(&mut self) {
        self.powers = [self.powers[0] * BETA[0], self.powers[1] * BETA[1]];
    }

    /// Updates all parameters by one step of Adam for the gradients times `factor`, and sets the gradients to 0.
    pub fn step(&mut self, trained: Vec<Trained<'_>>, factor: f64) {
        self.count_step();
        let corrections = [1.0 / (1.0 - self.powers[0]), 1.0 / (1.0 - self.powers[1])];
        for (one, [first, second]) in trained.into_iter().zip(&mut self.moments) {
            let (rate, moments) = (one.rate, first.par_chunks_mut(PART).zip(second.par_chunks_mut(PART)));
            let parts = one.values.par_chunks_mut(PART).zip(one.gradient.par_chunks_mut(PART)).zip(moments);
            parts.for_each(|((values, gradient), (means, squares))| {
                for (((value, g), m), v) in values.iter_mut().zip(gradient).zip(means).zip(squares) {
                    let x = f64::from(*g) * factor;
                    *g = 0.0;
                    let mean = BETA[0] * f64::from(*m) + (1.0 - BETA[0]) * x;
                    let square = BETA[1] * f64::from(*v) + (1.0 - BETA[1]) * (x * x);
                    (*m, *v) = (mean as f32, square as f32);
                    let step = mean * corrections[0] / ((square * corrections[1]).sqrt() + EPSILON);
                    *value = (f64::from(*value) - rate * step) as f32;
                }
            });
        }
    }
}

/// Returns the Euclidean norm of all gradients together.
pub fn norm(trained: &[Trained<'_>]) -> f64 {
    let mut total = 0.0;
    for one in trained {
        let square = |part: &[f32]| part.iter().fold(0.0, |sum, x| sum + f64::from(*x) * f64::from(*x));
        for part in one.gradient.par_chunks(PART).map(square).collect::<Vec<f64>>() {
            total += part;
        }
    }
    total.sqrt()
}
