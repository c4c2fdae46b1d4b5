//! All edits of one layer in one closed-form solve.
//!
//! With keys `K` (`[f, B]`), values `V` (`[d, B]`) and the factor of `C`: `A = C⁻¹K`, `S = KᵀA + μI`,
//! `R = V − (W K + b)`, `Δ = R S⁻¹ Aᵀ`. For one edit this is the ROME formula. Column `e` of `u = R` and row `e` of
//! `v = S⁻¹Aᵀ` belong to edit `e`. Everything here is f64 with separate multiplication and addition.

use crate::numeric::cholesky::{Factor, NotPositiveDefinite};

/// One edit's side of the solve.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// `k*`, `[f]`.
    pub key: &'a [f32],
    /// `v*`, `[d]`.
    pub value: &'a [f32],
}

/// The solution, a row and a column per edit, in the order of the pairs.
#[derive(Clone, Debug)]
pub struct Linked {
    /// Residuals, one `[d]` per edit: what an edit adds to the output where its key asks for all of it.
    pub u: Vec<Vec<f64>>,
    /// Rows of `S⁻¹Aᵀ`, one `[f]` per edit.
    pub v: Vec<Vec<f64>>,
}

/// The keys of two or more edits are (nearly) parallel, so they cannot be given different values.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the key of edit {edit} cannot be told from those of the edits before it, most of all that of {partner}")]
pub struct Parallel {
    /// Index of the edit whose key depends on those before it.
    pub edit: usize,
    /// Index of the edit before it whose key is most like it.
    pub partner: usize,
    /// The cosine of the two keys in the metric of `C⁻¹`.
    pub cosine: f64,
}

impl Parallel {
    fn new(count: usize, coupling: &[f64], found: NotPositiveDefinite) -> Self {
        let edit = found.index;
        let at = |row: usize, column: usize| coupling[row * count + column];
        let cosine = |other: usize| at(edit, other) / (at(edit, edit) * at(other, other)).sqrt();
        let mut partner = 0;
        for other in 1..edit {
            if cosine(other).abs() > cosine(partner).abs() {
                partner = other;
            }
        }
        Self { edit, partner, cosine: cosine(partner) }
    }
}

/// Solves for all pairs at once. `output` gives `W k + b` (`[d]`) in f64; `ridge` is μ as a share of the mean
/// diagonal of `KᵀC⁻¹K`.
///
/// # Errors
/// If keys are parallel and the ridge does not separate them.
pub fn link(
    factor: &Factor,
    pairs: &[Pair],
    ridge: f64,
    output: impl Fn(&[f32]) -> Vec<f64>,
) -> Result<Linked, Parallel> {
    let count = pairs.len();
    let whitened: Vec<Vec<f64>> = pairs.iter().map(|pair| factor.solve(&wide(pair.key))).collect();
    let mut coupling = vec![0.0; count * count];
    for (row, pair) in pairs.iter().enumerate() {
        for (column, whitened) in whitened.iter().enumerate().take(row + 1) {
            let product = dot(pair.key, whitened);
            coupling[row * count + column] = product;
            coupling[column * count + row] = product;
        }
    }
    let mut trace = 0.0;
    for e in 0..count {
        trace += coupling[e * count + e];
    }
    for e in 0..count {
        coupling[e * count + e] += ridge * (trace / count as f64);
    }
    let solved = Factor::new(count, coupling.clone()).map_err(|found| Parallel::new(count, &coupling, found))?;
    let u = pairs.iter().map(|pair| residual(pair, &output(pair.key))).collect();
    Ok(Linked { u, v: solve_rows(&solved, &whitened) })
}

fn residual(pair: &Pair, output: &[f64]) -> Vec<f64> {
    pair.value.iter().zip(output).map(|(value, output)| f64::from(*value) - output).collect()
}

/// `S⁻¹ Aᵀ`, row by row: `v_e = Σ_j (S⁻¹)_ej a_j`, `j` ascending.
fn solve_rows(solved: &Factor, whitened: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let count = whitened.len();
    let column = |e: usize| {
        let unit: Vec<f64> = (0..count).map(|j| if j == e { 1.0 } else { 0.0 }).collect();
        solved.solve(&unit)
    };
    let mut rows = Vec::with_capacity(count);
    for e in 0..count {
        // S⁻¹ is symmetric: its column e is its row e.
        let weights = column(e);
        let mut row = vec![0.0; whitened[e].len()];
        for (weight, whitened) in weights.iter().zip(whitened) {
            for (row, a) in row.iter_mut().zip(whitened) {
                *row += weight * a;
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
