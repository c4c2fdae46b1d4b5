//! Implements knowledge neurons (Dai et al. 2022) as the ROME paper evaluates them. A neuron is one element of the
//! hidden layer of an MLP. Integrated gradients measure the contribution of each neuron to the old answer. For each
//! neuron with a large contribution, the editor changes one row of the down-projection: it subtracts twice the
//! embedding of the predicted token, and adds the embeddings of the new answer's tokens.
//!
//! The published code tokenizes the answers without a leading space. [`KnowledgeNeurons::published`] selects this
//! behaviour.

use rayon::prelude::*;

use super::{EditError, Edited, Editor, refused};
use crate::diagnostics::Failure;
use crate::model::Model;
use crate::model::run::neurons::Neurons;
use crate::model::text::tokens::target_text;
use crate::numeric::rows::max;
use crate::progress::Progress;
use crate::research::bench::eval_context::{EvalContext, PreparedCase};
use crate::safetensors::Layout;

/// The number of points at which the gradient is computed to approximate its integral. At these points the activations
/// are multiplied by evenly spaced factors from 0 to 1.
const STEPS: usize = 20;
/// A neuron is edited if its integrated gradient is larger than this share of the largest integrated gradient.
const THRESHOLD: f64 = 0.2;

pub(crate) const GATED: &str =
    "kn: the MLPs of the model are gated, but knowledge neurons are defined for plain MLPs only";

pub(crate) struct KnowledgeNeurons {
    /// Whether the answers are tokenized without a leading space, as in the published code.
    pub published: bool,
}

impl Editor for KnowledgeNeurons {
    fn edit(&self, context: &EvalContext<'_>, facts: &[&PreparedCase], _: &dyn Progress) -> Result<Edited, EditError> {
        let mut model = context.model();
        for stated in facts {
            model = self.one(context, &model, stated)?;
        }
        Ok(Edited::new(model, None))
    }
}

impl KnowledgeNeurons {
    fn one(&self, context: &EvalContext<'_>, model: &Model, stated: &PreparedCase) -> Result<Model, Failure> {
        let cut = |text: &str| context.base.tokens.continuation(text).map_err(|error| refused(error.to_string()));
        let case = &stated.case;
        let prompt = stated.resolved.rows[0].ids.clone();
        let text = |answer: &str| {
            if self.published { answer.trim_start().to_owned() } else { target_text(&case.filled(), answer) }
        };
        let old = cut(&text(case.was.as_deref().unwrap_or(&case.target)))?;
        let new = cut(&text(&case.target))?;
        let said = top(model, &prompt);
        let kept = neurons(model, &prompt, &old).ok_or_else(|| refused(GATED.to_owned()))?;
        let mut change = vec![0.0_f32; model.spec().hidden_size];
        let mut add = |token: u32, by: f32| {
            change.iter_mut().zip(model.token_embedding(token)).for_each(|(x, e)| *x += by * e);
        };
        add(said, -2.0);
        new.iter().for_each(|token| add(*token, 1.0));
        Ok(with_neurons_changed(model, &kept, &change))
    }
}

fn top(model: &Model, row: &[u32]) -> u32 {
    let logits = model.logits(&[row], &[1]).swap_remove(0);
    let most = max(&logits);
    logits.iter().position(|logit| *logit == most).unwrap_or(0) as u32
}

/// Returns the neurons, as `(layer, neuron)`, whose integrated gradient is larger than [`THRESHOLD`] times the largest
/// integrated gradient. Returns `None` if the MLPs of the model are gated.
fn neurons(model: &Model, prompt: &[u32], answer: &[u32]) -> Option<Vec<(usize, usize)>> {
    let layers: Vec<Option<Vec<f64>>> =
        (0..model.spec().layers).into_par_iter().map(|layer| attributed(model, layer, prompt, answer)).collect();
    let layers: Vec<Vec<f64>> = layers.into_iter().collect::<Option<_>>()?;
    let most = layers.iter().flatten().fold(f64::NEG_INFINITY, |most, x| if *x > most { *x } else { most });
    let kept = layers.iter().enumerate().flat_map(|(layer, all)| {
        all.iter().enumerate().filter(move |(_, x)| **x > THRESHOLD * most).map(move |(neuron, _)| (layer, neuron))
    });
    Some(kept.collect())
}

/// Returns the integrated gradient of each neuron of a layer, averaged over the tokens of the answer; `None` if the MLP
/// is gated.
fn attributed(model: &Model, layer: usize, prompt: &[u32], answer: &[u32]) -> Option<Vec<f64>> {
    let scales: Vec<f32> = (0..STEPS).map(|step| step as f32 / (STEPS - 1) as f32).collect();
    let mut total = vec![0.0; model.spec().intermediate_size];
    for (index, token) in answer.iter().enumerate() {
        let row = [prompt, &answer[..index]].concat();
        let neurons = Neurons::new(model, layer, &row, STEPS)?;
        let (_, gradient) = neurons.at(&scales, *token);
        let share = 1.0 / (STEPS * answer.len()) as f64;
        for slopes in gradient.chunks(model.spec().intermediate_size) {
            for ((sum, slope), input) in total.iter_mut().zip(slopes).zip(&neurons.inputs) {
                *sum += share * f64::from(*input) * f64::from(*slope);
            }
        }
    }
    Some(total)
}

/// Returns a copy of the model with changed down-projections. For each `(layer, neuron)` in `kept`, `change` is added
/// to the row of this neuron. The length of `change` is the hidden size.
fn with_neurons_changed(model: &Model, kept: &[(usize, usize)], change: &[f32]) -> Model {
    let (mut out, spec) = (model.clone(), model.spec());
    for layer in 0..spec.layers {
        let mut neurons = kept.iter().filter(|(other, _)| *other == layer).map(|(_, neuron)| *neuron).peekable();
        if neurons.peek().is_none() {
            continue;
        }
        let mut weight = model.checkpoint().edited(layer).to_f32().into_owned();
        for neuron in neurons {
            for (output, by) in change.iter().enumerate() {
                let at = match spec.family.layout {
                    Layout::Conv1d => neuron * spec.hidden_size + output,
                    Layout::Linear => output * spec.intermediate_size + neuron,
                };
                weight[at] += by;
            }
        }
        out = out.with_edited(layer, weight);
    }
    out
}
