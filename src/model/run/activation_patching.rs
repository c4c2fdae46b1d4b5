//! Records the activations of a run, and resumes rows from such a record with some hidden states replaced: the basis of
//! causal tracing (Meng et al. 2022, section 2).
//!
//! A row that is restored at one token differs from the recorded run only at that token and after it. The states below
//! the restored layer and the states before the restored token are therefore read from the record. Rows join a batch
//! at their first layer, so that each weight is read once for many rows.

use std::sync::Arc;

use super::block::copy_columns;
use super::decoder::{KvCache, Model};
use super::rows::Rows;
use crate::numeric::attention::AttentionInput;
use crate::numeric::rows::add;

/// One of the two outputs that a block adds to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The output of attention.
    Attention,
    /// The output of the MLP.
    Mlp,
}

/// The activation cache of a run: hidden states, outputs of attention and MLP, and keys and values, for every layer and
/// every position of every row.
pub struct ActivationCache {
    /// Layout of the rows in the matrices.
    rows: Rows,
    width: usize,
    /// The residual stream before every layer and after the last one: `[layers + 1][positions, d]`.
    hidden: Vec<Vec<f32>>,
    /// OutputPatch of attention, and then of the MLP, of every layer: `[layers][positions, d]` each.
    attention: Vec<Vec<f32>>,
    mlp: Vec<Vec<f32>>,
    /// The KV cache of every layer, including the positions before the rows.
    past: Vec<KvCache>,
    /// Queries, keys and values of every layer, `[layers][positions, fused]`.
    fused: Vec<Vec<f32>>,
}

impl ActivationCache {
    /// Converts a position of a text to its index in the matrices.
    fn at(&self, row: usize, position: usize) -> usize {
        self.rows.range(row).start + position - self.rows.cached(row)
    }

    /// Returns the residual stream before `layer` at a position of a text, `[d]`. If `layer` is the number of layers,
    /// returns the one after the last layer.
    pub fn state(&self, layer: usize, row: usize, position: usize) -> &[f32] {
        &self.hidden[layer][self.at(row, position) * self.width..][..self.width]
    }

    /// Returns the output of attention or of the MLP in `layer` at a position of a text, `[d]`.
    pub fn output(&self, part: Component, layer: usize, row: usize, position: usize) -> &[f32] {
        let outputs = match part {
            Component::Attention => &self.attention,
            Component::Mlp => &self.mlp,
        };
        &outputs[layer][self.at(row, position) * self.width..][..self.width]
    }

    /// Replaces the outputs of `part` in a layer by those of the record in `severed`, at the position in `severed`.
    /// Does nothing if `severed` names the other part.
    fn keep(&self, part: Component, layer: usize, severed: Option<(Component, usize, &Self)>, outputs: &mut [f32]) {
        if let Some((_, position, of)) = severed.filter(|(severed, ..)| *severed == part) {
            for row in 0..self.rows.count() {
                let at = self.at(row, position) * self.width;
                outputs[at..at + self.width].copy_from_slice(of.output(part, layer, row, position));
            }
        }
    }

    /// Returns the hidden states after the last layer at the last position of every row, `[rows, d]`.
    pub fn last(&self) -> Vec<f32> {
        let layers = self.hidden.len() - 1;
        let last = |row: usize| self.state(layers, row, self.rows.cached(row) + self.rows.length(row) - 1);
        (0..self.rows.count()).flat_map(last).copied().collect()
    }
}

/// A row that resumes from a record at one position, from one layer on.
pub struct PatchedRun<'r> {
    /// The record from which the row resumes.
    pub cache: &'r ActivationCache,
    /// The index of the row in `from`.
    pub row: usize,
    /// The first position that is computed. Earlier positions are read from the record.
    pub position: usize,
    /// The first layer that is computed. If it equals the number of layers, no layer is computed.
    pub first: usize,
    /// The hidden states before the layer `first`.
    pub start: StartState<'r>,
    /// OutputPatch at `position` that are replaced by those of another record; `None` if none are replaced.
    pub outputs: Option<OutputPatch<'r>>,
}

