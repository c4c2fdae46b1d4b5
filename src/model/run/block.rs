//! Computes one transformer block: attention, then the MLP. The MLP is computed in two steps: first its key (the input
//! of the down-projection), then its value (the output of the down-projection).

use std::borrow::Cow;
use std::ops::Range;

use super::kv_cache::{EMPTY, KvCache, copy_columns, write_columns};
use super::low_rank::{LayerChanges, add_changes};
use super::model::Model;
use super::rows::Rows;
use crate::model::arch::family::QkvLayout;
use crate::model::arch::rope::RopeTable;
use crate::model::load::checkpoint::Norm;
use crate::numeric::attention::{AttentionInput, Heads, attend};
use crate::numeric::elementwise::zip;
use crate::numeric::rows::{NormTape, add, each_row};

#[derive(Clone, Copy)]
pub(crate) struct BlockInput<'a> {
    /// The hidden states before the block, `[positions, d]`.
    pub x: &'a [f32],
    pub rows: &'a Rows,
    /// The KV cache of the layer, for positions that precede the token sequences of the batch.
    pub cache: &'a KvCache,
    /// For each token sequence, how many positions at its end the block computes.
    pub last_n: &'a [usize],
}

impl<'a> BlockInput<'a> {
    /// Returns the input of a block that computes every position of the token sequences in `rows`. No cached positions
    /// precede the sequences.
    pub(crate) fn whole(x: &'a [f32], rows: &'a Rows) -> Self {
        Self { x, rows, cache: &EMPTY, last_n: rows.lengths() }
    }
}

/// The attention queries, keys and values of one layer, with the tapes of the norms. A tape holds the intermediate
/// results that the backward pass needs.
pub(crate) struct Qkv {
    pub norm: NormTape,
    /// Queries, keys and values after head norms and RoPE. Each row of the matrix contains the query, the key and the
    /// value of one position.
    pub qkv: Vec<f32>,
    /// The tapes of the two norms that are applied to the query and to the key of every head. `None` if the family does
    /// not normalise heads.
    pub head_norms: Option<[NormTape; 2]>,
}

/// The intermediate results of attention in one block, stored for the backward pass.
pub(crate) struct AttentionTape {
    pub inputs: Qkv,
    /// Attention probabilities, one matrix `[heads, attended positions]` per query position.
    pub probabilities: Vec<Vec<f32>>,
}

/// The intermediate results of the MLP in one block, stored for the backward pass.
pub(crate) struct MlpTape {
    pub norm: NormTape,
    /// The input of the activation function, `[positions, f]`.
    pub activation_input: Vec<f32>,
    /// The output of the up-projection of a gated MLP, `[positions, f]`, which is multiplied by the activated gate.
    /// `None` for an MLP without a gate.
    pub up: Option<Vec<f32>>,
}

pub(crate) struct BlockTape {
    pub attention: AttentionTape,
    pub mlp: MlpTape,
}

/// The residual stream between attention and MLP.
pub(crate) struct ResidMid {
    /// The sum of the block's input and the output of attention, `[positions, d]`. The output of the MLP is later added
    /// to this sum.
    pub resid: Vec<f32>,
    /// The input of the MLP in a parallel block, which is also the input of the block. `None` in a sequential block, in
    /// which the input of the MLP is `resid`.
    parallel_input: Option<Vec<f32>>,
}

impl ResidMid {
    /// Returns the input of the MLP, before the norm is applied.
    pub(crate) fn mlp_input(&self) -> &[f32] {
        self.parallel_input.as_deref().unwrap_or(&self.resid)
    }
}

impl Model {
    pub(crate) fn heads(&self, layer: usize) -> Heads {
        let spec = self.spec();
        Heads {
            query_heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_width: spec.head_width,
            scale: spec.attention_scale(layer),
            window: spec.windows[layer],
        }
    }

    /// Runs one block at the last `last_n[i]` positions of each token sequence `i` in `input`. Returns the hidden
    /// states after the block, `[Σ last_n, d]`.
    pub(crate) fn run_block(&self, layer: usize, input: BlockInput<'_>) -> Vec<f32> {
        let (mid, _) = self.run_attention(layer, input, false);
        let (key, _) = self.mlp_key(layer, &mid, false);
        self.resid_post(layer, &key, &mid)
    }

