//! Appends tokens to a batch of texts without recomputing the earlier tokens. The results are bit-identical to those of
//! a full forward pass of each text.

use std::sync::Arc;

use super::block::BlockInput;
use super::kv_cache::KvCache;
use super::model::Model;
use super::rows::Rows;

/// Texts to which tokens are appended, with the KV cache of every layer.
pub struct Generation<'m> {
    model: &'m Model,
    layers: Vec<KvCache>,
    /// The length of each text in tokens.
    lengths: Vec<usize>,
}

impl<'m> Generation<'m> {
    /// Creates `count` empty texts with empty KV caches.
    pub fn new(model: &'m Model, count: usize) -> Self {
        let empty = || KvCache { keys: vec![Arc::default(); count], values: vec![Arc::default(); count] };
        Self { model, layers: (0..model.spec().layers).map(|_| empty()).collect(), lengths: vec![0; count] }
    }

    /// Appends tokens to every text and returns the logits of the next token, `[texts, vocabulary]`. The logits of a
    /// text are bit-identical whether its tokens are appended one at a time or together, and do not depend on the
    /// other texts.
    ///
    /// # Panics
    /// If the number of rows is not the number of texts, if a row is empty, or if a text becomes longer than the
    /// learned position embeddings of the model.
    pub fn push(&mut self, tokens: &[&[u32]]) -> Vec<f32> {
        assert_eq!(tokens.len(), self.lengths.len(), "one row of tokens per text");
        assert!(tokens.iter().all(|row| !row.is_empty()), "at least one token to append");
        let model = self.model;
        let mut x = model.embed_from(tokens, &self.lengths);
        let rows = Rows::with_cached(self.lengths.iter().copied().zip(tokens.iter().map(|row| row.len())));
        let last = vec![1; tokens.len()];
        for (layer, cache) in self.layers.iter_mut().enumerate() {
            // Only the last position of each text needs an output of the last layer.
            let last_n = rows.computed(&last, layer + 1 == model.spec().layers);
            let input = BlockInput { x: &x, rows: &rows, cache, last_n: &last_n };
            let (mid, tape) = model.run_attention(layer, input, false);
            let heads = model.heads(layer);
            for text in 0..rows.count() {
                let (keys, values) = (&mut cache.keys[text], &mut cache.values[text]);
                let (keys, values) = (Arc::make_mut(keys), Arc::make_mut(values));
                let range = rows.range(text);
                let qkv = &tape.inputs.qkv[range.start * heads.qkv_width()..range.end * heads.qkv_width()];
                for position in qkv.chunks(heads.qkv_width()) {
                    keys.extend_from_slice(&position[heads.keys()]);
                    values.extend_from_slice(&position[heads.values()]);
                }
            }
            let (key, _) = model.mlp_key(layer, &mid, false);
            x = model.resid_post(layer, &key, &mid);
        }
        self.lengths.iter_mut().zip(tokens).for_each(|(length, row)| *length += row.len());
        model.lm_head(&x)
    }

    /// Removes the texts for which `kept` is false. The others keep their order.
    ///
    /// # Panics
    /// If the length of `kept` is not the number of texts.
    pub fn retain(&mut self, kept: &[bool]) {
        assert_eq!(kept.len(), self.lengths.len(), "one flag per text");
        retain(&mut self.lengths, kept);
        for cache in &mut self.layers {
            retain(&mut cache.keys, kept);
            retain(&mut cache.values, kept);
        }
    }

    /// Returns the length of each text in tokens.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }
}

fn retain<T>(items: &mut Vec<T>, kept: &[bool]) {
    let mut flags = kept.iter();
    items.retain(|_| *flags.next().expect("one flag per item"));
}
