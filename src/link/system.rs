//! Solves the linear system of all edits of one layer. The solution is the change `Δ = R S⁻¹ Aᵀ` of the weight `W`,
//! computed in f64 without fused multiply-add.
//!
//! - `K` and `V` contain the MLP keys and values of the edits, one per column. `b` is the bias of the layer.
//! - `C` is the second moment of the corpus keys, and μ is a ridge.
//! - `A = C⁻¹K`, `S = KᵀA + μI`, and the residuals are `R = V − (W K + b)`.
//!
//! Column `e` of `R` and row `e` of `S⁻¹Aᵀ` belong to edit `e`. For one edit, this is the ROME formula.

use crate::numeric::cholesky::{Factor, NotPositiveDefinite};

/// The MLP key and the MLP value of one edit.
#[derive(Clone, Copy, Debug)]
pub struct LinkPair<'a> {
    /// The MLP key `k*`, `[intermediate_size]`.
    pub key: &'a [f32],
    /// The MLP value `v*`, `[hidden_size]`.
    pub value: &'a [f32],
}

/// The change `Σ u v` of a weight, with one column `u` and one row `v` per edit. Both are in the order of the `pairs`
/// that [`link`] received.
#[derive(Clone, Debug)]
pub struct ClosedForm {
    /// The residuals, one `[hidden_size]` per edit: the value of the edit minus the output of the base weight for its
    /// key.
    pub u: Vec<Vec<f64>>,
    /// The rows `v` of the change, one `[intermediate_size]` per edit.
    pub v: Vec<Vec<f64>>,
}

/// A pair of edits with similar MLP keys. This type is also the error for a linear system that cannot be solved because
/// the MLP keys of its edits are linearly dependent.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("the key of edit {edit} depends linearly on the keys of the edits before it, most of all on that of {partner}")]
pub struct ParallelKeys {
    /// The index of the later edit of the pair. In an error, it is the first edit whose key depends linearly on the
    /// keys of the edits before it.
    pub edit: usize,
    /// The index of the earlier edit of the pair. In an error, this is the edit before `edit` whose key has the largest
    /// absolute cosine with the key of `edit`; it equals `edit` if no edit is before `edit`.
    pub partner: usize,
    /// The cosine of the two keys in the metric of the inverse second moment, from −1 to 1.
    pub cosine: f64,
}

impl ParallelKeys {
    fn new(chosen: &[usize], system: &KeySystem, found: NotPositiveDefinite) -> Self {
        let edit = chosen[found.index];
        let before = chosen[..found.index].iter().copied();
        let likeness = |other: &usize| system.cosine(edit, *other).abs();
        let partner = before.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or(edit);
        Self { edit, partner, cosine: system.cosine(edit, partner) }
    }
}

/// The Gram matrix of a layer's MLP keys in the metric of the inverse second moment. It is computed once, and then used
/// to solve for any subset of the edits.
#[derive(Clone, Debug)]
pub struct KeySystem {
    /// The inverse second moment times each MLP key: one vector, `[intermediate_size]`, per key.
    whitened: Vec<Vec<f64>>,
    /// The Gram matrix of the keys, `[keys, keys]` row-major.
    coupling: Vec<f64>,
}

/// The rows `v` of a layer's change `Σ u v`, and the condition number of the linear system.
#[derive(Clone, Debug)]
pub struct Solution {
    /// The rows `v` of the change, one `[intermediate_size]` per chosen edit.
    pub rows: Vec<Vec<f64>>,
    /// The condition number of the matrix of the linear system: the ratio of its largest to its smallest eigenvalue.
    pub condition: f64,
}

impl KeySystem {
    /// Computes the Gram matrix of `keys`. `factor` is the Cholesky factor of the second moment of the corpus keys.
    pub fn new(factor: &Factor, keys: &[&[f32]]) -> Self {
        let count = keys.len();
        let whitened: Vec<Vec<f64>> = keys.iter().map(|key| factor.solve(&wide(key))).collect();
        let mut coupling = vec![0.0; count * count];
        for (row, key) in keys.iter().enumerate() {
            for (column, whitened_key) in whitened.iter().enumerate().take(row + 1) {
                let product = dot(key, whitened_key);
                coupling[row * count + column] = product;
                coupling[column * count + row] = product;
            }
        }
        Self { whitened, coupling }
    }

    /// Returns a system with the given vectors `whitened`, one `[intermediate_size]` per key. In [`KeySystem::new`],
    /// such a vector is the inverse second moment times the key; in AlphaEdit, it is the projection of the key.
    pub fn of(keys: &[&[f32]], whitened: Vec<Vec<f64>>) -> Self {
        let coupling = keys.iter().flat_map(|key| whitened.iter().map(|whitened| dot(key, whitened))).collect();
        Self { whitened, coupling }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        self.coupling[row * self.whitened.len() + column]
    }

