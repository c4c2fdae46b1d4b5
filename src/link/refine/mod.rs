//! Optimises the values of a set of edits together (refinement). Values that were optimised one by one disturb each
//! other, because the change for one edit also affects the outputs for the keys of other edits.
//!
//! The change of a layer is `R P`, with one column of `R` and one row of `P` per edit. Refinement keeps the `P` of the
//! closed-form solution ([`system`](super::system)). It optimises `R` with full-batch Adam, in a fixed order of
//! operations. The loss has three terms:
//!
//! - the negative log-likelihood of the targets, averaged over the edits and some context templates;
//! - the drift KL(base ‖ edited), averaged over the positions of corpus sentences that contain no edited subject;
//! - the size of the change relative to the weight.

mod batch;

use rayon::prelude::*;

use self::batch::{Batch, LossTarget, TokenRow, edit_rows};
use super::layer_update::LayerUpdate;
use crate::compile::Resolved;
use crate::compile::optimiser::Adam;
use crate::digest::FieldHasher;
use crate::model::Model;
use crate::model::run::logit_loss::{divergence, likelihood};
use crate::model::run::weight_pass::LayerGradient;
use crate::numeric::{View, matmul};
use crate::patch::{PatchError, norm};
use crate::progress::Progress;

/// The settings of refinement: the optimiser, the texts, and the weights of the loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Refinement {
    pub steps: usize,
    pub rate: f64,
    /// The number of layers that are changed, from the edited layer upward.
    pub layers: usize,
    /// The ridge of the linear system, as a share of the mean of the system's diagonal. A ridge that the project sets
    /// replaces this default.
    pub ridge: f64,
    /// The factor by which the closed-form change is multiplied before the first step. It is used only if more than one
    /// layer is changed.
    pub start: f64,
    /// The number of context templates per edit, in addition to the prompt without a context template.
    pub contexts: usize,
    /// The maximum number of corpus sentences on which the drift KL(base ‖ edited) is measured.
    pub sentences: usize,
    /// The maximum number of tokens of a sentence; longer sentences are truncated.
    pub tokens: usize,
    /// The weight of the drift in the loss. The drift is KL(base ‖ edited) on corpus sentences.
    pub drift: f64,
    /// The factor by which the size of the change is multiplied in the loss. The size is the sum of `‖Δ‖² / ‖W‖²` over
    /// the changed layers, where Δ is the change of a layer's weight W.
    pub size: f64,
}

impl Default for Refinement {
    fn default() -> Self {
        Self {
            steps: 20,
            rate: 0.1,
            layers: 2,
            ridge: 0.1,
            start: 0.7,
            contexts: 3,
            sentences: 256,
            tokens: 64,
            drift: 4.0,
            size: 0.05,
        }
    }
}

impl Refinement {
    /// Adds every setting to a digest, in a fixed order.
    pub fn describe(&self, canon: &mut FieldHasher) {
        canon.number("refine-steps", self.steps as u64).float("refine-rate", self.rate);
        canon.number("refine-layers", self.layers as u64).float("refine-ridge", self.ridge);
        canon.float("refine-start", self.start).number("refine-contexts", self.contexts as u64);
        canon.number("refine-sentences", self.sentences as u64).number("refine-tokens", self.tokens as u64);
        canon.float("refine-drift", self.drift).float("refine-size", self.size);
    }
}

/// The terms of the loss at one step of refinement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RefineLoss {
    /// The mean negative log-likelihood of the targets, in nats.
    pub nll: f64,
    /// The mean of KL(base ‖ edited) over the positions of the corpus sentences, in nats. It is not multiplied by its
    /// weight in the loss.
    pub drift: f64,
    /// The size of the change: `‖Δ‖² / ‖W‖²`, summed over the changed layers. It is not multiplied by its weight in the
    /// loss.
    pub size: f64,
}

/// The contribution of one batch to the loss and the gradient.
struct BatchLoss {
    nll: f64,
    drift: f64,
    /// The gradients of the batch's loss with respect to the columns of the updates: one `[hidden_size, edits]` per
    /// changed layer.
    column_gradients: Vec<Vec<f32>>,
}

/// The refinement of one set of edits: the changes of the layers, and the batches that every step evaluates.
pub struct RefinementRun<'a> {
    base: &'a Model,
    settings: &'a Refinement,
    updates: Vec<LayerUpdate>,
    batches: Vec<Batch>,
    /// The number of tokens of all corpus sentences. The drift KL(base ‖ edited) is averaged over these tokens.
    drift_positions: usize,
    fixed: Vec<FixedPart>,
}

