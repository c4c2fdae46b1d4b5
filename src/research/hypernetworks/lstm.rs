//! One direction of an LSTM (Hochreiter and Schmidhuber 1997) with two biases, and its backward pass.
//!
//! The gates are in the order input, forget, cell, output. Every sequence is computed alone, so there is no padding.

use crate::numeric::elementary::{sigmoid, tanh};
use crate::numeric::rows::{add, each_row};
use crate::numeric::{Isa, View, matmul};

/// The parameters of one direction, or their gradients. `h` is the number of cells and `d` the width of an input.
#[derive(Clone, Debug, PartialEq)]
pub struct Lstm {
    /// The length d of an input vector.
    pub inputs: usize,
    /// The number of cells, h.
    pub cells: usize,
    /// The weights that multiply the input, `[4 h, d]`.
    pub input_weight: Vec<f32>,
    /// The weights that multiply the previous hidden state, `[4 h, h]`.
    pub state_weight: Vec<f32>,
    /// The bias of the product of `input_weight` and the input, `[4 h]`.
    pub input_bias: Vec<f32>,
    /// The bias of the product of `state_weight` and the previous hidden state, `[4 h]`.
    pub state_bias: Vec<f32>,
}

/// The intermediate results of one time step, which the backward pass needs.
struct Step {
    /// The gates after their activation functions: input, forget, cell, output, `[4 h]`.
    gates: Vec<f32>,
    /// The cell state and the hidden state before the step.
    before: (Vec<f32>, Vec<f32>),
    /// The hyperbolic tangent of the cell state after the step.
    squashed: Vec<f32>,
}

/// The intermediate results of the forward pass over a sequence, which the backward pass needs.
pub struct LstmTape {
    steps: Vec<Step>,
}

impl Lstm {
    pub fn zeros(inputs: usize, cells: usize) -> Self {
        Self {
            inputs,
            cells,
            input_weight: vec![0.0; 4 * cells * inputs],
            state_weight: vec![0.0; 4 * cells * cells],
            input_bias: vec![0.0; 4 * cells],
            state_bias: vec![0.0; 4 * cells],
        }
    }

    /// Returns the parameters in the order input weight, state weight, input bias, state bias.
    pub fn parts_mut(&mut self) -> [&mut Vec<f32>; 4] {
        [&mut self.input_weight, &mut self.state_weight, &mut self.input_bias, &mut self.state_bias]
    }

    /// Runs a sequence of inputs, `[steps, d]`, from a state of zeros. Returns the last hidden state, `[h]`.
    pub fn forward(&self, isa: Isa, inputs: &[f32]) -> (Vec<f32>, LstmTape) {
        let h = self.cells;
        let weight = View::new(&self.input_weight, 4 * h, self.inputs);
        let mut by_input = matmul(isa, View::new(inputs, inputs.len() / self.inputs, self.inputs), weight.transposed());
        each_row(&mut by_input, 4 * h, |_, row| {
            add(row, &self.input_bias);
            add(row, &self.state_bias);
        });
        let (mut cell, mut hidden, mut steps) = (vec![0.0; h], vec![0.0; h], Vec::new());
        for step_input in by_input.chunks(4 * h) {
            let state_weight = View::new(&self.state_weight, 4 * h, h);
            let mut gates = matmul(isa, View::new(&hidden, 1, h), state_weight.transposed());
            add(&mut gates, step_input);
            for (index, gate) in gates.iter_mut().enumerate() {
                *gate = if index / h == 2 { tanh(*gate) } else { sigmoid(*gate) };
            }
            let next: Vec<f32> = (0..h).map(|k| gates[h + k] * cell[k] + gates[k] * gates[2 * h + k]).collect();
            let squashed: Vec<f32> = next.iter().map(|x| tanh(*x)).collect();
            let output = (0..h).map(|k| gates[3 * h + k] * squashed[k]).collect();
            let before = (std::mem::replace(&mut cell, next), std::mem::replace(&mut hidden, output));
            steps.push(Step { gates, before, squashed });
        }
        (hidden, LstmTape { steps })
    }

    /// Back-propagates the gradient of the last hidden state. Returns the gradients of the gates before their activation
    /// functions, `[steps, 4 h]`.
    pub fn gate_gradients(&self, isa: Isa, tape: &LstmTape, gradient: &[f32]) -> Vec<f32> {
        let (h, steps) = (self.cells, tape.steps.len());
        let (mut by_hidden, mut by_cell) = (gradient.to_vec(), vec![0.0_f32; h]);
        let mut by_gates = vec![0.0_f32; steps * 4 * h];
        for (index, step) in tape.steps.iter().enumerate().rev() {
            let (cell, _) = &step.before;
            let by_gate = &mut by_gates[index * 4 * h..][..4 * h];
            for k in 0..h {
                let [i, f, g, o] = [0, 1, 2, 3].map(|gate| step.gates[gate * h + k]);
                let squashed = step.squashed[k];
                by_cell[k] += by_hidden[k] * o * (1.0 - squashed * squashed);
                by_gate[3 * h + k] = by_hidden[k] * squashed * o * (1.0 - o);
                by_gate[k] = by_cell[k] * g * i * (1.0 - i);
                by_gate[h + k] = by_cell[k] * cell[k] * f * (1.0 - f);
                by_gate[2 * h + k] = by_cell[k] * i * (1.0 - g * g);
                by_cell[k] *= f;
            }
            by_hidden = matmul(isa, View::new(by_gate, 1, 4 * h), View::new(&self.state_weight, 4 * h, h));
        }
        by_gates
    }

    /// Adds the gradients of the parameters to `sums`, and returns the gradients of the inputs, `[steps, d]`. The steps
    /// may belong to several sequences: `by_gates` has the results of [`Lstm::gate_gradients`] for the sequences,
    /// `tapes` their tapes, and `inputs` their inputs, `[steps, d]`.
    pub fn reverse(
        &self,
        isa: Isa,
        inputs: &[f32],
        tapes: &[&LstmTape],
        by_gates: &[f32],
        sums: &mut Self,
    ) -> Vec<f32> {
        let h = self.cells;
        let states: Vec<f32> =
            tapes.iter().flat_map(|tape| &tape.steps).flat_map(|step| &step.before.1).copied().collect();
        let steps = by_gates.len() / (4 * h);
        let by_gates_view = View::new(by_gates, steps, 4 * h);
        let input = View::new(inputs, steps, self.inputs);
        add(&mut sums.input_weight, &matmul(isa, by_gates_view.transposed(), input));
        add(&mut sums.state_weight, &matmul(isa, by_gates_view.transposed(), View::new(&states, steps, h)));
        for row in by_gates.chunks(4 * h) {
            add(&mut sums.input_bias, row);
            add(&mut sums.state_bias, row);
        }
        matmul(isa, by_gates_view, View::new(&self.input_weight, 4 * h, self.inputs))
    }
}
