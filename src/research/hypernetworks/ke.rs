//! KnowledgeEditor (KE, De Cao et al. 2021), in the form that the ROME paper evaluates: the re-implementation of the
//! authors of MEND.
//!
//! A bidirectional LSTM reads the text of a fact and gives a condition vector c. From c, a network of each edited
//! matrix computes two columns, two rows and a scale. With G the gradient of the matrix, the change that is added is
//! `k · ((softmax(rowA)ᵀ colA) ⊙ G + softmax(rowB)ᵀ colB)`. G is a sum of products `xᵀ δ`, so the change has low rank.
//!
//! Rows and columns are those of the matrix in the checkpoint. A checkpoint with the layout of `Linear` stores the
//! outputs as rows, so the softmax is over the outputs there.

use rayon::prelude::*;

use super::capture::{CapturedFact, SiteRows};
use super::learner::{Learner, Numbers, Trained};
use super::lstm::{Lstm, LstmTape};
use super::normalised_layer::NormalisedLayer;
use crate::model::run::low_rank::{LowRank, Site};
use crate::model::{Model, Spec};
use crate::numeric::elementary::{sigmoid, tanh};
use crate::numeric::random::NumpyRandomState;
use crate::numeric::rows::{add, dot, each_row, softmax};
use crate::numeric::{Isa, View, matmul};
use crate::safetensors::Layout;

/// The published learning rate.
pub const PUBLISHED_RATE: f64 = 1e-5;

/// The network of one edited matrix. It maps the condition vector c to the vectors and the scale in [`KeParts`].
#[derive(Clone, Debug, PartialEq)]
pub struct KeHead {
    pub first: NormalisedLayer,
    pub second: NormalisedLayer,
}

/// The widths of the layers of KE's networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeSizes {
    /// The number of cells per direction of the LSTM.
    pub cells: usize,
    /// The width of the condition vector.
    pub condition: usize,
    /// The number of hidden units of each matrix's network.
    pub hidden: usize,
}

/// The parameters of the editor, or their gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct Ke {
    isa: Isa,
    pub sites: Vec<Site>,
    /// The number of inputs and the number of outputs of each edited matrix, in the order of `sites`.
    shapes: Vec<(usize, usize)>,
    /// The layout of the matrices in the checkpoint.
    layout: Layout,
    /// The embedding of the tokens, `[vocabulary, d]`. Before training it is a copy of the model's token embedding.
    pub embedding: Vec<f32>,
    pub forward: Lstm,
    pub backward: Lstm,
    /// The weights of the layer that computes the condition vector, `[condition, 2 cells]`.
    pub condition_weight: Vec<f32>,
    pub condition_bias: Vec<f32>,
    pub heads: Vec<KeHead>,
    /// The learning rate of all parameters.
    pub learning_rate: f64,
    /// The token whose embedding is not trained; `None` if all embeddings are trained. The published code does not
    /// train the embedding of token 0.
    pub untrained_token: Option<u32>,
}

/// The output of the network of one edited matrix: the vectors and the scale from which the change of the matrix is
/// computed.
#[derive(Clone, Debug, PartialEq)]
pub struct KeParts {
    layout: Layout,
    /// The factors of the gradient's columns, colA, `[columns]`.
    pub column_a: Vec<f32>,
    /// The factors of the gradient's rows, `softmax(rowA)`, `[rows]`.
    pub row_a: Vec<f32>,
    /// The factor of the second term of the change along the columns: colB, `[columns]`. This term does not contain the
    /// gradient.
    pub column_b: Vec<f32>,
    /// The factor of the second term of the change along the rows: `softmax(rowB)`, `[rows]`.
    pub row_b: Vec<f32>,
    /// k, the scale of the change, from 0 to 1.
    pub scale: f32,
}