    /// Returns the cosine of the MLP keys with the indices `one` and `other` in the metric of the inverse second
    /// moment.
    pub fn cosine(&self, one: usize, other: usize) -> f64 {
        self.at(one, other) / (self.at(one, one) * self.at(other, other)).sqrt()
    }

    /// Returns the pairs of keys with an absolute cosine of at least `least`, the most similar pair first.
    pub fn alike(&self, least: f64) -> Vec<ParallelKeys> {
        let pairs = (0..self.whitened.len()).flat_map(|edit| (0..edit).map(move |partner| (edit, partner)));
        let pairs = pairs.map(|(edit, partner)| ParallelKeys { edit, partner, cosine: self.cosine(edit, partner) });
        let mut found: Vec<ParallelKeys> = pairs.filter(|pair| pair.cosine.abs() >= least).collect();
        found.sort_by(|a, b| b.cosine.abs().total_cmp(&a.cosine.abs()));
        found
    }

    /// Solves the linear system of the edits with the indices `chosen`, as if there were no other edits. `ridge` is a
    /// share of the mean diagonal of the Gram matrix.
    ///
    /// # Errors
    /// If keys are linearly dependent and the ridge is too small to make the linear system solvable.
    pub fn solve(&self, chosen: &[usize], ridge: f64) -> Result<Solution, ParallelKeys> {
        let mut trace = 0.0;
        for &edit in chosen {
            trace += self.at(edit, edit);
        }
        self.solve_with(chosen, ridge * (trace / chosen.len() as f64))
    }

    /// Does the same as [`KeySystem::solve`], but `ridge` is the number that is added to the diagonal of the Gram
    /// matrix.
    ///
    /// # Errors
    /// If keys are linearly dependent and the ridge is too small to make the linear system solvable.
    pub fn solve_with(&self, chosen: &[usize], ridge: f64) -> Result<Solution, ParallelKeys> {
        let count = chosen.len();
        let mut coupling: Vec<f64> =
            chosen.iter().flat_map(|&row| chosen.iter().map(move |&column| self.at(row, column))).collect();
        for e in 0..count {
            coupling[e * count + e] += ridge;
        }
        let factor = Factor::new(count, coupling.clone()).map_err(|found| ParallelKeys::new(chosen, self, found))?;
        let whitened: Vec<&[f64]> = chosen.iter().map(|&edit| self.whitened[edit].as_slice()).collect();
        Ok(Solution { rows: solve_rows(&factor, &whitened), condition: condition(&factor, &coupling) })
    }
}

/// The number of power iterations for one eigenvalue. 60 iterations give two significant digits, which suffices because
/// only the order of magnitude of the condition number is used.
const ROUNDS: usize = 60;

/// Returns the condition number of `matrix`, from power iterations with the matrix and with its inverse. `factor` is
/// the Cholesky factor of `matrix`.
fn condition(factor: &Factor, matrix: &[f64]) -> f64 {
    let count = matrix.len().isqrt();
    let times = |x: &[f64]| (0..count).map(|row| dot_wide(&matrix[row * count..][..count], x)).collect::<Vec<_>>();
    greatest(count, times) * greatest(count, |x| factor.solve(x))
}

/// Returns the largest eigenvalue of a symmetric positive definite matrix by power iteration. `map` multiplies the
/// matrix with a vector of `count` elements.
fn greatest(count: usize, map: impl Fn(&[f64]) -> Vec<f64>) -> f64 {
    // A non-uniform start vector makes orthogonality to the dominant eigenvector unlikely.
    let mut x: Vec<f64> = (0..count).map(|index| 1.0 + (index % 7) as f64 / 8.0).collect();
    let mut value = 1.0;
    for _ in 0..ROUNDS {
        let length = dot_wide(&x, &x).sqrt();
        x.iter_mut().for_each(|x| *x /= length);
        let next = map(&x);
        value = dot_wide(&x, &next);
        x = next;
    }
    value
}

/// Solves the linear system for all edits at once. `output` receives a key and returns the output of the base weight
/// plus the bias of the layer, `[hidden_size]`. `ridge` is a share of the mean diagonal of the Gram matrix of the keys.
///
/// # Errors
/// If keys are linearly dependent and the ridge is too small to make the linear system solvable.
pub fn link(
    factor: &Factor,
    pairs: &[LinkPair],
    ridge: f64,
    output: impl Fn(&[f32]) -> Vec<f64>,
) -> Result<ClosedForm, ParallelKeys> {
    let keys: Vec<&[f32]> = pairs.iter().map(|pair| pair.key).collect();
    let all: Vec<usize> = (0..pairs.len()).collect();
    let solved = KeySystem::new(factor, &keys).solve(&all, ridge)?;
    Ok(ClosedForm { u: pairs.iter().map(|pair| residual(pair, &output(pair.key))).collect(), v: solved.rows })
}

