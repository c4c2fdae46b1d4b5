//! The part of a model above one layer, for rows of which only the end changes.
//!
//! Value optimisation evaluates the same rows again and again while one hidden state in each of them moves. Most
//! of the work is the same every time, and is done once here:
//!
//! - all that lies below the edited layer, and that layer itself, is constant;
//! - positions before the moving one are constant in the layers above too (attention is causal): their keys and
//!   values are cached;
//! - behind the last block only the positions that carry a label are needed, so the last block, the final norm
//!   and the output matrix see only these.
//!
//! None of it changes a bit of the result: every output is the same reduction in the same order.

use std::sync::Arc;

use super::decoder::{BlockTape, Hooked, Model, Past};
use super::halves::cut;
use super::rows::Rows;
use crate::numeric::attention::Heads;
use crate::numeric::rows::{Normalised, add};

/// The layers above the edited one, prepared for a set of rows.
pub struct Above<'a> {
    model: &'a Model,
    first_layer: usize,
    rows: Rows,
    tails: Vec<usize>,
    /// Per layer above, what stands before the moving position.
    past: Vec<Past>,
    /// Hidden states behind the edited layer from the moving position on, `[positions, d]`.
    start: Vec<f32>,
}

/// One evaluation, as its reverse needs it.
pub struct Evaluation {
    /// Logits of the labelled positions, row after row, `[Σ tails, vocabulary]`.
    pub logits: Vec<f32>,
    blocks: Vec<BlockTape>,
    norm: Normalised,
}

impl<'a> Above<'a> {
    /// Prepares the rows seen by `hooked` at `layer`. The hidden state at `moving[row]` will change; the last
    /// `tails[row]` positions carry labels and stand at or behind it.
    pub fn new(model: &'a Model, layer: usize, hooked: &Hooked, moving: &[usize], tails: &[usize]) -> Self {
        let width = model.spec().width;
        let all = &hooked.rows;
        let rows = Rows::after(moving.iter().enumerate().map(|(row, &moving)| (moving, all.length(row) - moving)));
        let positions = |row: usize, from: usize, to: usize| all.range(row).start + from..all.range(row).start + to;
        let cut = |from: &dyn Fn(usize) -> std::ops::Range<usize>| -> Vec<f32> {
            let at: Vec<usize> = (0..all.count()).flat_map(from).collect();
            Rows::gather(&hooked.after, width, &at)
        };
        let start = cut(&|row| positions(row, moving[row], all.length(row)));
        let before = cut(&|row| positions(row, 0, moving[row]));
        let past = cache(model, layer + 1, before, moving);
        Self { model, first_layer: layer + 1, rows, tails: tails.to_vec(), past, start }
    }

