//! KnowledgeEditor (KE, De Cao et al. 2021), in the form that the ROME paper evaluates: the re-implementation of the
//! authors of MEND.
//!
//! A bidirectional LSTM reads the text of a fact and gives a condition vector c. From c, a network of each edited
//! matrix computes two columns, two rows and a scale. With G the gradient of the matrix, the change that is added is
//! `k · ((softmax(rowA)ᵀ colA) ⊙ G + softmax(rowB)ᵀ colB)`. G is a sum of products `xᵀ δ`, so the change has low rank.

use super::capture::SiteRows;
use super::lstm::{Lstm, LstmTape, sigmoid, tanh};
use super::sites::{LowRank, Site};
use super::train::{Learner, Trained};
use crate::model::{Model, Spec};
use crate::numeric::random::NumpyRandomState;
use crate::numeric::rows::{add, dot, softmax};
use crate::numeric::{Isa, View, matmul};

/// The published learning rate.
const PUBLISHED_RATE: f64 = 1e-5;

/// A layer `y = (g / ‖v‖) v x + b` with weight normalisation (Salimans and Kingma 2016), or the gradients of its
/// parameters. The norm is that of a row of v.
#[derive(Clone, Debug, PartialEq)]
pub struct NormalisedLayer {
    pub inputs: usize,
    /// The directions of the weights, `[outputs, inputs]`.
    pub v: Vec<f32>,
    /// The norm of the weight row of each output, `[outputs]`.
    pub g: Vec<f32>,
    pub bias: Vec<f32>,
}

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
}

/// The output of the network of one edited matrix: the vectors and the scale from which the change of the matrix is
/// computed.
#[derive(Clone, Debug, PartialEq)]
pub struct KeParts {
    /// The factors of the gradient's columns, colA, `[outputs]`.
    pub column_a: Vec<f32>,
    /// The factors of the gradient's rows, `softmax(rowA)`, `[inputs]`.
    pub row_a: Vec<f32>,
    /// The right factor of the second term of the change, which does not contain the gradient: colB, `[outputs]`.
    pub column_b: Vec<f32>,
    /// The left factor of the second term of the change, which does not contain the gradient: `softmax(rowB)`,
    /// `[inputs]`.
    pub row_b: Vec<f32>,
    /// k, the scale of the change, from 0 to 1.
    pub scale: f32,
}

/// The change of each edited matrix for one fact, and the intermediate results that the backward pass needs.
pub struct KeEdit {
    /// The changes of the edited matrices, in the order of `Ke::sites`.
    pub changes: Vec<LowRank>,
    /// The condition vector c, which the LSTM computes from the text of the fact.
    pub condition: Vec<f32>,
    pub parts: Vec<KeParts>,
    text: Vec<u32>,
    states: Vec<f32>,
    tapes: [LstmTape; 2],
    hidden: Vec<Vec<f32>>,
}

impl NormalisedLayer {
    pub fn zeros(inputs: usize, outputs: usize) -> Self {
        Self { inputs, v: vec![0.0; outputs * inputs], g: vec![0.0; outputs], bias: vec![0.0; outputs] }
    }

    /// Returns the parameters in the order v, g, bias.
    pub fn parts_mut(&mut self) -> [&mut Vec<f32>; 3] {
        [&mut self.v, &mut self.g, &mut self.bias]
    }

    fn apply(&self, isa: Isa, x: &[f32]) -> Vec<f32> {
        let v = View::new(&self.v, self.g.len(), self.inputs);
        let mut out = matmul(isa, View::new(x, 1, self.inputs), v.transposed());
        let rows = self.v.chunks(self.inputs).zip(self.g.iter().zip(&self.bias));
        for (y, (row, (g, bias))) in out.iter_mut().zip(rows) {
            *y = *y * (g / dot(row, row).sqrt()) + bias;
        }
        out
    }

    /// Back-propagates `gradient`, the gradient of the output for the input `x`. Adds the gradients of the parameters
    /// to `sums`, and returns the gradient of the input.
    fn reverse(&self, isa: Isa, x: &[f32], gradient: &[f32], sums: &mut Self) -> Vec<f32> {
        add(&mut sums.bias, gradient);
        let mut by_product = gradient.to_vec();
        for (row, (by, by_v)) in by_product.iter_mut().zip(sums.v.chunks_mut(self.inputs)).enumerate() {
            let v = &self.v[row * self.inputs..][..self.inputs];
            let norm = dot(v, v).sqrt();
            let along = dot(x, v) / norm;
            sums.g[row] += *by * along;
            let factor = self.g[row] / norm;
            for (sum, (input, element)) in by_v.iter_mut().zip(x.iter().zip(v)) {
                *sum += *by * factor * (input - along / norm * element);
            }
            *by *= factor;
        }
        matmul(isa, View::new(&by_product, 1, self.g.len()), View::new(&self.v, self.g.len(), self.inputs))
    }
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
            learning_rate: PUBLISHED_RATE,
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