    /// Runs one block as [`run_block`](Self::run_block) does, and also returns the intermediate results for the
    /// backward pass.
    pub(crate) fn run_block_taped(&self, layer: usize, input: BlockInput<'_>) -> (Vec<f32>, BlockTape) {
        self.run_changed_block(layer, input, &LayerChanges::default())
    }

    /// Runs one block as [`run_block_taped`](Self::run_block_taped) does, with changed MLP matrices.
    pub(crate) fn run_changed_block(
        &self,
        layer: usize,
        input: BlockInput<'_>,
        changes: &LayerChanges<'_>,
    ) -> (Vec<f32>, BlockTape) {
        let (mid, attention) = self.run_attention(layer, input, true);
        let (key, mlp) = self.changed_mlp_key(layer, &mid, true, changes);
        let mut out = self.resid_post(layer, &key, &mid);
        add_changes(self.isa(), &changes.down, &key, &mut out);
        (out, BlockTape { attention, mlp: mlp.expect("a tape was requested") })
    }

    /// Computes `x + attention(norm(x))` at the last `last_n[i]` positions of each token sequence `i` in `input`,
    /// `[Σ last_n, d]`. The tape contains the attention probabilities only if `keep` is set.
    pub(crate) fn run_attention(&self, layer: usize, input: BlockInput<'_>, keep: bool) -> (ResidMid, AttentionTape) {
        let BlockInput { x, rows, last_n, .. } = input;
        let inputs = self.qkv(layer, x, rows);
        let heads = self.heads(layer);
        let (attended, probabilities) = attend(self.isa(), heads, &attention_inputs(input, &inputs.qkv, heads), keep);
        let computed = if last_n == rows.lengths() {
            Cow::Borrowed(x)
        } else {
            Cow::Owned(Rows::gather(x, self.spec().hidden_size, &rows.last_positions(last_n)))
        };
        let resid = self.project_onto(&attended, &self.checkpoint.blocks[layer].attention_out, Some(&computed));
        let mid = ResidMid { resid, parallel_input: self.spec().parallel.then(|| computed.into_owned()) };
        (mid, AttentionTape { inputs, probabilities })
    }

    /// Computes `attention(norm(x))` at the last `last_n[i]` positions of each token sequence `i` in `input`,
    /// `[Σ last_n, d]`, bias included. Causal tracing records or replaces this output. Also returns the queries, keys
    /// and values.
    pub(crate) fn attention_output(&self, layer: usize, input: BlockInput<'_>) -> (Vec<f32>, Qkv) {
        let inputs = self.qkv(layer, input.x, input.rows);
        let output = self.attend_and_project(layer, &attention_inputs(input, &inputs.qkv, self.heads(layer)));
        (output, inputs)
    }

    /// Computes the attention queries, keys and values for all positions of `x`. Head norms and RoPE are applied.
    pub(crate) fn qkv(&self, layer: usize, x: &[f32], rows: &Rows) -> Qkv {
        let (norm, normed) = self.norm(x, self.spec().hidden_size, &self.checkpoint.blocks[layer].attention_norm);
        let mut qkv = self.project_qkv(layer, &normed);
        let late = self.spec().family.head_norms_after_rope;
        if late {
            self.apply_rope(layer, rows, &mut qkv);
        }
        let head_norms = self.norm_heads(layer, &mut qkv);
        if !late {
            self.apply_rope(layer, rows, &mut qkv);
        }
        Qkv { norm, qkv, head_norms }
    }

