//! The forward pass: block by block, with the hook at one MLP.

use std::path::Path;

use super::checkpoint::{Checkpoint, Tensor};
use super::rows::Rows;
use super::{ModelError, Spec};
use crate::numeric::attention::{Heads, Row, attend};
use crate::numeric::elementary::gelu;
use crate::numeric::rows::{Normalised, add, each_row, layer_norm};
use crate::numeric::{Isa, View, matmul};
use crate::patch::Layout;

/// A checkpoint and the instructions to compute with. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Model {
    pub(super) checkpoint: Checkpoint,
    isa: Isa,
}

/// Keys and values of positions that come before a row, per row `[past, d]`, for one layer.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Keys per row.
    pub keys: Vec<Vec<f32>>,
    /// Values per row.
    pub values: Vec<Vec<f32>>,
}

/// What the reverse pass needs of one attention half.
pub(super) struct AttentionTape {
    pub norm: Normalised,
    pub fused: Vec<f32>,
    pub probabilities: Vec<Vec<f32>>,
}

/// What the reverse pass needs of one MLP half.
pub(super) struct MlpTape {
    pub norm: Normalised,
    /// Input of the activation, `[positions, f]`.
    pub before: Vec<f32>,
}

/// What the hook saw at one MLP, and the hidden states behind that block.
pub struct Hooked {
    /// Where the rows stand in `after`.
    pub rows: Rows,
    /// Per row, the key at the asked position: the input of the second MLP matrix, `[f]`.
    pub keys: Vec<Vec<f32>>,
    /// Per row, the value there: the output of that matrix with its bias, `[d]`.
    pub values: Vec<Vec<f32>>,
    /// Hidden states behind the block, `[positions, d]`.
    pub after: Vec<f32>,
}

/// Texts are scored this many positions at a time, which bounds memory and changes nothing.
const BATCH: usize = 2048;

