//! MEND (Mitchell et al. 2022): networks that turn the gradients for one fact into low-rank changes of the edited
//! matrices.
//!
//! For each edited matrix, the rows of inputs x and output gradients δ are whitened and transformed by the network of
//! the matrix's shape. With the transformed rows x̃ and δ̃, the matrix is changed by `rate · x̃ᵀ δ̃`.

use super::capture::SiteRows;
use super::mend_network::{MendNetwork, MendTape};
use super::sites::{LowRank, Site};
use super::train::{Learner, Trained};
use super::whitening::RunningStatistics;
use crate::model::Spec;
use crate::model::load::checkpoint::MlpMatrix;
use crate::numeric::Isa;
use crate::numeric::random::NumpyRandomState;

/// The rate of every matrix before training, as published.
pub const START_RATE: f32 = 1e-4;

/// The network and the statistics that all edited matrices of one shape share.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedShape {
    /// The statistics of the inputs x.
    pub inputs: RunningStatistics,
    /// The statistics of the output gradients δ.
    pub outputs: RunningStatistics,
    pub network: MendNetwork,
}

/// The parameters of the editor MEND: the networks, the statistics for whitening, and one rate per edited matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Mend {
    isa: Isa,
    pub sites: Vec<Site>,
    /// The networks of the two matrix shapes: first of the gate and up-projections, then of the down-projections.
    pub shapes: [SharedShape; 2],
    /// The rates by which the changes are multiplied, one per edited matrix.
    pub rates: Vec<f32>,
    pub learning: MendLearningRates,
}

/// The learning rates of Adam: one for the networks, one for [`Mend::rates`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MendLearningRates {
    /// The learning rate of the networks.
    pub networks: f64,
    /// The learning rate of [`Mend::rates`].
    pub rates: f64,
}

impl MendLearningRates {
    /// Adapts the published learning rate of the networks to their rank and width. One step with the learning rate r
    /// changes `p` by about `0.8 · r · rank · √width`. The returned rate makes this change as large as in GPT-2 XL.
    /// The learning rate of [`Mend::rates`] is the same for all sizes.
    pub fn for_size(rank: usize, width: usize) -> Self {
        Self { networks: 0.172 / (rank as f64 * (width as f64).sqrt()), rates: 1e-4 }
    }
}

/// The gradients of all parameters of the editor.
#[derive(Clone, Debug, PartialEq)]
pub struct MendGradients {
    pub networks: [MendNetwork; 2],
    pub rates: Vec<f32>,
}

/// The change of each edited matrix for one fact, and the intermediate results that the backward pass needs.
pub struct MendEdit {
    /// The changes of the edited matrices, in the order of `Mend::sites`. The factor `b` of a change is already
    /// multiplied by the rate of the matrix.
    pub changes: Vec<LowRank>,
    /// The transformed rows δ̃ of each edited matrix, before they are multiplied by the rate.
    outputs: Vec<Vec<f32>>,
    tapes: Vec<MendTape>,
}

impl Mend {
    /// Creates an untrained editor. Its networks return their input, so the change of a matrix is its whitened gradient
    /// times the rate. `rank` is the rank of the networks; it is reduced to the width of a row if it is larger.
    pub fn new(spec: &Spec, isa: Isa, sites: Vec<Site>, rank: usize, numbers: &mut NumpyRandomState) -> Self {
        let (d, f) = (spec.hidden_size, spec.intermediate_size);
        let matrices = |down: bool| sites.iter().filter(|site| (site.matrix == MlpMatrix::Down) == down).count();
        let shape = |(inputs, outputs, down): (usize, usize, bool)| SharedShape {
            inputs: RunningStatistics::new(inputs),
            outputs: RunningStatistics::new(outputs),
            network: MendNetwork::new(d + f, rank.min(d + f), matrices(down), numbers),
        };
        let shapes = [(d, f, false), (f, d, true)].map(shape);
        let rates = vec![START_RATE; sites.len()];
        let learning = MendLearningRates::for_size(rank.min(d + f), d + f);
        Self { isa, sites, shapes, rates, learning }
    }

    /// Adds the inputs and output gradients of one fact to the statistics for whitening. No changes are computed.
    pub fn observe(&mut self, rows: &[SiteRows]) {
        for (index, of_site) in rows.iter().enumerate() {
            self.observe_site(index, of_site);
        }
    }

    /// Computes the change of each edited matrix for one fact during training. The rows of a matrix are added to the
    /// statistics first, and then whitened with them.
    pub fn observe_and_edit(&mut self, rows: &[SiteRows]) -> MendEdit {
        let mut edit = MendEdit { changes: Vec::new(), outputs: Vec::new(), tapes: Vec::new() };
        for (index, of_site) in rows.iter().enumerate() {
            self.observe_site(index, of_site);
            self.edit_site(index, of_site, &mut edit);
        }
        edit
    }

    /// Computes the change of each edited matrix for one fact. The rows are whitened with the existing statistics and
    /// not added to them.
    pub fn edit(&self, rows: &[SiteRows]) -> MendEdit {
        let mut edit = MendEdit { changes: Vec::new(), outputs: Vec::new(), tapes: Vec::new() };
        for (index, of_site) in rows.iter().enumerate() {
            self.edit_site(index, of_site, &mut edit);
        }
        edit
    }

