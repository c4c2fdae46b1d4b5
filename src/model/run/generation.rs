//! Decodes incrementally: appends tokens to a text without recomputing the earlier ones. The bits are those of a full
//! forward pass.

use std::sync::Arc;

use super::decoder::{KvCache, Model};
use super::rows::Rows;

/// A text that is being decoded, with the KV cache of every layer for its tokens.
pub struct Generation<'m> {
    model: &'m Model,
    layers: Vec<KvCache>,
    length: usize,
}

impl<'m> Generation<'m> {
    /// Creates the state of an empty text.
    pub fn new(model: &'m Model) -> Self {
        let empty = || KvCache { keys: vec![Arc::default()], values: vec![Arc::default()] };
        Self { model, layers: (0..model.spec().layers).map(|_| empty()).collect(), length: 0 }
    }

    /// Appends tokens and returns the logits of the next token, `[vocabulary]`. Appending tokens one at a time or all
    /// at once gives the same bits.
    ///
    /// # Panics
    /// If `tokens` is empty, or if the text becomes longer than the learned position embeddings of the model.
    pub fn push(&mut self, tokens: &[u32]) -> Vec<f32> {
        let (model, width) = (self.model, self.model.spec().hidden_size);
        assert!(!tokens.is_empty(), "a token to go on from");
        let mut x = model.embed_from(&[tokens], self.length);
        let rows = Rows::with_cached([(self.length, tokens.len())]);
        for (layer, past) in self.layers.iter_mut().enumerate() {
            let (middle, tape) = model.run_attention(layer, &x, &rows, past, &[tokens.len()], false);
            let heads = model.heads(layer);
            for at in tape.fused.chunks(heads.qkv_width()) {
                Arc::make_mut(&mut past.keys[0]).extend_from_slice(&at[heads.keys()]);
                Arc::make_mut(&mut past.values[0]).extend_from_slice(&at[heads.values()]);
            }
            let (key, _) = model.mlp_key(layer, &middle, false);
            x = model.resid_post(layer, &key, &middle);
        }
        self.length += tokens.len();
        model.lm_head(&x[x.len() - width..])
    }

    /// Number of tokens appended so far.
    pub fn length(&self) -> usize {
        self.length
    }
}
