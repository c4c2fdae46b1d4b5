//! Implements MEMIT, EMMET and AlphaEdit. For each fact, the hidden state after the last edited layer is optimised
//! until the model predicts the new answer. The change of the hidden state is then distributed over the edited layers.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{EditError, Edited, Editor, EditorName, not_spread, refused};
use crate::compile::value::Hook;
use crate::compile::{Resolved, Settings, presets};
use crate::diagnostics::Failure;
use crate::link::ParallelKeys;
use crate::link::alphaedit::{self, AlphaEdit, EigenCutoff, Projector};
use crate::link::distribute::{MassEditor, distribute};
use crate::link::emmet::{self, Emmet};
use crate::link::memit::{self, Memit};
use crate::numeric::eigen::Eigen;
use crate::pipeline::statistics::{load_or_compute, statistics_error};
use crate::progress::Progress;
use crate::research::bench::eval_context::{EvalContext, KeyValue, PreparedCase};
use crate::stats;

/// The hyper-parameters for one model, as published with MEMIT, EasyEdit or AlphaEdit.
struct PublishedSettings {
    model: &'static str,
    /// The first and the last edited layer.
    layers: (usize, usize),
    /// The maximum norm of δ, the optimised change of the hidden state, as a multiple of the norm of the hidden state.
    clamp: f64,
    /// The coefficient of AlphaEdit's L2 regularisation.
    ridge: f64,
}

const PUBLISHED: [PublishedSettings; 7] = [
    PublishedSettings { model: "gpt2-xl", layers: (13, 17), clamp: CLAMP, ridge: alphaedit::RIDGE },
    PublishedSettings { model: "gpt-j-6b", layers: (3, 8), clamp: CLAMP, ridge: alphaedit::RIDGE },
    PublishedSettings { model: "llama-2-7b", layers: (4, 8), clamp: 4.0, ridge: alphaedit::RIDGE },
    // For this model, `clamp` is from AlphaEdit and `ridge` is from EasyEdit.
    PublishedSettings { model: "llama-3-8b", layers: (4, 8), clamp: CLAMP, ridge: 1.0 },
    PublishedSettings { model: "llama-3.2-3b", layers: (4, 8), clamp: 4.0, ridge: alphaedit::RIDGE },
    PublishedSettings { model: "mistral-7b", layers: (4, 8), clamp: 4.0, ridge: alphaedit::RIDGE },
    PublishedSettings { model: "qwen2-7b", layers: (4, 8), clamp: 4.0, ridge: 1.0 },
];

/// The published maximum norm of δ for GPT-2 XL, as a multiple of the norm of the hidden state. δ is the optimised
/// change of the hidden state. The same maximum is the default for models without published settings.
const CLAMP: f64 = 0.75;
/// The number of context templates in the published code: the prompt alone, and the prompt after five different texts.
const TEMPLATES: usize = 6;
/// The published eigenvalue threshold of AlphaEdit. The eigenvectors of the second moment with smaller eigenvalues span
/// the null space.
const BELOW: f64 = 2e-2;
/// The default share of the second moment's trace that selects AlphaEdit's null space. The null space is spanned by the
/// eigenvectors with the smallest eigenvalues. The sum of these eigenvalues is at most this share of the trace. Unlike
/// the published threshold, the share does not depend on the scale of the MLP keys.
const SHARE: f64 = 0.2;
/// The weight of the second moment (λ in MEMIT, w in EMMET) for models without published settings. Published weights
/// depend on the scale of a model's MLP keys, so they do not fit a different model. On `counterfact-gpt2`, a model
/// trained on CounterFact, all weights up to 10 gave equally good results for 100 records.
const WEIGHT: f64 = 1.0;
/// The coefficient of AlphaEdit's L2 regularisation for models without published settings. The value comes from trials
/// on `counterfact-gpt2`, a model trained on CounterFact.
const RIDGE: f64 = 0.1;

/// Returns whether settings were published for the base model. If not, the published weights of the second moment (λ in
/// MEMIT, w in EMMET) are not used, because a good weight depends on the scale of the model's MLP keys.
fn has_published_settings(context: &EvalContext<'_>) -> bool {
    presets::published(context.base.model.spec()).is_some()
}

