//! Computes the forward and the backward pass of the layers above the edited layer, for token sequences in which one
//! hidden state changes.
//!
//! The search for the MLP value of an edit evaluates the same token sequences many times. Only one hidden state of each
//! sequence changes, so [`SuffixPass::new`] computes the constant part once:
//!
//! - everything up to the edited layer is constant;
//! - in the layers above, the positions before that hidden state are constant, because attention is causal; their
//!   attention keys and values are cached.
//!
//! After the last block, only the labelled positions (those whose next token is scored) are computed. The results are
//! bit-identical to those of a full forward pass.

use std::ops::Range;
use std::sync::Arc;

use super::block::{BlockInput, BlockTape};
use super::hook::HookOutput;
use super::kv_cache::KvCache;
use super::model::Model;
use super::prefix_cache::run_and_cache;
use super::rows::Rows;
use crate::numeric::rows::{NormTape, add};

/// A batch of token sequences, computed up to the output of the edited layer. Hidden states, attention keys and
/// attention values that are the same in every evaluation are stored.
pub struct SuffixPass<'a> {
    model: &'a Model,
    first_layer: usize,
    rows: Rows,
    last_n: Vec<usize>,
    /// The KV cache of the positions before the position whose hidden state changes, one element per layer above the
    /// edited layer.
    caches: Vec<KvCache>,
    /// The hidden states after the edited layer, `[positions, d]`. The first position of each token sequence is the one
    /// whose hidden state changes.
    resid_start: Vec<f32>,
}

/// The logits of one forward pass through the layers above the edited layer, and the intermediate results for its
/// backward pass.
pub struct SuffixTape {
    /// The logits of the labelled positions (those whose next token is scored), `[labelled positions, vocabulary]`.
    pub logits: Vec<f32>,
    blocks: Vec<BlockTape>,
    norm: NormTape,
}

impl<'a> SuffixPass<'a> {
    /// Computes the hidden states and the KV caches that do not change between evaluations. `hooked` contains the
    /// hidden states of the token sequences after `layer`, the edited layer. `changing[i]` is the position whose hidden
    /// state changes in sequence `i`. The last `last_n[i]` positions of the sequence are labelled (their next token is
    /// scored); none of them is before `changing[i]`.
    pub fn new(model: &'a Model, layer: usize, hooked: &HookOutput, changing: &[usize], last_n: &[usize]) -> Self {
        let (spec, all) = (model.spec(), &hooked.rows);
        // The index, in `hooked.resid_post`, of the position whose hidden state changes. `resid_post` does not contain
        // the cached prefix.
        let split = |row: usize| {
            assert!(changing[row] >= all.cached(row), "a changing position is after the cached prefix");
            all.range(row).start + changing[row] - all.cached(row)
        };
        let gather = |part: &dyn Fn(usize) -> Range<usize>| -> Vec<f32> {
            let at: Vec<usize> = (0..all.count()).flat_map(part).collect();
            Rows::gather(&hooked.resid_post, spec.hidden_size, &at)
        };
        let before = gather(&|row| all.range(row).start..split(row));
        let resid_start = gather(&|row| split(row)..all.range(row).end);
        let constant =
            Rows::with_cached((0..all.count()).map(|row| (all.cached(row), split(row) - all.range(row).start)));
        let caches = run_and_cache(model, layer + 1..spec.layers, before, &constant, &hooked.prefixes);
        let rows = Rows::with_cached((0..all.count()).map(|row| (changing[row], all.range(row).end - split(row))));
        Self { model, first_layer: layer + 1, rows, last_n: last_n.to_vec(), caches, resid_start }
    }

