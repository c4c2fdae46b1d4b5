//! The part of a model from one MLP's second matrix on, for rows all of whose positions change with it.
//!
//! A changed matrix acts at every position. What lies below it is computed once: the keys that it takes, and what its
//! output is added to. Everything above is computed anew for every change, and gives back the gradient by the outputs
//! of the MLPs, which with the keys is all that the gradient by a matrix needs.

use super::decoder::{BlockTape, Model, Past};
use super::rows::Rows;
use crate::numeric::elementwise::zip;
use crate::numeric::rows::{Normalised, add};

/// Rows, up to the key of one layer.
pub struct Upper {
    layer: usize,
    rows: Rows,
    tails: Vec<usize>,
    /// The keys of every position, `[positions, f]`.
    keys: Vec<f32>,
    /// What the layer's output is added to, `[positions, d]`.
    below: Vec<f32>,
}

/// One pass, as its reverse needs it.
pub struct Passed {
    /// Logits of the labelled positions, row after row, `[Σ tails, vocabulary]`.
    pub logits: Vec<f32>,
    blocks: Vec<BlockTape>,
    norm: Normalised,
}

/// The keys that one layer's matrix took, and the gradient by what it gave, a row a position.
pub struct Slopes<'a> {
    /// The layer.
    pub layer: usize,
    /// `[positions, f]`.
    pub keys: &'a [f32],
    /// `[positions, d]`.
    pub gradient: &'a [f32],
}

impl Upper {
    /// Runs rows up to the key of `layer`; the last `tails[row]` positions of each are those whose logits are wanted.
    pub fn new(model: &Model, layer: usize, tokens: &[&[u32]], tails: &[usize]) -> Self {
        let rows = Rows::new(tokens.iter().map(|row| row.len()));
        let x = model.hidden(tokens, layer);
        let (middle, _) = model.attention_half(layer, &x, &rows, &Past::default(), rows.lengths(), false);
        let keys = model.mlp_key(layer, &middle, false).0;
        Self { layer, tails: tails.to_vec(), keys, below: middle.sum, rows }
    }

    /// Positions of all rows.
    pub fn positions(&self) -> usize {
        self.rows.positions()
    }

    /// Runs the rows through `model` from the layer's second matrix on.
    pub fn pass(&self, model: &Model) -> Passed {
        let width = model.spec().width;
        let (x, blocks) = self.through(model);
        let (norm, normed) = model.norm(&x, width, &model.checkpoint().final_norm);
        Passed { logits: model.unembed(&normed), blocks, norm }
    }

    /// The states behind the last layer of `model` at the labelled positions, `[Σ tails, d]`.
    pub fn last(&self, model: &Model) -> Vec<f32> {
        self.through(model).0
    }

    fn through(&self, model: &Model) -> (Vec<f32>, Vec<BlockTape>) {
        let mut x = model.mlp_value(self.layer, &self.keys);
        add(&mut x, &self.below);
        let mut blocks = Vec::new();
        for layer in self.layer + 1..model.spec().layers {
            let (after, tape) =
                model.block_taped(layer, &x, &self.rows, &Past::default(), &self.tails_of(model, layer));
            x = after;
            blocks.push(tape);
        }
        if blocks.is_empty() {
            x = Rows::gather(&x, model.spec().width, &self.rows.tail_positions(&self.tails));
        }
        (x, blocks)
    }

    /// Goes back from the gradient by the logits; `seen` is given the slopes of every layer, the last first, down to the
    /// layer itself.
    pub fn reverse(&self, model: &Model, passed: &Passed, logits: &[f32], mut seen: impl FnMut(Slopes<'_>)) {
        let width = model.spec().width;
        let mut gradient = model.unembed_reverse(logits);
        model.norm_reverse(&mut gradient, width, &model.checkpoint().final_norm, &passed.norm);
        for (index, tape) in passed.blocks.iter().enumerate().rev() {
            let layer = self.layer + 1 + index;
            seen(Slopes { layer, keys: &keys_of(model, tape), gradient: &gradient });
            let tails = self.tails_of(model, layer);
            gradient = model.block_reverse(layer, tape, &self.rows, &Past::default(), &tails, gradient);
        }
        if passed.blocks.is_empty() {
            let mut all = vec![0.0; self.rows.positions() * width];
            for (tail, position) in self.rows.tail_positions(&self.tails).into_iter().enumerate() {
                all[position * width..][..width].copy_from_slice(&gradient[tail * width..][..width]);
            }
            gradient = all;
        }
        seen(Slopes { layer: self.layer, keys: &self.keys, gradient: &gradient });
    }

    /// The last block is asked only for the labelled positions.
    fn tails_of(&self, model: &Model, layer: usize) -> Vec<usize> {
        if layer + 1 == model.spec().layers { self.tails.clone() } else { self.rows.lengths().to_vec() }
    }
}

/// The keys of a block, from its tape.
fn keys_of(model: &Model, tape: &BlockTape) -> Vec<f32> {
    let mut keys = tape.mlp.before.clone();
    model.spec().activation.apply(model.isa(), &mut keys);
    if let Some(factor) = &tape.mlp.factor {
        zip(model.isa(), &mut keys, factor, |x, factor| x * factor);
    }
    keys
}
