//! Computes the MLP key of an edit, and the loss that its MLP value minimises (ROME: Meng et al. 2022, §3.1 and
//! appendix E.5).
//!
//! The key `k*` is the input of the down-projection at the last token of the subject, averaged over the context
//! templates. The value `v*` is the output of the down-projection at this token of the prompt without a context
//! template, plus a change δ. The loss of δ is the sum of three terms:
//!
//! - the mean negative log-likelihood of the target over the context templates;
//! - the KL divergence from the base model at the subject's last token in `"{subject} is a"`;
//! - a penalty on `‖δ‖`.

use rayon::prelude::*;

use super::Settings;
use super::optimiser::norm;
use super::resolve::{PromptRow, Resolved};
use crate::model::Model;
use crate::model::run::prefix_cache::{PrefixCache, common_prefix_len};
use crate::model::run::suffix_pass::SuffixPass;
use crate::numeric::rows::softmax;

/// The terms of the loss at one δ, the change of the value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// The mean negative log-likelihood of the target's tokens over all context templates, in nats.
    pub nll: f64,
    /// The KL divergence from the base model at the subject's last token in `"{subject} is a"`, times
    /// [`Settings::kl_factor`].
    pub kl: f64,
    /// The penalty on the change δ of the value: `‖δ‖ / ‖v₀‖²`, times [`Settings::weight_decay`]. v₀ is the value in
    /// the base model.
    pub decay: f64,
    /// The lead of the target in nats, which is not part of the loss. The lead is the minimum, over the target's tokens
    /// and the context templates, of the token's logit minus the largest other logit.
    pub lead: f64,
}

impl Loss {
    /// Returns `nll + kl + decay`, which the optimisation minimises.
    pub fn total(&self) -> f64 {
        self.nll + self.kl + self.decay
    }
}

/// The result of compiling one edit: the key, the value, and how the value was found.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The MLP key `k*`, `[intermediate_size]`.
    pub key: Vec<f32>,
    /// The value `v*`, `[hidden_size]`: the value in the base model plus the optimised change.
    pub value: Vec<f32>,
    /// The value v₀ in the base model, `[hidden_size]`: an MLP output, or a hidden state if the hook is
    /// [`Hook::Block`].
    pub value_before: Vec<f32>,
    /// The terms of the loss at `value`.
    pub loss: Loss,
    /// The index in [`Settings::schedule`] of the stage that found the value.
    pub stage: usize,
    /// The number of evaluations of the loss, over all stages that ran.
    pub evaluations: usize,
    /// Whether `loss.nll` is at most [`Settings::converged_nll`], or `loss.lead` reaches [`Settings::margin`].
    pub converged: bool,
}

/// The point of the model at which δ, the change of the value, is added. The value is the activation at this point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The output of the MLP's down-projection, as in ROME.
    Mlp,
    /// The residual stream after the layer, as in MEMIT and other editors that spread a change over several layers.
    Block,
}

/// The loss of one edit as a function of δ, the change of its value.
pub struct Objective<'a> {
    pub(super) suffix: SuffixPass<'a>,
    pub(super) settings: &'a Settings,
    target: &'a [u32],
    templates: usize,
    vocabulary: usize,
    /// The MLP key `k*`, `[intermediate_size]`.
    pub key: Vec<f32>,
    /// The value v₀ in the base model, `[hidden_size]`: an MLP output, or a hidden state if the hook is
    /// [`Hook::Block`].
    pub value_before: Vec<f32>,
    pub(super) norm_before: f64,
    /// The base model's log-probability of every token of the vocabulary as the next token after the subject in
    /// `"{subject} is a"`.
    drift_before: Vec<f64>,
}

impl<'a> Objective<'a> {
    /// Runs the prompts of `edit` through the model once, and caches the results that do not depend on δ. An evaluation
    /// of the loss then computes only the layers above `layer`, from the subject's last token on.
    pub fn new(model: &'a Model, layer: usize, edit: &'a Resolved, settings: &'a Settings) -> Self {
        Self::with_prefixes(&PrefixCache::empty(), model, layer, edit, (settings, Hook::Mlp))
    }