/// The hidden states before the first computed layer of a resumed row.
#[derive(Clone, Copy)]
pub enum StartState<'r> {
    /// This hidden state at the row's position, `[d]`, and the hidden states of the record after it.
    State(&'r [f32]),
    /// The current hidden states of another row of the batch, given by its index: the row forks from that row, its
    /// trunk.
    Fork(usize),
}

impl PatchedRun<'_> {
    /// Returns the end of the row, exclusive, as a position of its text.
    fn end(&self) -> usize {
        self.cache.rows.cached(self.row) + self.cache.rows.length(self.row)
    }

    /// Returns the row's part of a matrix of the record, from `position` to the end of the row. `width` is the number
    /// of columns of the matrix.
    fn of_record<'m>(&self, matrix: &'m [f32], width: usize, position: usize) -> &'m [f32] {
        &matrix[self.cache.at(self.row, position) * width..][..(self.end() - position) * width]
    }
}

/// Replacements for the outputs of attention or of the MLP at the position of a resumed row.
pub struct OutputPatch<'r> {
    /// Which outputs are replaced.
    pub component: Component,
    /// The layers in which they are replaced.
    pub layers: std::ops::Range<usize>,
    /// The record that contains the replacements.
    pub source: &'r ActivationCache,
    /// The index, in `of`, of the row that contains the replacements.
    pub row: usize,
}

impl Model {
    /// Runs `count` rows of `length` positions with the embeddings `x` through all layers and records them.
    ///
    /// - `before` is a record and a number of positions. The first positions of row 0 of that record precede every row,
    ///   as KV cache.
    /// - `severed` is a part, a position and a record. In every layer, the part's output at that position is read from
    ///   the same row of that record.
    pub fn run_with_cache(
        &self,
        x: Vec<f32>,
        count: usize,
        length: usize,
        before: Option<(&ActivationCache, usize)>,
        severed: Option<(Component, usize, &ActivationCache)>,
    ) -> ActivationCache {
        let position = before.map_or(0, |(_, position)| position);
        let rows = Rows::with_cached((0..count).map(|_| (position, length)));
        let width = self.spec().hidden_size;
        let mut out = ActivationCache {
            rows,
            width,
            hidden: vec![x],
            attention: Vec::new(),
            mlp: Vec::new(),
            past: Vec::new(),
            fused: Vec::new(),
        };
        let tails = vec![length; count];
        for layer in 0..self.spec().layers {
            let x = &out.hidden[layer];
            let mut past = match before {
                Some((record, position)) => {
                    let (one, shared) = (&record.past[layer], self.heads(layer).kv_width());
                    let cut = |part: &[Arc<Vec<f32>>]| {
                        let row = Arc::new(part[0][..position * shared].to_vec());
                        vec![row; count]
                    };
                    KvCache { keys: cut(&one.keys), values: cut(&one.values) }
                }
                None => KvCache { keys: vec![Arc::default(); count], values: vec![Arc::default(); count] },
            };
            let (mut attention, tape) = self.attention_output(layer, x, &out.rows, &past, &tails, false);
            out.keep(Component::Attention, layer, severed, &mut attention);
            let middle = self.add_attention(attention.clone(), x, &out.rows, &tails);
            let (key, _) = self.mlp_key(layer, &middle, false);
            let mut mlp = self.mlp_value(layer, &key);
            out.keep(Component::Mlp, layer, severed, &mut mlp);
            let mut after = mlp.clone();
            add(&mut after, &middle.resid);
            let heads = self.heads(layer);
            for row in 0..count {
                let own = out.rows.range(row);
                let own = &tape.fused[own.start * heads.qkv_width()..own.end * heads.qkv_width()];
                Arc::make_mut(&mut past.keys[row]).extend(copy_columns(own, heads, heads.keys()));
                Arc::make_mut(&mut past.values[row]).extend(copy_columns(own, heads, heads.values()));
            }
            out.hidden.push(after);
            out.attention.push(attention);
            out.mlp.push(mlp);
            out.past.push(past);
            out.fused.push(tape.fused);
        }
        out
    }

