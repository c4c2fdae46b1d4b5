//! How texts begin that begin alike: computed once, for all that go on from there.
//!
//! Every edit's prompt stands under the same context templates, and a good part of the positions of a row are what a
//! template puts before it. Attention is causal: what stands there is the same whatever follows.

use std::ops::Range;
use std::sync::Arc;

use super::decoder::{Model, Past};
use super::halves::cut;
use super::rows::Rows;
use crate::numeric::attention::Heads;

/// Beginnings of rows, and what attention needs of them in every layer.
#[derive(Clone, Debug, Default)]
pub struct Openings {
    tokens: Vec<Vec<u32>>,
    layers: Vec<Past>,
}

/// As much of the openings as some rows begin with.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// Positions of every row that stand in its opening.
    pub lengths: Vec<usize>,
    /// Their keys and values, per layer.
    layers: Vec<Past>,
}

/// What it is where nothing was computed before.
static NOTHING: Past = Past { keys: Vec::new(), values: Vec::new() };

impl Openings {
    /// None: every row is computed from its first token on.
    pub fn none() -> Self {
        Self::default()
    }

    /// Runs the beginnings of rows through the first `layers` layers of the model that they are for; those of some rows may
    /// be empty.
    ///
    /// # Panics
    /// If there is no layer.
    pub fn new(model: &Model, layers: usize, tokens: Vec<Vec<u32>>) -> Self {
        assert!(layers > 0, "a layer to keep keys and values of");
        let rows = Rows::new(tokens.iter().map(Vec::len));
        if rows.positions() == 0 {
            return Self::none();
        }
        let x = model.embed(&tokens.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let layers = kept(model, 0..layers, x, &rows, &Opened::default());
        Self { tokens, layers }
    }

    /// What of it `rows` begin with, `most[row]` positions of each at most.
    pub fn of(&self, model: &Model, rows: &[&[u32]], most: &[usize]) -> Opened {
        let shared = |(index, row): (usize, &&[u32])| {
            self.tokens.get(index).map_or(0, |opening| alike(opening, row).min(most[index]))
        };
        let lengths: Vec<usize> = rows.iter().enumerate().map(shared).collect();
        let width = model.heads(0).shared();
        let part = |(all, &length): (&Arc<Vec<f32>>, &usize)| match all.len() == length * width {
            true => Arc::clone(all),
            false => Arc::new(all[..length * width].to_vec()),
        };
        let parts = |all: &[Arc<Vec<f32>>]| all.iter().zip(&lengths).map(part).collect();
        let layers = self.layers.iter().map(|past| Past { keys: parts(&past.keys), values: parts(&past.values) });
        Opened { layers: layers.collect(), lengths }
    }
}

impl Opened {
    /// Keys and values of one layer.
    ///
    /// # Panics
    /// If the openings were run through fewer layers.
    pub fn layer(&self, layer: usize) -> &Past {
        if self.layers.is_empty() { &NOTHING } else { &self.layers[layer] }
    }
}

/// How many tokens both begin with.
pub fn alike(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// Runs positions that will not change, `x` (`[positions, d]`), through some layers, and gives the keys and values of
/// every row so far, what it was opened with included. Of the last layer no more than these is needed.
pub(super) fn kept(model: &Model, layers: Range<usize>, mut x: Vec<f32>, rows: &Rows, opened: &Opened) -> Vec<Past> {
    let mut out = Vec::with_capacity(layers.len());
    for layer in layers.clone() {
        let last = layer + 1 == layers.end;
        let tails = if last { vec![0; rows.count()] } else { rows.lengths().to_vec() };
        let past = opened.layer(layer);
        let (middle, tape) = model.attention_half(layer, &x, rows, past, &tails, false);
        out.push(behind(past, &tape.fused, rows, model.heads(layer)));
        if !last {
            let (key, _) = model.mlp_key(layer, &middle, false);
            x = model.mlp_onto(layer, &key, &middle);
        }
    }
    out
}

/// The keys and values of a matrix of queries, keys and values, row by row behind what came before.
fn behind(past: &Past, fused: &[f32], rows: &Rows, heads: Heads) -> Past {
    let part = |before: &[Arc<Vec<f32>>], row: usize, part: Range<usize>| {
        let positions = rows.range(row);
        let own = cut(&fused[positions.start * heads.fused()..positions.end * heads.fused()], heads, part);
        match before.get(row).filter(|before| !before.is_empty()) {
            None => Arc::new(own),
            Some(before) => Arc::new([before.as_slice(), &own].concat()),
        }
    };
    Past {
        keys: (0..rows.count()).map(|row| part(&past.keys, row, heads.keys())).collect(),
        values: (0..rows.count()).map(|row| part(&past.values, row, heads.values())).collect(),
    }
}
