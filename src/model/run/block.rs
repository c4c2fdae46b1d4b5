//! Computes the two halves of a block: attention, and the MLP before and after its key (the input of the
//! down-projection).

use std::borrow::Cow;
use std::ops::Range;

use super::decoder::{KvCache, Model};
use super::rows::Rows;
use crate::model::arch::family::{NormKind, QkvLayout};
use crate::model::load::checkpoint::{Norm, Projection};
use crate::model::load::tensor::Tensor;
use crate::numeric::attention::{AttentionInput, Heads, attend};
use crate::numeric::elementwise::zip;
use crate::numeric::rows::{NormTape, add, add_serial, each_row, layer_norm, rms_norm};
use crate::numeric::{View, matmul_then};
use crate::patch::Layout;

/// Queries, keys and values of a layer, with the tapes (intermediate results) of the norms that were applied.
pub(crate) struct Qkv {
    pub norm: NormTape,
    /// Queries, keys and values after head norms and RoPE, `[positions, fused]`.
    pub fused: Vec<f32>,
    pub head_norms: Option<[NormTape; 2]>,
}

/// The tape of the attention half of a block: the intermediate results that its reverse pass needs.
pub(crate) struct AttentionTape {
    pub norm: NormTape,
    /// Queries, keys and values after head norms and RoPE, `[positions, fused]`.
    pub fused: Vec<f32>,
    /// Tapes of the norms of every head's query and key; `None` if the family has none.
    pub head_norms: Option<[NormTape; 2]>,
    pub probabilities: Vec<Vec<f32>>,
}

/// The tape of the MLP half of a block: the intermediate results that its reverse pass needs.
pub(crate) struct MlpTape {
    pub norm: NormTape,
    /// Input of the activation, `[positions, f]`.
    pub activation_input: Vec<f32>,
    /// The factor that multiplies the activation's output in a gated MLP: the output of the up-projection, `[positions,
    /// f]`. `None` in other MLPs.
    pub up: Option<Vec<f32>>,
}

/// The residual stream between attention and MLP (`resid_mid`).
pub(crate) struct ResidMid {
    /// `x + attention`, `[positions, d]`. The MLP's output is added to it.
    pub resid: Vec<f32>,
    /// The MLP's input if it is not `sum`. In parallel blocks it is the input of the block.
    beside: Option<Vec<f32>>,
}