/// The changes of the edited matrices for some facts, and the intermediate results that the backward pass needs.
pub struct KeEdits {
    /// The changes for each fact, in the order of `Ke::sites`.
    pub changes: Vec<Vec<LowRank>>,
    /// The condition vector c of each fact, which the LSTM computes from its text, `[facts, condition]`.
    pub conditions: Vec<f32>,
    /// The parts of each edited matrix: one per fact.
    pub parts: Vec<Vec<KeParts>>,
    /// The last hidden states of both directions, `[facts, 2 cells]`.
    states: Vec<f32>,
    /// For each fact, the tapes of both directions.
    tapes: Vec<[LstmTape; 2]>,
    /// The hidden units of the network of each edited matrix, `[facts, hidden]`.
    hidden: Vec<Vec<f32>>,
}

impl Ke {
    /// Creates an editor in which all parameters are 0, except for the embedding, which is copied from the model. Call
    /// [`Ke::draw`] before training.
    pub fn zeros(model: &Model, sites: Vec<Site>, sizes: KeSizes) -> Self {
        let spec: &Spec = model.spec();
        let d = spec.hidden_size;
        let shapes: Vec<(usize, usize)> = sites.iter().map(|site| site.shape(spec)).collect();
        let head = |(inputs, outputs): &(usize, usize)| KeHead {
            first: NormalisedLayer::zeros(sizes.condition, sizes.hidden),
            second: NormalisedLayer::zeros(sizes.hidden, 2 * (inputs + outputs) + 1),
        };
        Self {
            isa: model.isa(),
            embedding: (0..spec.vocabulary as u32).flat_map(|token| model.token_embedding(token)).collect(),
            forward: Lstm::zeros(d, sizes.cells),
            backward: Lstm::zeros(d, sizes.cells),
            condition_weight: vec![0.0; sizes.condition * 2 * sizes.cells],
            condition_bias: vec![0.0; sizes.condition],
            heads: shapes.iter().map(head).collect(),
            sites,
            shapes,
            layout: spec.family.layout,
            learning_rate: PUBLISHED_RATE,
            untrained_token: None,
        }
    }

    /// Draws all parameters except the embedding and the norms `g` uniformly from [−1/√n, 1/√n]. For a layer, n is the
    /// number of its inputs; for an LSTM, n is the number of its cells. Each `g` is set to the norm of its row of `v`.
    pub fn draw(&mut self, numbers: &mut NumpyRandomState) {
        let states = 2 * self.forward.cells;
        draw(&mut self.condition_weight, states, numbers);
        draw(&mut self.condition_bias, states, numbers);
        for lstm in [&mut self.forward, &mut self.backward] {
            let cells = lstm.cells;
            lstm.parts_mut().into_iter().for_each(|part| draw(part, cells, numbers));
        }
        for head in &mut self.heads {
            for layer in [&mut head.first, &mut head.second] {
                draw(&mut layer.v, layer.inputs, numbers);
                draw(&mut layer.bias, layer.inputs, numbers);
                layer.g = layer.v.chunks(layer.inputs).map(|row| dot(row, row).sqrt()).collect();
            }
        }
    }

    /// Returns a gradient for each parameter, with all elements 0.
    pub fn zero_gradients(&self) -> Self {
        let mut zeros = self.clone();
        zeros.parts_mut().into_iter().for_each(|part| part.fill(0.0));
        zeros
    }

    /// Returns all parameters in a fixed order: embedding, condition layer, both LSTMs, the first layers of all heads,
    /// the second layers of all heads.
    pub fn parts_mut(&mut self) -> Vec<&mut Vec<f32>> {
        let mut parts = vec![&mut self.embedding, &mut self.condition_weight, &mut self.condition_bias];
        parts.extend(self.forward.parts_mut());
        parts.extend(self.backward.parts_mut());
        let (first, second): (Vec<_>, Vec<_>) =
            self.heads.iter_mut().map(|head| (&mut head.first, &mut head.second)).unzip();
        parts.extend(first.into_iter().chain(second).flat_map(NormalisedLayer::parts_mut));
        parts
    }

    /// Returns the names of the parts, in the order of [`Ke::parts_mut`].
    fn part_names(&self) -> Vec<String> {
        let mut names: Vec<String> = ["embedding", "condition.weight", "condition.bias"].map(str::to_owned).to_vec();
        for direction in ["forward", "backward"] {
            let parts = ["input-weight", "state-weight", "input-bias", "state-bias"];
            names.extend(parts.map(|part| format!("{direction}.{part}")));
        }
        for layer in ["first", "second"] {
            for index in 0..self.heads.len() {
                names.extend(["v", "g", "b"].map(|part| format!("head.{index}.{layer}.{part}")));
            }
        }
        names
    }

