//! Implements ROME as in `build`. Each edit has one MLP key, averaged over context templates. The optimisation of a
//! value is retried until it converges. The values of a large set of edits are refined, that is, optimised jointly.
//! Unlike `build`, this editor accepts an edit whose value did not converge.
//!
//! EasyEdit's settings of ROME edit without the second moment, that is, with the identity matrix in its place.
//! [`SecondMoment::Identity`] selects this behaviour.

use super::{EditError, Edited, Editor, not_finite};
use crate::compile::value::Hook;
use crate::compile::{Resolved, keys};
use crate::link::{KeySystem, LinkPair, Refinement};
use crate::model::Model;
use crate::pipeline::link_inputs::neutral_sentences;
use crate::pipeline::linker::{LayerSystem, LinkEdit, LinkError, Linker, RefinementInputs};
use crate::pipeline::statistics::statistics_error;
use crate::progress::Progress;
use crate::research::bench::eval_context::{EvalContext, PreparedCase};

/// The matrix `C` in the update of ROME, in which `C⁻¹ k*` is the direction of the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecondMoment {
    /// The second moment of the MLP keys on the corpus.
    Corpus,
    /// The identity matrix. No statistics are computed or read.
    Identity,
}

pub(crate) struct Rome {
    pub moment: SecondMoment,
    pub refinement: Option<Refinement>,
    /// The minimum size of a set for refinement. Refinement optimises the values of all facts of a set jointly.
    pub from: usize,
}

impl Editor for Rome {
    fn edit(
        &self,
        context: &EvalContext<'_>,
        facts: &[&PreparedCase],
        progress: &dyn Progress,
    ) -> Result<Edited, EditError> {
        let mut order: Vec<&PreparedCase> = facts.to_vec();
        order.sort_by_key(|stated| stated.meaning);
        let (layer, model) = (context.setup.layer, context.model());
        let mut found = Vec::with_capacity(order.len());
        for stated in &order {
            found.push(context.key_value(
                &stated.meaning,
                &stated.resolved,
                layer,
                &context.setup.settings,
                Hook::Mlp,
            )?);
        }
        let unconverged = found.iter().filter(|found| !found.converged).count();
        let pairs: Vec<LinkPair<'_>> =
            found.iter().map(|found| LinkPair { key: &found.key, value: &found.value }).collect();
        let edits = order.iter().map(|stated| LinkEdit { meaning: stated.meaning, resolved: &stated.resolved });
        let keys: Vec<&[f32]> = pairs.iter().map(|pair| pair.key).collect();
        let system = match self.moment {
            SecondMoment::Corpus => KeySystem::new(&*context.factor(layer, progress)?, &keys),
            SecondMoment::Identity => {
                KeySystem::of(&keys, keys.iter().map(|key| key.iter().map(|&x| f64::from(x)).collect()).collect())
            }
        };
        let mut linker = Linker::with_system(&model, layer, edits.collect(), &pairs, system);
        let refinement = self.refinement.as_ref().filter(|_| facts.len() >= self.from.max(1));
        if let Some(refinement) = refinement {
            linker = linker.refined(refinement_inputs(context, &model, &order, refinement, progress)?);
        }
        let default_ridge = refinement.map_or(0.0, |refinement| refinement.ridge);
        let linked = linker.link(context.setup.ridge.unwrap_or(default_ridge), progress);
        let mut edited = model.clone();
        for update in &linked.map_err(|error| not_linked(&order, error))?.updates {
            edited = update.apply_to(&edited).map_err(|error| not_finite(&error))?;
        }
        Ok(Edited::new(edited, Some(unconverged)))
    }
}

/// Prepares the joint optimisation of values (refinement). Computes the linear system of each layer that the refinement
/// changes in addition to the edited layer, and reads neutral sentences from the corpus.
fn refinement_inputs<'a>(
    context: &EvalContext<'_>,
    model: &Model,
    order: &[&PreparedCase],
    settings: &'a Refinement,
    progress: &dyn Progress,
) -> Result<RefinementInputs<'a>, EditError> {
    let setup = &context.setup;
    let resolved: Vec<&Resolved> = order.iter().map(|stated| &stated.resolved).collect();
    let mut layers = Vec::new();
    for layer in (setup.layer..model.spec().layers).take(settings.layers).skip(1) {
        let keys: Vec<Vec<f32>> = keys(model, layer, &resolved, setup.settings.bare_weight).collect();
        layers.push(LayerSystem::new(layer, &*context.factor(layer, progress)?, &keys));
    }
    let names = order.iter().map(|stated| stated.case.subject.as_str());
    let sentences = neutral_sentences(context.base, setup, names, settings);
    let sentences = sentences.map_err(|error| statistics_error(context.project, &error))?;
    Ok(RefinementInputs { settings, layers, sentences })
}

fn not_linked(order: &[&PreparedCase], error: LinkError) -> EditError {
    match error {
        LinkError::Parallel(pair) => {
            let [one, other] = [pair.edit, pair.partner].map(|index| order[index].case.id);
            EditError::Facts(format!(
                "cases {one} and {other} have the same key and cannot both be edited; `import` leaves such cases out"
            ))
        }
        LinkError::Refinement(error) | LinkError::Patch { error, .. } => not_finite(&error),
    }
}
