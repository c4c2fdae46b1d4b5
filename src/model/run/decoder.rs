//! Runs the forward pass, block by block, with a hook at the MLP of one layer.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::block::{AttentionTape, MlpTape};
use super::prefix_cache::{CachedPrefixes, PrefixCache};
use super::rows::Rows;
use crate::model::load::checkpoint::Checkpoint;
use crate::model::load::tensor::Tensor;
use crate::model::{ModelError, Spec};
use crate::numeric::rows::{add, each_row};
use crate::numeric::{Isa, View, matmul};

/// A checkpoint, with the instruction set to compute with. Cloning is cheap: the weights are shared.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) checkpoint: Checkpoint,
    isa: Isa,
}

/// The KV cache of one layer: keys and values of the positions before each row, `[past, kv_heads · head_width]` per
/// row. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    /// Keys, one matrix per row.
    pub keys: Vec<Arc<Vec<f32>>>,
    /// Values, one matrix per row.
    pub values: Vec<Arc<Vec<f32>>>,
}

/// The tape of one block: the intermediate results that its reverse pass needs.
pub(crate) struct BlockTape {
    pub attention: AttentionTape,
    pub mlp: MlpTape,
}

/// The key and value that the hook records at the MLP of one layer, and the hidden states after that block.
pub struct HookOutput {
    /// Layout of the rows in `after`, without their cached prefixes.
    pub rows: Rows,
    /// The cached prefixes of the rows.
    pub prefixes: CachedPrefixes,
    /// Per row, the key at the requested position: the input of the MLP down-projection, `[f]`.
    pub keys: Vec<Vec<f32>>,
    /// Per row, the value at that position: the output of the down-projection, bias included, `[d]`.
    pub values: Vec<Vec<f32>>,
    /// Hidden states after the block, `[positions, d]`.
    pub resid_post: Vec<f32>,
}

impl HookOutput {
    /// Returns the hidden state of a row after the block, `[d]`. `position` counts from the start of the text and must
    /// not be in the cached prefix.
    pub fn state(&self, row: usize, position: usize) -> &[f32] {
        let width = self.resid_post.len() / self.rows.positions();
        &self.resid_post[(self.rows.range(row).start + position - self.rows.cached(row)) * width..][..width]
    }
}

/// Maximum number of positions per batch when texts are scored. It bounds memory and does not affect results.
const BATCH: usize = 2048;

/// Maximum number of positions per batch when keys are computed. It is small, so that activations stay in the CPU
/// cache.
const KEYS_BATCH: usize = 512;

impl Model {
    /// Opens the checkpoint in `folder`, to be run with the instruction set `isa`.
    ///
    /// # Errors
    /// See [`Checkpoint::open`].
    pub fn open(folder: &Path, isa: Isa) -> Result<Self, ModelError> {
        Ok(Self { checkpoint: Checkpoint::open(folder)?, isa })
    }

    /// The checkpoint that contains the model's weights.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The model's dimensions and options, from config.json.
    pub fn spec(&self) -> &Spec {
        self.checkpoint.spec()
    }

    /// The instruction set that the model computes with.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Returns a copy of the model in which `data`, oriented as in the file, replaces the weight of `layer`'s MLP
    /// down-projection.
    pub fn with_edited(&self, layer: usize, data: Vec<f32>) -> Self {
        Self { checkpoint: self.checkpoint.with_edited(layer, data), isa: self.isa }
    }

    /// Returns a copy of the model in which `data`, `[d]`, replaces the bias of `layer`'s MLP down-projection. Changes
    /// nothing if the projection has no bias.
    pub fn with_edited_bias(&self, layer: usize, data: Vec<f32>) -> Self {
        Self { checkpoint: self.checkpoint.with_edited_bias(layer, data), isa: self.isa }
    }

    /// Computes the embeddings of all rows, `[positions, d]`: token embeddings, plus position embeddings if the model
    /// has them.
    pub fn embed(&self, tokens: &[&[u32]]) -> Vec<f32> {
        self.embed_from(tokens, 0)
    }

    /// Returns the embedding of one token, `[d]`, without a position embedding.
    pub fn token_embedding(&self, token: u32) -> Vec<f32> {
        self.checkpoint.token_embedding.row(token as usize)
    }

    /// Computes the embeddings of rows whose first token is at position `first` of its text, `[positions, d]`.
    pub(crate) fn embed_from(&self, tokens: &[&[u32]], first: usize) -> Vec<f32> {
        self.embed_with(tokens, first, |_, _, _| {})
    }

