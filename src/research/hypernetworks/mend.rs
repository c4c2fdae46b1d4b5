//! MEND (Mitchell et al. 2022): networks that turn the gradients for one fact into low-rank changes of the edited
//! matrices.
//!
//! For each edited matrix, the rows of inputs x and output gradients δ are whitened and transformed by the network of
//! the matrix's shape. With the transformed rows x̃ and δ̃, the matrix is changed by `rate · x̃ᵀ δ̃`.

use super::capture::{CapturedFact, SiteRows};
use super::learner::{Learner, Numbers, Trained};
use super::mend_network::{MendNetwork, MendTape};
use super::whitening::RunningStatistics;
use crate::model::Spec;
use crate::model::load::checkpoint::MlpMatrix;
use crate::model::run::low_rank::{LowRank, Site};
use crate::numeric::Isa;
use crate::numeric::random::NumpyRandomState;

/// The rate of every matrix before training, as published.
pub const START_RATE: f64 = 1e-4;

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

/// The changes of the edited matrices for some facts, and the intermediate results that the backward pass needs.
pub struct MendEdits {
    /// The changes for each fact, in the order of `Mend::sites`. The factor `b` of a change is already multiplied by
    /// the rate of the matrix.
    pub changes: Vec<Vec<LowRank>>,
    /// For each shape, the transformed rows of all facts.
    shapes: Vec<TransformedRows>,
}

/// The rows of all matrices of one shape: matrix after matrix, and for each matrix fact after fact.
struct TransformedRows {
    /// The index of the row's matrix among those of the shape.
    matrices: Vec<usize>,
    /// The transformed rows δ̃, before they are multiplied by the rate.
    outputs: Vec<f32>,
    tape: MendTape,
}

impl Mend {
    /// Creates an untrained editor. Its networks return their input, so the change of a matrix is its whitened gradient
    /// times the rate. `rank` is the rank of the networks; it is reduced to the width of a row if it is larger.
    pub fn new(spec: &Spec, isa: Isa, sites: Vec<Site>, rank: usize, numbers: &mut NumpyRandomState) -> Self {
        let mut mend = Self::identity(spec, isa, sites, rank);
        mend.shapes.iter_mut().for_each(|shape| shape.network.draw(numbers));
        mend
    }

    /// Creates an untrained editor as [`Mend::new`] does, but with the matrices V of its networks set to 0, so that it
    /// cannot be trained.
    pub fn identity(spec: &Spec, isa: Isa, sites: Vec<Site>, rank: usize) -> Self {
        let (d, f) = (spec.hidden_size, spec.intermediate_size);
        let matrices = |down: bool| sites.iter().filter(|site| (site.matrix == MlpMatrix::Down) == down).count();
        let shape = |(inputs, outputs, down): (usize, usize, bool)| SharedShape {
            inputs: RunningStatistics::new(inputs),
            outputs: RunningStatistics::new(outputs),
            network: MendNetwork::identity(d + f, rank.min(d + f), matrices(down)),
        };
        let shapes = [(d, f, false), (f, d, true)].map(shape);
        let rates = vec![START_RATE as f32; sites.len()];
        let learning = MendLearningRates::for_size(rank.min(d + f), d + f);
        Self { isa, sites, shapes, rates, learning }
    }

    /// Adds the inputs and output gradients of one fact to the statistics for whitening. No changes are computed.
    pub fn observe(&mut self, rows: &[SiteRows]) {
        for (index, of_site) in rows.iter().enumerate() {
            self.observe_site(index, of_site);
        }
    }

