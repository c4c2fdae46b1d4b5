//! Runs the forward pass over batches of whole token sequences, block by block.

use std::ops::Range;

use rayon::prelude::*;

use super::block::BlockInput;
use super::kv_cache::EMPTY;
use super::model::Model;
use super::rows::Rows;
use crate::model::load::tensor::Tensor;

/// Maximum number of token positions per batch for the computation of logits. The limit bounds the memory use. It does
/// not change the logits.
const BATCH: usize = 2048;

/// Maximum number of token positions per batch for the computation of MLP keys. The limit is small, so that activations
/// stay in the CPU cache.
const KEYS_BATCH: usize = 512;

impl Model {
    /// Returns the hidden states of all token sequences after the first `blocks` blocks, `[positions, d]`. If `blocks`
    /// is 0, returns the embeddings.
    pub fn hidden_states(&self, tokens: &[&[u32]], blocks: usize) -> Vec<f32> {
        let rows = Rows::new(tokens.iter().map(|row| row.len()));
        let mut x = self.embed(tokens);
        for layer in 0..blocks {
            x = self.run_block(layer, BlockInput::whole(&x, &rows));
        }
        x
    }

    /// Returns the MLP keys (inputs of the down-projection) in `layer` for all positions of all token sequences,
    /// `[positions, f]`.
    pub fn keys(&self, layer: usize, tokens: &[&[u32]]) -> Vec<f32> {
        let positions: usize = tokens.iter().map(|row| row.len()).sum();
        let mut out = Vec::with_capacity(positions * self.spec().intermediate_size);
        self.keys_at(&[layer], tokens, |_, keys| out.extend(keys));
        out
    }

    /// Computes the MLP keys of several layers in one forward pass; `layers` must be ascending. For each batch and each
    /// layer, calls `seen` with the index of the layer in `layers` and the MLP keys, `[positions, f]`. The bits of a
    /// layer's MLP keys do not depend on which other layers are requested.
    pub fn keys_at(&self, layers: &[usize], tokens: &[&[u32]], mut seen: impl FnMut(usize, Vec<f32>)) {
        let Some(&last) = layers.last() else { return };
        for part in batches(tokens, KEYS_BATCH) {
            let tokens = &tokens[part];
            let rows = Rows::new(tokens.iter().map(|row| row.len()));
            let mut x = self.embed(tokens);
            for layer in 0..=last {
                let (mid, _) = self.run_attention(layer, BlockInput::whole(&x, &rows), false);
                let (key, _) = self.mlp_key(layer, &mid, false);
                if layer < last {
                    x = self.resid_post(layer, &key, &mid);
                }
                if let Ok(index) = layers.binary_search(&layer) {
                    seen(index, key);
                }
            }
        }
    }

    /// Computes `W k + b`, `[d]`, for the MLP key `k` and the MLP down-projection of `layer`. The terms are added in
    /// f64, in a fixed order. An edit's residual, which linking needs, is the MLP value of the edit minus this result.
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

    /// Returns the logits at the last `last_n[i]` positions of each token sequence `i`, one matrix
    /// `[last_n[i], vocabulary]` per sequence.
    pub fn logits(&self, tokens: &[&[u32]], last_n: &[usize]) -> Vec<Vec<f32>> {
        let mut out = Vec::with_capacity(tokens.len());
        for part in batches(tokens, BATCH) {
            self.logits_of_batch(&tokens[part.clone()], &last_n[part], &mut out);
        }
        out
    }

    fn logits_of_batch(&self, tokens: &[&[u32]], last_n: &[usize], out: &mut Vec<Vec<f32>>) {
        let vocabulary = self.spec().vocabulary;
        let logits = self.lm_head(&self.last_of_batch(tokens, last_n));
        let mut first = 0;
        for &count in last_n {
            out.push(logits[first * vocabulary..][..count * vocabulary].to_vec());
            first += count;
        }
    }

    /// Returns the hidden states after the last block at the last `last_n[i]` positions of each token sequence `i`,
    /// `[Σ last_n, d]`. The logits that [`Model::lm_head`] computes from these states are bit-identical to those of
    /// [`Model::logits`].
    pub fn last_states(&self, tokens: &[&[u32]], last_n: &[usize]) -> Vec<f32> {
        let of_batch = |part: Range<usize>| self.last_of_batch(&tokens[part.clone()], &last_n[part]);
        batches(tokens, BATCH).into_iter().flat_map(of_batch).collect()
    }

    fn last_of_batch(&self, tokens: &[&[u32]], last_n: &[usize]) -> Vec<f32> {
        let rows = Rows::new(tokens.iter().map(|row| row.len()));
        let last = self.spec().layers - 1;
        // The last block computes only the requested positions. Earlier blocks compute all positions.
        let before = self.hidden_states(tokens, last);
        self.run_block(last, BlockInput { x: &before, rows: &rows, cache: &EMPTY, last_n })
    }
}

/// Splits token sequences, in order, into batches of at most `limit` positions. A sequence that is longer than `limit`
/// gets a separate batch.
fn batches(tokens: &[&[u32]], limit: usize) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut positions = 0;
    for (index, row) in tokens.iter().enumerate() {
        positions += row.len();
        match out.last_mut() {
            Some(last) if positions <= limit => last.end = index + 1,
            _ => {
                out.push(index..index + 1);
                positions = row.len();
            }
        }
    }
    out
}
