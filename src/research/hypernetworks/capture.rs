//! Computes the input of a trained editor for one fact: the inputs of the edited matrices and the gradients of their
//! outputs, in the unedited model.

use super::sites::first_layer;
use crate::model::Model;
use crate::model::load::checkpoint::MlpMatrix;
use crate::model::run::logit_loss::likelihood;
use crate::model::run::low_rank::{BatchChanges, LowRank, Site};
use crate::model::run::upper_pass::{MlpGradients, UpperPass};

/// The inputs of one matrix and the gradients of its outputs, at the positions where both are not zero.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteRows {
    /// The inputs x, `[rows, inputs]`, with one row per position.
    pub x: Vec<f32>,
    /// The gradients δ of the outputs, `[rows, outputs]`.
    pub delta: Vec<f32>,
}

/// A fact as a trained editor reads it.
#[derive(Clone, Copy, Debug)]
pub struct CapturedFact<'f> {
    /// The tokens of the prompt and the target.
    pub text: &'f [u32],
    /// The inputs and output gradients of each edited matrix.
    pub rows: &'f [SiteRows],
}

/// Runs the model on `text`, whose last `labels` tokens are the target of the fact. Returns the mean negative
/// log-likelihood of the target in nats, and the inputs x and output gradients δ of each edited matrix. The sum of
/// `xᵀ δ` over the rows is the gradient of the matrix.
pub fn capture(model: &Model, sites: &[Site], text: &[u32], labels: usize) -> (f64, Vec<SiteRows>) {
    capture_all(model, sites, &[(text, labels)]).remove(0)
}

/// Runs the model on some texts together. Returns for each text what [`capture`] returns for it alone.
pub fn capture_all(model: &Model, sites: &[Site], texts: &[(&[u32], usize)]) -> Vec<(f64, Vec<SiteRows>)> {
    let tokens: Vec<&[u32]> = texts.iter().map(|(text, _)| &text[..text.len() - 1]).collect();
    let labels: Vec<usize> = texts.iter().map(|(_, labels)| *labels).collect();
    let pass = UpperPass::new(model, first_layer(sites), &tokens, &labels);
    // One group without changes per text, so that the backward pass returns the positions of each text.
    let groups: Vec<(usize, &[LowRank])> = vec![(1, &[]); texts.len()];
    let unchanged = BatchChanges { sites: &[], groups: &groups };
    let mut tape = pass.forward(model, unchanged);
    let mut gradient = std::mem::take(&mut tape.logits);
    let (mut rest, mut losses) = (&mut gradient[..], Vec::new());
    for (text, count) in texts {
        let (own, later) = rest.split_at_mut(count * model.spec().vocabulary);
        losses.push(likelihood(model.isa(), own, &mean_of(&text[text.len() - count..])));
        rest = later;
    }
    let mut found = vec![vec![SiteRows { x: Vec::new(), delta: Vec::new() }; sites.len()]; texts.len()];
    pass.reverse(model, unchanged, &tape, &gradient, |layer, gradients| {
        for (index, site) in sites.iter().enumerate().filter(|(_, site)| site.layer == layer) {
            let (inputs, outputs) = site.shape(model.spec());
            let (x, delta) = of_site(&gradients, site.matrix);
            for (of_text, range) in found.iter_mut().zip(&gradients.groups) {
                let x = &x[range.start * inputs..range.end * inputs];
                let delta = &delta[range.start * outputs..range.end * outputs];
                of_text[index] = without_zeros(x, inputs, delta, outputs);
            }
        }
    });
    losses.into_iter().zip(found).collect()
}

/// Returns each label with the weight `1 / n`, where n is the number of labels.
pub(super) fn mean_of(labels: &[u32]) -> Vec<(u32, f64)> {
    labels.iter().map(|label| (*label, 1.0 / labels.len() as f64)).collect()
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
