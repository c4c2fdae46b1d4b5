//! Records the MLP key (input of the down-projection) and the MLP value (output of the down-projection) of one layer,
//! at one position of each token sequence.

use super::block::BlockInput;
use super::model::Model;
use super::prefix_cache::{CachedPrefixes, PrefixCache};
use super::rows::Rows;
use crate::numeric::rows::add;

/// The MLP keys and values that were recorded in one layer, and the hidden states after that layer.
pub struct HookOutput {
    /// The position range of each token sequence in `resid_post`, which does not contain the cached prefixes.
    pub rows: Rows,
    pub prefixes: CachedPrefixes,
    /// The MLP key (input of the down-projection, `[f]`) at the requested position of each token sequence.
    pub keys: Vec<Vec<f32>>,
    /// The MLP value (output of the down-projection with bias, `[d]`) at the requested position of each token sequence.
    pub values: Vec<Vec<f32>>,
    /// The hidden states after the layer, `[positions, d]`. Positions in cached prefixes are not included.
    pub resid_post: Vec<f32>,
}

impl HookOutput {
    /// Returns the hidden state after the layer, `[d]`, at `position` in the text with the index `row`. `position`
    /// counts from the start of the text and must not be in the cached prefix.
    pub fn state(&self, row: usize, position: usize) -> &[f32] {
        let width = self.resid_post.len() / self.rows.positions();
        &self.resid_post[(self.rows.range(row).start + position - self.rows.cached(row)) * width..][..width]
    }
}

impl Model {
    /// Runs all token sequences through the layers up to `layer`. Records the MLP key and the MLP value of `layer` at
    /// position `positions[i]` of each sequence `i`.
    pub fn run_hook(&self, layer: usize, tokens: &[&[u32]], positions: &[usize]) -> HookOutput {
        self.run_hook_cached(&PrefixCache::empty(), layer, tokens, positions)
    }

    /// Runs token sequences as [`Model::run_hook`] does, but reads the attention keys and values of cached prefixes
    /// from `cache` and does not compute them again. Only positions before `positions[i]` of sequence `i` are read from
    /// `cache`.
    pub fn run_hook_cached(
        &self,
        cache: &PrefixCache,
        layer: usize,
        tokens: &[&[u32]],
        positions: &[usize],
    ) -> HookOutput {
        let spec = self.spec();
        let prefixes = cache.lookup(self, tokens, positions);
        let rests = tokens.iter().zip(&prefixes.lengths).map(|(row, &cached)| (cached, &row[cached..]));
        let rows = Rows::with_cached(rests.clone().map(|(cached, rest)| (cached, rest.len())));
        let last_n = rows.lengths();
        let mut x = self.embed_from(&rests.map(|(_, rest)| rest).collect::<Vec<_>>(), &prefixes.lengths);
        for lower in 0..layer {
            x = self.run_block(lower, BlockInput { x: &x, rows: &rows, cache: prefixes.layer(lower), last_n });
        }
        let input = BlockInput { x: &x, rows: &rows, cache: prefixes.layer(layer), last_n };
        let (mid, _) = self.run_attention(layer, input, false);
        let (key, _) = self.mlp_key(layer, &mid, false);
        let mut resid_post = self.mlp_value(layer, &key);
        let pick = |matrix: &[f32], width: usize| -> Vec<Vec<f32>> {
            let at = |(row, &position): (usize, &usize)| rows.range(row).start + position - rows.cached(row);
            positions.iter().enumerate().map(at).map(|at| matrix[at * width..][..width].to_vec()).collect()
        };
        let (keys, values) = (pick(&key, spec.intermediate_size), pick(&resid_post, spec.hidden_size));
        add(&mut resid_post, &mid.resid);
        HookOutput { rows, prefixes, keys, values, resid_post }
    }
}
