//! Runs that are recorded, and rows that go on from a record with some of their states set: what causal tracing is
//! made of (Meng et al. 2022, section 2).
//!
//! A row that is restored at one token differs from the run that it goes on from only there and behind it: what stands
//! below the restored layer, or before the restored token, is taken from the record. Rows join a batch at their first
//! layer, so that weights are read once for many of them.

use super::decoder::{Model, Past};
use super::halves::cut;
use super::rows::Rows;
use crate::numeric::rows::add;

/// One of the two outputs that a block adds to its hidden state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The attention's.
    Attention,
    /// The MLP's.
    Mlp,
}

/// A run: what every layer made of every position of every row.
pub struct Record {
    /// Where the rows stand in the matrices.
    rows: Rows,
    width: usize,
    /// What stood before every layer, and behind the last: `[layers + 1][positions, d]`.
    hidden: Vec<Vec<f32>>,
    /// Outputs of both parts of every layer, `[layers][positions, d]`.
    attention: Vec<Vec<f32>>,
    mlp: Vec<Vec<f32>>,
    /// Keys and values of every layer, what came before the rows included.
    past: Vec<Past>,
}

impl Record {
    /// The place of a position of a text in the matrices.
    fn at(&self, row: usize, position: usize) -> usize {
        self.rows.range(row).start + position - self.rows.past(row)
    }

    /// What stands before `layer` (behind the last, for as many as there are) at a position of a text, `[d]`.
    pub fn state(&self, layer: usize, row: usize, position: usize) -> &[f32] {
        &self.hidden[layer][self.at(row, position) * self.width..][..self.width]
    }

    /// The output of a part of `layer` there, `[d]`.
    pub fn output(&self, part: Part, layer: usize, row: usize, position: usize) -> &[f32] {
        let outputs = match part {
            Part::Attention => &self.attention,
            Part::Mlp => &self.mlp,
        };
        &outputs[layer][self.at(row, position) * self.width..][..self.width]
    }

    /// States behind the last layer at the last position of every row, `[rows, d]`.
    pub fn last(&self) -> Vec<f32> {
        let layers = self.hidden.len() - 1;
        let last = |row: usize| self.state(layers, row, self.rows.past(row) + self.rows.length(row) - 1);
        (0..self.rows.count()).flat_map(last).copied().collect()
    }
}

/// A row that goes on from a record at one position, from one layer on.
pub struct Resumed<'r> {
    /// The record that it goes on from, and its row there.
    pub from: &'r Record,
    /// The row of that record.
    pub row: usize,
    /// The position from which it is computed; what stands before it is that of the record.
    pub position: usize,
    /// The first layer that is computed: as many as there are, if none is.
    pub first: usize,
    /// The row beside it that it leaves before that layer; none if it leaves the record.
    pub trunk: Option<usize>,
    /// What stands at the position before the first layer, where that is not the record's.
    pub state: Option<&'r [f32]>,
    /// A part of whose output at the position, by layer, another record says what it is: that record, and its row.
    pub outputs: Option<Outputs<'r>>,
}

/// Outputs that are set at one position.
pub struct Outputs<'r> {
    /// Of which part.
    pub part: Part,
    /// In which layers.
    pub layers: std::ops::Range<usize>,
    /// The record that has them.
    pub of: &'r Record,
    /// The row of that record.
    pub row: usize,
}

impl Model {
    /// Runs rows through all layers and records them; `past` is of `before` positions in front of each row, which
    /// stand in row 0 of that record.
    pub fn record(&self, x: Vec<f32>, count: usize, length: usize, before: Option<(&Record, usize)>) -> Record {
        let position = before.map_or(0, |(_, position)| position);
        let rows = Rows::after((0..count).map(|_| (position, length)));
        let width = self.spec().width;
        let mut out = Record { rows, width, hidden: vec![x], attention: Vec::new(), mlp: Vec::new(), past: Vec::new() };
        let tails = vec![length; count];
        for layer in 0..self.spec().layers {
            let x = &out.hidden[layer];
            let mut past = match before {
                Some((record, position)) => {
                    let one = record.past_of(self, layer, 0, position);
                    Past { keys: vec![one.0; count], values: vec![one.1; count] }
                }
                None => Past { keys: vec![Vec::new(); count], values: vec![Vec::new(); count] },
            };
            let (attention, tape) = self.attention_output(layer, x, &out.rows, &past, &tails, false);
            let middle = self.middle(attention.clone(), x, &out.rows, &tails);
            let (key, _) = self.mlp_key(layer, &middle, false);
            let mlp = self.mlp_value(layer, &key);
            let mut after = mlp.clone();
            add(&mut after, &middle.sum);
            let heads = self.heads(layer);
            for row in 0..count {
                let own = out.rows.range(row);
                let own = &tape.fused[own.start * heads.fused()..own.end * heads.fused()];
                past.keys[row].extend(cut(own, heads, heads.keys()));
                past.values[row].extend(cut(own, heads, heads.values()));
            }
            out.hidden.push(after);
            out.attention.push(attention);
            out.mlp.push(mlp);
            out.past.push(past);
        }
        out
    }

