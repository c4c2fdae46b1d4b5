//! Computes the loss that trains an editor (Mitchell et al. 2022). It is low if the edited model predicts the target
//! after a paraphrase of the prompt, and predicts unrelated text as the base does.
//!
//! The facts of a training step pass through the model together, each with its own changes of the matrices.

use std::borrow::Cow;

use rayon::prelude::*;

use super::capture::{mean_of, of_site};
use super::sites::first_layer;
use crate::model::Model;
use crate::model::run::logit_loss::{divergence, likelihood};
use crate::model::run::low_rank::{BatchChanges, LowRank, Site};
use crate::model::run::upper_pass::UpperPass;
use crate::numeric::{Isa, View, matmul};

/// The maximum number of positions in a batch; the texts of one fact may have more. The limit is the same on every
/// machine, because the division into batches affects how the gradients are rounded.
const POSITIONS: usize = 1024;

/// The weights of the two terms of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossWeights {
    /// The weight of the negative log-likelihood of the fact.
    pub edit: f64,
    /// The weight of the KL divergence on unrelated text.
    pub locality: f64,
}

/// An unrelated text in the base.
#[derive(Clone, Debug, PartialEq)]
pub struct UnrelatedStates {
    /// The hidden states before the first edited block, `[positions, d]`.
    pub before: Vec<f32>,
    pub logits: BaseLogits,
}

/// The logits of the base, or the hidden states from which they are computed.
#[derive(Clone, Debug, PartialEq)]
pub enum BaseLogits {
    /// The hidden states after the last block, `[positions, d]`.
    States(Vec<f32>),
    /// The logits at all positions, `[positions, vocabulary]`.
    Logits(Vec<f32>),
}

impl UnrelatedStates {
    /// Runs the base on some texts.
    pub fn of_texts(base: &Model, sites: &[Site], texts: &[&[u32]]) -> Vec<Self> {
        let (width, lengths): (usize, Vec<usize>) =
            (base.spec().hidden_size, texts.iter().map(|text| text.len()).collect());
        let pass = UpperPass::new(base, first_layer(sites), texts, &lengths);
        let all_after = pass.last_states(base);
        let all_before = pass.into_states();
        let (mut before, mut after) = (&all_before[..], &all_after[..]);
        let text = |length: &usize| {
            let ((own_before, rest_before), (own_after, rest_after)) =
                (before.split_at(length * width), after.split_at(length * width));
            (before, after) = (rest_before, rest_after);
            Self { before: own_before.to_vec(), logits: BaseLogits::States(own_after.to_vec()) }
        };
        lengths.iter().map(text).collect()
    }

    /// Replaces the hidden states after the last block by the logits, which need more memory.
    pub fn compute_logits(&mut self, base: &Model) {
        if let BaseLogits::States(after) = &self.logits {
            self.logits = BaseLogits::Logits(base.lm_head(after));
        }
    }

    /// Returns the number of f32 numbers that this value has in addition to logits.
    pub fn numbers_without_logits(&self) -> usize {
        let after = if let BaseLogits::States(after) = &self.logits { after.len() } else { 0 };
        self.before.len() + after
    }

    fn logits(&self, base: &Model) -> Cow<'_, [f32]> {
        match &self.logits {
            BaseLogits::States(after) => Cow::Owned(base.lm_head(after)),
            BaseLogits::Logits(logits) => Cow::Borrowed(logits),
        }
    }
}

/// A fact with its changes of the edited matrices, and the texts on which the edited model is measured.
#[derive(Clone, Copy, Debug)]
pub struct JudgedFact<'t> {
    /// The hidden states before the first edited block, `[positions, d]`, for the prompt and the target without its
    /// last token.
    pub outer: &'t [f32],
    pub target: &'t [u32],
    pub unrelated: &'t UnrelatedStates,
    /// The change of each edited matrix.
    pub changes: &'t [LowRank],
}

impl JudgedFact<'_> {
    fn positions(&self, width: usize) -> usize {
        (self.outer.len() + self.unrelated.before.len()) / width
    }
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

