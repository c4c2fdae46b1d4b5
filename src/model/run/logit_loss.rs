//! Computes losses of logits, and the gradients of these losses with respect to the logits.

use rayon::prelude::*;

use crate::numeric::Isa;
use crate::numeric::rows::softmax_for;

/// Returns the weighted sum of the negative log-likelihoods of `labels`. Replaces `logits` by the gradient of this sum.
pub fn likelihood(isa: Isa, logits: &mut [f32], labels: &[(u32, f64)]) -> f64 {
    let vocabulary = logits.len() / labels.len();
    let row = |(numbers, (label, weight)): (&mut [f32], &(u32, f64))| {
        let logit = f64::from(numbers[*label as usize]);
        let nll = softmax_for(isa, numbers) - logit;
        numbers[*label as usize] -= 1.0;
        numbers.iter_mut().for_each(|x| *x *= *weight as f32);
        weight * nll
    };
    let rows = logits.par_chunks_mut(vocabulary).zip(labels).map(row);
    let mut total = 0.0;
    for one in rows.collect::<Vec<f64>>() {
        total += one;
    }
    total
}

/// Returns the sum over positions of KL(base ‖ edited), from the logits `base` of the base model and the logits
/// `logits` of the edited model. Replaces `logits` by the gradient of this sum times `weight`.
pub fn divergence(isa: Isa, base: &[f32], logits: &mut [f32], vocabulary: usize, weight: f64) -> f64 {
    // Each thread reuses the same two rows for the probabilities, so they stay in the CPU cache.
    let scratch = || (vec![0.0; vocabulary], vec![0.0; vocabulary]);
    let row = |(before, now): &mut (Vec<f32>, Vec<f32>), (base_row, edited_row): (&[f32], &mut [f32])| {
        before.copy_from_slice(base_row);
        now.copy_from_slice(edited_row);
        let (log_before, log_now) = (softmax_for(isa, before), softmax_for(isa, now));
        let mut total = 0.0;
        for ((p, base_logit), edited_logit) in before.iter().zip(base_row).zip(edited_row.iter()) {
            total += f64::from(*p) * ((f64::from(*base_logit) - log_before) - (f64::from(*edited_logit) - log_now));
        }
        for ((gradient, q), p) in edited_row.iter_mut().zip(now.iter()).zip(before.iter()) {
            *gradient = weight as f32 * (*q - p);
        }
        total
    };
    let rows = base.par_chunks(vocabulary).zip(logits.par_chunks_mut(vocabulary)).map_init(scratch, row);
    let mut total = 0.0;
    for one in rows.collect::<Vec<f64>>() {
        total += one;
    }
    total
}
