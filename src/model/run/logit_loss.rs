//! Computes losses of logits, and the gradients of these losses with respect to the logits.

use rayon::prelude::*;

use crate::numeric::Isa;
use crate::numeric::rows::{softmax, softmax_for};

/// Returns the weighted sum of the negative log-likelihoods of `labels`. Replaces `logits` by the gradient of this sum.
pub fn likelihood(logits: &mut [f32], labels: &[(u32, f64)]) -> f64 {
    let vocabulary = logits.len() / labels.len();
    let mut total = 0.0;
    for (row, (label, weight)) in logits.chunks_mut(vocabulary).zip(labels) {
        let logit = f64::from(row[*label as usize]);
        total += weight * (softmax(row) - logit);
        row[*label as usize] -= 1.0;
        row.iter_mut().for_each(|x| *x *= *weight as f32);
    }
    total
}

/// Returns the sum over positions of KL(base ‖ edited), from the logits `base` of the base model and the logits
/// `logits` of the edited model. Replaces `logits` by the gradient of this sum times `weight`.
pub fn divergence(isa: Isa, base: &mut [f32], logits: &mut [f32], vocabulary: usize, weight: f64) -> f64 {
    let row = |(base_row, edited_row): (&mut [f32], &mut [f32])| {
        let (before, now) = (base_row.to_vec(), edited_row.to_vec());
        let (log_before, log_now) = (softmax_for(isa, base_row), softmax_for(isa, edited_row));
        let mut total = 0.0;
        for ((p, base_logit), edited_logit) in base_row.iter().zip(&before).zip(&now) {
            total += f64::from(*p) * ((f64::from(*base_logit) - log_before) - (f64::from(*edited_logit) - log_now));
        }
        edited_row.iter_mut().zip(base_row.iter()).for_each(|(q, p)| *q = weight as f32 * (*q - p));
        total
    };
    let rows = base.par_chunks_mut(vocabulary).zip(logits.par_chunks_mut(vocabulary)).map(row);
    let mut total = 0.0;
    for one in rows.collect::<Vec<f64>>() {
        total += one;
    }
    total
}