    /// Joins passes of the same model and layer into one pass, which contains the token sequences of all passes, in
    /// order. KV caches are shared, not copied.
    ///
    /// # Panics
    /// If `all` is empty.
    pub fn joined<'o>(all: impl Iterator<Item = &'o Self>) -> Self
    where
        'a: 'o,
    {
        let all: Vec<&Self> = all.collect();
        let first = all.first().expect("at least one preparation to join");
        let row = |one: &'o Self| (0..one.rows.count()).map(|row| (one.rows.cached(row), one.rows.length(row)));
        let cache = |layer: usize| KvCache {
            keys: all.iter().flat_map(|one| &one.caches[layer].keys).cloned().collect(),
            values: all.iter().flat_map(|one| &one.caches[layer].values).cloned().collect(),
        };
        Self {
            model: first.model,
            first_layer: first.first_layer,
            rows: Rows::with_cached(all.iter().flat_map(|one| row(one))),
            last_n: all.iter().flat_map(|one| &one.last_n).copied().collect(),
            caches: (0..first.caches.len()).map(cache).collect(),
            resid_start: all.iter().flat_map(|one| &one.resid_start).copied().collect(),
        }
    }

    /// Returns a pass for only the token sequence with the index `row`. The KV cache is shared, not copied.
    pub fn row(&self, row: usize) -> Self {
        let part = |all: &[Arc<Vec<f32>>]| vec![Arc::clone(&all[row])];
        let width = self.model.spec().hidden_size;
        Self {
            rows: Rows::with_cached([(self.rows.cached(row), self.rows.length(row))]),
            last_n: vec![self.last_n[row]],
            caches: self
                .caches
                .iter()
                .map(|cache| KvCache { keys: part(&cache.keys), values: part(&cache.values) })
                .collect(),
            resid_start: self.resid_start[self.rows.range(row).start * width..self.rows.range(row).end * width]
                .to_vec(),
            ..*self
        }
    }

    /// Returns the number of token positions that one evaluation computes in each layer before the last one.
    pub fn positions(&self) -> usize {
        self.rows.positions()
    }

    /// Estimates the memory for one evaluation, as a number of f32 values: the KV caches of this pass, the intermediate
    /// results, and the logits with their gradient.
    pub fn stored_floats(&self) -> usize {
        let spec = self.model.spec();
        let cached = |cache: &KvCache| cache.keys.iter().chain(&cache.values).map(|part| part.len()).sum::<usize>();
        // For each position and layer, 8 d numbers are counted for norms, queries, keys and values, and 2 f numbers for
        // the input and the output of the activation function. d is the hidden size, f the intermediate size.
        let tape = self.positions() * self.caches.len() * (8 * spec.hidden_size + 2 * spec.intermediate_size);
        // The factor 2 counts the logits and their gradient, which are in memory at the same time.
        let logits = 2 * self.last_n.iter().sum::<usize>() * spec.vocabulary;
        tape + logits + self.caches.iter().map(cached).sum::<usize>()
    }

    /// Computes the logits after `change`, `[d]`, is added to one hidden state of every token sequence: the state after
    /// the edited layer, at the position that was given to [`SuffixPass::new`].
    pub fn evaluate(&self, change: &[f32]) -> SuffixTape {
        self.evaluate_each(&vec![change; self.rows.count()])
    }

    /// Computes the logits after `changes[i]`, `[d]`, is added to one hidden state of each token sequence `i`: the
    /// state after the edited layer, at the position that was given to [`SuffixPass::new`].
    pub fn evaluate_each(&self, changes: &[&[f32]]) -> SuffixTape {
        let spec = self.model.spec();
        let mut x = self.resid_start.clone();
        for (row, change) in changes.iter().enumerate() {
            add(&mut x[self.rows.range(row).start * spec.hidden_size..][..spec.hidden_size], change);
        }
        let mut blocks = Vec::with_capacity(self.caches.len());
        for (index, cache) in self.caches.iter().enumerate() {
            let layer = self.first_layer + index;
            let last_n = self.last_n_of(layer);
            let input = BlockInput { x: &x, rows: &self.rows, cache, last_n: &last_n };
            let (resid_post, tape) = self.model.run_block_taped(layer, input);
            x = resid_post;
            blocks.push(tape);
        }
        if blocks.is_empty() {
            x = Rows::gather(&x, spec.hidden_size, &self.rows.last_positions(&self.last_n));
        }
        let (norm, normed) = self.model.norm(&x, spec.hidden_size, &self.model.checkpoint().final_norm);
        SuffixTape { logits: self.model.unembed(&normed), blocks, norm }
    }

    /// Returns, for each token sequence, the gradient of the loss with respect to the vector that was added to the
    /// hidden state of the sequence, `[d]`. `logits` is the gradient of the loss with respect to the logits of
    /// `evaluation`.
    pub fn reverse_each(&self, evaluation: &SuffixTape, logits: &[f32]) -> Vec<Vec<f32>> {
        let (model, width) = (self.model, self.model.spec().hidden_size);
        let mut gradient = model.unembed_reverse(logits);
        model.norm_reverse(&mut gradient, width, &model.checkpoint().final_norm, &evaluation.norm);
        for (index, tape) in evaluation.blocks.iter().enumerate().rev() {
            let layer = self.first_layer + index;
            let last_n = self.last_n_of(layer);
            let shape = BlockInput { x: &[], rows: &self.rows, cache: &self.caches[index], last_n: &last_n };
            gradient = model.block_reverse(layer, tape, shape, gradient);
        }
        if evaluation.blocks.is_empty() {
            gradient = self.scatter(&gradient);
        }
        let row = |row: usize| gradient[self.rows.range(row).start * width..][..width].to_vec();
        (0..self.rows.count()).map(row).collect()
    }

    /// Returns, for each token sequence, how many positions at its end are computed in `layer`. The last layer computes
    /// only the labelled positions (those whose next token is scored). All other layers compute all positions.
    fn last_n_of(&self, layer: usize) -> Vec<usize> {
        self.rows.computed(&self.last_n, layer + 1 == self.model.spec().layers)
    }

    /// Copies the gradients of the labelled positions (those whose next token is scored) into a matrix of all
    /// positions, with zeros elsewhere. This is only needed if the edited layer is the last layer.
    fn scatter(&self, labelled: &[f32]) -> Vec<f32> {
        let width = self.model.spec().hidden_size;
        let mut out = vec![0.0; self.rows.positions() * width];
        for (index, position) in self.rows.last_positions(&self.last_n).into_iter().enumerate() {
            out[position * width..][..width].copy_from_slice(&labelled[index * width..][..width]);
        }
        out
    }
}