/// The quantities of one edited layer that stay constant while the columns of its update are optimised.
struct FixedPart {
    /// The rows of the layer's update as f32, `[edits, intermediate_size]`.
    rows: Vec<f32>,
    /// The Gram matrix of the rows of the layer's update, `[edits, edits]`.
    gram: Vec<f64>,
    /// `‖W‖²`, the squared Frobenius norm of the layer's weight.
    weight_square: f64,
}

impl<'a> RefinementRun<'a> {
    /// Prepares the batches of token sequences. The first of `updates` changes the edited layer. The columns of each
    /// update are in the order of `edits`. `sentences` are the token ids of the sentences on which the KL divergence
    /// from the base model is measured.
    pub fn new(
        base: &'a Model,
        updates: Vec<LayerUpdate>,
        edits: &[&Resolved],
        sentences: &[Vec<u32>],
        settings: &'a Refinement,
    ) -> Self {
        let layer = updates.first().map_or(0, |update| update.layer);
        let edit_rows = edits.iter().flat_map(|edit| edit_rows(edit, settings.contexts, edits.len()));
        let mut batches = batch::batches(base, layer, edit_rows.collect());
        let drift_positions = sentences.iter().map(Vec::len).sum();
        let sentences = sentences.iter().map(|ids| TokenRow { ids: ids.clone(), labels: Vec::new(), weight: 0.0 });
        batches.extend(batch::batches(base, layer, sentences.collect()));
        let fixed = updates.iter().map(|update| fixed(base, update)).collect();
        Self { base, settings, updates, batches, drift_positions, fixed }
    }

    /// Returns the number of token positions that every step evaluates, over all batches.
    pub fn positions(&self) -> usize {
        self.batches.iter().map(|batch| batch.pass.positions()).sum()
    }

    /// Runs all optimiser steps and returns the updates with the optimised columns.
    ///
    /// # Errors
    /// If a changed weight is not finite.
    pub fn run(self, progress: &dyn Progress) -> Result<Vec<LayerUpdate>, PatchError> {
        let mut x: Vec<f64> = self.updates.iter().flat_map(|update| update.columns.iter().flatten().copied()).collect();
        let mut adam = Adam::new(x.len(), self.settings.rate);
        let what = format!("steps of refinement, {} tokens each", self.positions());
        progress.begin(&what, self.settings.steps as u64);
        for step in 0..self.settings.steps {
            let (loss, gradient) = self.at(&x)?;
            let RefineLoss { nll, drift, size } = loss;
            progress.line(&format!("step {}: NLL {nll:.4}, drift {drift:.4}, size {size:.4}", step + 1));
            adam.step(&mut x, &gradient);
            progress.set_position(step as u64 + 1);
        }
        progress.end();
        Ok(self.with_columns(&x))
    }

    /// Returns the updates with their columns replaced by `x`, which contains all columns, ordered by update and then
    /// by edit.
    fn with_columns(&self, x: &[f64]) -> Vec<LayerUpdate> {
        let mut updates = self.updates.clone();
        let columns = updates.iter_mut().flat_map(|update| &mut update.columns);
        columns.flatten().zip(x).for_each(|(column, x)| *column = *x);
        updates
    }

    /// Returns the loss and its gradient with respect to `x`. `x` contains the columns of all updates, ordered by
    /// update and then by edit.
    ///
    /// # Errors
    /// If a changed weight is not finite.
    pub fn at(&self, x: &[f64]) -> Result<(RefineLoss, Vec<f64>), PatchError> {
        let updates = self.with_columns(x);
        let mut model = self.base.clone();
        for update in &updates {
            model = update.apply_to(&model)?;
        }
        let (edits, width) = (self.updates[0].columns.len(), self.base.spec().hidden_size);
        let mut loss = RefineLoss::default();
        let mut gradients = vec![vec![0.0_f64; edits * width]; self.updates.len()];
        // One batch per thread is evaluated at a time. The results are added in batch order, so that the sums do not
        // depend on timing.
        for some in self.batches.chunks(rayon::current_num_threads()) {
            let added: Vec<BatchLoss> = some.par_iter().map(|batch| self.batch_loss(&model, batch)).collect();
            for one in added {
                loss.nll += one.nll;
                loss.drift += one.drift;
                for (gradient, column_gradients) in gradients.iter_mut().zip(&one.column_gradients) {
                    gradient.iter_mut().zip(column_gradients).for_each(|(sum, g)| *sum += f64::from(*g));
                }
            }
        }
        let mut out = Vec::with_capacity(self.updates.len() * edits * width);
        for ((update, fixed), gradient) in updates.iter().zip(&self.fixed).zip(&gradients) {
            let (size, size_gradients) = self.size(update, fixed);
            loss.size += size;
            for (edit, by_size) in size_gradients.iter().enumerate() {
                out.extend((0..width).map(|row| gradient[row * edits + edit] + by_size[row]));
            }
        }
        Ok((loss, out))
    }