impl Model {
    /// Opens the checkpoint in `folder`.
    ///
    /// # Errors
    /// See [`Checkpoint::open`].
    pub fn open(folder: &Path, isa: Isa) -> Result<Self, ModelError> {
        Ok(Self { checkpoint: Checkpoint::open(folder)?, isa })
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The shape of the model.
    pub fn spec(&self) -> &Spec {
        self.checkpoint.spec()
    }

    /// The instructions that it computes with.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The model with another weight in `layer`'s second MLP matrix, `data` oriented as in the file.
    pub fn with_edited(&self, layer: usize, data: Vec<f32>) -> Self {
        Self { checkpoint: self.checkpoint.with_edited(layer, data), isa: self.isa }
    }

    pub(super) fn heads(&self, layer: usize) -> Heads {
        let spec = self.spec();
        Heads { count: spec.heads, width: spec.width, scale: spec.attention_scale(layer) }
    }

    /// A projection's weight as the matrix `[inputs, outputs]`, whatever its orientation in the file.
    pub(super) fn weight<'a>(&self, weight: &'a Tensor) -> View<'a> {
        let view = View::new(weight.data(), weight.shape[0], weight.shape[1]);
        match self.spec().family.layout {
            Layout::Conv1d => view,
            Layout::Linear => view.transposed(),
        }
    }

    /// `x W + b` for every row of `x`.
    pub(super) fn project(&self, x: &[f32], [weight, bias]: &[Tensor; 2]) -> Vec<f32> {
        let weight = self.weight(weight);
        let x = View::new(x, x.len() / weight.rows(), weight.rows());
        let mut out = matmul(self.isa, x, weight);
        each_row(&mut out, weight.columns(), |_, row| add(row, bias.data()));
        out
    }

    /// Token and position embeddings of all rows, `[positions, d]`.
    pub fn embed(&self, tokens: &[&[u32]]) -> Vec<f32> {
        self.embed_from(tokens, 0)
    }

    /// The same of rows whose first token stands at position `first`.
    pub(super) fn embed_from(&self, tokens: &[&[u32]], first: usize) -> Vec<f32> {
        let width = self.spec().width;
        let (wte, wpe) = (self.checkpoint.token_embedding.data(), self.checkpoint.position_embedding.data());
        let mut out = Vec::with_capacity(tokens.iter().map(|row| row.len()).sum::<usize>() * width);
        for row in tokens {
            for (position, &token) in (first..).zip(*row) {
                let embedding = &wte[token as usize * width..][..width];
                out.extend(embedding.iter().zip(&wpe[position * width..]).map(|(token, position)| token + position));
            }
        }
        out
    }

    /// `x + attention(norm(x))` for the last `tails` positions of every row.
    pub(super) fn attention_half(
        &self,
        layer: usize,
        x: &[f32],
        rows: &Rows,
        past: &Past,
        tails: &[usize],
        keep: bool,
    ) -> (Vec<f32>, AttentionTape) {
        let (spec, block) = (self.spec(), &self.checkpoint.blocks[layer]);
        let [gain, bias] = &block.attention_norm;
        let (norm, normed) = layer_norm(x, spec.width, gain.data(), bias.data(), spec.epsilon);
        let fused = self.project(&normed, &block.attention_in);
        let offered = offered(rows, past, &fused, tails, spec.width);
        let (attended, probabilities) = attend(self.heads(layer), &offered, keep);
        let mut out = self.project(&attended, &block.attention_out);
        let tail = Rows::gather(x, spec.width, &rows.tail_positions(tails));
        add(&mut out, &tail);
        (out, AttentionTape { norm, fused, probabilities })
    }

    /// The MLP up to the key: `activation(norm(x) W_in + b)`, `[positions, f]`.
    pub(super) fn mlp_key(&self, layer: usize, x: &[f32], keep: bool) -> (Vec<f32>, Option<MlpTape>) {
        let (spec, block) = (self.spec(), &self.checkpoint.blocks[layer]);
        let [gain, bias] = &block.mlp_norm;
        let (norm, normed) = layer_norm(x, spec.width, gain.data(), bias.data(), spec.epsilon);
        let mut key = self.project(&normed, &block.mlp_in);
        let tape = keep.then(|| MlpTape { norm, before: key.clone() });
        each_row(&mut key, spec.inner, |_, row| row.iter_mut().for_each(|x| *x = gelu(*x)));
        (key, tape)
    }

    /// The MLP from the key on: the value, bias included.
    pub(super) fn mlp_value(&self, layer: usize, key: &[f32]) -> Vec<f32> {
        self.project(key, &self.checkpoint.blocks[layer].mlp_out)
    }

    /// One whole block over all positions.
    fn block(&self, layer: usize, x: &[f32], rows: &Rows, tails: &[usize]) -> Vec<f32> {
        let (middle, _) = self.attention_half(layer, x, rows, &Past::default(), tails, false);
        let (key, _) = self.mlp_key(layer, &middle, false);
        let mut out = self.mlp_value(layer, &key);
        add(&mut out, &middle);
        out
    }

    /// Hidden states of all rows behind the first `blocks` blocks (0: the embeddings), `[positions, d]`.
    pub fn hidden(&self, tokens: &[&[u32]], blocks: usize) -> Vec<f32> {
        let rows = Rows::new(tokens.iter().map(|row| row.len()));
        let tails = rows.lengths();
        let mut x = self.embed(tokens);
        for layer in 0..blocks {
            x = self.block(layer, &x, &rows, tails);
        }
        x
    }

    /// Keys of every position of every row at `layer`, `[positions, f]`.
    pub fn keys(&self, layer: usize, tokens: &[&[u32]]) -> Vec<f32> {
        let rows = Rows::new(tokens.iter().map(|row| row.len()));
        let tails = rows.lengths();
        let x = self.hidden(tokens, layer);
        let (middle, _) = self.attention_half(layer, &x, &rows, &Past::default(), tails, false);
        self.mlp_key(layer, &middle, false).0
    }

    /// `W k + b` (`[d]`) of `layer`'s second MLP matrix for one key, in f64, terms added in their order: what the
    /// link takes residuals from.
    pub fn edited_output(&self, layer: usize, key: &[f32]) -> Vec<f64> {
        let (weight, bias) = self.checkpoint.edited(layer);
        let weight = self.weight(weight);
        let output = |column: usize| {
            let mut total = f64::from(bias.data()[column]);
            for (row, k) in key.iter().enumerate() {
                total += f64::from(*k) * f64::from(weight.at(row, column));
            }
            total
        };
        (0..weight.columns()).map(output).collect()
    }

    /// Runs all rows through `layer` and looks at its MLP: per row at `positions[row]`.
    pub fn hooked(&self, layer: usize, tokens: &[&[u32]], positions: &[usize]) -> Hooked {
        let spec = self.spec();
        let rows = Rows::new(tokens.iter().map(|row| row.len()));
        let tails = rows.lengths();
        let x = self.hidden(tokens, layer);
        let (middle, _) = self.attention_half(layer, &x, &rows, &Past::default(), tails, false);
        let (key, _) = self.mlp_key(layer, &middle, false);
        let mut after = self.mlp_value(layer, &key);
        let pick = |matrix: &[f32], width: usize| -> Vec<Vec<f32>> {
            let at = |(row, &position): (usize, &usize)| rows.range(row).start + position;
            positions.iter().enumerate().map(at).map(|at| matrix[at * width..][..width].to_vec()).collect()
        };
        let (keys, values) = (pick(&key, spec.inner), pick(&after, spec.width));
        add(&mut after, &middle);
        Hooked { rows, keys, values, after }
    }

    /// Final norm and output matrix: logits `[positions, vocabulary]` from hidden states behind the last block.
    pub fn head(&self, x: &[f32]) -> Vec<f32> {
        let spec = self.spec();
        let [gain, bias] = &self.checkpoint.final_norm;
        let (_, normed) = layer_norm(x, spec.width, gain.data(), bias.data(), spec.epsilon);
        self.unembed(&normed)
    }

    pub(super) fn unembed(&self, normed: &[f32]) -> Vec<f32> {
        let spec = self.spec();
        let head = View::new(self.checkpoint.head.data(), spec.vocabulary, spec.width);
        matmul(self.isa, View::new(normed, normed.len() / spec.width, spec.width), head.transposed())
    }

    /// Logits of the last `tails[row]` positions of every row, one `[tail, vocabulary]` matrix per row.
    pub fn logits(&self, tokens: &[&[u32]], tails: &[usize]) -> Vec<Vec<f32>> {
        let mut out = Vec::with_capacity(tokens.len());
        let mut first = 0;
        while first < tokens.len() {
            let mut last = first + 1;
            let mut positions = tokens[first].len();
            while last < tokens.len() && positions + tokens[last].len() <= BATCH {
                positions += tokens[last].len();
                last += 1;
            }
            self.logits_of_batch(&tokens[first..last], &tails[first..last], &mut out);
            first = last;
        }
        out
    }

    fn logits_of_batch(&self, tokens: &[&[u32]], tails: &[usize], out: &mut Vec<Vec<f32>>) {
        let spec = self.spec();
        let rows = Rows::new(tokens.iter().map(|row| row.len()));
        // The last block is asked only for the positions that are wanted.
        let before = self.hidden(tokens, spec.layers - 1);
        let x = self.block(spec.layers - 1, &before, &rows, tails);
        let logits = self.head(&x);
        let mut first = 0;
        for &tail in tails {
            out.push(logits[first * spec.vocabulary..][..tail * spec.vocabulary].to_vec());
            first += tail;
        }
    }
}

/// What every row offers to attention: its past, if there is one, and itself.
pub(super) fn offered<'a>(
    rows: &Rows,
    past: &'a Past,
    fused: &'a [f32],
    tails: &[usize],
    width: usize,
) -> Vec<Row<'a>> {
    let row = |row: usize| {
        let range = rows.range(row);
        Row {
            past_keys: past.keys.get(row).map_or(&[], Vec::as_slice),
            past_values: past.values.get(row).map_or(&[], Vec::as_slice),
            fused: &fused[range.start * 3 * width..range.end * 3 * width],
            tail: tails[row],
        }
    };
    (0..rows.count()).map(row).collect()
}