/// Computes the loss of each fact. Also returns, for each fact, the gradients of its weighted loss with respect to the
/// two factors of each change.
pub fn losses_and_gradients(
    base: &Model,
    sites: &[Site],
    facts: &[JudgedFact<'_>],
    weights: LossWeights,
) -> Vec<(Loss, Vec<LowRank>)> {
    let batch = |some: &[JudgedFact<'_>]| {
        let groups = groups(some);
        let changes = BatchChanges { sites, groups: &groups };
        let pass = pass(base, sites, some);
        let mut tape = pass.forward(base, changes);
        let mut gradient = std::mem::take(&mut tape.logits);
        let losses = replace_by_gradient(base, some, &mut gradient, weights);
        let mut found = vec![vec![LowRank::default(); sites.len()]; some.len()];
        pass.reverse(base, changes, &tape, &gradient, |layer, gradients| {
            for (index, site) in sites.iter().enumerate().filter(|(_, site)| site.layer == layer) {
                let (inputs, outputs) = site.shape(base.spec());
                let (x, by_output) = of_site(&gradients, site.matrix);
                for ((fact, range), of_fact) in some.iter().zip(&gradients.groups).zip(&mut found) {
                    let own_x = &x[range.start * inputs..range.end * inputs];
                    let own_gradient = &by_output[range.start * outputs..range.end * outputs];
                    let (change, shape) = (&fact.changes[index], (inputs, outputs));
                    of_fact[index] = factor_gradients(base.isa(), change, shape, own_x, own_gradient);
                }
            }
        });
        losses.into_iter().zip(found).collect::<Vec<_>>()
    };
    batches(base, facts).into_iter().flat_map(batch).collect()
}

/// Computes the loss of each fact, without gradients.
pub fn losses(base: &Model, sites: &[Site], facts: &[JudgedFact<'_>]) -> Vec<Loss> {
    let batch = |some: &[JudgedFact<'_>]| {
        let groups = groups(some);
        let mut logits = pass(base, sites, some).forward(base, BatchChanges { sites, groups: &groups }).logits;
        replace_by_gradient(base, some, &mut logits, LossWeights { edit: 1.0, locality: 1.0 })
    };
    batches(base, facts).into_iter().flat_map(batch).collect()
}

/// Splits facts, in order, into batches of at most [`POSITIONS`] positions.
fn batches<'f, 't>(base: &Model, facts: &'f [JudgedFact<'t>]) -> Vec<&'f [JudgedFact<'t>]> {
    let (mut out, mut rest) = (Vec::new(), facts);
    while !rest.is_empty() {
        let mut positions = 0;
        let fits = |fact: &&JudgedFact<'_>| {
            positions += fact.positions(base.spec().hidden_size);
            positions <= POSITIONS
        };
        let (some, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        out.push(some);
        rest = later;
    }
    out
}

/// Returns one group of two token sequences per fact: the outer text and the unrelated text.
fn groups<'t>(facts: &[JudgedFact<'t>]) -> Vec<(usize, &'t [LowRank])> {
    facts.iter().map(|fact| (2, fact.changes)).collect()
}

/// Returns the pass over the edited blocks for the outer and the unrelated text of each fact, in the order of facts.
fn pass(base: &Model, sites: &[Site], facts: &[JudgedFact<'_>]) -> UpperPass {
    let width = base.spec().hidden_size;
    let (mut lengths, mut last_n, mut states) = (Vec::new(), Vec::new(), Vec::new());
    for fact in facts {
        let unrelated = fact.unrelated.before.len() / width;
        lengths.extend([fact.outer.len() / width, unrelated]);
        last_n.extend([fact.target.len(), unrelated]);
        states.extend_from_slice(fact.outer);
        states.extend_from_slice(&fact.unrelated.before);
    }
    UpperPass::from_states(first_layer(sites), &lengths, &last_n, states)
}

/// Returns the loss of each fact, and replaces `logits` by the gradient of the weighted loss. `logits` has the logits
/// at the labels of the outer text and at all positions of the unrelated text, fact after fact.
fn replace_by_gradient(base: &Model, facts: &[JudgedFact<'_>], logits: &mut [f32], weights: LossWeights) -> Vec<Loss> {
    let (vocabulary, width) = (base.spec().vocabulary, base.spec().hidden_size);
    let (mut rest, mut parts) = (logits, Vec::new());
    for fact in facts {
        let positions = fact.unrelated.before.len() / width;
        let (outer, later) = rest.split_at_mut(fact.target.len() * vocabulary);
        let (unrelated, later) = later.split_at_mut(positions * vocabulary);
        parts.push((fact, outer, unrelated, positions as f64));
        rest = later;
    }
    let of_fact = |(fact, outer, unrelated, positions): (&JudgedFact<'_>, &mut [f32], &mut [f32], f64)| {
        let edit = likelihood(base.isa(), outer, &mean_of(fact.target));
        outer.iter_mut().for_each(|x| *x *= weights.edit as f32);
        let (of_base, weight) = (fact.unrelated.logits(base), weights.locality / positions);
        let divergence = divergence(base.isa(), &of_base, unrelated, vocabulary, weight) / positions;
        Loss { edit, divergence }
    };
    parts.into_par_iter().map(of_fact).collect()
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
    if rank == 0 {
        return LowRank::default();
    }
    let (x, gradient) = (View::new(x, positions, inputs), View::new(gradient, positions, outputs));
    let (a, b) = (View::new(&change.a, rank, inputs), View::new(&change.b, rank, outputs));
    let (by_a, by_b) = (matmul(isa, gradient, b.transposed()), matmul(isa, x, a.transposed()));
    LowRank {
        a: matmul(isa, View::new(&by_a, positions, rank).transposed(), x),
        b: matmul(isa, View::new(&by_b, positions, rank).transposed(), gradient),
    }
}
