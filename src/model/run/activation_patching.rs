//! Resumes recorded forward passes with some hidden states or outputs replaced. Causal tracing (Meng et al. 2022,
//! section 2) is based on these patched runs.
//!
//! A replaced hidden state affects only later layers, at the same and later token positions. All other hidden states
//! are read from the recorded pass. A patched run joins the batch at the first layer that it computes. Many runs are
//! computed together, so that each weight is read only once.

use std::ops::Range;

use super::activation_cache::{ActivationCache, Component};
use super::model::Model;
use super::rows::Rows;
use crate::numeric::attention::AttentionInput;
use crate::numeric::rows::add;

/// A patched run of one text: a forward pass that reads the first positions and layers from a recorded pass, and
/// replaces some hidden states or outputs.
pub struct PatchedRun<'r> {
    pub cache: &'r ActivationCache,
    /// The index of the text in `cache`.
    pub row: usize,
    /// The first token position that is computed. Earlier positions are read from `cache`.
    pub position: usize,
    /// The first layer that is computed. If this is the number of layers, no layer is computed.
    pub first: usize,
    /// The hidden states before the layer `first`, for the token positions from `position` to the end of the text.
    pub start: StartState<'r>,
    /// The outputs of attention or of the MLP that are replaced at `position`; `None` for no replacement.
    pub outputs: Option<OutputPatch<'r>>,
}

/// The hidden states before the first layer that a patched run computes.
#[derive(Clone, Copy)]
pub enum StartState<'r> {
    /// The first computed position uses this hidden state, `[d]`. Later positions use the recorded hidden states.
    State(&'r [f32]),
    /// The first layer starts from the current hidden states of another patched run. The number is the index of that
    /// run in the slice that is given to [`Model::run_patched`].
    Fork(usize),
}

/// A replacement of the output of attention or of the MLP in a patched run. Only the output at the run's first computed
/// position is replaced.
pub struct OutputPatch<'r> {
    pub component: Component,
    /// The layers in which the output of `component` is replaced.
    pub layers: Range<usize>,
    /// A recorded forward pass. Its outputs in the same layers, at the same token position, are the replacements.
    pub source: &'r ActivationCache,
    /// The index of the text in `source`.
    pub row: usize,
}

impl PatchedRun<'_> {
    /// Returns the token position after the last token of the text.
    fn end(&self) -> usize {
        self.cache.rows.cached(self.row) + self.cache.rows.length(self.row)
    }

    /// Returns the rows of a recorded matrix for this run's text, from `position` to the end of the text. `width` is
    /// the number of columns of the matrix.
    fn cached<'m>(&self, matrix: &'m [f32], width: usize, position: usize) -> &'m [f32] {
        &matrix[self.cache.index(self.row, position) * width..][..(self.end() - position) * width]
    }
}

impl Model {
    /// Computes one patched run per text of `cache` and element of `positions`. In each run, the output of `component`
    /// in `layer` at that position is replaced by the output that `source` recorded for its first text at the same
    /// position. Returns the hidden states after `layer`, `[positions, texts, d]`. The replacement does not change the
    /// input of attention in `layer`, so attention is not recomputed.
    pub fn patch_one_layer(
        &self,
        layer: usize,
        component: Component,
        cache: &ActivationCache,
        source: &ActivationCache,
        positions: &[usize],
    ) -> Vec<f32> {
        let places: Vec<(usize, usize)> =
            positions.iter().flat_map(|&position| (0..cache.rows.count()).map(move |row| (row, position))).collect();
        let outputs = |of: Component| -> Vec<f32> {
            let output = |&(row, position): &(usize, usize)| {
                if of == component {
                    source.output(of, layer, 0, position)
                } else {
                    cache.output(of, layer, row, position)
                }
            };
            places.iter().flat_map(output).copied().collect()
        };
        let x: Vec<f32> =
            places.iter().flat_map(|&(row, position)| cache.state(layer, row, position)).copied().collect();
        let rows = Rows::new(vec![1; places.len()]);
        let mid = self.add_attention(outputs(Component::Attention), &x, &rows, rows.lengths());
        let mut out = match component {
            Component::Mlp => outputs(Component::Mlp),
            Component::Attention => self.mlp_value(layer, &self.mlp_key(layer, &mid, false).0),
        };
        add(&mut out, &mid.resid);
        out
    }

