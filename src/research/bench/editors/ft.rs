//! Implements fine-tuning as an editing method (FT and FT+L in Meng et al. 2022). FT trains the MLP down-projection of
//! one layer, with its bias, to predict the new answer after the prompt. Training stops when the mean loss is below
//! 0.01 nats. FT+L also limits the change of each weight (Zhu et al. 2020).
//!
//! The published code scores every token of an answer with the prediction for the first token after the prompt. The
//! result is not the likelihood of the answer if the answer has several tokens. [`FineTuning::published`] selects this
//! behaviour.

use super::{EditError, Edited, Editor};
use crate::compile::optimiser::Adam;
use crate::model::Model;
use crate::model::run::weight_pass::{LayerGradient, WeightPass};
use crate::numeric::rows::softmax;
use crate::numeric::{View, matmul};
use crate::progress::Progress;
use crate::research::bench::eval_context::{EvalContext, PreparedCase};
use crate::safetensors::Layout;

/// The learning rate of Adam in the published code.
pub(crate) const RATE: f64 = 5e-4;
/// The published limits of FT+L on the absolute change of a weight, by the number of layers of the model: 48 for GPT-2
/// XL, 36 for GPT-2 large.
const BOUNDS: [(usize, f64); 2] = [(48, 5e-4), (36, 1e-3)];
/// The limit of FT+L on the absolute change of a weight, for all models except GPT-J and the models in [`BOUNDS`].
const SMALL: f64 = 2e-3;
/// The published limit of FT+L on the absolute change of a weight of GPT-J.
const GPT_J: f64 = 5e-5;
/// The maximum number of passes over the facts. Training stops earlier if the mean loss is below [`ENOUGH`].
const EPOCHS: usize = 25;
/// The maximum number of facts per step of the optimiser.
const BATCH: usize = 128;
/// The mean loss of one pass over the facts, in nats, below which training stops.
const ENOUGH: f64 = 1e-2;

pub(crate) struct FineTuning {
    /// The learning rate of the Adam optimiser. The published code uses [`RATE`].
    pub rate: f64,
    /// The layer to fine-tune; `None` means the layer in the project's settings.
    pub layer: Option<usize>,
    pub bound: Bound,
    /// Whether every token of an answer is scored with the prediction for the first token after the prompt, as in the
    /// published code.
    pub published: bool,
}

/// The limit on the difference between a weight and its original value.
pub(crate) enum Bound {
    /// No limit, as in plain fine-tuning (FT).
    None,
    /// The maximum absolute difference between a weight and its original value (FT+L). `None` means the published limit
    /// for the model.
    Of(Option<f64>),
}

/// The trained parameters of one layer: their original values in `start`, and their current values in `now`. In both
/// vectors, the first `matrix` numbers are the down-projection matrix in the memory layout of the base model. The
/// remaining numbers are the bias.
struct TunedWeights {
    layer: usize,
    layout: Layout,
    matrix: usize,
    start: Vec<f64>,
    now: Vec<f64>,
}

impl Editor for FineTuning {
    fn edit(
        &self,
        context: &EvalContext<'_>,
        facts: &[&PreparedCase],
        progress: &dyn Progress,
    ) -> Result<Edited, EditError> {
        let (base, layer) = (&context.base.model, self.layer.unwrap_or(context.setup.layer));
        let mut tuned = TunedWeights::new(base, layer);
        let batches: Vec<TrainingBatch> =
            facts.chunks(BATCH).map(|some| TrainingBatch::new(base, layer, some, self.published)).collect();
        let mut adam = Adam::new(tuned.now.len(), self.rate);
        for epoch in 0..EPOCHS {
            let (mut total, mut count) = (0.0, 0);
            for (batch, some) in batches.iter().zip(facts.chunks(BATCH)) {
                let model = tuned.apply_to(base);
                let (loss, gradient) = batch.at(&model, &tuned);
                total += loss * some.len() as f64;
                count += some.len();
                if loss >= ENOUGH {
                    adam.step(&mut tuned.now, &gradient);
                    self.limit_change(&mut tuned, base);
                }
            }
            let mean = total / count as f64;
            progress.line(&format!("epoch {}: loss {mean:.4}", epoch + 1));
            if mean < ENOUGH {
                break;
            }
        }
        Ok(Edited { model: tuned.apply_to(base), unconverged: None })
    }
}

