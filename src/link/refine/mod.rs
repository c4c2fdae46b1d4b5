//! Optimises the values of a linked set together (refinement). Values that were optimised for each edit alone disturb
//! one another when they are linked, because the change of each edit also affects the outputs for the keys of the other
//! edits. Refinement fixes the rows `P = S⁻¹Aᵀ` of the closed form and optimises the columns `R` again in the linked
//! model, in which the edited matrix has the output `W x + b + R (P x)` at every position.
//!
//! The loss has three terms: the negative log-likelihood of the target, averaged over the edits and a few context
//! templates of each; the drift KL(base ‖ edited), averaged over all positions of corpus sentences that contain no
//! edited subject; and the relative size of the change. The optimiser is full-batch Adam in a fixed order, so the
//! result depends only on the set. The result still has the form `Σ u v` with one column and one row per edit.

mod batch;

use rayon::prelude::*;

use self::batch::{Batch, Line, Wanted, divergence, likelihood, lines};
use super::layer_update::Site;
use crate::compile::Resolved;
use crate::compile::optimiser::Adam;
use crate::digest::FieldHasher;
use crate::model::Model;
use crate::model::run::weight_pass::LayerGradient;
use crate::numeric::{View, matmul};
use crate::patch::{PatchError, norm};
use crate::progress::Progress;

/// The settings of refinement: the optimiser, the texts that it uses, and the weights of the loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Refinement {
    /// The number of Adam steps.
    pub steps: usize,
    /// The learning rate of Adam.
    pub rate: f64,
    /// The number of layers that are changed, from the edited one upward.
    pub layers: usize,
    /// The ridge μ of the closed form if the project does not set one, as a share of the mean diagonal of `KᵀC⁻¹K`.
    pub ridge: f64,
    /// The factor by which the columns of the closed form are multiplied before the first step, if more than one layer
    /// is changed.
    pub start: f64,
    /// The number of context templates of each edit, in addition to its bare prompt.
    pub contexts: usize,
    /// The maximum number of corpus sentences whose distributions should not change.
    pub sentences: usize,
    /// The maximum number of tokens of a sentence; longer sentences are truncated.
    pub tokens: usize,
    /// The weight of the drift in the loss.
    pub drift: f64,
    /// The weight of the size `Σ ‖Δ‖² / ‖W‖²` in the loss; the sum is over the changed layers.
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

/// The terms of the loss at one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// The mean negative log-likelihood of the targets, in nats.
    pub nll: f64,
    /// The mean drift in nats, without its weight.
    pub drift: f64,
    /// `Σ ‖Δ‖² / ‖W‖²` over the changed layers, without its weight.
    pub size: f64,
}

/// The contribution of one batch to the loss and the gradient.
struct Added {
    nll: f64,
    drift: f64,
    /// For each site, the gradient with respect to its columns, `[d, B]`.
    by_columns: Vec<Vec<f32>>,
}

/// The refinement of one set: the sites to optimise, and the batches that every step evaluates.
pub struct Refining<'a> {
    base: &'a Model,
    settings: &'a Refinement,
    sites: Vec<Site>,
    batches: Vec<Batch>,
    /// The number of positions over which the drift is averaged.
    watched: usize,
    /// For each site: the rows as f32, `[B, f]`; `P Pᵀ`, `[B, B]`; and `‖W‖²`.
    fixed: Vec<(Vec<f32>, Vec<f64>, f64)>,
}

impl<'a> Refining<'a> {
    /// Prepares the batches. `sites` starts with the edited layer, `edits` has the order of the sites' columns, and
    /// `sentences` are the token rows whose output distributions should not change.
    pub fn new(
        base: &'a Model,
        sites: Vec<Site>,
        edits: &[&Resolved],
        sentences: &[Vec<u32>],
        settings: &'a Refinement,
    ) -> Self {
        let layer = sites.first().map_or(0, |site| site.layer);
        let lines = edits.iter().flat_map(|edit| lines(edit, settings.contexts, edits.len()));
        let mut batches = batch::batches(base, layer, lines.collect());
        let watched = sentences.iter().map(Vec::len).sum();
        let sentences = sentences.iter().map(|ids| Line { ids: ids.clone(), labels: Vec::new(), weight: 0.0 });
        batches.extend(batch::batches(base, layer, sentences.collect()));
        let fixed = sites.iter().map(|site| fixed(base, site)).collect();
        Self { base, settings, sites, batches, watched, fixed }
    }