    /// Does the same as [`Objective::new`], with two more inputs: the hook at which δ is added, and the KV cache of
    /// token prefixes that several edits have in common.
    pub fn with_prefixes(
        prefixes: &PrefixCache,
        model: &'a Model,
        layer: usize,
        edit: &'a Resolved,
        (settings, hook): (&'a Settings, Hook),
    ) -> Self {
        let label = edit.target.len();
        let continued = |row: &PromptRow| [&row.ids[..], &edit.target[..label - 1]].concat();
        let mut rows: Vec<Vec<u32>> = edit.rows.iter().map(continued).collect();
        // The text `"{subject} is a"` is cut after the subject. Attention is causal, so the tokens after the subject do
        // not affect the distribution at the subject's last token.
        rows.push(edit.drift.ids[..=edit.drift.position].to_vec());
        let subject_positions: Vec<usize> = edit.rows.iter().chain([&edit.drift]).map(|row| row.position).collect();
        let mut last_n = vec![label; edit.rows.len()];
        last_n.push(1);
        let tokens: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let hook_output = model.run_hook_cached(prefixes, layer, &tokens, &subject_positions);
        let key = mean_key(&hook_output.keys[..edit.rows.len()], settings.bare_weight);
        let value_before = match hook {
            Hook::Mlp => hook_output.values[0].clone(),
            Hook::Block => hook_output.state(0, subject_positions[0]).to_vec(),
        };
        let wide: Vec<f64> = value_before.iter().map(|&x| f64::from(x)).collect();
        let mut objective = Self {
            suffix: SuffixPass::new(model, layer, &hook_output, &subject_positions, &last_n),
            settings,
            target: &edit.target,
            templates: edit.rows.len(),
            vocabulary: model.spec().vocabulary,
            key,
            norm_before: norm(&wide),
            value_before,
            drift_before: Vec::new(),
        };
        objective.drift_before = objective.unedited_drift();
        objective
    }

    /// Returns the number of logits of this edit in a batch: the vocabulary size times the number of positions whose
    /// next token is scored.
    pub(super) fn logits(&self) -> usize {
        (self.templates * self.target.len() + 1) * self.vocabulary
    }

    fn unedited_drift(&self) -> Vec<f64> {
        let row = self.suffix.row(self.templates).evaluate(&vec![0.0; self.value_before.len()]).logits;
        let log = softmax(&mut row.clone());
        row.iter().map(|&logit| f64::from(logit) - log).collect()
    }

    /// Returns the number of token sequences of this edit: one per context template, and one for the prompt
    /// `"{subject} is a"`.
    pub(super) fn rows(&self) -> usize {
        self.templates + 1
    }

    /// Computes the loss from the logits of this edit, and replaces the logits by the gradient of the loss.
    pub(super) fn loss(&self, delta: &[f64], logits: &mut [f32]) -> Loss {
        let (labelled, drift) = logits.split_at_mut(self.templates * self.target.len() * self.vocabulary);
        let (nll, lead) = self.likelihood(labelled);
        Loss { nll, kl: self.drift(drift), decay: self.decay() * norm(delta), lead }
    }

    /// Returns the gradient of the loss with respect to δ, the change of the value: the sum of `rows`, in order, plus
    /// the gradient of the penalty on `‖δ‖`. `rows` has one gradient per token sequence of this edit.
    pub(super) fn gradient(&self, delta: &[f64], rows: &[Vec<f32>]) -> Vec<f64> {
        let mut gradient = vec![0.0; delta.len()];
        for row in rows {
            gradient.iter_mut().zip(row).for_each(|(sum, g)| *sum += f64::from(*g));
        }
        let length = norm(delta);
        if length > 0.0 {
            for (sum, x) in gradient.iter_mut().zip(delta) {
                *sum += self.decay() * x / length;
            }
        }
        gradient
    }

    /// Returns the factor of `‖δ‖` in the loss: [`Settings::weight_decay`] divided by `‖v₀‖²`, where v₀ is the value in
    /// the base model and δ is its change.
    fn decay(&self) -> f64 {
        self.settings.weight_decay / (self.norm_before * self.norm_before)
    }

    /// Returns the mean negative log-likelihood of the target's tokens, and [`Loss::lead`]: the smallest difference
    /// between the logit of a target token and the largest other logit. Replaces the logits by the gradient of the
    /// mean.
    fn likelihood(&self, logits: &mut [f32]) -> (f64, f64) {
        let share = 1.0 / (self.templates * self.target.len()) as f64;
        let row = |(index, row): (usize, &mut [f32])| {
            let label = self.target[index % self.target.len()] as usize;
            let logit = f64::from(row[label]);
            let lead = logit - max_other_logit(row, label);
            let loss = softmax(row) - logit;
            row[label] -= 1.0;
            for x in row.iter_mut() {
                *x *= share as f32;
            }
            (loss, lead)
        };
        let losses: Vec<(f64, f64)> = logits.par_chunks_mut(self.vocabulary).enumerate().map(row).collect();
        let (mut total, mut least) = (0.0, f64::INFINITY);
        for (loss, lead) in losses {
            total += loss;
            least = if lead < least { lead } else { least };
        }
        (total * share, least)
    }

    /// Returns KL(edited ‖ base) of the next token after the subject in `"{subject} is a"`, times its weight in the
    /// loss. Replaces the logits by the gradient of the returned number.
    fn drift(&self, logits: &mut [f32]) -> f64 {
        let now = logits.to_vec();
        let log = softmax(logits);
        let mut kl = 0.0;
        for ((p, logit), before) in logits.iter().zip(&now).zip(&self.drift_before) {
            kl += f64::from(*p) * (f64::from(*logit) - log - before);
        }
        for ((p, logit), before) in logits.iter_mut().zip(&now).zip(&self.drift_before) {
            let gradient = f64::from(*p) * (f64::from(*logit) - log - before - kl);
            *p = (self.settings.kl_factor * gradient) as f32;
        }
        self.settings.kl_factor * kl
    }
}

/// Returns the largest logit of a row, except the logit of `label`.
fn max_other_logit(row: &[f32], label: usize) -> f64 {
    let mut most = f32::NEG_INFINITY;
    for (index, &logit) in row.iter().enumerate() {
        if index != label && logit > most {
            most = logit;
        }
    }
    f64::from(most)
}

/// The maximum number of f32 values in the KV cache of common prefixes: half a gibibyte.
const MAX_PREFIX_FLOATS: usize = 1 << 27;

/// Returns the KV cache of the first `layers` layers for common token prefixes: one for the prompt without a context
/// template, and one per context template. A prefix consists of the leading tokens that the first two edits have in
/// common, and ends before the last token of each subject. The cache is empty if there are fewer than two edits, or if
/// it would exceed [`MAX_PREFIX_FLOATS`].
pub(super) fn shared_prefixes(model: &Model, layers: usize, edits: &[&Resolved]) -> PrefixCache {
    let [first, second, ..] = edits else { return PrefixCache::empty() };
    let prefix = |(one, other): (&PromptRow, &PromptRow)| {
        let shared = common_prefix_len(&one.ids, &other.ids).min(one.position).min(other.position);
        one.ids[..shared].to_vec()
    };
    let tokens: Vec<Vec<u32>> = first.rows.iter().zip(&second.rows).map(prefix).collect();
    let (positions, spec) = (tokens.iter().map(Vec::len).sum::<usize>(), model.spec());
    if positions * layers * 2 * spec.kv_heads * spec.head_width <= MAX_PREFIX_FLOATS {
        PrefixCache::new(model, layers, tokens)
    } else {
        PrefixCache::empty()
    }
}

/// Returns the MLP key `k*` of each edit, in the order of the edits. The keys are bit-identical to those of
/// [`compile`](super::compile), although the tokens after the subject are not evaluated.
pub fn keys<'a>(
    model: &'a Model,
    layer: usize,
    edits: &'a [&Resolved],
    bare_weight: Option<f64>,
) -> impl Iterator<Item = Vec<f32>> + 'a {
    let prefixes = shared_prefixes(model, layer + 1, edits);
    edits.iter().map(move |edit| {
        let rows: Vec<&[u32]> = edit.rows.iter().map(|row| &row.ids[..=row.position]).collect();
        let positions: Vec<usize> = edit.rows.iter().map(|row| row.position).collect();
        mean_key(&model.run_hook_cached(&prefixes, layer, &rows, &positions).keys, bare_weight)
    })
}

/// Returns the mean of an edit's MLP keys, one per context template. If `bare` is set, `bare` is the weight of the
/// first key (the key of the prompt without a context template), and the other keys share the rest equally.
pub fn mean_key(keys: &[Vec<f32>], bare: Option<f64>) -> Vec<f32> {
    let (Some(weight), Some((first, rest))) = (bare, keys.split_first().filter(|(_, rest)| !rest.is_empty())) else {
        return mean(keys);
    };
    let both = first.iter().zip(mean(rest));
    both.map(|(x, average)| (weight * f64::from(*x) + (1.0 - weight) * f64::from(average)) as f32).collect()
}

/// Returns the element-wise mean of vectors of equal length, summed in f64 in the order of `vectors`.
fn mean(vectors: &[Vec<f32>]) -> Vec<f32> {
    let count = vectors.len() as f64;
    let element = |index: usize| {
        let mut total = 0.0;
        for vector in vectors {
            total += f64::from(vector[index]);
        }
        (total / count) as f32
    };
    (0..vectors.first().map_or(0, Vec::len)).map(element).collect()
}