    /// States behind the last layer at the last position of every row, `[rows, d]`. Rows must be ordered by their
    /// first layer, a row behind its trunk.
    pub fn resume(&self, rows: &[Resumed<'_>]) -> Vec<f32> {
        let (layers, width) = (self.spec().layers, self.spec().width);
        let mut running = Running { rows: Rows::default(), joined: 0, x: Vec::new() };
        for layer in rows.first().map_or(layers, |row| row.first)..layers {
            running.join(rows, layer);
            self.resume_layer(layer, &rows[..running.joined], &mut running);
        }
        // Behind the last layer only last positions are left; rows that nothing is computed of join as these.
        let mut out = running.x;
        for row in &rows[running.joined..] {
            if let Some(trunk) = row.trunk {
                out.extend_from_within(trunk * width..(trunk + 1) * width);
                continue;
            }
            let end = row.from.rows.past(row.row) + row.from.rows.length(row.row) - 1;
            let state = if end == row.position { row.state } else { None };
            out.extend_from_slice(state.unwrap_or_else(|| row.from.state(layers, row.row, end)));
        }
        debug_assert_eq!(out.len(), rows.len() * width, "a state for every row");
        out
    }

    fn resume_layer(&self, layer: usize, rows: &[Resumed<'_>], running: &mut Running) {
        let last = layer + 1 == self.spec().layers;
        let tails = if last { vec![1; rows.len()] } else { running.rows.lengths().to_vec() };
        let past = rows.iter().map(|row| row.from.past_of(self, layer, row.row, row.position));
        let (keys, values) = past.unzip();
        let past = Past { keys, values };
        let (mut output, _) = self.attention_output(layer, &running.x, &running.rows, &past, &tails, false);
        set(Part::Attention, layer, rows, running, &tails, &mut output);
        let middle = self.middle(output, &running.x, &running.rows, &tails);
        let (key, _) = self.mlp_key(layer, &middle, false);
        let mut output = self.mlp_value(layer, &key);
        set(Part::Mlp, layer, rows, running, &tails, &mut output);
        add(&mut output, &middle.sum);
        running.x = output;
    }
}

/// The rows that have joined a batch.
struct Running {
    rows: Rows,
    joined: usize,
    x: Vec<f32>,
}

impl Running {
    /// Adds the rows whose first layer this is.
    fn join(&mut self, rows: &[Resumed<'_>], layer: usize) {
        let new = rows[self.joined..].iter().take_while(|row| row.first == layer);
        for row in new {
            if let Some(trunk) = row.trunk {
                let width = row.from.width;
                let range = self.rows.range(trunk);
                self.x.extend_from_within(range.start * width..range.end * width);
                self.joined += 1;
                continue;
            }
            let end = row.from.rows.past(row.row) + row.from.rows.length(row.row);
            for position in row.position..end {
                let state = if position == row.position { row.state } else { None };
                self.x.extend_from_slice(state.unwrap_or_else(|| row.from.state(layer, row.row, position)));
            }
            self.joined += 1;
        }
        let placed = |row: &Resumed<'_>| {
            let end = row.from.rows.past(row.row) + row.from.rows.length(row.row);
            (row.position, end - row.position)
        };
        self.rows = Rows::after(rows[..self.joined].iter().map(placed));
    }
}

/// Sets the outputs of a part where a row says what they are: at its first position, if that is among the tails.
fn set(part: Part, layer: usize, rows: &[Resumed<'_>], running: &Running, tails: &[usize], output: &mut [f32]) {
    let mut first = 0;
    for (index, row) in rows.iter().enumerate() {
        let set = row.outputs.as_ref().filter(|set| set.part == part && set.layers.contains(&layer));
        if let Some(set) = set.filter(|_| tails[index] == running.rows.length(index)) {
            let width = set.of.width;
            output[first * width..][..width].copy_from_slice(set.of.output(part, layer, set.row, row.position));
        }
        first += tails[index];
    }
}

impl Record {
    /// Keys and values of the positions before one, in one layer.
    fn past_of(&self, model: &Model, layer: usize, row: usize, position: usize) -> (Vec<f32>, Vec<f32>) {
        let shared = model.heads(layer).shared();
        let past = &self.past[layer];
        (past.keys[row][..position * shared].to_vec(), past.values[row][..position * shared].to_vec())
    }
}
