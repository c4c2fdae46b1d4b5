//! Appends tokens to a text without recomputing the earlier tokens. The results are bit-identical to those of a full
//! forward pass.

use std::sync::Arc;

use super::block::BlockInput;
use super::kv_cache::KvCache;
use super::model::Model;
use super::rows::Rows;

/// A text to which tokens are appended, with the KV cache of every layer.
pub struct Generation<'m> {
    model: &'m Model,
    layers: Vec<KvCache>,
    length: usize,
}

impl<'m> Generation<'m> {
    /// Creates an empty text with empty KV caches.
    pub fn new(model: &'m Model) -> Self {
        let empty = || KvCache { keys: vec![Arc::default()], values: vec![Arc::default()] };
        Self { model, layers: (0..model.spec().layers).map(|_| empty()).collect(), length: 0 }
    }

    /// Appends tokens to the text and returns the logits of the next token, `[vocabulary]`. The logits are
    /// bit-identical whether the tokens of a text are appended one at a time or together.
    ///
    /// # Panics
    /// If `tokens` is empty, or if the text becomes longer than the learned position embeddings of the model.
    pub fn push(&mut self, tokens: &[u32]) -> Vec<f32> {
        let (model, width) = (self.model, self.model.spec().hidden_size);
        assert!(!tokens.is_empty(), "at least one token to append");
        let mut x = model.embed_from(&[tokens], self.length);
        let rows = Rows::with_cached([(self.length, tokens.len())]);
        for (layer, cache) in self.layers.iter_mut().enumerate() {
            let input = BlockInput { x: &x, rows: &rows, cache, last_n: &[tokens.len()] };
            let (mid, tape) = model.run_attention(layer, input, false);
            let heads = model.heads(layer);
            for position in tape.inputs.qkv.chunks(heads.qkv_width()) {
                Arc::make_mut(&mut cache.keys[0]).extend_from_slice(&position[heads.keys()]);
                Arc::make_mut(&mut cache.values[0]).extend_from_slice(&position[heads.values()]);
            }
            let (key, _) = model.mlp_key(layer, &mid, false);
            x = model.resid_post(layer, &key, &mid);
        }
        self.length += tokens.len();
        model.lm_head(&x[x.len() - width..])
    }

    pub fn length(&self) -> usize {
        self.length
    }
}