    /// Computes the remaining layers of patched runs. Returns the hidden state after the last layer at the last
    /// position of each run, `[runs, d]`. The runs must be sorted by their first layer. A run that starts from the
    /// hidden states of another run must come after that run and have a later first layer.
    pub fn run_patched(&self, rows: &[PatchedRun<'_>]) -> Vec<f32> {
        let (layers, width) = (self.spec().layers, self.spec().hidden_size);
        let mut batch = RunBatch { rows: Rows::default(), joined: 0, settled: 0, x: Vec::new() };
        for layer in rows.first().map_or(layers, |row| row.first)..layers {
            batch.join(rows, layer);
            self.run_patched_layer(layer, &rows[..batch.joined], &mut batch);
        }
        // After the last layer, `x` contains the hidden state at the last position of every run in the batch. Runs that
        // compute no layer have not joined the batch, so their hidden states are appended here.
        let mut out = batch.x;
        for row in &rows[batch.joined..] {
            match row.start {
                StartState::Fork(other) => out.extend_from_within(other * width..(other + 1) * width),
                StartState::State(state) if row.position + 1 == row.end() => out.extend_from_slice(state),
                StartState::State(_) => out.extend_from_slice(row.cache.state(layers, row.row, row.end() - 1)),
            }
        }
        debug_assert_eq!(out.len(), rows.len() * width, "one state per row");
        out
    }

    fn run_patched_layer(&self, layer: usize, rows: &[PatchedRun<'_>], batch: &mut RunBatch) {
        let last = layer + 1 == self.spec().layers;
        let last_n = if last { vec![1; rows.len()] } else { batch.rows.lengths().to_vec() };
        let qkv = self.patched_qkv(layer, rows, batch);
        let heads = self.heads(layer);
        let input = |index: usize| {
            let (row, own) = (&rows[index], batch.rows.range(index));
            let (kv, cached) = (&row.cache.kv[layer], row.position * heads.kv_width());
            AttentionInput {
                past_keys: &kv.keys[row.row][..cached],
                past_values: &kv.values[row.row][..cached],
                qkv: &qkv[own.start * heads.qkv_width()..own.end * heads.qkv_width()],
                last_n: last_n[index],
            }
        };
        let inputs: Vec<AttentionInput<'_>> = (0..rows.len()).map(input).collect();
        let mut attention = self.attend_and_project(layer, &inputs);
        batch.patch(Component::Attention, layer, rows, &last_n, &mut attention);
        let mid = self.add_attention(attention, &batch.x, &batch.rows, &last_n);
        let (key, _) = self.mlp_key(layer, &mid, false);
        let mut output = self.mlp_value(layer, &key);
        batch.patch(Component::Mlp, layer, rows, &last_n, &mut output);
        add(&mut output, &mid.resid);
        batch.x = output;
        batch.settled = batch.joined;
    }

    /// Returns the attention queries, keys and values of all patched runs. A run that starts in this layer with a
    /// replaced hidden state differs from the recorded pass only at its first position. The queries, keys and values of
    /// its other positions are therefore copied from the recorded pass.
    fn patched_qkv(&self, layer: usize, rows: &[PatchedRun<'_>], batch: &RunBatch) -> Vec<f32> {
        let (width, columns) = (self.spec().hidden_size, self.heads(layer).qkv_width());
        let is_new = |index: usize| index >= batch.settled && matches!(rows[index].start, StartState::State(_));
        let computed = |index: usize| if is_new(index) { 1 } else { batch.rows.length(index) };
        let computed_rows = Rows::with_cached((0..rows.len()).map(|index| (batch.rows.cached(index), computed(index))));
        if computed_rows.positions() == batch.rows.positions() {
            return self.qkv(layer, &batch.x, &computed_rows).qkv;
        }
        let mut x = Vec::with_capacity(computed_rows.positions() * width);
        for index in 0..rows.len() {
            x.extend_from_slice(&batch.x[batch.rows.range(index).start * width..][..computed(index) * width]);
        }
        let qkv = self.qkv(layer, &x, &computed_rows).qkv;
        let mut out = Vec::with_capacity(batch.rows.positions() * columns);
        for (index, row) in rows.iter().enumerate() {
            let own = computed_rows.range(index);
            out.extend_from_slice(&qkv[own.start * columns..own.end * columns]);
            if is_new(index) && row.position + 1 < row.end() {
                out.extend_from_slice(row.cached(&row.cache.qkv[layer], columns, row.position + 1));
            }
        }
        out
    }
}

/// The patched runs that start at or before the current layer, with their current hidden states.
struct RunBatch {
    rows: Rows,
    joined: usize,
    /// Number of patched runs that start before the current layer.
    settled: usize,
    x: Vec<f32>,
}

impl RunBatch {
    /// Adds the patched runs whose first computed layer is `layer` to the batch, with their hidden states before
    /// `layer`.
    fn join(&mut self, rows: &[PatchedRun<'_>], layer: usize) {
        for row in rows[self.joined..].iter().take_while(|row| row.first == layer) {
            let width = row.cache.width;
            match row.start {
                StartState::Fork(other) => {
                    let range = self.rows.range(other);
                    self.x.extend_from_within(range.start * width..range.end * width);
                }
                StartState::State(state) => {
                    self.x.extend_from_slice(state);
                    if row.position + 1 < row.end() {
                        self.x.extend_from_slice(row.cached(&row.cache.resid_pre[layer], width, row.position + 1));
                    }
                }
            }
            self.joined += 1;
        }
        self.rows = Rows::with_cached(rows[..self.joined].iter().map(|row| (row.position, row.end() - row.position)));
    }

    /// Replaces the output of `component` at the first position of every patched run that has a replacement for
    /// `layer`. In the last layer, only the last position of each run is computed. An output of the last layer is
    /// therefore only replaced in runs with a single position.
    fn patch(&self, component: Component, layer: usize, rows: &[PatchedRun<'_>], last_n: &[usize], output: &mut [f32]) {
        let mut first = 0;
        for (index, row) in rows.iter().enumerate() {
            let patch = row.outputs.as_ref().filter(|patch| {
                let computed = last_n[index] == self.rows.length(index);
                patch.component == component && patch.layers.contains(&layer) && computed
            });
            if let Some(patch) = patch {
                let width = patch.source.width;
                let replacement = patch.source.output(component, layer, patch.row, row.position);
                output[first * width..][..width].copy_from_slice(replacement);
            }
            first += last_n[index];
        }
    }
}