    fn observe_site(&mut self, index: usize, rows: &SiteRows) {
        let shape = &mut self.shapes[shape_of(self.sites[index])];
        shape.inputs.add(&rows.x);
        shape.outputs.add(&rows.delta);
    }

    fn edit_site(&self, index: usize, rows: &SiteRows, edit: &mut MendEdit) {
        let shape = &self.shapes[shape_of(self.sites[index])];
        let (x, delta) = (shape.inputs.whiten(&rows.x), shape.outputs.whiten(&rows.delta));
        let (z, tape) = shape.network.forward(self.isa, self.index_in_shape(index), joined(&x, &delta, shape));
        let (a, outputs) = separated(&z, shape);
        let b = outputs.iter().map(|output| self.rates[index] * output).collect();
        edit.changes.push(LowRank { a, b });
        edit.outputs.push(outputs);
        edit.tapes.push(tape);
    }

    /// Returns a gradient for each parameter, with all elements 0.
    pub fn zero_gradients(&self) -> MendGradients {
        MendGradients {
            networks: [0, 1].map(|shape| self.shapes[shape].network.zeros_like()),
            rates: vec![0.0; self.rates.len()],
        }
    }

    /// Back-propagates from the changes to the parameters, and adds the gradients of the parameters to `sums`.
    /// `by_change` has the gradients of the two factors of each change.
    pub fn reverse(&self, edit: &MendEdit, by_change: &[LowRank], sums: &mut MendGradients) {
        for (index, by) in by_change.iter().enumerate() {
            let which = shape_of(self.sites[index]);
            let shape = &self.shapes[which];
            for (by_b, output) in by.b.iter().zip(&edit.outputs[index]) {
                sums.rates[index] += by_b * output;
            }
            let by_output: Vec<f32> = by.b.iter().map(|x| self.rates[index] * x).collect();
            let gradient = joined(&by.a, &by_output, shape);
            let (matrix, tape) = (self.index_in_shape(index), &edit.tapes[index]);
            shape.network.reverse(self.isa, matrix, tape, gradient, &mut sums.networks[which]);
        }
    }

    /// Returns the number of edited matrices that precede the matrix `index` and have the same shape.
    fn index_in_shape(&self, index: usize) -> usize {
        let shape = shape_of(self.sites[index]);
        self.sites[..index].iter().filter(|site| shape_of(**site) == shape).count()
    }
}

impl Learner for Mend {
    type Edit = MendEdit;
    type Gradients = MendGradients;

    fn sites(&self) -> &[Site] {
        &self.sites
    }

    fn observe(&mut self, rows: &[SiteRows]) {
        self.observe(rows);
    }

    fn learn(&mut self, _: &[u32], rows: &[SiteRows]) -> MendEdit {
        self.observe_and_edit(rows)
    }

    fn apply(&self, _: &[u32], rows: &[SiteRows]) -> MendEdit {
        self.edit(rows)
    }

    fn changes(edit: &MendEdit) -> &[LowRank] {
        &edit.changes
    }

    fn zero_gradients(&self) -> MendGradients {
        self.zero_gradients()
    }

    fn reverse(&self, edit: &MendEdit, _: &[SiteRows], by_change: &[LowRank], sums: &mut MendGradients) {
        self.reverse(edit, by_change, sums);
    }

    fn trained<'p>(&'p mut self, gradients: &'p mut MendGradients) -> Vec<Trained<'p>> {
        let rate = self.learning.networks;
        let layers = self.shapes.iter_mut().flat_map(|shape| &mut shape.network.layers);
        let by_layers = gradients.networks.iter_mut().flat_map(|network| &mut network.layers);
        let mut all: Vec<Trained<'p>> = layers
            .zip(by_layers)
            .flat_map(|(layer, by_layer)| layer.parts_mut().into_iter().zip(by_layer.parts_mut()))
            .map(|(values, gradient)| Trained { values, gradient, rate })
            .collect();
        all.push(Trained { values: &mut self.rates, gradient: &mut gradients.rates, rate: self.learning.rates });
        all
    }
}

fn shape_of(site: Site) -> usize {
    usize::from(site.matrix == MlpMatrix::Down)
}

/// Returns the input rows of the network: each is a row of x followed by the same row of δ.
fn joined(x: &[f32], delta: &[f32], shape: &SharedShape) -> Vec<f32> {
    let rows = x.chunks(shape.inputs.mean.len()).zip(delta.chunks(shape.outputs.mean.len()));
    rows.flat_map(|(one, other)| one.iter().chain(other)).copied().collect()
}

/// Splits each output row of the network into its part for x and its part for δ, and returns all parts for x, then all
/// parts for δ.
fn separated(z: &[f32], shape: &SharedShape) -> (Vec<f32>, Vec<f32>) {
    let (mut x, mut delta) = (Vec::new(), Vec::new());
    for row in z.chunks(shape.network.width) {
        let (one, other) = row.split_at(shape.inputs.mean.len());
        x.extend_from_slice(one);
        delta.extend_from_slice(other);
    }
    (x, delta)
}