    /// Returns the number of token positions that every step evaluates, over all batches.
    pub fn positions(&self) -> usize {
        self.batches.iter().map(|batch| batch.upper.positions()).sum()
    }

    /// Runs all steps and returns the sites with the optimised columns.
    ///
    /// # Errors
    /// If a changed weight is not finite.
    pub fn run(self, progress: &dyn Progress) -> Result<Vec<Site>, PatchError> {
        let mut x: Vec<f64> = self.sites.iter().flat_map(|site| site.columns.iter().flatten().copied()).collect();
        let mut adam = Adam::new(x.len(), self.settings.rate);
        let what = format!("steps of refinement, {} tokens each", self.positions());
        progress.begin(&what, self.settings.steps as u64);
        for step in 0..self.settings.steps {
            let (loss, gradient) = self.at(&x)?;
            let Loss { nll, drift, size } = loss;
            progress.line(&format!("step {}: NLL {nll:.4}, drift {drift:.4}, size {size:.4}", step + 1));
            adam.step(&mut x, &gradient);
            progress.at(step as u64 + 1);
        }
        progress.end();
        Ok(self.with(&x))
    }

    /// Returns the sites with the columns in `x`, which is ordered by site and then by edit.
    fn with(&self, x: &[f64]) -> Vec<Site> {
        let mut sites = self.sites.clone();
        let columns = sites.iter_mut().flat_map(|site| &mut site.columns);
        columns.flatten().zip(x).for_each(|(column, x)| *column = *x);
        sites
    }

    /// Returns the loss with the columns in `x` (ordered by site and then by edit), and its gradient with respect to
    /// them.
    ///
    /// # Errors
    /// If a changed weight is not finite.
    pub fn at(&self, x: &[f64]) -> Result<(Loss, Vec<f64>), PatchError> {
        let sites = self.with(x);
        let mut model = self.base.clone();
        for site in &sites {
            model = site.laid_on(&model)?;
        }
        let (edits, width) = (self.sites[0].columns.len(), self.base.spec().hidden_size);
        let mut loss = Loss::default();
        let mut gradients = vec![vec![0.0_f64; edits * width]; self.sites.len()];
        // One batch per thread at a time. The results are added in the order of the batches, so they do not depend on
        // timing.
        for some in self.batches.chunks(rayon::current_num_threads()) {
            let added: Vec<Added> = some.par_iter().map(|batch| self.add(&model, batch)).collect();
            for one in added {
                loss.nll += one.nll;
                loss.drift += one.drift;
                for (gradient, by_columns) in gradients.iter_mut().zip(&one.by_columns) {
                    gradient.iter_mut().zip(by_columns).for_each(|(sum, g)| *sum += f64::from(*g));
                }
            }
        }
        let mut out = Vec::with_capacity(self.sites.len() * edits * width);
        for ((site, fixed), gradient) in sites.iter().zip(&self.fixed).zip(&gradients) {
            let (size, by_size) = self.size(site, fixed);
            loss.size += size;
            for (edit, by_size) in by_size.iter().enumerate() {
                out.extend((0..width).map(|row| gradient[row * edits + edit] + by_size[row]));
            }
        }
        Ok((loss, out))
    }

