//! Caches the attention keys and values of prefixes that many token sequences share, so that they are computed once.
//!
//! Each prompt is run after the same context templates (short texts that precede it), which make up a large part of all
//! tokens. Attention is causal, so the keys and values of a prefix do not depend on the text after it.

use std::ops::Range;
use std::sync::Arc;

use super::block::BlockInput;
use super::kv_cache::{EMPTY, KvCache};
use super::model::Model;
use super::rows::Rows;

/// Prefixes of token sequences, with their KV cache in each layer. Prefix `i` belongs to the token sequence `i` of each
/// later batch.
#[derive(Clone, Debug, Default)]
pub struct PrefixCache {
    tokens: Vec<Vec<u32>>,
    layers: Vec<KvCache>,
}

/// The cached prefixes of one batch, cut to the tokens that each token sequence has in common with its prefix.
#[derive(Clone, Debug, Default)]
pub struct CachedPrefixes {
    /// The length of the cached prefix of each token sequence, in positions.
    pub lengths: Vec<usize>,
    /// The KV cache of the prefixes, one element per layer.
    layers: Vec<KvCache>,
}

impl PrefixCache {
    /// Returns a cache without prefixes. Token sequences are then computed from their first token.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Runs prefixes, one per token sequence of later batches, through the first `layers` layers of `model`. A prefix
    /// may be empty.
    ///
    /// # Panics
    /// If `layers` is 0.
    pub fn new(model: &Model, layers: usize, tokens: Vec<Vec<u32>>) -> Self {
        assert!(layers > 0, "a cache has at least one layer");
        let rows = Rows::new(tokens.iter().map(Vec::len));
        if rows.positions() == 0 {
            return Self::empty();
        }
        let x = model.embed(&tokens.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let layers = run_and_cache(model, 0..layers, x, &rows, &CachedPrefixes::default());
        Self { tokens, layers }
    }

    /// Returns the cached prefixes for a batch. The prefix of `rows[i]` consists of the first tokens that `rows[i]` has
    /// in common with the cached prefix `i`, at most `limits[i]` tokens.
    pub fn lookup(&self, model: &Model, rows: &[&[u32]], limits: &[usize]) -> CachedPrefixes {
        let shared = |(index, row): (usize, &&[u32])| {
            self.tokens.get(index).map_or(0, |prefix| common_prefix_len(prefix, row).min(limits[index]))
        };
        let lengths: Vec<usize> = rows.iter().enumerate().map(shared).collect();
        let width = model.heads(0).kv_width();
        let cut = |all: &[Arc<Vec<f32>>]| -> Vec<Arc<Vec<f32>>> {
            all.iter()
                .zip(&lengths)
                .map(|(all, length)| {
                    if all.len() == length * width { Arc::clone(all) } else { Arc::new(all[..length * width].to_vec()) }
                })
                .collect()
        };
        let layers = self.layers.iter().map(|all| KvCache { keys: cut(&all.keys), values: cut(&all.values) }).collect();
        CachedPrefixes { layers, lengths }
    }
}

impl CachedPrefixes {
    /// Returns the KV cache of the prefixes in `layer`. It is empty if no prefix is cached.
    ///
    /// # Panics
    /// If prefixes are cached, but were not run through `layer`.
    pub fn layer(&self, layer: usize) -> &KvCache {
        if self.layers.is_empty() { &EMPTY } else { &self.layers[layer] }
    }
}

pub fn common_prefix_len(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// Runs the positions of `x` through `layers` and returns the KV cache of each layer, with the cached prefixes
/// included. `x` contains the hidden states before the first of these layers, `[positions, d]`. In the last of these
/// layers, only attention keys and values are computed.
pub(crate) fn run_and_cache(
    model: &Model,
    layers: Range<usize>,
    mut x: Vec<f32>,
    rows: &Rows,
    prefixes: &CachedPrefixes,
) -> Vec<KvCache> {
    let mut out = Vec::with_capacity(layers.len());
    for layer in layers.clone() {
        let last = layer + 1 == layers.end;
        let last_n = if last { vec![0; rows.count()] } else { rows.lengths().to_vec() };
        let cache = prefixes.layer(layer);
        let (mid, tape) = model.run_attention(layer, BlockInput { x: &x, rows, cache, last_n: &last_n }, false);
        out.push(cache.extended(&tape.inputs.qkv, rows, model.heads(layer)));
        if !last {
            let (key, _) = model.mlp_key(layer, &mid, false);
            x = model.resid_post(layer, &key, &mid);
        }
    }
    out
}