impl ResidMid {
    /// Returns the input of the MLP, before its norm.
    pub(crate) fn input(&self) -> &[f32] {
        self.beside.as_deref().unwrap_or(&self.resid)
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

    /// Returns a projection's weight as an `[inputs, outputs]` matrix, for either orientation in the file.
    pub(crate) fn weight<'a>(&self, projection: &'a Projection) -> View<'a> {
        let view = projection.weight.view();
        match self.spec().family.layout {
            Layout::Conv1d => view,
            Layout::Linear => view.transposed(),
        }
    }

    /// Computes `x W + b` for every row of `x`.
    pub(crate) fn project(&self, x: &[f32], projection: &Projection) -> Vec<f32> {
        self.project_onto(x, projection, None)
    }

    /// Computes `(x W + b) + onto` for every row of `x`, or `x W + b` if `onto` is `None`.
    fn project_onto(&self, x: &[f32], projection: &Projection, onto: Option<&[f32]>) -> Vec<f32> {
        let weight = self.weight(projection);
        let (x, width) = (View::new(x, x.len() / weight.rows(), weight.rows()), weight.columns());
        let bias = projection.bias.as_ref().map(Tensor::to_f32);
        matmul_then(self.isa(), x, weight, |row, first, part| {
            if let Some(bias) = &bias {
                add_serial(part, &bias[first..]);
            }
            if let Some(onto) = onto {
                add_serial(part, &onto[row * width + first..]);
            }
        })
    }

    /// Applies a norm to every row of `width` numbers. Returns the tape and the output.
    pub(crate) fn norm(&self, x: &[f32], width: usize, norm: &Norm) -> (NormTape, Vec<f32>) {
        let epsilon = self.spec().epsilon;
        match (&self.spec().family.norm, &norm.bias) {
            (NormKind::Layer, Some(bias)) => layer_norm(x, width, &norm.gain.to_f32(), &bias.to_f32(), epsilon),
            _ => rms_norm(x, width, &norm.gain.to_f32(), epsilon),
        }
    }

    /// Computes `x + attention(norm(x))` for the last `tails[row]` positions of every row. The tape contains the
    /// attention probabilities only if `keep` is set.
    pub(crate) fn run_attention(
        &self,
        layer: usize,
        x: &[f32],
        rows: &Rows,
        past: &KvCache,
        tails: &[usize],
        keep: bool,
    ) -> (ResidMid, AttentionTape) {
        let Qkv { norm, fused, head_norms } = self.asked(layer, x, rows);
        let heads = self.heads(layer);
        let (attended, probabilities) =
            attend(self.isa(), heads, &attention_inputs(rows, past, &fused, tails, heads), keep);
        let own = match tails == rows.lengths() {
            true => Cow::Borrowed(x),
            false => Cow::Owned(Rows::gather(x, self.spec().hidden_size, &rows.last_positions(tails))),
        };
        let sum = self.project_onto(&attended, &self.checkpoint.blocks[layer].attention_out, Some(&own));
        let middle = ResidMid { resid: sum, beside: self.spec().parallel.then(|| own.into_owned()) };
        (middle, AttentionTape { norm, fused, head_norms, probabilities })
    }

    /// Computes `attention(norm(x))` for the last `tails[row]` positions of every row, `[Σ tails, d]`, bias included.
    /// This is the term that [`attention_half`](Self::attention_half) adds to `x`; causal tracing records or replaces
    /// it.
    pub(crate) fn attention_output(
        &self,
        layer: usize,
        x: &[f32],
        rows: &Rows,
        past: &KvCache,
        tails: &[usize],
        keep: bool,
    ) -> (Vec<f32>, AttentionTape) {
        let Qkv { norm, fused, head_norms } = self.asked(layer, x, rows);
        let (output, probabilities) =
            self.attend_and_project(layer, &attention_inputs(rows, past, &fused, tails, self.heads(layer)), keep);
        (output, AttentionTape { norm, fused, head_norms, probabilities })
    }

    /// Computes queries, keys and values of every position of `x`, with head norms and RoPE applied.
    pub(crate) fn asked(&self, layer: usize, x: &[f32], rows: &Rows) -> Qkv {
        let (norm, normed) = self.norm(x, self.spec().hidden_size, &self.checkpoint.blocks[layer].attention_norm);
        let mut fused = self.fused(layer, &normed);
        let head_norms = self.norm_heads(layer, &mut fused);
        self.turn(layer, rows, &mut fused, false);
        Qkv { norm, fused, head_norms }
    }

    /// Computes the output of attention for the queries in `offered`, `[Σ tails, d]`, and the attention probabilities
    /// if `keep` is set.
    pub(crate) fn attend_and_project(
        &self,
        layer: usize,
        offered: &[AttentionInput<'_>],
        keep: bool,
    ) -> (Vec<f32>, Vec<Vec<f32>>) {
        let (attended, probabilities) = attend(self.isa(), self.heads(layer), offered, keep);
        (self.project(&attended, &self.checkpoint.blocks[layer].attention_out), probabilities)
    }

    /// Returns the residual stream after attention at the last `tails[row]` positions of every row: `output` plus `x`.
    pub(crate) fn add_attention(&self, output: Vec<f32>, x: &[f32], rows: &Rows, tails: &[usize]) -> ResidMid {
        let (mut sum, width) = (output, self.spec().hidden_size);
        let positions = rows.last_positions(tails);
        each_row(&mut sum, width, |index, row| add(row, &x[positions[index] * width..][..width]));
        ResidMid { resid: sum, beside: self.spec().parallel.then(|| Rows::gather(x, width, &positions)) }
    }

    /// Projects to queries, keys and values, concatenated for every position: `[positions, fused]`.
    fn fused(&self, layer: usize, normed: &[f32]) -> Vec<f32> {
        let (block, heads) = (&self.checkpoint.blocks[layer], self.heads(layer));
        let part = |which: usize| self.project(normed, &block.attention_in[which]);
        match self.spec().family.attention_in {
            QkvLayout::Fused(_) => part(0),
            QkvLayout::Separate(_) => side_by_side([&part(0), &part(1), &part(2)], heads),
            QkvLayout::FusedByHead(_) => {
                let mixed = part(0);
                let mut fused = mixed.clone();
                each_row(&mut fused, heads.qkv_width(), |index, row| {
                    let mixed = &mixed[index * heads.qkv_width()..];
                    each_grouped_index(heads, |own, theirs| row[own] = mixed[theirs]);
                });
                fused
            }
        }
    }

    /// Applies the head norms to every query and key in place, and returns their tapes.
    fn norm_heads(&self, layer: usize, fused: &mut [f32]) -> Option<[NormTape; 2]> {
        let norms = self.checkpoint.blocks[layer].head_norms.as_ref()?;
        let heads = self.heads(layer);
        let mut norm = |norm: &Norm, part: Range<usize>| {
            let (tape, normed) = self.norm(&copy_columns(fused, heads, part.clone()), heads.head_width, norm);
            write_columns(fused, heads, part, &normed);
            tape
        };
        Some([norm(&norms[0], heads.queries()), norm(&norms[1], heads.keys())])
    }

    /// Applies RoPE to every query and key in place. If `back` is set, applies the inverse rotation, which the reverse
    /// pass needs.
    pub(crate) fn turn(&self, layer: usize, rows: &Rows, fused: &mut [f32], back: bool) {
        let (Some(rotary), heads) = (&self.spec().rope, self.heads(layer)) else { return };
        let positions = rows.text_positions();
        let (Some(first), Some(last)) = (positions.iter().min(), positions.iter().max()) else { return };
        let turns = rotary.table(*first, last - first + 1);
        let turned = heads.query_width() + heads.kv_width();
        each_row(fused, heads.qkv_width(), |index, row| {
            for head in row[..turned].chunks_mut(heads.head_width) {
                match back {
                    false => turns.apply_rope(positions[index], head),
                    true => turns.apply_rope_inverse(positions[index], head),
                }
            }
        });
    }

    /// Computes the MLP's key, `[positions, f]`: `activation(norm(x) W + b)`, multiplied by the output of the
    /// up-projection in a gated MLP. Returns the tape if `keep` is set.
    pub(crate) fn mlp_key(&self, layer: usize, middle: &ResidMid, keep: bool) -> (Vec<f32>, Option<MlpTape>) {
        let (spec, block) = (self.spec(), &self.checkpoint.blocks[layer]);
        let norm = block.mlp_norm.as_ref().unwrap_or(&block.attention_norm);
        let (norm, normed) = self.norm(middle.input(), spec.hidden_size, norm);
        let (first, factor) = match &block.mlp_gate {
            None => (&block.mlp_in, None),
            Some(gate) => (gate, Some(self.project(&normed, &block.mlp_in))),
        };
        let mut key = self.project(&normed, first);
        let before = match keep {
            true => {
                let applied = spec.activation.applied(self.isa(), &key);
                Some(std::mem::replace(&mut key, applied))
            }
            false => {
                spec.activation.apply(self.isa(), &mut key);
                None
            }
        };
        if let Some(factor) = &factor {
            zip(self.isa(), &mut key, factor, |x, factor| x * factor);
        }
        (key, before.map(|before| MlpTape { norm, activation_input: before, up: factor }))
    }

    /// Computes the MLP's value from its key, bias included.
    pub(crate) fn mlp_value(&self, layer: usize, key: &[f32]) -> Vec<f32> {
        self.project(key, &self.checkpoint.blocks[layer].mlp_out)
    }

    /// Computes the hidden state after the block: the MLP's value added to the residual stream.
    pub(crate) fn resid_post(&self, layer: usize, key: &[f32], middle: &ResidMid) -> Vec<f32> {
        self.project_onto(key, &self.checkpoint.blocks[layer].mlp_out, Some(&middle.resid))
    }
}