/// Returns the residual of an edit, `[hidden_size]`: the value of the edit minus `output`, the output of the base
/// weight for the edit's key.
pub fn residual(pair: &LinkPair, output: &[f64]) -> Vec<f64> {
    pair.value.iter().zip(output).map(|(value, output)| f64::from(*value) - output).collect()
}

/// Returns the rows `v` of the change, one per edit: `S⁻¹` times the matrix with the rows `whitened`. `solved` is the
/// Cholesky factor of `S`, the matrix of the linear system. The terms of a sum are added in the order of the edits.
fn solve_rows(solved: &Factor, whitened: &[&[f64]]) -> Vec<Vec<f64>> {
    let count = whitened.len();
    let column = |e: usize| {
        let unit: Vec<f64> = (0..count).map(|j| if j == e { 1.0 } else { 0.0 }).collect();
        solved.solve(&unit)
    };
    let mut rows = Vec::with_capacity(count);
    for e in 0..count {
        // S⁻¹ is symmetric, so its column e equals its row e.
        let weights = column(e);
        let mut row = vec![0.0; whitened[e].len()];
        for (weight, whitened_key) in weights.iter().zip(whitened) {
            for (sum, a) in row.iter_mut().zip(*whitened_key) {
                *sum += weight * a;
            }
        }
        rows.push(row);
    }
    rows
}

fn wide(xs: &[f32]) -> Vec<f64> {
    xs.iter().map(|&x| f64::from(x)).collect()
}

fn dot(xs: &[f32], ys: &[f64]) -> f64 {
    let mut total = 0.0;
    for (x, y) in xs.iter().zip(ys) {
        total += f64::from(*x) * y;
    }
    total
}

fn dot_wide(xs: &[f64], ys: &[f64]) -> f64 {
    let mut total = 0.0;
    for (x, y) in xs.iter().zip(ys) {
        total += x * y;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the Cholesky factor of the identity matrix. With this second moment, the metric of the keys is
    /// Euclidean.
    fn identity(count: usize) -> Factor {
        let matrix = (0..count * count).map(|at| if at / count == at % count { 1.0 } else { 0.0 }).collect();
        Factor::new(count, matrix).expect("positive definite")
    }

    #[test]
    fn the_condition_number_is_that_of_the_eigenvalues() {
        // For orthogonal keys of norms 3 and 1, the Gram matrix is diag(9, 1).
        let system = KeySystem::new(&identity(2), &[&[3.0, 0.0], &[0.0, 1.0]]);
        assert!((system.solve(&[0, 1], 0.0).expect("apart").condition - 9.0).abs() < 1e-9);
        // For unit keys with cosine c, the eigenvalues of the Gram matrix are 1 ± c. Here c is 0.8.
        let oblique = KeySystem::new(&identity(2), &[&[1.0, 0.0], &[0.8, 0.6]]);
        assert!((oblique.solve(&[0, 1], 0.0).expect("apart").condition - 9.0).abs() < 1e-5);
        assert!((oblique.alike(0.7)[0].cosine - 0.8).abs() < 1e-6);
        assert_eq!((oblique.alike(0.7)[0].edit, oblique.alike(0.9).len()), (1, 0));
    }

    #[test]
    fn leaving_edits_out_is_as_if_they_were_not_there() {
        let keys: [&[f32]; 3] = [&[1.0, 0.5, 0.0], &[0.2, 1.0, 0.3], &[0.0, 0.1, 1.0]];
        let (all, two) = (KeySystem::new(&identity(3), &keys), KeySystem::new(&identity(3), &[keys[0], keys[2]]));
        let (some, alone) = (all.solve(&[0, 2], 0.01).expect("apart"), two.solve(&[0, 1], 0.01).expect("apart"));
        assert_eq!(some.rows, alone.rows);
    }

    #[test]
    fn parallel_keys_are_named() {
        let system = KeySystem::new(&identity(2), &[&[0.0, 1.0], &[1.0, 0.0], &[2.0, 0.0]]);
        let found = system.solve(&[0, 1, 2], 0.0).expect_err("parallel");
        assert_eq!(found, ParallelKeys { edit: 2, partner: 1, cosine: 1.0 });
        assert!(system.solve(&[0, 1, 2], 0.1).is_ok());
        assert!(system.solve(&[0, 2], 0.0).is_ok());
    }
}