    /// Computes the embeddings of rows, `[positions, d]`. Before the position embedding is added, calls `change` with
    /// every token embedding, which it may modify. `change` receives the row, the position in the row, and the
    /// embedding.
    pub fn embed_with(
        &self,
        tokens: &[&[u32]],
        first: usize,
        mut change: impl FnMut(usize, usize, &mut [f32]),
    ) -> Vec<f32> {
        let (embedding, positions) = (&self.checkpoint.token_embedding, &self.checkpoint.position_embedding);
        let mut out = Vec::with_capacity(tokens.iter().map(|row| row.len()).sum::<usize>() * self.spec().hidden_size);
        for (index, row) in tokens.iter().enumerate() {
            for (position, &token) in (first..).zip(*row) {
                let mut state = embedding.row(token as usize);
                change(index, position - first, &mut state);
                if let Some(positions) = positions {
                    add(&mut state, &positions.row(position));
                }
                out.extend(state);
            }
        }
        out
    }

    /// Runs one block for the last `tails[row]` positions of every row. Returns the hidden states and the tape for the
    /// reverse pass.
    pub(crate) fn run_block_taped(
        &self,
        layer: usize,
        x: &[f32],
        rows: &Rows,
        past: &KvCache,
        tails: &[usize],
    ) -> (Vec<f32>, BlockTape) {
        let (middle, attention) = self.run_attention(layer, x, rows, past, tails, true);
        let (key, mlp) = self.mlp_key(layer, &middle, true);
        let out = self.resid_post(layer, &key, &middle);
        (out, BlockTape { attention, mlp: mlp.expect("the tape was asked for") })
    }

    /// Runs one block for the last `tails[row]` positions of every row, without recording a tape.
    fn block(&self, layer: usize, x: &[f32], rows: &Rows, past: &KvCache, tails: &[usize]) -> Vec<f32> {
        let (middle, _) = self.run_attention(layer, x, rows, past, tails, false);
        let (key, _) = self.mlp_key(layer, &middle, false);
        self.resid_post(layer, &key, &middle)
    }

    /// Returns the hidden states of all rows after the first `blocks` blocks (0: the embeddings), `[positions, d]`.
    pub fn hidden_states(&self, tokens: &[&[u32]], blocks: usize) -> Vec<f32> {
        let rows = Rows::new(tokens.iter().map(|row| row.len()));
        let tails = rows.lengths();
        let mut x = self.embed(tokens);
        for layer in 0..blocks {
            x = self.block(layer, &x, &rows, &KvCache::default(), tails);
        }
        x
    }

    /// Returns the keys of every position of every row at `layer`, `[positions, f]`.
    pub fn keys(&self, layer: usize, tokens: &[&[u32]]) -> Vec<f32> {
        let positions: usize = tokens.iter().map(|row| row.len()).sum();
        let mut out = Vec::with_capacity(positions * self.spec().intermediate_size);
        self.keys_at(&[layer], tokens, |_, keys| out.extend(keys));
        out
    }

    /// Computes the keys at several layers, given in ascending order, in one pass over the rows. For every batch of
    /// rows and every layer, calls `seen` with the index of the layer in `layers` and the keys, `[positions of the
    /// batch, f]`. The bits of a layer's keys do not depend on the other layers.
    pub fn keys_at(&self, layers: &[usize], tokens: &[&[u32]], mut seen: impl FnMut(usize, Vec<f32>)) {
        let Some(&last) = layers.last() else { return };
        for part in batches(tokens, KEYS_BATCH) {
            let tokens = &tokens[part];
            let rows = Rows::new(tokens.iter().map(|row| row.len()));
            let (tails, mut x) = (rows.lengths(), self.embed(tokens));
            for layer in 0..=last {
                let (middle, _) = self.run_attention(layer, &x, &rows, &KvCache::default(), tails, false);
                let (key, _) = self.mlp_key(layer, &middle, false);
                if layer < last {
                    x = self.resid_post(layer, &key, &middle);
                }
                if let Ok(index) = layers.binary_search(&layer) {
                    seen(index, key);
                }
            }
        }
    }