    /// Returns the hidden states after `layer` at each of `positions` in every row of `from`, `[positions, rows, d]`,
    /// with the output of `part` at that position replaced by the one in row 0 of `of`. Attention is not recomputed,
    /// because its input is unchanged.
    pub fn patch_one_layer(
        &self,
        layer: usize,
        part: Component,
        from: &ActivationCache,
        of: &ActivationCache,
        positions: &[usize],
    ) -> Vec<f32> {
        let places: Vec<(usize, usize)> =
            positions.iter().flat_map(|&position| (0..from.rows.count()).map(move |row| (row, position))).collect();
        let pick = |of: &dyn Fn(usize, usize) -> Vec<f32>| -> Vec<f32> {
            places.iter().flat_map(|&(row, position)| of(row, position)).collect()
        };
        let set = |wanted: Component| {
            pick(&|row, position| match part == wanted {
                true => of.output(part, layer, 0, position).to_vec(),
                false => from.output(wanted, layer, row, position).to_vec(),
            })
        };
        let x = pick(&|row, position| from.state(layer, row, position).to_vec());
        let rows = Rows::new(vec![1; places.len()]);
        let middle = self.add_attention(set(Component::Attention), &x, &rows, rows.lengths());
        let mut out = match part {
            Component::Mlp => set(Component::Mlp),
            Component::Attention => self.mlp_value(layer, &self.mlp_key(layer, &middle, false).0),
        };
        add(&mut out, &middle.resid);
        out
    }

