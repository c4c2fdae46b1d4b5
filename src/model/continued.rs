//! Going on with a text, one token after the other, without computing what came before again.

use std::sync::Arc;

use super::decoder::{Model, Past};
use super::rows::Rows;

/// A text, and what attention needs of it in every layer.
pub struct Continued<'m> {
    model: &'m Model,
    layers: Vec<Past>,
    length: usize,
}

impl<'m> Continued<'m> {
    /// Nothing yet.
    pub fn new(model: &'m Model) -> Self {
        let empty = || Past { keys: vec![Arc::default()], values: vec![Arc::default()] };
        Self { model, layers: (0..model.spec().layers).map(|_| empty()).collect(), length: 0 }
    }

    /// Adds tokens and gives the logits of the one that follows them, `[vocabulary]`. One token at a time or all at
    /// once: the bits are the same.
    ///
    /// # Panics
    /// No token is given, or there are more in all than the model has positions.
    pub fn push(&mut self, tokens: &[u32]) -> Vec<f32> {
        let (model, width) = (self.model, self.model.spec().width);
        assert!(!tokens.is_empty(), "a token to go on from");
        let mut x = model.embed_from(&[tokens], self.length);
        let rows = Rows::after([(self.length, tokens.len())]);
        for (layer, past) in self.layers.iter_mut().enumerate() {
            let (middle, tape) = model.attention_half(layer, &x, &rows, past, &[tokens.len()], false);
            let heads = model.heads(layer);
            for at in tape.fused.chunks(heads.fused()) {
                Arc::make_mut(&mut past.keys[0]).extend_from_slice(&at[heads.keys()]);
                Arc::make_mut(&mut past.values[0]).extend_from_slice(&at[heads.values()]);
            }
            let (key, _) = model.mlp_key(layer, &middle, false);
            x = model.mlp_onto(layer, &key, &middle);
        }
        self.length += tokens.len();
        model.head(&x[x.len() - width..])
    }

    /// How many tokens were added.
    pub fn length(&self) -> usize {
        self.length
    }
}
