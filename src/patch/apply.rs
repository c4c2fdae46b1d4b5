//! Computes a patched weight: adds the change to the base weight in f64, and rounds the sum once.

use rayon::prelude::*;

use super::{PatchError, Target};
use crate::numeric::half::round;
use crate::safetensors::Layout;

/// Returns the patched weight `W' = round(f64(W) + Σ u·v)`, where each edit adds the product of its column `u` and its
/// row `v`. The result is rounded to the dtype of the base weight and then converted to f32, which is exact.
///
/// `base` is the weight `W` in the shape of the base file ([`Target::shape`]), and `parameter` is its name. The
/// products are added one by one in f64, in the order of the edits.
///
/// # Errors
/// If the length of `base` does not match the target's shape, or a result is not finite in the dtype of the base
/// weight.
pub fn materialise(parameter: &str, target: &Target, base: &[f32]) -> Result<Vec<f32>, PatchError> {
    // `weight_dtype` returns `None` for every dtype except F32, F16 and BF16. The constructors of `Patch` reject all
    // other dtypes, but a caller can pass a `target` that is not part of a `Patch`.
    let stored = target
        .dtype
        .weight_dtype()
        .ok_or_else(|| PatchError::Dtype { parameter: parameter.to_owned(), found: target.dtype })?;
    materialise_with(parameter, target, base, |sum| round(stored, sum))
}

/// Computes the same sums as [`materialise`], but rounds them with `round`, which returns `None` for a result that is
/// not finite.
///
/// # Errors
/// If the length of `base` does not match the target's shape, or a result is not finite.
pub fn materialise_with<T: Send>(
    parameter: &str,
    target: &Target,
    base: &[f32],
    round: impl Fn(f64) -> Option<T> + Sync,
) -> Result<Vec<T>, PatchError> {
    let expected = target.out * target.inner;
    if base.len() != expected {
        return Err(PatchError::WeightLength { parameter: parameter.to_owned(), expected, found: base.len() });
    }
    let plan = OrientedFactors::new(target);
    // The rows of the weight are independent, so the number of threads does not affect the result.
    let rows: Vec<Result<Vec<T>, usize>> = base
        .par_chunks_exact(plan.width)
        .enumerate()
        .map(|(row, weights)| {
            let sums = plan.row(row, weights);
            sums.into_iter().enumerate().map(|(column, sum)| round(sum).ok_or(column)).collect()
        })
        .collect();
    let mut patched = Vec::with_capacity(expected);
    // The rows are checked in order. The error therefore names the first number that is not finite, independently of
    // the number of threads.
    for (row, numbers) in rows.into_iter().enumerate() {
        patched.extend(numbers.map_err(|column| {
            let (parameter, index) = (parameter.to_owned(), row * plan.width + column);
            PatchError::Diverged { parameter, row, column, index }
        })?);
    }
    Ok(patched)
}

/// The factors `u` and `v` in the orientation in which the base stores the weight. For edit `e`, `along[e]` has one
/// number per column of the stored weight, and `across[e]` has one number per row.
struct OrientedFactors {
    along: Vec<Vec<f64>>,
    across: Vec<Vec<f64>>,
    width: usize,
}

impl OrientedFactors {
    fn new(target: &Target) -> Self {
        let edits = 0..target.edits.len();
        let columns = edits.clone().map(|edit| target.column(edit)).collect();
        let rows = edits.map(|edit| target.row(edit).iter().map(|&x| f64::from(x)).collect()).collect();
        match target.layout {
            Layout::Linear => Self { along: rows, across: columns, width: target.inner },
            Layout::Conv1d => Self { along: columns, across: rows, width: target.out },
        }
    }