    /// Computes the output of attention from queries, keys and values, `[query positions, d]`.
    pub(crate) fn attend_and_project(&self, layer: usize, inputs: &[AttentionInput<'_>]) -> Vec<f32> {
        let (attended, _) = attend(self.isa(), self.heads(layer), inputs, false);
        self.project(&attended, &self.checkpoint.blocks[layer].attention_out)
    }

    /// Adds the block's input `x` to `output`, the output of attention at the last `last_n[i]` positions of each token
    /// sequence `i`.
    pub(crate) fn add_attention(&self, output: Vec<f32>, x: &[f32], rows: &Rows, last_n: &[usize]) -> ResidMid {
        let (mut resid, width) = (output, self.spec().hidden_size);
        let positions = rows.last_positions(last_n);
        each_row(&mut resid, width, |index, row| add(row, &x[positions[index] * width..][..width]));
        ResidMid { resid, parallel_input: self.spec().parallel.then(|| Rows::gather(x, width, &positions)) }
    }

    /// Computes the attention queries, keys and values, before head norms and RoPE. Each row of the result contains the
    /// query, the key and the value of one position.
    fn project_qkv(&self, layer: usize, normed: &[f32]) -> Vec<f32> {
        let (block, heads) = (&self.checkpoint.blocks[layer], self.heads(layer));
        let part = |which: usize| self.project(normed, &block.attention_in[which]);
        match self.spec().family.attention_in {
            QkvLayout::Fused(_) => part(0),
            QkvLayout::Separate(_) => concat_qkv([&part(0), &part(1), &part(2)], heads),
            QkvLayout::FusedByHead(_) => {
                let grouped = part(0);
                let mut qkv = grouped.clone();
                each_row(&mut qkv, heads.qkv_width(), |index, row| {
                    let grouped = &grouped[index * heads.qkv_width()..];
                    each_grouped_index(heads, |concatenated, by_head| row[concatenated] = grouped[by_head]);
                });
                qkv
            }
        }
    }

    /// Applies the norms of the heads to attention queries and keys in place. Returns the intermediate results of the
    /// two norms for the backward pass; `None` if the family does not normalise heads.
    fn norm_heads(&self, layer: usize, qkv: &mut [f32]) -> Option<[NormTape; 2]> {
        let norms = self.checkpoint.blocks[layer].head_norms.as_ref()?;
        let heads = self.heads(layer);
        let mut norm = |norm: &Norm, part: Range<usize>| {
            let (tape, normed) = self.norm(&copy_columns(qkv, heads, part.clone()), heads.head_width, norm);
            write_columns(qkv, heads, part, &normed);
            tape
        };
        Some([norm(&norms[0], heads.queries()), norm(&norms[1], heads.keys())])
    }

    /// Applies RoPE to the attention queries and keys in place.
    fn apply_rope(&self, layer: usize, rows: &Rows, qkv: &mut [f32]) {
        self.rotate_heads(layer, rows, qkv, |table, position, head| table.apply_rope(position, head));
    }

    /// Applies the transposed map of RoPE in place. The backward pass applies it to the gradients of attention queries
    /// and keys.
    pub(crate) fn apply_rope_transposed(&self, layer: usize, rows: &Rows, qkv: &mut [f32]) {
        self.rotate_heads(layer, rows, qkv, |table, position, head| table.apply_rope_transposed(position, head));
    }

    fn rotate_heads(
        &self,
        layer: usize,
        rows: &Rows,
        qkv: &mut [f32],
        rotate: impl Fn(&RopeTable<'_>, usize, &mut [f32]) + Sync,
    ) {
        let (spec, heads) = (self.spec(), self.heads(layer));
        let Some(rope) = spec.rope.as_ref().filter(|_| spec.rotated[layer]) else { return };
        let positions = rows.text_positions();
        let (Some(first), Some(last)) = (positions.iter().min(), positions.iter().max()) else { return };
        let table = rope.table(*first, last - first + 1);
        let rotated = heads.query_width() + heads.kv_width();
        each_row(qkv, heads.qkv_width(), |index, row| {
            row[..rotated].chunks_mut(heads.head_width).for_each(|head| rotate(&table, positions[index], head));
        });
    }

    /// Computes the MLP key, which is the input of the down-projection, `[positions, f]`: `activation(norm(x) W + b)`,
    /// multiplied by the output of the up-projection if the MLP is gated. Also returns the intermediate results for the
    /// backward pass if `keep` is set.
    pub(crate) fn mlp_key(&self, layer: usize, mid: &ResidMid, keep: bool) -> (Vec<f32>, Option<MlpTape>) {
        self.changed_mlp_key(layer, mid, keep, &LayerChanges::default())
    }

    /// Computes the MLP key as [`mlp_key`](Self::mlp_key) does, with changed MLP matrices.
    fn changed_mlp_key(
        &self,
        layer: usize,
        mid: &ResidMid,
        keep: bool,
        changes: &LayerChanges<'_>,
    ) -> (Vec<f32>, Option<MlpTape>) {
        let (spec, block) = (self.spec(), &self.checkpoint.blocks[layer]);
        let norm = block.mlp_norm.as_ref().unwrap_or(&block.attention_norm);
        let (norm, normed) = self.norm(mid.mlp_input(), spec.hidden_size, norm);
        let project = |projection, of_matrix| {
            let mut out = self.project(&normed, projection);
            add_changes(self.isa(), of_matrix, &normed, &mut out);
            out
        };
        let (mut key, up) = match &block.mlp_gate {
            None => (project(&block.mlp_in, &changes.up), None),
            Some(gate) => (project(gate, &changes.gate), Some(project(&block.mlp_in, &changes.up))),
        };
        let activation_input = if keep {
            let applied = spec.activation.applied(self.isa(), &key);
            Some(std::mem::replace(&mut key, applied))
        } else {
            spec.activation.apply(self.isa(), &mut key);
            None
        };
        if let Some(up) = &up {
            zip(self.isa(), &mut key, up, |x, up| x * up);
        }
        (key, activation_input.map(|activation_input| MlpTape { norm, activation_input, up }))
    }

    /// Computes the MLP value, which is the output of the down-projection for the MLP key `key`, `[positions, d]`. The
    /// bias is included.
    pub(crate) fn mlp_value(&self, layer: usize, key: &[f32]) -> Vec<f32> {
        self.project(key, &self.checkpoint.blocks[layer].mlp_out)
    }

    /// Computes the hidden states after the block: applies the down-projection to the MLP key `key` and adds the
    /// residual stream.
    pub(crate) fn resid_post(&self, layer: usize, key: &[f32], mid: &ResidMid) -> Vec<f32> {
        self.project_onto(key, &self.checkpoint.blocks[layer].mlp_out, Some(&mid.resid))
    }
}

/// Collects the inputs of attention for each token sequence: cached keys and values, and the computed queries, keys and
/// values.
pub(crate) fn attention_inputs<'a>(input: BlockInput<'a>, qkv: &'a [f32], heads: Heads) -> Vec<AttentionInput<'a>> {
    let BlockInput { rows, cache, last_n, .. } = input;
    let row = |row: usize| {
        let range = rows.range(row);
        AttentionInput {
            past_keys: cache.keys.get(row).map_or(&[], |keys| keys.as_slice()),
            past_values: cache.values.get(row).map_or(&[], |values| values.as_slice()),
            qkv: &qkv[range.start * heads.qkv_width()..range.end * heads.qkv_width()],
            last_n: last_n[row],
        }
    };
    (0..rows.count()).map(row).collect()
}

/// Concatenates the query, the key and the value of each position. The result has one row per position.
fn concat_qkv([queries, keys, values]: [&[f32]; 3], heads: Heads) -> Vec<f32> {
    let (width, kv_width) = (heads.query_width(), heads.kv_width());
    let mut qkv = Vec::with_capacity(queries.len() + keys.len() + values.len());
    for ((query, key), value) in queries.chunks(width).zip(keys.chunks(kv_width)).zip(values.chunks(kv_width)) {
        for part in [query, key, value] {
            qkv.extend_from_slice(part);
        }
    }
    qkv
}

/// Calls `pair` for each element of the queries, keys and values of one position. The two arguments are the index of
/// the element in this program's order (all queries, all keys, all values), and its index in a matrix whose columns are
/// grouped by head.
pub(crate) fn each_grouped_index(heads: Heads, mut pair: impl FnMut(usize, usize)) {
    for head in 0..heads.query_heads {
        for part in 0..3 {
            for number in 0..heads.head_width {
                let concatenated = part * heads.query_width() + head * heads.head_width + number;
                pair(concatenated, (3 * head + part) * heads.head_width + number);
            }
        }
    }
}
