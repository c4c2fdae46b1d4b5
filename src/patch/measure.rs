//! Measures how large the change by a patch is, and how much of it survives rounding. All sums are in f64 and have a
//! fixed order.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{Patch, Target};
use crate::digest::Digest;

/// The Frobenius norms of the change of one weight: of the part that each edit contributes, and of the whole change.
#[derive(Clone, Debug, PartialEq)]
pub struct DeltaNorms {
    /// The norm of the change by each edit e: `‖u_e‖·‖v_e‖`, where `u_e` is column e of the factor `u`, and `v_e` is
    /// row e of the factor `v`.
    pub edits: Vec<f64>,
    /// The norm of the whole change: `‖Σ u_e v_e‖`, with the sum over all edits e.
    pub total: f64,
}

/// Returns the Frobenius norm of the change that each edit makes to all weights of the patch together. The keys of the
/// map are the digests in [`Target::edits`].
pub fn edit_norms(patch: &Patch) -> BTreeMap<Digest, f64> {
    let mut squares: BTreeMap<Digest, f64> = BTreeMap::new();
    for target in patch.targets().values() {
        for (meaning, norm) in target.edits.iter().zip(delta_norms(target).edits) {
            *squares.entry(*meaning).or_default() += norm * norm;
        }
    }
    squares.into_iter().map(|(meaning, square)| (meaning, square.sqrt())).collect()
}

/// Returns the norms of the change of one weight. They are computed from the inner products of the columns of `u` and
/// of the rows of `v`, without computing the change itself.
pub fn delta_norms(target: &Target) -> DeltaNorms {
    let edits = 0..target.edits.len();
    let u: Vec<Vec<f64>> = edits.clone().map(|edit| target.column(edit)).collect();
    let v: Vec<Vec<f64>> = edits.map(|edit| target.row(edit).iter().map(|&x| f64::from(x)).collect()).collect();
    // ‖Σ u v‖² is the sum of (u_e·u_f)(v_e·v_f) over all pairs of edits e and f. The summand is symmetric, so each pair
    // e < f is computed once and doubled. The sums over f are computed in parallel and added in the order of e.
    let rows: Vec<f64> = (0..u.len())
        .into_par_iter()
        .map(|e| {
            let mut sum = dot(&u[e], &u[e]) * dot(&v[e], &v[e]);
            for f in e + 1..u.len() {
                sum += 2.0 * (dot(&u[e], &u[f]) * dot(&v[e], &v[f]));
            }
            sum
        })
        .collect();
    let square = sum(&rows);
    let norms = u.iter().zip(&v).map(|(u, v)| dot(u, u).sqrt() * dot(v, v).sqrt()).collect();
    // If edits cancel, rounding errors can make the square negative.
    DeltaNorms { edits: norms, total: if square > 0.0 { square.sqrt() } else { 0.0 } }
}

/// Returns the share of the change that survives rounding: `‖W' − W‖ / ‖Σ u v‖`, where `Σ u v` is the change in
/// `target` before rounding. The share is about 1 if rounding changes little. It is 0 if rounding removes the whole
/// change, or if the edits cancel each other exactly.
///
/// `base` and `materialised` are the weights `W` and `W'` in the same orientation, converted exactly to f32.
///
/// # Panics
/// If the two weights have different lengths.
pub fn surviving_share(base: &[f32], materialised: &[f32], target: &Target) -> f64 {
    assert_eq!(base.len(), materialised.len(), "a weight keeps its size");
    let total = delta_norms(target).total;
    // The blocks have a fixed length, so that the order of the sum does not depend on the number of threads.
    let blocks: Vec<f64> = base
        .par_chunks(BLOCK)
        .zip(materialised.par_chunks(BLOCK))
        .map(|(before, after)| {
            let mut square = 0.0;
            for (&old, &new) in before.iter().zip(after) {
                let change = f64::from(new) - f64::from(old);
                square += change * change;
            }
            square
        })
        .collect();
    if total > 0.0 { sum(&blocks).sqrt() / total } else { 0.0 }
}

/// The number of elements per block. A sum is computed within each block first, and then over the blocks. A different
/// number would change the order of the additions, and so the rounding of the result.
const BLOCK: usize = 4096;

/// Returns `‖W‖`, the Frobenius norm of a weight.
pub fn norm(weight: &[f32]) -> f64 {
    let square = |block: &[f32]| {
        let mut square = 0.0;
        for &x in block {
            square += f64::from(x) * f64::from(x);
        }
        square
    };
    sum(&weight.par_chunks(BLOCK).map(square).collect::<Vec<_>>()).sqrt()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sum = 0.0;
    for (x, y) in a.iter().zip(b) {
        sum += x * y;
    }
    sum
}

fn sum(values: &[f64]) -> f64 {
    let mut sum = 0.0;
    for value in values {
        sum += value;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::materialise;
    use super::super::samples::target;
    use super::*;
    use crate::safetensors::Layout;

    #[test]
    fn norms_are_those_of_the_change_itself() {
        let target = target(Layout::Linear);
        let mut square = 0.0;
        for out in 0..3 {
            for inner in 0..2 {
                let part = |edit: usize| f64::from(target.u[out * 2 + edit]) * f64::from(target.v[edit * 2 + inner]);
                square += (part(0) + part(1)).powi(2);
            }
        }
        let norms = delta_norms(&target);
        assert!((norms.total - square.sqrt()).abs() < 1e-12 * norms.total);
        assert!((norms.edits[0] - (35_f64 * 1.25).sqrt()).abs() < 1e-12);
        assert_eq!(norms, delta_norms(&super::super::samples::target(Layout::Conv1d)));
    }

    #[test]
    fn rounding_can_swallow_an_edit() {
        let target = target(Layout::Linear);
        let survives = |base: f32| {
            let base = [base; 6];
            surviving_share(&base, &materialise("w", &target, &base).expect("finite"), &target)
        };
        assert!((survives(0.0) - 1.0).abs() < 1e-6);
        assert_eq!(survives(1e12), 0.0);
    }

    #[test]
    fn edits_that_cancel() {
        let mut target = target(Layout::Linear);
        for pair in target.u.chunks_exact_mut(2) {
            pair[1] = -pair[0];
        }
        target.v = vec![0.1, 0.2, 0.1, 0.2];
        assert!(delta_norms(&target).total < 1e-7);
    }
}
