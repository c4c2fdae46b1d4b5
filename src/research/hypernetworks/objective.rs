//! Computes the loss that trains an editor on one fact (Mitchell et al. 2022). It is low if the edited model predicts
//! the target after a paraphrase of the prompt, and predicts unrelated text as the base does.

use super::capture::{likelihood_gradient, of_site};
use super::sites::{LowRank, Site, changed};
use crate::model::Model;
use crate::model::run::upper_pass::UpperPass;
use crate::numeric::rows::softmax;
use crate::numeric::{Isa, View, matmul};

/// The weights of the two terms of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossWeights {
    /// The weight of the negative log-likelihood of the fact.
    pub edit: f64,
    /// The weight of the KL divergence on unrelated text.
    pub locality: f64,
}

/// The texts on which the loss of an edited model is computed.
#[derive(Clone, Copy, Debug)]
pub struct JudgedTexts<'t> {
    /// The token ids of a prompt with the target; the last `labels` tokens are the target.
    pub outer: &'t [u32],
    pub labels: usize,
    /// The token ids of a text that is unrelated to the fact.
    pub locality: &'t [u32],
}

/// The two terms of the loss, without their weights, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// The negative log-likelihood of the target in the edited model, averaged over the tokens of the target.
    pub edit: f64,
    /// The KL divergence of the edited model from the base, averaged over the positions of the unrelated text.
    pub divergence: f64,
}

impl Loss {
    pub fn total(self, weights: LossWeights) -> f64 {
        weights.edit * self.edit + weights.locality * self.divergence
    }
}

/// Adds `changes[i]` to the matrix `sites[i]` of the base and computes the loss of the edited model. Also returns the
/// gradients of the weighted loss with respect to the two factors of each change.
pub fn loss_and_gradients(
    base: &Model,
    sites: &[Site],
    changes: &[LowRank],
    texts: JudgedTexts<'_>,
    weights: LossWeights,
) -> (Loss, Vec<LowRank>) {
    let (pass, mut logits) = base_pass(base, sites, texts);
    let edited = changed(base, sites, changes);
    let tape = pass.forward(&edited);
    let vocabulary = base.spec().vocabulary;
    let mut gradient = tape.logits.clone();
    let (outer, locality) = gradient.split_at_mut(texts.labels * vocabulary);
    let target = &texts.outer[texts.outer.len() - texts.labels..];
    let edit = likelihood_gradient(outer, target, weights.edit);
    let before = &mut logits[texts.labels * vocabulary..];
    let divergence = divergence_gradient(before, locality, vocabulary, weights.locality);
    let mut found: Vec<Option<LowRank>> = vec![None; sites.len()];
    pass.reverse(&edited, &tape, &gradient, |layer, gradients| {
        for (index, site) in sites.iter().enumerate().filter(|(_, site)| site.layer == layer) {
            let (x, by_output) = of_site(&gradients, site.matrix);
            found[index] = Some(factor_gradients(base.isa(), &changes[index], site.shape(base.spec()), x, by_output));
        }
    });
    let found = found.into_iter().map(|one| one.expect("the pass covers the layer of every site")).collect();
    (Loss { edit, divergence }, found)
}

/// Adds `changes[i]` to the matrix `sites[i]` of the base and computes the loss of the edited model, without gradients.
pub fn loss(base: &Model, sites: &[Site], changes: &[LowRank], texts: JudgedTexts<'_>) -> Loss {
    let (pass, mut logits) = base_pass(base, sites, texts);
    let mut after = pass.forward(&changed(base, sites, changes)).logits;
    let vocabulary = base.spec().vocabulary;
    let (outer, locality) = after.split_at_mut(texts.labels * vocabulary);
    let edit = likelihood_gradient(outer, &texts.outer[texts.outer.len() - texts.labels..], 1.0);
    let before = &mut logits[texts.labels * vocabulary..];
    Loss { edit, divergence: divergence_gradient(before, locality, vocabulary, 1.0) }
}

/// Runs the base on both texts. Returns the pass over the layers from the first edited one, which can be repeated with
/// an edited model, and the logits of the base at the positions of the target and of the unrelated text.
fn base_pass(base: &Model, sites: &[Site], texts: JudgedTexts<'_>) -> (UpperPass, Vec<f32>) {
    let first = sites.iter().map(|site| site.layer).min().unwrap_or(0);
    let rows = [&texts.outer[..texts.outer.len() - 1], texts.locality];
    let pass = UpperPass::new(base, first, &rows, &[texts.labels, texts.locality.len()]);
    let logits = pass.forward(base).logits;
    (pass, logits)
}

/// Returns the mean of KL(before ‖ after) over the rows of logits, in nats, and replaces `after` by `weight` times the
/// gradient of this mean. `before` is overwritten.
fn divergence_gradient(before: &mut [f32], after: &mut [f32], vocabulary: usize, weight: f64) -> f64 {
    let rows = after.len() / vocabulary;
    let mut total = 0.0;
    for (p_row, q_row) in before.chunks_mut(vocabulary).zip(after.chunks_mut(vocabulary)) {
        let logits: Vec<(f64, f64)> =
            p_row.iter().zip(q_row.iter()).map(|(a, b)| (f64::from(*a), f64::from(*b))).collect();
        let (sum_before, sum_after) = (softmax(p_row), softmax(q_row));
        for ((one, other), p) in logits.iter().zip(p_row.iter()) {
            total += f64::from(*p) * ((one - sum_before) - (other - sum_after));
        }
        for (q, p) in q_row.iter_mut().zip(p_row.iter()) {
            *q = ((f64::from(*q) - f64::from(*p)) * weight / rows as f64) as f32;
        }
    }
    total / rows as f64
}

/// Returns the gradients of the factors of a change `aᵀ b`. `x` contains the inputs of the changed matrix, and
/// `gradient` contains the gradients of its outputs, with one row per position. The gradient of the whole matrix,
/// `xᵀ gradient`, is not computed, because it is as large as the matrix.
fn factor_gradients(
    isa: Isa,
    change: &LowRank,
    (inputs, outputs): (usize, usize),
    x: &[f32],
    gradient: &[f32],
) -> LowRank {
    let (positions, rank) = (x.len() / inputs, change.a.len() / inputs);
    let (x, gradient) = (View::new(x, positions, inputs), View::new(gradient, positions, outputs));
    let (a, b) = (View::new(&change.a, rank, inputs), View::new(&change.b, rank, outputs));
    let (by_a, by_b) = (matmul(isa, gradient, b.transposed()), matmul(isa, x, a.transposed()));
    LowRank {
        a: matmul(isa, View::new(&by_a, positions, rank).transposed(), x),
        b: matmul(isa, View::new(&by_b, positions, rank).transposed(), gradient),
    }
}
