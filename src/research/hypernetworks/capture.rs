//! Computes the input of a trained editor for one fact: the inputs of the edited matrices and the gradients of their
//! outputs, in the unedited model.

use super::sites::Site;
use crate::model::Model;
use crate::model::load::checkpoint::MlpMatrix;
use crate::model::run::upper_pass::{MlpGradients, UpperPass};
use crate::numeric::rows::softmax;

/// The inputs of one matrix and the gradients of its outputs, at the positions where both are not zero.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteRows {
    /// The inputs x, `[rows, inputs]`, with one row per position.
    pub x: Vec<f32>,
    /// The gradients δ of the outputs, `[rows, outputs]`.
    pub delta: Vec<f32>,
}

/// Runs the model on `text`, whose last `labels` tokens are the target of the fact. Returns the mean negative
/// log-likelihood of the target in nats, and the inputs x and output gradients δ of each edited matrix. The sum of
/// `xᵀ δ` over the rows is the gradient of the matrix.
pub fn capture(model: &Model, sites: &[Site], text: &[u32], labels: usize) -> (f64, Vec<SiteRows>) {
    let first = sites.iter().map(|site| site.layer).min().unwrap_or(0);
    let pass = UpperPass::new(model, first, &[&text[..text.len() - 1]], &[labels]);
    let tape = pass.forward(model);
    let mut gradient = tape.logits.clone();
    let loss = likelihood_gradient(&mut gradient, &text[text.len() - labels..], 1.0);
    let mut found: Vec<Option<SiteRows>> = vec![None; sites.len()];
    pass.reverse(model, &tape, &gradient, |layer, gradients| {
        for (slot, site) in found.iter_mut().zip(sites).filter(|(_, site)| site.layer == layer) {
            let (inputs, outputs) = site.shape(model.spec());
            let (x, delta) = of_site(&gradients, site.matrix);
            *slot = Some(without_zeros(x, inputs, delta, outputs));
        }
    });
    (loss, found.into_iter().map(|rows| rows.expect("the pass covers the layer of every site")).collect())
}

/// Replaces logits, `[labels, vocabulary]`, by `weight` times the gradient of the mean negative log-likelihood of the
/// labels. Returns this mean, without the weight, in nats.
pub(super) fn likelihood_gradient(logits: &mut [f32], labels: &[u32], weight: f64) -> f64 {
    let vocabulary = logits.len() / labels.len();
    let mut loss = 0.0;
    for (row, label) in logits.chunks_mut(vocabulary).zip(labels) {
        let logit = f64::from(row[*label as usize]);
        loss += softmax(row) - logit;
        row[*label as usize] -= 1.0;
        row.iter_mut().for_each(|x| *x *= (weight / labels.len() as f64) as f32);
    }
    loss / labels.len() as f64
}

/// Selects from the gradients of one MLP the inputs of `matrix` and the gradients of its outputs.
pub(super) fn of_site(gradients: &MlpGradients, matrix: MlpMatrix) -> (&[f32], &[f32]) {
    match matrix {
        MlpMatrix::Gate => (&gradients.normed, gradients.gate.as_deref().unwrap_or_default()),
        MlpMatrix::Up => (&gradients.normed, &gradients.up),
        MlpMatrix::Down => (&gradients.key, &gradients.down),
    }
}

fn without_zeros(all_x: &[f32], inputs: usize, all_delta: &[f32], outputs: usize) -> SiteRows {
    let mut rows = SiteRows { x: Vec::new(), delta: Vec::new() };
    let is_zero = |row: &[f32]| row.iter().all(|number| *number == 0.0);
    for (x, delta) in all_x.chunks(inputs).zip(all_delta.chunks(outputs)) {
        if !is_zero(x) && !is_zero(delta) {
            rows.x.extend_from_slice(x);
            rows.delta.extend_from_slice(delta);
        }
    }
    rows
}