    /// Computes the changes for some facts during training. The rows of a matrix are added to the statistics first, and
    /// then whitened with them: fact after fact, and for each fact matrix after matrix.
    pub fn observe_and_edit(&mut self, facts: &[CapturedFact<'_>]) -> MendEdits {
        let mut whitened = vec![Vec::new(); self.sites.len()];
        for fact in facts {
            for (index, of_site) in fact.rows.iter().enumerate() {
                self.observe_site(index, of_site);
                whitened[index].extend(self.whiten(index, of_site));
            }
        }
        self.transform(whitened, facts)
    }

    /// Computes the changes for some facts. The rows are whitened with the existing statistics and not added to them.
    pub fn edit(&self, facts: &[CapturedFact<'_>]) -> MendEdits {
        let of_site = |index: usize| facts.iter().flat_map(|fact| self.whiten(index, &fact.rows[index])).collect();
        self.transform((0..self.sites.len()).map(of_site).collect(), facts)
    }

    fn observe_site(&mut self, index: usize, rows: &SiteRows) {
        let shape = &mut self.shapes[shape_of(self.sites[index])];
        shape.inputs.add(&rows.x);
        shape.outputs.add(&rows.delta);
    }

    /// Returns the input rows of the network for one matrix: each is a whitened row of x followed by one of δ.
    fn whiten(&self, index: usize, rows: &SiteRows) -> Vec<f32> {
        let shape = &self.shapes[shape_of(self.sites[index])];
        joined(&shape.inputs.whiten(&rows.x), &shape.outputs.whiten(&rows.delta), shape)
    }

    /// Transforms the whitened rows of each matrix, and splits them into the changes of each fact.
    fn transform(&self, whitened: Vec<Vec<f32>>, facts: &[CapturedFact<'_>]) -> MendEdits {
        let mut changes = vec![vec![LowRank::default(); self.sites.len()]; facts.len()];
        let mut shapes = Vec::new();
        for (which, shape) in self.shapes.iter().enumerate() {
            let (mut z, mut matrices) = (Vec::new(), Vec::new());
            for (matrix, index) in self.sites_of(which).enumerate() {
                z.extend_from_slice(&whitened[index]);
                matrices.resize(z.len() / shape.network.width, matrix);
            }
            let (z, tape) = shape.network.forward(self.isa, &matrices, z);
            let (a, outputs) = separated(&z, shape);
            let (mut rest_a, mut rest_output) = (&a[..], &outputs[..]);
            for index in self.sites_of(which) {
                for (fact, of_fact) in facts.iter().zip(&mut changes) {
                    let (of_fact_a, later_a) = rest_a.split_at(fact.rows[index].x.len());
                    let (output, later_output) = rest_output.split_at(fact.rows[index].delta.len());
                    let b = output.iter().map(|output| self.rates[index] * output).collect();
                    of_fact[index] = LowRank { a: of_fact_a.to_vec(), b };
                    (rest_a, rest_output) = (later_a, later_output);
                }
            }
            shapes.push(TransformedRows { matrices, outputs, tape });
        }
        MendEdits { changes, shapes }
    }

    /// Returns a gradient for each parameter, with all elements 0.
    pub fn zero_gradients(&self) -> MendGradients {
        MendGradients {
            networks: [0, 1].map(|shape| self.shapes[shape].network.zeros_like()),
            rates: vec![0.0; self.rates.len()],
        }
    }

    /// Back-propagates from the changes to the parameters, and adds the gradients of the parameters to `sums`.
    /// `by_changes` has, for each fact, the gradients of the two factors of each change.
    pub fn reverse(&self, edits: &MendEdits, by_changes: &[Vec<LowRank>], sums: &mut MendGradients) {
        for (which, (shape, rows)) in self.shapes.iter().zip(&edits.shapes).enumerate() {
            let (mut by_a, mut by_output, mut outputs) = (Vec::new(), Vec::new(), rows.outputs.iter());
            for index in self.sites_of(which) {
                for by in by_changes.iter().map(|by| &by[index]) {
                    by_a.extend_from_slice(&by.a);
                    for (by_b, output) in by.b.iter().zip(outputs.by_ref()) {
                        sums.rates[index] += by_b * output;
                        by_output.push(self.rates[index] * by_b);
                    }
                }
            }
            let gradient = joined(&by_a, &by_output, shape);
            shape.network.reverse(self.isa, &rows.matrices, &rows.tape, gradient, &mut sums.networks[which]);
        }
    }

    /// Returns the indices of the edited matrices of one shape, in ascending order.
    fn sites_of(&self, shape: usize) -> impl Iterator<Item = usize> {
        (0..self.sites.len()).filter(move |index| shape_of(self.sites[*index]) == shape)
    }
}

impl Learner for Mend {
    type Edits = MendEdits;
    type Gradients = MendGradients;

    fn sites(&self) -> &[Site] {
        &self.sites
    }

    fn observe(&mut self, rows: &[SiteRows]) {
        self.observe(rows);
    }

    fn can_edit(&self) -> bool {
        self.shapes.iter().all(|shape| shape.inputs.count >= 2)
    }

    fn learn(&mut self, facts: &[CapturedFact<'_>]) -> MendEdits {
        self.observe_and_edit(facts)
    }

    fn apply(&self, facts: &[CapturedFact<'_>]) -> MendEdits {
        self.edit(facts)
    }

    fn changes(edits: &MendEdits) -> &[Vec<LowRank>] {
        &edits.changes
    }

    fn zero_gradients(&self) -> MendGradients {
        self.zero_gradients()
    }

    fn reverse(
        &self,
        edits: &MendEdits,
        _: &[CapturedFact<'_>],
        by_changes: &[Vec<LowRank>],
        sums: &mut MendGradients,
    ) {
        self.reverse(edits, by_changes, sums);
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

    fn state(&mut self) -> Vec<(String, Numbers<'_>)> {
        let mut all = vec![("rates".to_owned(), Numbers::F32(&mut self.rates))];
        for (shape, of_shape) in ["up", "down"].into_iter().zip(&mut self.shapes) {
            for (side, statistics) in [("x", &mut of_shape.inputs), ("delta", &mut of_shape.outputs)] {
                all.push((format!("{shape}.{side}.count"), Numbers::Count(&mut statistics.count)));
                all.push((format!("{shape}.{side}.mean"), Numbers::F64(&mut statistics.mean)));
                all.push((format!("{shape}.{side}.squares"), Numbers::F64(&mut statistics.squares)));
            }
            for (index, layer) in of_shape.network.layers.iter_mut().enumerate() {
                let named = PARTS.into_iter().zip(layer.parts_mut());
                all.extend(named.map(|(part, numbers)| (format!("{shape}.{part}.{index}"), Numbers::F32(numbers))));
            }
        }
        all
    }
}

/// The names of the parameters of a layer, in the order of [`MendLayer::parts`](super::mend_network::MendLayer::parts).
const PARTS: [&str; 5] = ["V", "U", "b", "scale", "shift"];

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