fn published(context: &EvalContext<'_>) -> Option<&'static PublishedSettings> {
    let name = presets::name(context.base.model.spec())?;
    PUBLISHED.iter().find(|one| one.model == name)
}

pub(crate) struct MassEditSettings {
    pub kind: EditorName,
    /// The number of layers that MEMIT and AlphaEdit change; 0 means the default for the model.
    pub layers: usize,
    /// The maximum norm of δ, the optimised change of the hidden state, as a multiple of the norm of the hidden state;
    /// `None` means the default for the model.
    pub clamp: Option<f64>,
    /// The weight of the second moment (λ in MEMIT, w in EMMET); `None` means the default for the model.
    pub weight: Option<f64>,
    /// The coefficient of AlphaEdit's L2 regularisation; `None` means the default for the model.
    pub ridge: Option<f64>,
    /// AlphaEdit's null space is spanned by the eigenvectors of the second moment with the smallest eigenvalues. The
    /// sum of these eigenvalues is at most this share of the trace. `None` means [`SHARE`]. The share is not used if
    /// `published` is true.
    pub share: Option<f64>,
    /// Whether to follow the published code: each value is optimised in one attempt of 20 steps, and AlphaEdit uses its
    /// published eigenvalue threshold.
    pub published: bool,
}

impl Editor for MassEditSettings {
    fn edit(
        &self,
        context: &EvalContext<'_>,
        facts: &[&PreparedCase],
        progress: &dyn Progress,
    ) -> Result<Edited, EditError> {
        let layers = self.layers(context);
        let last = layers.last().copied().unwrap_or(context.setup.layer);
        let usual = &context.setup.settings;
        let schedule = if self.published { Settings::published().schedule } else { usual.schedule.clone() };
        let clamp = self.clamp.or(published(context).map(|one| one.clamp)).unwrap_or(CLAMP);
        // Only ROME ends the optimisation early when the logits of the new answer exceed all others by a margin. MEMIT,
        // EMMET and AlphaEdit do not.
        let settings = Settings { schedule, clamp, margin: None, ..usual.clone() };
        let (mut found, mut resolved): (Vec<KeyValue>, Vec<Resolved>) = (Vec::new(), Vec::new());
        for stated in facts {
            let mut few = stated.resolved.clone();
            few.rows.truncate(TEMPLATES);
            found.push(context.key_value(&stated.meaning, &few, last, &settings, Hook::Block)?);
            resolved.push(few);
        }
        let unconverged = found.iter().filter(|found| !found.converged).count();
        let rows = self.rows(context, &layers, progress)?;
        let targets: Vec<&[f32]> = found.iter().map(|found| found.value.as_slice()).collect();
        let resolved_facts: Vec<&Resolved> = resolved.iter().collect();
        let spread = distribute(&context.model(), &layers, &resolved_facts, &targets, &*rows);
        let (_, model) = spread.map_err(|error| not_spread(&error))?;
        Ok(Edited::new(model, Some(unconverged)))
    }
}

impl MassEditSettings {
    /// Returns the layers to edit. EMMET edits only the project's layer. MEMIT and AlphaEdit edit:
    ///
    /// - if the number of layers is set: this number of layers, of which the project's layer is the last; if there are
    ///   too few layers below it, the first layers of the model;
    /// - otherwise, if the project's layer is the published ROME layer of the model and [`PUBLISHED`] has the model:
    ///   the layers in [`PUBLISHED`];
    /// - otherwise: the project's layer and up to four layers below it; for layer 0, the first two layers.
    fn layers(&self, context: &EvalContext<'_>) -> Vec<usize> {
        let (layer, spec) = (context.setup.layer, context.base.model.spec());
        let count = spec.layers;
        let usual = presets::published(spec).is_some_and(|(usual, _)| usual == layer);
        let published = published(context).filter(|_| usual).map(|one| one.layers.0..=one.layers.1);
        match (self.kind, self.layers, published) {
            (EditorName::Emmet, ..) => vec![layer],
            (_, 0, Some(published)) => published.collect(),
            (_, 0, None) if layer == 0 => (0..2.min(count)).collect(),
            (_, 0, None) => (layer.saturating_sub(4)..=layer).collect(),
            (_, wanted, _) => {
                let last = layer.max(wanted.min(count) - 1);
                (last + 1 - wanted.min(count)..=last).collect()
            }
        }
    }

    fn rows<'c>(
        &self,
        context: &'c EvalContext<'_>,
        layers: &[usize],
        progress: &dyn Progress,
    ) -> Result<Box<dyn MassEditor + 'c>, Failure> {
        if self.kind == EditorName::Alphaedit {
            let mut projectors = BTreeMap::new();
            for &layer in layers {
                projectors.insert(layer, self.projector(context, layer, progress)?);
            }
            let known = if has_published_settings(context) { alphaedit::RIDGE } else { RIDGE };
            let usual = published(context).map_or(known, |one| one.ridge);
            let editor = AlphaEdit { projectors, ridge: self.ridge.unwrap_or(usual) };
            return Ok(Box::new(KeepingEarlierKeys { editor, context }));
        }
        let mut factors = BTreeMap::new();
        for &layer in layers {
            factors.insert(layer, context.factor(layer, progress)?);
        }
        let large = context.base.model.spec().family.model_type == "gpt2";
        let usual = |of_xl: f64, of_others: f64| {
            let of_known = if large { of_xl } else { of_others };
            self.weight.unwrap_or(if has_published_settings(context) { of_known } else { WEIGHT })
        };
        Ok(match self.kind {
            EditorName::Memit => Box::new(Memit { factors, weight: usual(memit::WEIGHT, memit::WEIGHT_GPTJ_LLAMA) }),
            _ => {
                Box::new(Emmet { factors, weight: usual(emmet::WEIGHT, emmet::WEIGHT_GPTJ_LLAMA), ridge: emmet::RIDGE })
            }
        })
    }

    fn projector(
        &self,
        context: &EvalContext<'_>,
        layer: usize,
        progress: &dyn Progress,
    ) -> Result<Rc<Projector>, Failure> {
        if let Some(found) = context.projector(layer) {
            return Ok(found);
        }
        let setup = context.setup.for_layer(layer);
        let (cached, _) = load_or_compute(context.build_context(&setup, progress))?;
        let moment = stats::build::moment(context.store, &setup.provenance, &cached);
        let moment = moment.map_err(|error| statistics_error(context.project, &error))?;
        progress.line(&format!("eigenvectors of the second moment of layer {layer}"));
        let eigen = Eigen::new(moment.inner(), &moment.matrix()).map_err(|error| refused(error.to_string()))?;
        let small =
            if self.published { EigenCutoff::Below(BELOW) } else { EigenCutoff::Share(self.share.unwrap_or(SHARE)) };
        let projector = Projector::new(&eigen, small);
        let (rank, order) = (projector.rank(moment.inner()), moment.inner());
        progress.line(&format!("layer {layer}: {rank} of {order} directions are free"));
        Ok(context.keep_projector(layer, projector))
    }
}

/// AlphaEdit within a sequence: the MLP keys of the earlier batches (`K_p` of the paper) enter the linear system with
/// residual zero, so that their outputs stay.
struct KeepingEarlierKeys<'c, 'a> {
    editor: AlphaEdit,
    context: &'c EvalContext<'a>,
}

impl MassEditor for KeepingEarlierKeys<'_, '_> {
    fn rows(&self, layer: usize, keys: &[&[f32]]) -> Result<Vec<Vec<f64>>, ParallelKeys> {
        let mut sequence = self.context.sequence.borrow_mut();
        let Some(sequence) = &mut *sequence else { return self.editor.rows(layer, keys) };
        let earlier = sequence.keys.entry(layer).or_default();
        let all: Vec<&[f32]> = keys.iter().copied().chain(earlier.iter().map(Vec::as_slice)).collect();
        let mut rows = self.editor.rows(layer, &all)?;
        rows.truncate(keys.len());
        earlier.extend(keys.iter().map(|key| key.to_vec()));
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_settings_name_known_models() {
        let names = presets::names();
        for one in &PUBLISHED {
            assert!(names.split(", ").any(|name| name == one.model), "{}", one.model);
        }
    }
}