    /// Computes the change of each edited matrix for one fact. `text` has the tokens of the prompt and the target, and
    /// `rows` has the inputs and output gradients of each edited matrix.
    pub fn edit(&self, text: &[u32], rows: &[SiteRows]) -> KeEdit {
        let embedded = self.embedded(text.iter());
        let (last, forward) = self.forward.forward(self.isa, &embedded);
        let (first, backward) = self.backward.forward(self.isa, &self.embedded(text.iter().rev()));
        let states = [last, first].concat();
        let weight = View::new(&self.condition_weight, self.condition_bias.len(), states.len());
        let mut condition = matmul(self.isa, View::new(&states, 1, states.len()), weight.transposed());
        add(&mut condition, &self.condition_bias);
        condition.iter_mut().for_each(|x| *x = tanh(*x));
        let (mut changes, mut parts, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
        for (index, of_site) in rows.iter().enumerate() {
            let mut units = self.heads[index].first.apply(self.isa, &condition);
            units.iter_mut().for_each(|x| *x = tanh(*x));
            let part = KeParts::of(&self.heads[index].second.apply(self.isa, &units), self.shapes[index]);
            changes.push(part.change(of_site));
            parts.push(part);
            hidden.push(units);
        }
        KeEdit { changes, condition, parts, text: text.to_vec(), states, tapes: [forward, backward], hidden }
    }

    fn embedded<'t>(&self, text: impl Iterator<Item = &'t u32>) -> Vec<f32> {
        let d = self.forward.inputs;
        text.flat_map(|token| &self.embedding[*token as usize * d..][..d]).copied().collect()
    }

    /// Back-propagates from the changes to the parameters, and adds the gradients of the parameters to `sums`.
    /// `by_change` has the gradients of the two factors of each change. `rows` must be the same as in the call of
    /// [`Ke::edit`].
    pub fn reverse(&self, edit: &KeEdit, rows: &[SiteRows], by_change: &[LowRank], sums: &mut Self) {
        let mut by_condition = vec![0.0; edit.condition.len()];
        for (index, (by, of_site)) in by_change.iter().zip(rows).enumerate() {
            let gradient = edit.parts[index].reverse(of_site, by);
            let (head, total) = (&self.heads[index], &mut sums.heads[index]);
            let mut by_units = head.second.reverse(self.isa, &edit.hidden[index], &gradient, &mut total.second);
            by_units.iter_mut().zip(&edit.hidden[index]).for_each(|(g, y)| *g *= 1.0 - y * y);
            add(&mut by_condition, &head.first.reverse(self.isa, &edit.condition, &by_units, &mut total.first));
        }
        by_condition.iter_mut().zip(&edit.condition).for_each(|(g, c)| *g *= 1.0 - c * c);
        add(&mut sums.condition_bias, &by_condition);
        let (c, states) = (by_condition.len(), edit.states.len());
        let by_condition = View::new(&by_condition, 1, c);
        let product = matmul(self.isa, by_condition.transposed(), View::new(&edit.states, 1, states));
        add(&mut sums.condition_weight, &product);
        let by_states = matmul(self.isa, by_condition, View::new(&self.condition_weight, c, states));
        let (by_last, by_first) = by_states.split_at(self.forward.cells);
        self.reverse_direction(edit, 0, by_last, sums);
        self.reverse_direction(edit, 1, by_first, sums);
    }

    /// Back-propagates through one direction of the LSTM to the token embeddings; `direction` is 0 for the forward LSTM
    /// and 1 for the backward LSTM.
    fn reverse_direction(&self, edit: &KeEdit, direction: usize, gradient: &[f32], sums: &mut Self) {
        let mut text = edit.text.clone();
        if direction == 1 {
            text.reverse();
        }
        let inputs = self.embedded(text.iter());
        let (lstm, lstm_sums) =
            if direction == 0 { (&self.forward, &mut sums.forward) } else { (&self.backward, &mut sums.backward) };
        let by_inputs = lstm.reverse(self.isa, &inputs, &edit.tapes[direction], gradient.to_vec(), lstm_sums);
        for (token, by_input) in text.iter().zip(by_inputs.chunks(lstm.inputs)) {
            add(&mut sums.embedding[*token as usize * lstm.inputs..][..lstm.inputs], by_input);
        }
    }
}

/// Replaces each number in `part` by a random number, uniform between −1/√`inputs` and 1/√`inputs`.
fn draw(part: &mut [f32], inputs: usize, numbers: &mut NumpyRandomState) {
    let bound = 1.0 / (inputs as f64).sqrt();
    part.iter_mut().for_each(|x| *x = (bound * numbers.uniform()) as f32);
}