    /// Computes the changes of the edited matrices for some facts.
    pub fn edit(&self, facts: &[CapturedFact<'_>]) -> KeEdits {
        let read = |fact: &CapturedFact<'_>| {
            let (last, forward) = self.forward.forward(self.isa, &self.embedded(fact.text.iter()));
            let (first, backward) = self.backward.forward(self.isa, &self.embedded(fact.text.iter().rev()));
            ([last, first].concat(), [forward, backward])
        };
        let (states, tapes): (Vec<_>, Vec<_>) = facts.par_iter().map(read).unzip();
        let (states, width) = (states.concat(), 2 * self.forward.cells);
        let weight = View::new(&self.condition_weight, self.condition_bias.len(), width);
        let mut conditions = matmul(self.isa, View::new(&states, facts.len(), width), weight.transposed());
        each_row(&mut conditions, self.condition_bias.len(), |_, row| {
            row.iter_mut().zip(&self.condition_bias).for_each(|(x, bias)| *x = tanh(*x + bias));
        });
        let mut edits =
            KeEdits { changes: Vec::new(), conditions, parts: Vec::new(), states, tapes, hidden: Vec::new() };
        edits.changes = vec![Vec::with_capacity(self.sites.len()); facts.len()];
        for (index, head) in self.heads.iter().enumerate() {
            let mut units = head.first.apply(self.isa, &edits.conditions);
            units.iter_mut().for_each(|x| *x = tanh(*x));
            let outputs = head.second.apply(self.isa, &units);
            let parts =
                outputs.chunks(head.second.g.len()).map(|row| KeParts::of(row, self.shapes[index], self.layout));
            let parts: Vec<KeParts> = parts.collect();
            for ((part, fact), changes) in parts.iter().zip(facts).zip(&mut edits.changes) {
                changes.push(part.change(&fact.rows[index]));
            }
            edits.parts.push(parts);
            edits.hidden.push(units);
        }
        edits
    }