    /// Returns one row of the stored weight plus the change by all edits, before rounding. The products are exact,
    /// because the product of two f32 numbers fits in f64. They are added in the order of the edits, because another
    /// order could change the rounding of the sum.
    fn row(&self, row: usize, weights: &[f32]) -> Vec<f64> {
        let mut sums: Vec<f64> = weights.iter().map(|&weight| f64::from(weight)).collect();
        for (along, across) in self.along.iter().zip(&self.across) {
            let factor = across[row];
            for (sum, x) in sums.iter_mut().zip(along) {
                *sum += factor * x;
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::target;
    use super::*;
    use crate::safetensors::Dtype;

    /// Returns the element of the patched weight for output `out` and input `inner`, computed as
    /// `W[out, inner] + Σ u[out, e]·v[e, inner]` with the sum over the edits e.
    fn expected(target: &Target, base: &[f32], out: usize, inner: usize) -> f32 {
        let index = match target.layout {
            Layout::Linear => out * target.inner + inner,
            Layout::Conv1d => inner * target.out + out,
        };
        let mut sum = f64::from(base[index]);
        for edit in 0..target.edits.len() {
            let u = f64::from(target.u[out * target.edits.len() + edit]);
            sum += u * f64::from(target.v[edit * target.inner + inner]);
        }
        sum as f32
    }

    #[test]
    fn is_the_definition_in_both_layouts() {
        let base: Vec<f32> = (0..6).map(|x| 0.1 * x as f32).collect();
        for layout in [Layout::Linear, Layout::Conv1d] {
            let target = target(layout);
            let patched = materialise("w", &target, &base).expect("finite");
            for out in 0..3 {
                for inner in 0..2 {
                    let index = if layout == Layout::Linear { out * 2 + inner } else { inner * 3 + out };
                    assert_eq!(patched[index].to_bits(), expected(&target, &base, out, inner).to_bits());
                }
            }
        }
    }

    #[test]
    fn every_product_is_added_to_the_weight_on_its_own() {
        let mut target = target(Layout::Linear);
        (target.out, target.inner) = (1, 1);
        // The weight is 2^60, and the next larger f64 number is 2^60 + 256. Adding the first product, 100, therefore
        // gives 2^60 again, and so does adding the second product, 100. Adding the third product, -2^60, then gives
        // exactly 0. If the products were summed before they are added to the weight, the result would not be 0.
        let third = crate::digest::Digest::of(b"a third edit");
        target.edits.push(third);
        (target.u, target.v) = (vec![1.0, 1.0, -1.0], vec![100.0, 100.0, 2_f32.powi(60)]);
        assert_ne!(2_f64.powi(60) + (100.0 + 100.0 - 2_f64.powi(60)), 0.0);
        assert_eq!(materialise("w", &target, &[2_f32.powi(60)]).expect("finite"), [0.0]);
    }

    #[test]
    fn refuses_what_is_not_finite() {
        let error = materialise("w", &target(Layout::Conv1d), &[0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0]);
        assert!(matches!(error, Err(PatchError::Diverged { row: 1, column: 1, index: 4, .. })));
        let mut huge = target(Layout::Linear);
        huge.u.fill(f32::MAX);
        assert!(matches!(materialise("w", &huge, &[f32::MAX; 6]), Err(PatchError::Diverged { .. })));
        assert!(matches!(
            materialise("w", &huge, &[0.0; 5]),
            Err(PatchError::WeightLength { expected: 6, found: 5, .. })
        ));
    }

    #[test]
    fn rounds_to_the_type_of_the_base() {
        let mut target = target(Layout::Linear);
        let base = [1.0; 6];
        let exact = materialise("w", &target, &base).expect("finite");
        target.dtype = Dtype::BF16;
        let rounded = materialise("w", &target, &base).expect("finite");
        let expected = exact.iter().map(|x| round(crate::numeric::WeightDtype::BF16, f64::from(*x)).expect("finite"));
        assert_eq!(rounded, expected.collect::<Vec<_>>());
        target.u.fill(1e30);
        target.dtype = Dtype::F16;
        assert!(matches!(materialise("w", &target, &base), Err(PatchError::Diverged { .. })));
    }

    #[test]
    fn rounds_once_to_another_type() {
        let integers = materialise_with("w", &target(Layout::Linear), &[0.0; 6], |sum| Some(sum.round() as i64));
        assert_eq!(integers.expect("finite").len(), 6);
    }
}
