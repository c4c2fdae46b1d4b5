//! Chooses the layer that a new project edits. If a layer is published or was measured for models of this shape, that
//! layer is used. Otherwise, the best layer of a small model is measured, and a large model is edited at a third of its
//! depth.

use std::collections::BTreeMap;
use std::path::Path;

use super::drafts::corpus;
use super::toml_text;
use crate::cli::context::Context;
use crate::cli::trace::suggest_layer::{edits_of, try_all};
use crate::compile::presets;
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::model::Spec;
use crate::pipeline::Base;
use crate::project::{PROJECT_FILE, Project};
use crate::research::layers::best_layer::best;
use crate::research::trace::known_facts;

/// The chosen layer: the lines of `corrigenda.toml` that set it, and a note for the user on how it was chosen.
pub(crate) struct ChosenLayer {
    pub(crate) lines: String,
    pub(crate) note: String,
}

/// Shapes of models whose best layer was measured: family, number of layers, hidden size, and the best layer.
const MEASURED: [(&str, usize, usize, usize); 1] = [("llama", 30, 576, 5)];

/// Facts that most language models know, in the schema of ROME's `known_1000.json`. They are edited to measure the best
/// layer.
const COMMON: &[u8] = include_bytes!("../../research/trace/common.json");

/// The number of facts that are edited to measure the best layer. If the model knows fewer than [`FEWEST`] of them, the
/// layer is not measured.
const EDITED: usize = 8;
const FEWEST: usize = 4;

/// The maximum size of a model whose best layer is measured: the number of weights in the matrices of all blocks. Up to
/// this size, the measurement takes minutes on a CPU.
const MOST_NUMBERS: usize = 60_000_000;

/// Lines under `[rome]` in a new `corrigenda.toml` for the user's own model. They set the weight of the prompt without
/// a context template in an MLP key, and the margin at which the search for an MLP value ends.
pub(crate) const RULES: &str = "\
# The weight of the bare prompt in a key. The bare prompt is what users ask, and the key of a subject at the
# beginning of a text is different. The published weight is 1/21.
bare-weight = 0.5
# The search for a value ends when the target leads every other answer by this much, in nats. The published method
# has no margin: its values are larger than the answer needs, and the search takes twice the time.
margin = 2
";

impl ChosenLayer {
    /// Returns the layer that the user set with `--layer`.
    ///
    /// # Errors
    /// If the model has no such layer.
    pub(crate) fn named(layer: usize, spec: &Spec) -> Result<Self, Diagnostic> {
        let error = |error: crate::model::ModelError| Diagnostic::new(Code::LayerUnknown, error.to_string());
        spec.check_layer(layer).map_err(error)?;
        Ok(Self { lines: format!("layer = {layer}"), note: format!("layer {layer} is edited, as set with `--layer`") })
    }

    /// Chooses the layer to edit. Returns the first of these that exists: the layer published for this model, the best
    /// layer measured earlier for models of its shape, the best layer measured now if the model is small, and the
    /// layer at a third of the depth.
    pub(crate) fn choose(context: &Context, folder: &Path, spec: &Spec) -> Self {
        if let Some((layer, _)) = presets::published(spec) {
            return Self {
                lines: format!("layer = {layer}  # as published for this model"),
                note: format!("layer {layer} is edited: it is the layer published for this model"),
            };
        }
        let shape = (spec.family.model_type, spec.layers, spec.hidden_size);
        if let Some((.., layer)) =
            MEASURED.iter().find(|(family, layers, width, _)| (*family, *layers, *width) == shape)
        {
            return Self {
                lines: format!(
                    "layer = {layer}  # measured for a model of this shape; `corrigenda trace --suggest-layer` measures yours"
                ),
                note: format!("layer {layer} is edited: it was measured to be the best one for models of this shape"),
            };
        }
        if numbers(spec) > MOST_NUMBERS {
            return Self::third(
                spec,
                "no layer is published for this model, and the model is too large to measure one here",
            );
        }
        match measured(context, folder) {
            Ok(Some((layer, edits))) => Self {
                lines: format!(
                    "layer = {layer}  # measured with {edits} common facts; `corrigenda trace --suggest-layer` uses your facts"
                ),
                note: format!(
                    "layer {layer} of {} is edited: it was the best one for {edits} edits of common facts; run `corrigenda trace \
                     --suggest-layer` to measure it with your facts",
                    spec.layers
                ),
            },
            Ok(None) => Self::third(spec, "the model knows too few common facts to measure the best layer"),
            Err(stop) => {
                let why = stop.findings.first().map_or_else(String::new, |finding| format!(" ({})", finding.message));
                Self::third(spec, &format!("the best layer could not be measured{why}"))
            }
        }
    }

    fn third(spec: &Spec, why: &str) -> Self {
        let layer = spec.layers / 3;
        Self {
            lines: format!(
                "# A third of the way up, where the published layers are. Small models take edits better further down:\n\
                 # `corrigenda trace --suggest-layer` measures it.\n\
                 layer = {layer}"
            ),
            note: format!(
                "layer {layer} of {} is edited: {why}, and published layers are about a third of the way up; \
                 run `corrigenda trace --suggest-layer` to measure the best layer",
                spec.layers
            ),
        }
    }
}

/// Returns the approximate number of weights in the matrices of all blocks, assuming square attention matrices and an
/// MLP with three matrices.
fn numbers(spec: &Spec) -> usize {
    let block = 4 * spec.hidden_size * spec.hidden_size + 3 * spec.hidden_size * spec.intermediate_size;
    block.saturating_mul(spec.layers)
}

/// Measures how well edits of common facts work at the layers of the model. Returns the best layer and the number of
/// edits that were tried. Returns `None` if the model knows too few of the facts, or if no edit holds at any layer.
fn measured(context: &Context, folder: &Path) -> Result<Option<(usize, usize)>, Failure> {
    let store = context.store()?;
    let base = Base::at(folder, &store, context.isa, false)?;
    let (facts, _) = known_facts(COMMON).map_err(|error| Diagnostic::new(Code::TraceRefused, error))?;
    let Some(edits) = edits_of(&base, &facts, EDITED, 1).filter(|edits| edits.edits.len() >= FEWEST) else {
        return Ok(None);
    };
    context.ui.note("measuring which layer is best for edits; use `--layer N` to set one instead");
    let failed = |error: std::io::Error| {
        Diagnostic::new(Code::StoreFailed, format!("a temporary folder cannot be written: {error}"))
    };
    let beside = tempfile::tempdir().map_err(failed)?;
    let text = beside.path().join("corpus.txt");
    std::fs::write(&text, corpus()).map_err(failed)?;
    let mut project = beginning(folder, &text)?;
    project.edits = edits;
    let (_, tried) = try_all(context, &project, (&base, &store), None)?;
    Ok(best(&tried).map(|one| (one.layer, project.edits.edits.len())))
}

/// Returns a project with this model and corpus, and without edits. It exists only in memory, and is used to measure
/// the best layer.
fn beginning(folder: &Path, corpus: &Path) -> Result<Project, Failure> {
    let path = |path: &Path| toml_text(&path.display().to_string());
    let settings = format!(
        "format = 1\n\n[model]\npath = {}\n\n[rome]\nlayer = 0\n{RULES}\n[statistics]\ncorpus = {}\n",
        path(folder),
        path(corpus)
    );
    let files = BTreeMap::from([(PROJECT_FILE.to_owned(), settings.into_bytes())]);
    Ok(Project::of_files(Path::new("."), "", files)?)
}
