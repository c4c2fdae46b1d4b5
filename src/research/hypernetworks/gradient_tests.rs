//! Compares the gradients of the editors' parameters with central differences of the loss.

use super::capture::CapturedFact;
use super::learner::Learner;
use super::objective::{LossWeights, losses, losses_and_gradients};
use super::sites::sites;
use super::toy::{captured_facts, captured_rows, family, judged, judged_states, norm, outer_texts, toy_ke, toy_mend};
use crate::model::Model;

/// The weight of the fact is larger than in a training, so that rounding affects the differences less.
const WEIGHTS: LossWeights = LossWeights { edit: 1.0, locality: 1.0 };
/// The number of elements of each parameter that are compared: those with the largest gradients.
const ELEMENTS: usize = 3;

/// Compares three elements of each parameter. The statistics of the editor are not changed.
fn compare<L: Learner>(what: &str, model: &Model, learner: &L, facts: &[CapturedFact<'_>]) {
    let sites = learner.sites();
    let states = judged_states(model, sites, &outer_texts());
    let total = |editor: &L| {
        let edits = editor.apply(facts);
        let found = losses(model, sites, &judged(&states, L::changes(&edits)));
        found.into_iter().map(|loss| loss.total(WEIGHTS)).sum::<f64>()
    };
    let edits = learner.apply(facts);
    let found = losses_and_gradients(model, sites, &judged(&states, L::changes(&edits)), WEIGHTS);
    let by_changes: Vec<_> = found.into_iter().map(|(_, by_changes)| by_changes).collect();
    let mut sums = learner.zero_gradients();
    learner.reverse(&edits, facts, &by_changes, &mut sums);
    let gradients: Vec<Vec<f32>> = learner.clone().trained(&mut sums).iter().map(|one| one.gradient.to_vec()).collect();
    for (index, gradient) in gradients.iter().enumerate() {
        let mut largest: Vec<usize> = (0..gradient.len()).collect();
        largest.sort_by(|one, other| gradient[*other].abs().total_cmp(&gradient[*one].abs()));
        let (mut errors, mut wanted, mut unsure) = (Vec::new(), Vec::new(), 0.0);
        for element in largest.into_iter().take(ELEMENTS) {
            let step = (3e-4 / gradient[element].abs()).clamp(1e-4, 0.05);
            let moved = |by: f32| {
                let mut editor = learner.clone();
                editor.trained(&mut learner.zero_gradients())[index].values[element] += by;
                total(&editor)
            };
            let central = |by: f32| (moved(by) - moved(-by)) / (2.0 * f64::from(by));
            // Richardson extrapolation: the error of a central difference is a quarter for half the step.
            let difference = (4.0 * central(step / 2.0) - central(step)) / 3.0;
            errors.push(difference - f64::from(gradient[element]));
            wanted.push(f64::from(gradient[element]));
            // The losses have an error of about 1e-6.
            unsure += 1e-6 / f64::from(step);
        }
        let (error, size) = (norm(errors.into_iter()), norm(wanted.into_iter()));
        assert!(unsure < size / 2.0, "{what}, parameter {index}: {size:e} is too small to be compared");
        assert!(error < 3e-2 * size + unsure, "{what}, parameter {index}: {error:e} of {size:e}");
    }
}

#[test]
fn gradients_of_mend_equal_central_differences() {
    for name in ["gpt2", "llama"] {
        let model = family(name);
        let sites = sites(model.spec(), 2);
        let rows = captured_rows(&model, &sites);
        let mut mend = toy_mend(&model, &sites, false);
        rows.iter().for_each(|rows| mend.observe(rows));
        // The inputs of the rectifiers are so far from 0 that a step does not change their slopes.
        for layer in mend.shapes.iter_mut().flat_map(|shape| &mut shape.network.layers) {
            layer.u.iter_mut().for_each(|x| *x *= 0.2);
            layer.shift.iter_mut().for_each(|x| *x = 1.5_f32.copysign(*x));
        }
        compare(name, &model, &mend, &captured_facts(&rows));
    }
}

#[test]
fn gradients_of_ke_equal_central_differences() {
    for name in ["gpt2", "llama"] {
        let model = family(name);
        let sites = sites(model.spec(), 1);
        let rows = captured_rows(&model, &sites);
        let mut ke = toy_ke(&model, &sites);
        // Larger changes have larger gradients, which rounding affects less.
        ke.heads.iter_mut().flat_map(|head| &mut head.second.g).for_each(|g| *g *= 3.0);
        compare(name, &model, &ke, &captured_facts(&rows));
    }
}