    /// Several of one model and layer as one: its rows are theirs, one after the other. What they keep is shared.
    ///
    /// # Panics
    /// If there is none to join.
    pub fn joined<'o>(all: impl Iterator<Item = &'o Self>) -> Self
    where
        'a: 'o,
    {
        let all: Vec<&Self> = all.collect();
        let first = all.first().expect("something to join");
        let row = |one: &'o Self| (0..one.rows.count()).map(|row| (one.rows.past(row), one.rows.length(row)));
        let past = |layer: usize| Past {
            keys: all.iter().flat_map(|one| &one.past[layer].keys).cloned().collect(),
            values: all.iter().flat_map(|one| &one.past[layer].values).cloned().collect(),
        };
        Self {
            model: first.model,
            first_layer: first.first_layer,
            rows: Rows::after(all.iter().flat_map(|one| row(one))),
            tails: all.iter().flat_map(|one| &one.tails).copied().collect(),
            past: (0..first.past.len()).map(past).collect(),
            start: all.iter().flat_map(|one| &one.start).copied().collect(),
        }
    }

    /// Positions of all rows that are evaluated.
    pub fn positions(&self) -> usize {
        self.rows.positions()
    }

    /// Numbers that it keeps and that an evaluation keeps for its reverse, about.
    pub fn numbers(&self) -> usize {
        let spec = self.model.spec();
        let past = |past: &Past| past.keys.iter().chain(&past.values).map(|part| part.len()).sum::<usize>();
        // Norms, queries, keys and values, and both sides of the activation.
        let tape = self.positions() * self.past.len() * (8 * spec.width + 2 * spec.inner);
        // Logits, and their gradient.
        let logits = 2 * self.tails.iter().sum::<usize>() * spec.vocabulary;
        tape + logits + self.past.iter().map(past).sum::<usize>()
    }

    /// Logits with `change` (`[d]`) added to every row's moving hidden state.
    pub fn evaluate(&self, change: &[f32]) -> Evaluation {
        self.evaluate_each(&vec![change; self.rows.count()])
    }

    /// The same with a change of its own for every row.
    pub fn evaluate_each(&self, changes: &[&[f32]]) -> Evaluation {
        let spec = self.model.spec();
        let mut x = self.start.clone();
        for (row, change) in changes.iter().enumerate() {
            add(&mut x[self.rows.range(row).start * spec.width..][..spec.width], change);
        }
        let mut blocks = Vec::with_capacity(self.past.len());
        for (index, past) in self.past.iter().enumerate() {
            let layer = self.first_layer + index;
            let tails = self.tails_of(layer);
            let (after, tape) = self.model.block_taped(layer, &x, &self.rows, past, &tails);
            x = after;
            blocks.push(tape);
        }
        if blocks.is_empty() {
            x = Rows::gather(&x, spec.width, &self.rows.tail_positions(&self.tails));
        }
        let (norm, normed) = self.model.norm(&x, spec.width, &self.model.checkpoint().final_norm);
        Evaluation { logits: self.model.unembed(&normed), blocks, norm }
    }

    /// The gradient by the change of every row, `[d]` each.
    pub fn reverse_each(&self, evaluation: &Evaluation, logits: &[f32]) -> Vec<Vec<f32>> {
        let (model, width) = (self.model, self.model.spec().width);
        let mut gradient = model.unembed_reverse(logits);
        model.norm_reverse(&mut gradient, width, &model.checkpoint().final_norm, &evaluation.norm);
        for (index, tape) in evaluation.blocks.iter().enumerate().rev() {
            let layer = self.first_layer + index;
            let tails = self.tails_of(layer);
            gradient = model.block_reverse(layer, tape, &self.rows, &self.past[index], &tails, gradient);
        }
        if evaluation.blocks.is_empty() {
            gradient = self.scatter(&gradient);
        }
        let row = |row: usize| gradient[self.rows.range(row).start * width..][..width].to_vec();
        (0..self.rows.count()).map(row).collect()
    }

    /// Every position is needed up to the last block, which is asked only for the labelled ones.
    fn tails_of(&self, layer: usize) -> Vec<usize> {
        if layer + 1 == self.model.spec().layers { self.tails.clone() } else { self.rows.lengths().to_vec() }
    }

    /// Tails back to their places among all positions (used when nothing lies above the edited layer).
    fn scatter(&self, tails: &[f32]) -> Vec<f32> {
        let width = self.model.spec().width;
        let mut out = vec![0.0; self.rows.positions() * width];
        for (tail, position) in self.rows.tail_positions(&self.tails).into_iter().enumerate() {
            out[position * width..][..width].copy_from_slice(&tails[tail * width..][..width]);
        }
        out
    }
}

/// Runs the constant positions (`before`, the first `lengths[row]` of every row) through the layers from `first`
/// on and keeps their keys and values. Of the last layer no more than these is needed.
fn cache(model: &Model, first: usize, mut before: Vec<f32>, lengths: &[usize]) -> Vec<Past> {
    let spec = model.spec();
    let rows = Rows::new(lengths.iter().copied());
    let mut out = Vec::new();
    for layer in first..spec.layers {
        let last = layer + 1 == spec.layers;
        let tails = if last { vec![0; lengths.len()] } else { lengths.to_vec() };
        let (middle, tape) = model.attention_half(layer, &before, &rows, &Past::default(), &tails, false);
        out.push(split(&tape.fused, &rows, model.heads(layer)));
        if !last {
            let (key, _) = model.mlp_key(layer, &middle, false);
            before = model.mlp_value(layer, &key);
            add(&mut before, &middle.sum);
        }
    }
    out
}

fn split(fused: &[f32], rows: &Rows, heads: Heads) -> Past {
    let part = |row: usize, part| {
        let positions = rows.range(row);
        cut(&fused[positions.start * heads.fused()..positions.end * heads.fused()], heads, part)
    };
    Past {
        keys: (0..rows.count()).map(|row| Arc::new(part(row, heads.keys()))).collect(),
        values: (0..rows.count()).map(|row| Arc::new(part(row, heads.values()))).collect(),
    }
}