impl FineTuning {
    fn limit_change(&self, tuned: &mut TunedWeights, base: &Model) {
        let Bound::Of(bound) = self.bound else { return };
        let spec = base.spec();
        let of_size = BOUNDS.iter().find(|(layers, _)| *layers == spec.layers).map_or(SMALL, |(_, size)| *size);
        let bound = bound.unwrap_or(if spec.family.model_type == "gptj" { GPT_J } else { of_size });
        for (now, start) in tuned.now.iter_mut().zip(&tuned.start) {
            *now = now.clamp(start - bound, start + bound);
        }
    }
}

impl TunedWeights {
    fn new(base: &Model, layer: usize) -> Self {
        let weight = base.checkpoint().edited(layer).to_f32();
        let bias = base.checkpoint().edited_bias(layer).map_or_else(Vec::new, |bias| bias.to_f32().into_owned());
        let start: Vec<f64> = weight.iter().chain(bias.iter()).map(|&x| f64::from(x)).collect();
        Self { layer, layout: base.spec().family.layout, matrix: weight.len(), now: start.clone(), start }
    }

    fn apply_to(&self, base: &Model) -> Model {
        let narrow = |part: &[f64]| part.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let model = base.with_edited(self.layer, narrow(&self.now[..self.matrix]));
        model.with_edited_bias(self.layer, narrow(&self.now[self.matrix..]))
    }
}

/// The facts of one optimiser step as token sequences, and the tokens that are scored at the last positions of each
/// sequence.
struct TrainingBatch {
    upper: WeightPass,
    /// For each scored position: the tokens that are scored with the logits at this position, and the weight of each
    /// token in the loss.
    labels: Vec<(Vec<u32>, f64)>,
}

impl TrainingBatch {
    fn new(base: &Model, layer: usize, facts: &[&PreparedCase], published: bool) -> Self {
        let (mut rows, mut tails, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for stated in facts {
            let (prompt, target) = (&stated.resolved.rows[0].ids, &stated.resolved.target);
            let weight = 1.0 / (facts.len() * target.len()) as f64;
            if published {
                rows.push(prompt.clone());
                tails.push(1);
                labels.push((target.clone(), weight));
            } else {
                rows.push([&prompt[..], &target[..target.len() - 1]].concat());
                tails.push(target.len());
                labels.extend(target.iter().map(|label| (vec![*label], weight)));
            }
        }
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        Self { upper: WeightPass::new(base, layer, &rows, &tails), labels }
    }

    /// Returns the mean loss over the facts and its gradient: first for the down-projection matrix, then for the bias.
    fn at(&self, model: &Model, tuned: &TunedWeights) -> (f64, Vec<f64>) {
        let spec = model.spec();
        let passed = self.upper.forward(model);
        let (mut gradient, mut loss) = (passed.logits.clone(), 0.0);
        for (row, (labels, weight)) in gradient.chunks_mut(spec.vocabulary).zip(&self.labels) {
            let logits: Vec<f64> = labels.iter().map(|label| f64::from(row[*label as usize])).collect();
            let log = softmax(row);
            let whole = (weight * labels.len() as f64) as f32;
            row.iter_mut().for_each(|x| *x *= whole);
            for (label, logit) in labels.iter().zip(logits) {
                loss += weight * (log - logit);
                row[*label as usize] -= *weight as f32;
            }
        }
        let mut out = Vec::new();
        self.upper.reverse(model, &passed, &gradient, |slopes| {
            if slopes.layer == tuned.layer {
                out = by_matrix(model, tuned, &slopes);
            }
        });
        (loss, out)
    }
}

/// Returns the gradient of the loss for the down-projection matrix, then for the bias. `K` has the inputs of the
/// down-projection, and `G` has the gradients of the loss at its outputs; both have one row per token. The gradient for
/// the matrix is `Kᵀ G`, in the memory layout of the base model. The gradient for the bias is the sum of the rows of
/// `G`.
fn by_matrix(model: &Model, tuned: &TunedWeights, slopes: &LayerGradient<'_>) -> Vec<f64> {
    let spec = model.spec();
    let positions = slopes.keys.len() / spec.intermediate_size;
    let keys = View::new(slopes.keys, positions, spec.intermediate_size);
    let gradient = View::new(slopes.gradient, positions, spec.hidden_size);
    let product = match tuned.layout {
        Layout::Conv1d => matmul(model.isa(), keys.transposed(), gradient),
        Layout::Linear => matmul(model.isa(), gradient.transposed(), keys),
    };
    let mut out: Vec<f64> = product.into_iter().map(f64::from).collect();
    if tuned.start.len() > tuned.matrix {
        let mut bias = vec![0.0; spec.hidden_size];
        for row in slopes.gradient.chunks(spec.hidden_size) {
            bias.iter_mut().zip(row).for_each(|(sum, g)| *sum += f64::from(*g));
        }
        out.extend(bias);
    }
    out
}