impl Learner for Ke {
    type Edit = KeEdit;
    type Gradients = Self;

    fn sites(&self) -> &[Site] {
        &self.sites
    }

    fn observe(&mut self, _: &[SiteRows]) {}

    fn learn(&mut self, text: &[u32], rows: &[SiteRows]) -> KeEdit {
        self.edit(text, rows)
    }

    fn apply(&self, text: &[u32], rows: &[SiteRows]) -> KeEdit {
        self.edit(text, rows)
    }

    fn changes(edit: &KeEdit) -> &[LowRank] {
        &edit.changes
    }

    fn zero_gradients(&self) -> Self {
        self.zero_gradients()
    }

    fn reverse(&self, edit: &KeEdit, rows: &[SiteRows], by_change: &[LowRank], sums: &mut Self) {
        self.reverse(edit, rows, by_change, sums);
    }

    fn trained<'p>(&'p mut self, gradients: &'p mut Self) -> Vec<Trained<'p>> {
        let rate = self.learning_rate;
        let pairs = self.parts_mut().into_iter().zip(gradients.parts_mut());
        pairs.map(|(values, gradient)| Trained { values, gradient, rate }).collect()
    }
}

impl KeParts {
    /// Splits the output vector of a network into colA, rowA, colB, rowB and the scale, and applies the softmax to both
    /// rows and the sigmoid to the scale.
    fn of(output: &[f32], (inputs, outputs): (usize, usize)) -> Self {
        let (column_a, rest) = output.split_at(outputs);
        let (row_a, rest) = rest.split_at(inputs);
        let (column_b, rest) = rest.split_at(outputs);
        let (row_b, scale) = rest.split_at(inputs);
        let shares = |row: &[f32]| {
            let mut row = row.to_vec();
            softmax(&mut row);
            row
        };
        Self {
            column_a: column_a.to_vec(),
            row_a: shares(row_a),
            column_b: column_b.to_vec(),
            row_b: shares(row_b),
            scale: sigmoid(scale[0]),
        }
    }

    /// Returns the change as a product of rank T + 1 with T = the number of rows.
    fn change(&self, rows: &SiteRows) -> LowRank {
        let times = |matrix: &[f32], factors: &[f32], scale: f32| {
            let row = |row: &[f32]| row.iter().zip(factors).map(|(x, y)| x * y * scale).collect::<Vec<_>>();
            matrix.chunks(factors.len()).flat_map(row).collect::<Vec<_>>()
        };
        let mut a = times(&rows.x, &self.row_a, 1.0);
        a.extend_from_slice(&self.row_b);
        let mut b = times(&rows.delta, &self.column_a, self.scale);
        b.extend(self.column_b.iter().map(|x| x * self.scale));
        LowRank { a, b }
    }

    /// Returns the gradient of the network's output vector. `by` has the gradients of the two factors of the change
    /// that [`KeParts::change`] computed from `rows`.
    fn reverse(&self, rows: &SiteRows, by: &LowRank) -> Vec<f32> {
        let (inputs, outputs) = (self.row_a.len(), self.column_a.len());
        let (mut by_row_a, mut by_column_a) = (vec![0.0; inputs], vec![0.0; outputs]);
        let (mut by_scale, rank) = (0.0_f32, by.a.len() / inputs);
        for (by_a, x) in by.a.chunks(inputs).zip(rows.x.chunks(inputs)) {
            by_row_a.iter_mut().zip(by_a.iter().zip(x)).for_each(|(sum, (g, x))| *sum += g * x);
        }
        for (by_b, delta) in by.b.chunks(outputs).zip(rows.delta.chunks(outputs)) {
            for (index, (g, output)) in by_b.iter().zip(delta).enumerate() {
                by_column_a[index] += self.scale * g * output;
                by_scale += g * self.column_a[index] * output;
            }
        }
        let (by_row_b, by_b) = (&by.a[(rank - 1) * inputs..], &by.b[(rank - 1) * outputs..]);
        by_scale += dot(by_b, &self.column_b);
        let by_shares = |shares: &[f32], gradient: &[f32]| {
            let mean = dot(shares, gradient);
            shares.iter().zip(gradient).map(|(p, g)| p * (g - mean)).collect::<Vec<_>>()
        };
        let mut out = by_column_a;
        out.extend(by_shares(&self.row_a, &by_row_a));
        out.extend(by_b.iter().map(|g| self.scale * g));
        out.extend(by_shares(&self.row_b, by_row_b));
        out.push(by_scale * self.scale * (1.0 - self.scale));
        out
    }
}