/// Collects the inputs of attention for every row: its KV cache, which may be empty, and its own queries, keys and
/// values.
pub(crate) fn attention_inputs<'a>(
    rows: &Rows,
    past: &'a KvCache,
    fused: &'a [f32],
    tails: &[usize],
    heads: Heads,
) -> Vec<AttentionInput<'a>> {
    let row = |row: usize| {
        let range = rows.range(row);
        AttentionInput {
            past_keys: past.keys.get(row).map_or(&[], |keys| keys.as_slice()),
            past_values: past.values.get(row).map_or(&[], |values| values.as_slice()),
            qkv: &fused[range.start * heads.qkv_width()..range.end * heads.qkv_width()],
            last_n: tails[row],
        }
    };
    (0..rows.count()).map(row).collect()
}

/// Concatenates the query, key and value of every position: `[positions, fused]`.
fn side_by_side([queries, keys, values]: [&[f32]; 3], heads: Heads) -> Vec<f32> {
    let (width, shared) = (heads.query_width(), heads.kv_width());
    let mut fused = Vec::with_capacity(queries.len() + keys.len() + values.len());
    for ((query, key), value) in queries.chunks(width).zip(keys.chunks(shared)).zip(values.chunks(shared)) {
        for part in [query, key, value] {
            fused.extend_from_slice(part);
        }
    }
    fused
}

/// Copies the columns `part` of every position, for example the columns of the queries.
pub(crate) fn copy_columns(fused: &[f32], heads: Heads, part: Range<usize>) -> Vec<f32> {
    fused.chunks(heads.qkv_width()).flat_map(|row| &row[part.clone()]).copied().collect()
}

/// Writes `numbers`, in the layout that [`cut`] returns, to the columns `part` of every position.
pub(crate) fn write_columns(fused: &mut [f32], heads: Heads, part: Range<usize>, numbers: &[f32]) {
    for (row, numbers) in fused.chunks_mut(heads.qkv_width()).zip(numbers.chunks(part.len())) {
        row[part.clone()].copy_from_slice(numbers);
    }
}

/// Calls `pair` for every number of a fused row, with its index in the order of this program (all queries, all keys,
/// all values) and its index in a matrix that is grouped by head.
pub(crate) fn each_grouped_index(heads: Heads, mut pair: impl FnMut(usize, usize)) {
    for head in 0..heads.query_heads {
        for part in 0..3 {
            for number in 0..heads.head_width {
                let own = part * heads.query_width() + head * heads.head_width + number;
                pair(own, (3 * head + part) * heads.head_width + number);
            }
        }
    }
}