    /// Runs resumed rows through the remaining layers. Returns the hidden states after the last layer at the last
    /// position of every row, `[rows, d]`. The rows must be sorted by their first layer. A row that forks from a trunk
    /// must come after the trunk and have a later first layer.
    pub fn run_patched(&self, rows: &[PatchedRun<'_>]) -> Vec<f32> {
        let (layers, width) = (self.spec().layers, self.spec().hidden_size);
        let mut running = RunBatch { rows: Rows::default(), joined: 0, settled: 0, x: Vec::new() };
        for layer in rows.first().map_or(layers, |row| row.first)..layers {
            running.join(rows, layer);
            self.resume_layer(layer, &rows[..running.joined], &mut running);
        }
        // After the last layer, `x` contains only the last position of every row. A row that computes no layer joins
        // here with its last position.
        let mut out = running.x;
        for row in &rows[running.joined..] {
            match row.start {
                StartState::Fork(trunk) => out.extend_from_within(trunk * width..(trunk + 1) * width),
                StartState::State(state) if row.position + 1 == row.end() => out.extend_from_slice(state),
                StartState::State(_) => out.extend_from_slice(row.cache.state(layers, row.row, row.end() - 1)),
            }
        }
        debug_assert_eq!(out.len(), rows.len() * width, "a state for every row");
        out
    }

    fn resume_layer(&self, layer: usize, rows: &[PatchedRun<'_>], running: &mut RunBatch) {
        let last = layer + 1 == self.spec().layers;
        let tails = if last { vec![1; rows.len()] } else { running.rows.lengths().to_vec() };
        let fused = self.resumed_queries(layer, rows, running);
        let (heads, shared) = (self.heads(layer), self.heads(layer).kv_width());
        let offered = |index: usize| {
            let (row, own) = (&rows[index], running.rows.range(index));
            let past = &row.cache.past[layer];
            AttentionInput {
                past_keys: &past.keys[row.row][..row.position * shared],
                past_values: &past.values[row.row][..row.position * shared],
                qkv: &fused[own.start * heads.qkv_width()..own.end * heads.qkv_width()],
                last_n: tails[index],
            }
        };
        let offered: Vec<AttentionInput<'_>> = (0..rows.len()).map(offered).collect();
        let (mut output, _) = self.attend_and_project(layer, &offered, false);
        set(Component::Attention, layer, rows, running, &tails, &mut output);
        let middle = self.add_attention(output, &running.x, &running.rows, &tails);
        let (key, _) = self.mlp_key(layer, &middle, false);
        let mut output = self.mlp_value(layer, &key);
        set(Component::Mlp, layer, rows, running, &tails, &mut output);
        add(&mut output, &middle.resid);
        running.x = output;
        running.settled = running.joined;
    }

    /// Returns queries, keys and values of all rows. A row that joined with a replaced state in this layer differs from
    /// its record only at its first position, so the other positions are read from the record.
    fn resumed_queries(&self, layer: usize, rows: &[PatchedRun<'_>], running: &RunBatch) -> Vec<f32> {
        let (width, fused) = (self.spec().hidden_size, self.heads(layer).qkv_width());
        let fresh = |index: usize| index >= running.settled && matches!(rows[index].start, StartState::State(_));
        let computed = |index: usize| if fresh(index) { 1 } else { running.rows.length(index) };
        let places = Rows::with_cached((0..rows.len()).map(|index| (running.rows.cached(index), computed(index))));
        if places.positions() == running.rows.positions() {
            return self.asked(layer, &running.x, &places).fused;
        }
        let mut x = Vec::with_capacity(places.positions() * width);
        for index in 0..rows.len() {
            x.extend_from_slice(&running.x[running.rows.range(index).start * width..][..computed(index) * width]);
        }
        let asked = self.asked(layer, &x, &places).fused;
        let mut out = Vec::with_capacity(running.rows.positions() * fused);
        for (index, row) in rows.iter().enumerate() {
            out.extend_from_slice(&asked[places.range(index).start * fused..places.range(index).end * fused]);
            if fresh(index) && row.position + 1 < row.end() {
                out.extend_from_slice(row.of_record(&row.cache.fused[layer], fused, row.position + 1));
            }
        }
        out
    }
}

/// The rows of a batch that have joined so far, with their current hidden states.
struct RunBatch {
    rows: Rows,
    joined: usize,
    /// Number of rows that joined before the current layer.
    settled: usize,
    x: Vec<f32>,
}

impl RunBatch {
    /// Adds the rows whose first layer is `layer`.
    fn join(&mut self, rows: &[PatchedRun<'_>], layer: usize) {
        for row in rows[self.joined..].iter().take_while(|row| row.first == layer) {
            let width = row.cache.width;
            match row.start {
                StartState::Fork(trunk) => {
                    let range = self.rows.range(trunk);
                    self.x.extend_from_within(range.start * width..range.end * width);
                }
                StartState::State(state) => {
                    self.x.extend_from_slice(state);
                    if row.position + 1 < row.end() {
                        self.x.extend_from_slice(row.of_record(&row.cache.hidden[layer], width, row.position + 1));
                    }
                }
            }
            self.joined += 1;
        }
        self.rows = Rows::with_cached(rows[..self.joined].iter().map(|row| (row.position, row.end() - row.position)));
    }
}

/// Replaces the outputs of `part` at the first position of every row that has a replacement for this layer. Skips a row
/// of which only the last positions are computed.
fn set(
    part: Component,
    layer: usize,
    rows: &[PatchedRun<'_>],
    running: &RunBatch,
    tails: &[usize],
    output: &mut [f32],
) {
    let mut first = 0;
    for (index, row) in rows.iter().enumerate() {
        let set = row.outputs.as_ref().filter(|set| set.component == part && set.layers.contains(&layer));
        if let Some(set) = set.filter(|_| tails[index] == running.rows.length(index)) {
            let width = set.source.width;
            output[first * width..][..width].copy_from_slice(set.source.output(part, layer, set.row, row.position));
        }
        first += tails[index];
    }
}