    /// Returns the size `‖Δ‖² / ‖W‖²` of an update, where Δ is the change of the weight W. Also returns the gradient of
    /// the size, times its weight in the loss, with respect to every column.
    fn size(&self, update: &LayerUpdate, fixed: &FixedPart) -> (f64, Vec<Vec<f64>>) {
        let (edits, width) = (update.columns.len(), self.base.spec().hidden_size);
        let mixed: Vec<Vec<f64>> = (0..edits)
            .into_par_iter()
            .map(|edit| {
                let mut sum = vec![0.0; width];
                for (other, column) in update.columns.iter().enumerate() {
                    let weight = fixed.gram[edit * edits + other];
                    sum.iter_mut().zip(column).for_each(|(sum, u)| *sum += weight * u);
                }
                sum
            })
            .collect();
        let mut square = 0.0;
        for (column, mixed_column) in update.columns.iter().zip(&mixed) {
            for (u, mixed_u) in column.iter().zip(mixed_column) {
                square += u * mixed_u;
            }
        }
        let weight = 2.0 * self.settings.size / fixed.weight_square;
        let gradient = mixed.into_iter().map(|mixed| mixed.into_iter().map(|x| weight * x).collect()).collect();
        (square / fixed.weight_square, gradient)
    }

    fn batch_loss(&self, model: &Model, batch: &Batch) -> BatchLoss {
        let tape = batch.pass.forward(model);
        let mut gradient = tape.logits.clone();
        let (mut nll, mut drift) = (0.0, 0.0);
        match &batch.target {
            LossTarget::Labels(labels) => nll = likelihood(self.base.isa(), &mut gradient, labels),
            LossTarget::BaseStates(states) => {
                let weight = self.settings.drift / self.drift_positions as f64;
                let vocabulary = self.base.spec().vocabulary;
                drift = divergence(self.base.isa(), &self.base.lm_head(states), &mut gradient, vocabulary, weight)
                    / self.drift_positions as f64;
            }
        }
        let mut column_gradients = vec![Vec::new(); self.updates.len()];
        batch.pass.reverse(model, &tape, &gradient, |layer_gradient| {
            if let Some(index) = self.updates.iter().position(|update| update.layer == layer_gradient.layer) {
                column_gradients[index] = self.column_gradients(index, &layer_gradient);
            }
        });
        BatchLoss { nll, drift, column_gradients }
    }

    /// Returns the gradient of a batch's loss with respect to the columns of an update: `Gᵀ (X Pᵀ)`,
    /// `[hidden_size, edits]`. `X` are the inputs of the changed weight, `G` is the gradient with respect to its
    /// outputs, and `P` are the rows of the update.
    fn column_gradients(&self, index: usize, layer: &LayerGradient<'_>) -> Vec<f32> {
        let (spec, isa) = (self.base.spec(), self.base.isa());
        let (rows, edits) = (&self.fixed[index].rows, self.updates[index].columns.len());
        let positions = layer.keys.len() / spec.intermediate_size;
        let keys = View::new(layer.keys, positions, spec.intermediate_size);
        let products = matmul(isa, keys, View::new(rows, edits, spec.intermediate_size).transposed());
        let gradient = View::new(layer.gradient, positions, spec.hidden_size);
        matmul(isa, gradient.transposed(), View::new(&products, positions, edits))
    }
}

/// Optimises the columns of `updates` with a [`RefinementRun`], and returns the updates with the optimised columns.
/// `sentences` are the token ids of the sentences on which the drift KL(base ‖ edited) is measured.
///
/// # Errors
/// If a changed weight is not finite.
pub fn refine(
    base: &Model,
    updates: Vec<LayerUpdate>,
    edits: &[&Resolved],
    sentences: &[Vec<u32>],
    settings: &Refinement,
    progress: &dyn Progress,
) -> Result<Vec<LayerUpdate>, PatchError> {
    RefinementRun::new(base, updates, edits, sentences, settings).run(progress)
}

fn fixed(base: &Model, update: &LayerUpdate) -> FixedPart {
    let edits = update.rows.len();
    let products = (0..edits).into_par_iter().map(|one| {
        let product = |other: &Vec<f64>| {
            let mut sum = 0.0;
            for (a, b) in update.rows[one].iter().zip(other) {
                sum += a * b;
            }
            sum
        };
        update.rows.iter().map(product).collect::<Vec<f64>>()
    });
    let gram = products.collect::<Vec<_>>().concat();
    let length = norm(&base.checkpoint().edited(update.layer).to_f32());
    let rows = update.rows.iter().flatten().map(|v| *v as f32).collect();
    FixedPart { rows, gram, weight_square: length * length }
}