    /// Computes `W k + b` (`[d]`) of `layer`'s MLP down-projection for one key, in f64, with the terms added in order.
    /// Linking, which combines the edits of a layer, computes its residuals from it.
    pub fn mlp_output_f64(&self, layer: usize, key: &[f32]) -> Vec<f64> {
        let projection = &self.checkpoint.blocks[layer].mlp_out;
        let weight = self.weight(projection);
        let bias = projection.bias.as_ref().map(Tensor::to_f32);
        let output = |column: usize| {
            let mut total = bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]));
            for (row, k) in key.iter().enumerate() {
                total += f64::from(*k) * f64::from(weight.at(row, column));
            }
            total
        };
        (0..weight.columns()).into_par_iter().map(output).collect()
    }

    /// Runs all rows through `layer` and records the key and the value of its MLP at `positions[row]` of every row.
    pub fn run_hook(&self, layer: usize, tokens: &[&[u32]], positions: &[usize]) -> HookOutput {
        self.run_hook_cached(&PrefixCache::empty(), layer, tokens, positions)
    }

    /// Does the same as [`Model::hooked`], but reads the KV cache of each row's prefix from `openings` if it is cached
    /// there. Only positions before `positions[row]` are read from the cache.
    pub fn run_hook_cached(
        &self,
        openings: &PrefixCache,
        layer: usize,
        tokens: &[&[u32]],
        positions: &[usize],
    ) -> HookOutput {
        let spec = self.spec();
        let opened = openings.lookup(self, tokens, positions);
        let rests = tokens.iter().zip(&opened.lengths).map(|(row, &past)| (past, &row[past..]));
        let rows = Rows::with_cached(rests.clone().map(|(past, rest)| (past, rest.len())));
        let tails = rows.lengths();
        let mut x = Vec::with_capacity(rows.positions() * spec.hidden_size);
        rests.for_each(|(past, rest)| x.extend(self.embed_from(&[rest], past)));
        for below in 0..layer {
            x = self.block(below, &x, &rows, opened.layer(below), tails);
        }
        let (middle, _) = self.run_attention(layer, &x, &rows, opened.layer(layer), tails, false);
        let (key, _) = self.mlp_key(layer, &middle, false);
        let mut after = self.mlp_value(layer, &key);
        let pick = |matrix: &[f32], width: usize| -> Vec<Vec<f32>> {
            let at = |(row, &position): (usize, &usize)| rows.range(row).start + position - rows.cached(row);
            positions.iter().enumerate().map(at).map(|at| matrix[at * width..][..width].to_vec()).collect()
        };
        let (keys, values) = (pick(&key, spec.intermediate_size), pick(&after, spec.hidden_size));
        add(&mut after, &middle.resid);
        HookOutput { rows, prefixes: opened, keys, values, resid_post: after }
    }

    /// Applies the final norm and the output matrix: returns logits `[positions, vocabulary]` of hidden states after
    /// the last block.
    pub fn lm_head(&self, x: &[f32]) -> Vec<f32> {
        let (_, normed) = self.norm(x, self.spec().hidden_size, &self.checkpoint.final_norm);
        self.unembed(&normed)
    }

    pub(crate) fn unembed(&self, normed: &[f32]) -> Vec<f32> {
        let (spec, head) = (self.spec(), &self.checkpoint.head);
        let normed = View::new(normed, normed.len() / spec.hidden_size, spec.hidden_size);
        let mut logits = matmul(self.isa, normed, head.weight.view().transposed());
        if let Some(bias) = &head.bias {
            let bias = bias.to_f32();
            each_row(&mut logits, spec.vocabulary, |_, row| add(row, &bias));
        }
        logits
    }

    /// Returns the logits of the last `tails[row]` positions of every row, one `[tail, vocabulary]` matrix per row.
    pub fn logits(&self, tokens: &[&[u32]], tails: &[usize]) -> Vec<Vec<f32>> {
        let mut out = Vec::with_capacity(tokens.len());
        for part in batches(tokens, BATCH) {
            self.logits_of_batch(&tokens[part.clone()], &tails[part], &mut out);
        }
        out
    }

    fn logits_of_batch(&self, tokens: &[&[u32]], tails: &[usize], out: &mut Vec<Vec<f32>>) {
        let vocabulary = self.spec().vocabulary;
        let logits = self.lm_head(&self.last_of_batch(tokens, tails));
        let mut first = 0;
        for &tail in tails {
            out.push(logits[first * vocabulary..][..tail * vocabulary].to_vec());
            first += tail;
        }
    }

    /// Returns the hidden states after the last block at the last `tails[row]` positions of every row, `[Σ tails, d]`.
    /// [`Model::head`] computes from them the logits of [`Model::logits`], bit for bit.
    pub fn last_states(&self, tokens: &[&[u32]], tails: &[usize]) -> Vec<f32> {
        let of_batch = |part: Range<usize>| self.last_of_batch(&tokens[part.clone()], &tails[part]);
        batches(tokens, BATCH).into_iter().flat_map(of_batch).collect()
    }

    fn last_of_batch(&self, tokens: &[&[u32]], tails: &[usize]) -> Vec<f32> {
        let rows = Rows::new(tokens.iter().map(|row| row.len()));
        let last = self.spec().layers - 1;
        // The last block computes only the requested positions.
        let before = self.hidden_states(tokens, last);
        self.block(last, &before, &rows, &KvCache::default(), tails)
    }
}

/// Splits the rows, in order, into ranges of at most `most` positions together. A row that is longer than `most` gets a
/// range of its own.
fn batches(tokens: &[&[u32]], most: usize) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut positions = 0;
    for (index, row) in tokens.iter().enumerate() {
        positions += row.len();
        match out.last_mut() {
            Some(last) if positions <= most => last.end = index + 1,
            _ => {
                out.push(index..index + 1);
                positions = row.len();
            }
        }
    }
    out
}
