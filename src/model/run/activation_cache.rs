//! Runs a batch of rows (token sequences) through a model and records the activations of every layer.

use std::sync::Arc;

use super::block::BlockInput;
use super::kv_cache::KvCache;
use super::model::Model;
use super::rows::Rows;
use crate::numeric::rows::add;

/// A part of a transformer block: attention or the MLP. Each part adds its output to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    Attention,
    Mlp,
}

/// The activations that were recorded in one forward pass, for every layer and every token position in the batch.
pub struct ActivationCache {
    /// The range of matrix rows of each token sequence, and the number of cached positions before the sequence.
    pub(super) rows: Rows,
    /// The hidden size d, which is the number of columns of the `[positions, d]` matrices.
    pub(super) width: usize,
    /// The residual stream before every layer and after the last layer, `[layers + 1][positions, d]`.
    pub(super) resid_pre: Vec<Vec<f32>>,
    /// The outputs of attention, `[layers][positions, d]`.
    attention: Vec<Vec<f32>>,
    /// The outputs of the MLP, `[layers][positions, d]`.
    mlp: Vec<Vec<f32>>,
    /// The KV cache of every layer, which covers the recorded positions and the prefix before them.
    pub(super) kv: Vec<KvCache>,
    /// The queries, keys and values of attention, one matrix per layer. Each row of a matrix contains the query, the
    /// key and the value of one position.
    pub(super) qkv: Vec<Vec<f32>>,
}

/// A replacement of the output of attention or of the MLP at one position, in every layer. The new output is the one
/// that an earlier forward pass, `source`, recorded at the same position.
#[derive(Clone, Copy)]
pub struct Severed<'c> {
    pub component: Component,
    /// The position in each text at which the output is replaced, counted from 0.
    pub position: usize,
    pub source: &'c ActivationCache,
}

/// A prefix that is shared by all token sequences of a batch: the first `length` positions of the first sequence in
/// `cache`, which an earlier forward pass recorded.
#[derive(Clone, Copy)]
pub struct RunPrefix<'c> {
    pub cache: &'c ActivationCache,
    pub length: usize,
}

impl ActivationCache {
    /// Converts `position`, a position in the text with the index `row`, to the index of its matrix row in the
    /// `[positions, d]` matrices.
    pub(super) fn index(&self, row: usize, position: usize) -> usize {
        self.rows.range(row).start + position - self.rows.cached(row)
    }

    /// Returns the residual stream before `layer`, `[d]`, at `position` in the text with the index `row`. If `layer` is
    /// the number of layers, returns the residual stream after the last layer.
    pub fn state(&self, layer: usize, row: usize, position: usize) -> &[f32] {
        &self.resid_pre[layer][self.index(row, position) * self.width..][..self.width]
    }

    /// Returns the output of attention or of the MLP in `layer`, `[d]`, at `position` in the text with the index `row`.
    pub fn output(&self, component: Component, layer: usize, row: usize, position: usize) -> &[f32] {
        let outputs = match component {
            Component::Attention => &self.attention,
            Component::Mlp => &self.mlp,
        };
        &outputs[layer][self.index(row, position) * self.width..][..self.width]
    }

    /// Returns the hidden states after the last layer at the last position of every text, `[texts, d]`.
    pub fn last(&self) -> Vec<f32> {
        let layers = self.resid_pre.len() - 1;
        let last = |row: usize| self.state(layers, row, self.rows.cached(row) + self.rows.length(row) - 1);
        (0..self.rows.count()).flat_map(last).copied().collect()
    }

    /// Applies the replacement `severed` to `outputs`, the outputs of `component` in `layer`. In every text, the output
    /// at `severed.position` is replaced by that of the same text in `severed.source`. Does nothing if `severed` is
    /// `None` or replaces the outputs of the other component.
    fn sever(&self, component: Component, layer: usize, severed: Option<Severed<'_>>, outputs: &mut [f32]) {
        let Some(severed) = severed.filter(|severed| severed.component == component) else { return };
        for row in 0..self.rows.count() {
            let at = self.index(row, severed.position) * self.width;
            let output = severed.source.output(component, layer, row, severed.position);
            outputs[at..at + self.width].copy_from_slice(output);
        }
    }
}

impl Model {
    /// Runs `count` token sequences of `length` positions each through all layers and records the activations. `x`
    /// contains their embeddings. The positions of `prefix` precede every sequence. `severed` states which outputs are
    /// replaced, if any.
    pub fn run_with_cache(
        &self,
        x: Vec<f32>,
        count: usize,
        length: usize,
        prefix: Option<RunPrefix<'_>>,
        severed: Option<Severed<'_>>,
    ) -> ActivationCache {
        let cached = prefix.map_or(0, |prefix| prefix.length);
        let mut out = ActivationCache {
            rows: Rows::with_cached((0..count).map(|_| (cached, length))),
            width: self.spec().hidden_size,
            resid_pre: vec![x],
            attention: Vec::new(),
            mlp: Vec::new(),
            kv: Vec::new(),
            qkv: Vec::new(),
        };
        for layer in 0..self.spec().layers {
            let cache = prefix.map_or_else(KvCache::default, |prefix| self.prefix_kv(layer, prefix, count));
            let (resid_pre, rows) = (&out.resid_pre[layer], &out.rows);
            let input = BlockInput { x: resid_pre, rows, cache: &cache, last_n: rows.lengths() };
            let (mut attention, inputs) = self.attention_output(layer, input);
            out.sever(Component::Attention, layer, severed, &mut attention);
            let mid = self.add_attention(attention.clone(), resid_pre, rows, rows.lengths());
            let (key, _) = self.mlp_key(layer, &mid, false);
            let mut mlp = self.mlp_value(layer, &key);
            out.sever(Component::Mlp, layer, severed, &mut mlp);
            let mut resid_post = mlp.clone();
            add(&mut resid_post, &mid.resid);
            out.kv.push(cache.extended(&inputs.qkv, rows, self.heads(layer)));
            out.resid_pre.push(resid_post);
            out.attention.push(attention);
            out.mlp.push(mlp);
            out.qkv.push(inputs.qkv);
        }
        out
    }

    /// Returns the KV cache of `prefix` in `layer`, repeated for `count` token sequences.
    fn prefix_kv(&self, layer: usize, prefix: RunPrefix<'_>, count: usize) -> KvCache {
        let numbers = prefix.length * self.heads(layer).kv_width();
        let first_row = |part: &[Arc<Vec<f32>>]| {
            let row = Arc::new(part[0][..numbers].to_vec());
            (0..count).map(|_| Arc::clone(&row)).collect()
        };
        let cache = &prefix.cache.kv[layer];
        KvCache { keys: first_row(&cache.keys), values: first_row(&cache.values) }
    }
}
