//! Spreads a change over several layers (Meng et al. 2023, "Mass-editing memory in a transformer", section 4.3).
//!
//! For each fact, the caller has optimised a target hidden state after the last of these layers. The layers are then
//! changed from the lowest to the highest. Each layer takes an equal share of the remaining difference from the target,
//! for example a third if three layers remain. Editors differ only in the linear system that they solve for a layer.

use super::layer_update::LayerUpdate;
use super::system::{KeySystem, ParallelKeys};
use crate::compile::Resolved;
use crate::compile::value::mean_key;
use crate::model::Model;
use crate::patch::PatchError;

/// A method that edits many facts at once, such as MEMIT. It computes the rows `v` of a layer's change `Σ u v` from the
/// layer's MLP keys.
pub trait MassEditor {
    /// Returns the rows `v` of the layer's change `Σ u v`, one `[intermediate_size]` per fact. The column `u` of a fact
    /// is the desired change of the output for the fact's key.
    ///
    /// # Errors
    /// If keys are linearly dependent and the method's ridge is too small to make the linear system solvable.
    fn rows(&self, layer: usize, keys: &[&[f32]]) -> Result<Vec<Vec<f64>>, ParallelKeys>;
}

/// The reason why a change could not be spread over several layers: the MLP keys of a layer are linearly dependent, or
/// a changed weight is not finite.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error messages describe the variants")]
pub enum DistributeError {
    #[error(transparent)]
    Parallel(#[from] ParallelKeys),
    #[error(transparent)]
    Patch(#[from] PatchError),
}

/// Changes `layers` (ascending) so that the hidden states after the last of these layers approach `targets`. A target
/// is the desired hidden state at the last token of a fact's subject, `[hidden_size]`. Returns the change of every
/// layer, and the changed model.
///
/// # Errors
/// If keys of a layer are linearly dependent and the ridge is too small to make the linear system solvable, or if a
/// changed weight is not finite.
pub fn distribute(
    base: &Model,
    layers: &[usize],
    facts: &[&Resolved],
    targets: &[&[f32]],
    rows: &dyn MassEditor,
) -> Result<(Vec<LayerUpdate>, Model), DistributeError> {
    let (mut model, mut sites) = (base.clone(), Vec::new());
    let last = layers.last().copied().unwrap_or_default();
    for (index, &layer) in layers.iter().enumerate() {
        let keys: Vec<Vec<f32>> = facts.iter().map(|fact| key(&model, layer, fact)).collect();
        let share = 1.0 / (layers.len() - index) as f64;
        let missing = facts.iter().zip(targets).map(|(fact, target)| {
            let state = state(&model, last, fact);
            target.iter().zip(&state).map(|(want, is)| (f64::from(*want) - f64::from(*is)) * share).collect()
        });
        let columns = missing.collect();
        let rows = rows.rows(layer, &keys.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let site = LayerUpdate { layer, columns, rows };
        model = site.apply_to(&model)?;
        sites.push(site);
    }
    Ok((sites, model))
}

/// Returns the MLP key of a fact: half the key in the prompt without a context template, plus half the mean of the keys
/// in the context templates.
fn key(model: &Model, layer: usize, fact: &Resolved) -> Vec<f32> {
    let rows: Vec<&[u32]> = fact.rows.iter().map(|row| &row.ids[..=row.position]).collect();
    let positions: Vec<usize> = fact.rows.iter().map(|row| row.position).collect();
    mean_key(&model.run_hook(layer, &rows, &positions).keys, Some(0.5))
}

/// Returns the hidden state after a layer, at the last token of the subject in the prompt without a context template.
fn state(model: &Model, layer: usize, fact: &Resolved) -> Vec<f32> {
    let row = &fact.rows[0];
    let hooked = model.run_hook(layer, &[&row.ids[..=row.position]], &[row.position]);
    hooked.state(0, row.position).to_vec()
}

/// Computes the rows `v` of a layer's change from the Cholesky factor of the second moment. `ridge` is the number that
/// is added to the diagonal of the linear system. MEMIT and EMMET differ only in this number.
pub(super) fn rows_with_ridge(
    factor: &crate::numeric::cholesky::Factor,
    keys: &[&[f32]],
    ridge: f64,
) -> Result<Vec<Vec<f64>>, ParallelKeys> {
    let all: Vec<usize> = (0..keys.len()).collect();
    Ok(KeySystem::new(factor, keys).solve_with(&all, ridge)?.rows)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use super::*;
    use crate::link::alphaedit::{AlphaEdit, EigenCutoff, Projector};
    use crate::link::emmet::Emmet;
    use crate::link::memit::Memit;
    use crate::numeric::cholesky::Factor;
    use crate::numeric::eigen::Eigen;
    use crate::numeric::random::NumpyRandomState;

    const F: usize = 8;
    const B: usize = 3;

    struct Case {
        moment: Vec<f64>,
        keys: Vec<Vec<f32>>,
    }

    fn case() -> Case {
        let mut random = NumpyRandomState::new(11);
        let samples: Vec<Vec<f64>> = (0..20).map(|_| (0..F).map(|_| random.normal()).collect()).collect();
        let at = |i: usize, j: usize| samples.iter().map(|k| k[i] * k[j]).sum::<f64>() / 20.0;
        let moment = (0..F * F).map(|index| at(index / F, index % F)).collect();
        let keys = (0..B).map(|_| (0..F).map(|_| random.normal() as f32).collect()).collect();
        Case { moment, keys }
    }

    impl Case {
        fn rows(&self, rows: &dyn MassEditor) -> Vec<Vec<f64>> {
            rows.rows(0, &self.keys.iter().map(Vec::as_slice).collect::<Vec<_>>()).expect("apart")
        }

        fn factors(&self) -> BTreeMap<usize, Rc<Factor>> {
            BTreeMap::from([(0, Rc::new(Factor::new(F, self.moment.clone()).expect("positive definite")))])
        }

        /// Returns `matrix` plus `weight · Σ k kᵀ` over the MLP keys `k` of this test case.
        fn plus_keys(&self, matrix: &[f64], weight: f64) -> Vec<f64> {
            let at = |i: usize, j: usize| self.keys.iter().map(|k| f64::from(k[i]) * f64::from(k[j])).sum::<f64>();
            (0..F * F).map(|index| matrix[index] + weight * at(index / F, index % F)).collect()
        }

        fn near(&self, rows: &[Vec<f64>], expected_of: impl Fn(&[f64]) -> Vec<f64>) {
            for (row, key) in rows.iter().zip(&self.keys) {
                let key: Vec<f64> = key.iter().map(|&k| f64::from(k)).collect();
                for (found, expected) in row.iter().zip(expected_of(&key)) {
                    assert!((found - expected).abs() < 1e-10, "{found} {expected}");
                }
            }
        }
    }

    #[test]
    fn memit_is_its_equation() {
        let case = case();
        let rows = case.rows(&Memit { factors: case.factors(), weight: 3.0 });
        // The expected rows are computed directly from equation 14 of the MEMIT paper.
        let scaled: Vec<f64> = case.moment.iter().map(|x| 3.0 * x).collect();
        let direct = Factor::new(F, case.plus_keys(&scaled, 1.0)).expect("positive definite");
        case.near(&rows, |key| direct.solve(key));
    }

    #[test]
    fn emmet_is_its_equation() {
        let case = case();
        let rows = case.rows(&Emmet { factors: case.factors(), weight: 5.0, ridge: 0.2 });
        // By the push-through identity, EMMET's equation equals MEMIT's equation 14 with `λ = μ w`.
        let scaled: Vec<f64> = case.moment.iter().map(|x| x * 5.0 * 0.2).collect();
        let direct = Factor::new(F, case.plus_keys(&scaled, 1.0)).expect("positive definite");
        case.near(&rows, |key| direct.solve(key));
    }

    #[test]
    fn alphaedit_is_its_equation() {
        let case = case();
        let eigen = Eigen::new(F, &case.moment).expect("found");
        for small in [EigenCutoff::Below(0.5), EigenCutoff::Share(0.5), EigenCutoff::Below(1e9)] {
            let projector = Rc::new(Projector::new(&eigen, small));
            let rank = projector.rank(F);
            let rows = case.rows(&AlphaEdit { projectors: BTreeMap::from([(0, projector)]), ridge: 0.3 });
            // The expected rows are computed with the projector as an explicit matrix.
            let at = |i: usize, j: usize| eigen.vectors[..rank].iter().map(|v| v[i] * v[j]).sum::<f64>();
            let apply = |key: &[f64]| -> Vec<f64> { (0..F).map(|i| (0..F).map(|j| at(i, j) * key[j]).sum()).collect() };
            let keys: Vec<Vec<f32>> = (case.keys.iter())
                .map(|key| {
                    apply(&key.iter().map(|&k| f64::from(k)).collect::<Vec<_>>()).iter().map(|&x| x as f32).collect()
                })
                .collect();
            let projected = Case { moment: Vec::new(), keys };
            let identity: Vec<f64> = (0..F * F).map(|index| if index / F == index % F { 0.3 } else { 0.0 }).collect();
            let direct = Factor::new(F, projected.plus_keys(&identity, 1.0)).expect("positive definite");
            for (row, key) in rows.iter().zip(&case.keys) {
                let key: Vec<f64> = key.iter().map(|&k| f64::from(k)).collect();
                for (found, want) in row.iter().zip(direct.solve(&apply(&key))) {
                    assert!((found - want).abs() < 1e-5, "{found} {want}");
                }
            }
        }
    }
}