    fn embedded<'t>(&self, text: impl Iterator<Item = &'t u32>) -> Vec<f32> {
        let d = self.forward.inputs;
        text.flat_map(|token| &self.embedding[*token as usize * d..][..d]).copied().collect()
    }

    /// Back-propagates from the changes to the parameters, and adds the gradients of the parameters to `sums`.
    /// `by_changes` has, for each fact, the gradients of the two factors of each change. `facts` must be the same as in
    /// the call of [`Ke::edit`].
    pub fn reverse(&self, edits: &KeEdits, facts: &[CapturedFact<'_>], by_changes: &[Vec<LowRank>], sums: &mut Self) {
        let mut by_condition = vec![0.0; edits.conditions.len()];
        for (index, (head, total)) in self.heads.iter().zip(&mut sums.heads).enumerate() {
            let parts = edits.parts[index].iter().zip(facts).zip(by_changes);
            let gradient: Vec<f32> =
                parts.flat_map(|((part, fact), by)| part.reverse(&fact.rows[index], &by[index])).collect();
            let mut by_units = head.second.reverse(self.isa, &edits.hidden[index], &gradient, &mut total.second);
            by_units.iter_mut().zip(&edits.hidden[index]).for_each(|(g, y)| *g *= 1.0 - y * y);
            add(&mut by_condition, &head.first.reverse(self.isa, &edits.conditions, &by_units, &mut total.first));
        }
        by_condition.iter_mut().zip(&edits.conditions).for_each(|(g, c)| *g *= 1.0 - c * c);
        let (width, states) = (self.condition_bias.len(), 2 * self.forward.cells);
        by_condition.chunks(width).for_each(|row| add(&mut sums.condition_bias, row));
        let by_condition = View::new(&by_condition, facts.len(), width);
        let product = matmul(self.isa, by_condition.transposed(), View::new(&edits.states, facts.len(), states));
        add(&mut sums.condition_weight, &product);
        let by_states = matmul(self.isa, by_condition, View::new(&self.condition_weight, width, states));
        self.reverse_direction(edits, facts, 0, &by_states, sums);
        self.reverse_direction(edits, facts, 1, &by_states, sums);
    }

    /// Back-propagates through one direction of the LSTM to the token embeddings; `direction` is 0 for the forward LSTM
    /// and 1 for the backward LSTM.
    fn reverse_direction(
        &self,
        edits: &KeEdits,
        facts: &[CapturedFact<'_>],
        direction: usize,
        by_states: &[f32],
        sums: &mut Self,
    ) {
        let cells = self.forward.cells;
        let (lstm, lstm_sums) =
            if direction == 0 { (&self.forward, &mut sums.forward) } else { (&self.backward, &mut sums.backward) };
        let tapes: Vec<&LstmTape> = edits.tapes.iter().map(|tapes| &tapes[direction]).collect();
        let of_fact = by_states
            .par_chunks(2 * cells)
            .zip(&tapes)
            .map(|(gradient, tape)| lstm.gate_gradients(self.isa, tape, &gradient[direction * cells..][..cells]));
        let by_gates: Vec<f32> = of_fact.collect::<Vec<_>>().concat();
        let tokens: Vec<u32> = facts.iter().flat_map(|fact| in_direction(fact.text, direction)).collect();
        let inputs = self.embedded(tokens.iter());
        let by_inputs = lstm.reverse(self.isa, &inputs, &tapes, &by_gates, lstm_sums);
        for (token, by_input) in tokens.iter().zip(by_inputs.chunks(lstm.inputs)) {
            if Some(*token) != self.untrained_token {
                add(&mut sums.embedding[*token as usize * lstm.inputs..][..lstm.inputs], by_input);
            }
        }
    }
}

/// Returns the tokens in the order in which the LSTM of a direction reads them.
fn in_direction(text: &[u32], direction: usize) -> Vec<u32> {
    if direction == 0 { text.to_vec() } else { text.iter().rev().copied().collect() }
}

/// Replaces each number in `part` by a random number, uniform between −1/√`inputs` and 1/√`inputs`.
fn draw(part: &mut [f32], inputs: usize, numbers: &mut NumpyRandomState) {
    let bound = 1.0 / (inputs as f64).sqrt();
    part.iter_mut().for_each(|x| *x = (bound * numbers.uniform()) as f32);
}

impl Learner for Ke {
    type Edits = KeEdits;
    type Gradients = Self;

    fn sites(&self) -> &[Site] {
        &self.sites
    }

    fn observe(&mut self, _: &[SiteRows]) {}

    fn can_edit(&self) -> bool {
        true
    }

    fn learn(&mut self, facts: &[CapturedFact<'_>]) -> KeEdits {
        self.edit(facts)
    }

    fn apply(&self, facts: &[CapturedFact<'_>]) -> KeEdits {
        self.edit(facts)
    }

    fn changes(edits: &KeEdits) -> &[Vec<LowRank>] {
        &edits.changes
    }

    fn zero_gradients(&self) -> Self {
        self.zero_gradients()
    }

    fn reverse(&self, edits: &KeEdits, facts: &[CapturedFact<'_>], by_changes: &[Vec<LowRank>], sums: &mut Self) {
        self.reverse(edits, facts, by_changes, sums);
    }

    fn trained<'p>(&'p mut self, gradients: &'p mut Self) -> Vec<Trained<'p>> {
        let rate = self.learning_rate;
        let pairs = self.parts_mut().into_iter().zip(gradients.parts_mut());
        pairs.map(|(values, gradient)| Trained { values, gradient, rate }).collect()
    }

    fn state(&mut self) -> Vec<(String, Numbers<'_>)> {
        let names = self.part_names();
        names.into_iter().zip(self.parts_mut()).map(|(name, part)| (name, Numbers::F32(part))).collect()
    }
}

impl KeParts {
    /// Splits the output vector of a network into colA, rowA, colB, rowB and the scale, and applies the softmax to both
    /// rows and the sigmoid to the scale.
    fn of(output: &[f32], (inputs, outputs): (usize, usize), layout: Layout) -> Self {
        let (rows, columns) = match layout {
            Layout::Conv1d => (inputs, outputs),
            Layout::Linear => (outputs, inputs),
        };
        let (column_a, rest) = output.split_at(columns);
        let (row_a, rest) = rest.split_at(rows);
        let (column_b, rest) = rest.split_at(columns);
        let (row_b, scale) = rest.split_at(rows);
        let shares = |row: &[f32]| {
            let mut row = row.to_vec();
            softmax(&mut row);
            row
        };
        Self {
            layout,
            column_a: column_a.to_vec(),
            row_a: shares(row_a),
            column_b: column_b.to_vec(),
            row_b: shares(row_b),
            scale: sigmoid(scale[0]),
        }
    }

    /// Returns `[for inputs, for outputs]` of a factor along the rows and a factor along the columns.
    fn sides<'p>(&self, row: &'p [f32], column: &'p [f32]) -> [&'p [f32]; 2] {
        match self.layout {
            Layout::Conv1d => [row, column],
            Layout::Linear => [column, row],
        }
    }

    /// Returns the change as a product of rank T + 1 with T = the number of rows of x and δ.
    fn change(&self, rows: &SiteRows) -> LowRank {
        let times = |matrix: &[f32], factors: &[f32], scale: f32| {
            let row = |row: &[f32]| row.iter().zip(factors).map(|(x, y)| x * y * scale).collect::<Vec<_>>();
            matrix.chunks(factors.len()).flat_map(row).collect::<Vec<_>>()
        };
        let [input_a, output_a] = self.sides(&self.row_a, &self.column_a);
        let [input_b, output_b] = self.sides(&self.row_b, &self.column_b);
        let mut a = times(&rows.x, input_a, 1.0);
        a.extend_from_slice(input_b);
        let mut b = times(&rows.delta, output_a, self.scale);
        b.extend(output_b.iter().map(|x| x * self.scale));
        LowRank { a, b }
    }

    /// Returns the gradient of the network's output vector. `by` has the gradients of the two factors of the change
    /// that [`KeParts::change`] computed from `rows`.
    fn reverse(&self, rows: &SiteRows, by: &LowRank) -> Vec<f32> {
        let [input_a, output_a] = self.sides(&self.row_a, &self.column_a);
        let [_, output_b] = self.sides(&self.row_b, &self.column_b);
        let (inputs, outputs) = (input_a.len(), output_a.len());
        let (mut by_input_a, mut by_output_a) = (vec![0.0; inputs], vec![0.0; outputs]);
        let (mut by_scale, rank) = (0.0_f32, by.a.len() / inputs);
        for (by_a, x) in by.a.chunks(inputs).zip(rows.x.chunks(inputs)) {
            by_input_a.iter_mut().zip(by_a.iter().zip(x)).for_each(|(sum, (g, x))| *sum += g * x);
        }
        for (by_b, delta) in by.b.chunks(outputs).zip(rows.delta.chunks(outputs)) {
            for (index, (g, output)) in by_b.iter().zip(delta).enumerate() {
                by_output_a[index] += self.scale * g * output;
                by_scale += g * output_a[index] * output;
            }
        }
        let (by_input_b, by_b) = (&by.a[(rank - 1) * inputs..], &by.b[(rank - 1) * outputs..]);
        by_scale += dot(by_b, output_b);
        let by_output_b: Vec<f32> = by_b.iter().map(|g| self.scale * g).collect();
        let by_shares = |shares: &[f32], gradient: &[f32]| {
            let mean = dot(shares, gradient);
            shares.iter().zip(gradient).map(|(p, g)| p * (g - mean)).collect::<Vec<_>>()
        };
        let (sides_a, sides_b) = ([&by_input_a[..], &by_output_a], [by_input_b, &by_output_b]);
        let [row, column] = match self.layout {
            Layout::Conv1d => [0, 1],
            Layout::Linear => [1, 0],
        };
        let mut out = sides_a[column].to_vec();
        out.extend(by_shares(&self.row_a, sides_a[row]));
        out.extend_from_slice(sides_b[column]);
        out.extend(by_shares(&self.row_b, sides_b[row]));
        out.push(by_scale * self.scale * (1.0 - self.scale));
        out
    }
}