    /// Returns `‖Σ u v‖² / ‖W‖²` of a site without its weight, and the gradient of the weighted term with respect to
    /// every column.
    fn size(&self, site: &Site, (_, gram, norm): &(Vec<f32>, Vec<f64>, f64)) -> (f64, Vec<Vec<f64>>) {
        let (edits, width) = (site.columns.len(), self.base.spec().hidden_size);
        let mixed: Vec<Vec<f64>> = (0..edits)
            .into_par_iter()
            .map(|edit| {
                let mut sum = vec![0.0; width];
                for (other, column) in site.columns.iter().enumerate() {
                    let weight = gram[edit * edits + other];
                    sum.iter_mut().zip(column).for_each(|(sum, u)| *sum += weight * u);
                }
                sum
            })
            .collect();
        let mut square = 0.0;
        for (column, mixed) in site.columns.iter().zip(&mixed) {
            for (u, mixed) in column.iter().zip(mixed) {
                square += u * mixed;
            }
        }
        let weight = 2.0 * self.settings.size / norm;
        let slopes = mixed.into_iter().map(|mixed| mixed.into_iter().map(|x| weight * x).collect()).collect();
        (square / norm, slopes)
    }

    fn add(&self, model: &Model, batch: &Batch) -> Added {
        let passed = batch.upper.forward(model);
        let mut gradient = passed.logits.clone();
        let (mut nll, mut drift) = (0.0, 0.0);
        match &batch.wanted {
            Wanted::Labels(labels) => nll = likelihood(&mut gradient, labels),
            Wanted::Same(states) => {
                let weight = self.settings.drift / self.watched as f64;
                drift = divergence(&mut self.base.lm_head(states), &mut gradient, self.base.spec().vocabulary, weight)
                    / self.watched as f64;
            }
        }
        let mut by_columns = vec![Vec::new(); self.sites.len()];
        batch.upper.reverse(model, &passed, &gradient, |slopes| {
            if let Some(index) = self.sites.iter().position(|site| site.layer == slopes.layer) {
                by_columns[index] = self.by_columns(index, &slopes);
            }
        });
        Added { nll, drift, by_columns }
    }

    /// Returns the gradient with respect to a site's columns: `Gᵀ (X Pᵀ)`, `[d, B]`, where `X` are the matrix's inputs
    /// and `G` are the gradients of its outputs.
    fn by_columns(&self, index: usize, slopes: &LayerGradient<'_>) -> Vec<f32> {
        let (spec, isa) = (self.base.spec(), self.base.isa());
        let (rows, edits) = (&self.fixed[index].0, self.sites[index].columns.len());
        let positions = slopes.keys.len() / spec.intermediate_size;
        let keys = View::new(slopes.keys, positions, spec.intermediate_size);
        let asked = matmul(isa, keys, View::new(rows, edits, spec.intermediate_size).transposed());
        let gradient = View::new(slopes.gradient, positions, spec.hidden_size);
        matmul(isa, gradient.transposed(), View::new(&asked, positions, edits))
    }
}

/// Refines a linked set; the parameters are those of [`Refining::new`].
///
/// # Errors
/// If a changed weight is not finite.
pub fn refine(
    base: &Model,
    sites: Vec<Site>,
    edits: &[&Resolved],
    sentences: &[Vec<u32>],
    settings: &Refinement,
    progress: &dyn Progress,
) -> Result<Vec<Site>, PatchError> {
    Refining::new(base, sites, edits, sentences, settings).run(progress)
}

/// Returns the values of a site that do not change during refinement; see `Refining::fixed`.
fn fixed(base: &Model, site: &Site) -> (Vec<f32>, Vec<f64>, f64) {
    let edits = site.rows.len();
    let products = (0..edits).into_par_iter().map(|one| {
        let product = |other: &Vec<f64>| {
            let mut sum = 0.0;
            for (a, b) in site.rows[one].iter().zip(other) {
                sum += a * b;
            }
            sum
        };
        site.rows.iter().map(product).collect::<Vec<f64>>()
    });
    let gram = products.collect::<Vec<_>>().concat();
    let length = norm(&base.checkpoint().edited(site.layer).to_f32());
    (site.rows.iter().flatten().map(|v| *v as f32).collect(), gram, length * length)
}
