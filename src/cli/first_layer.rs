//! Which layer a new project edits: what is published or was measured for the model's shape, a quick measurement where
//! the model is small, and a third of the way up otherwise.

use std::collections::BTreeMap;
use std::path::Path;

use super::Context;
use super::drafts::corpus;
use super::init::toml_text;
use super::suggest::{edits_of, try_all};
use crate::build::{Base, Stop};
use crate::compile::known;
use crate::model::Spec;
use crate::project::{Code, Diagnostic, PROJECT_FILE, Project, Sources};
use crate::review::layers::best;
use crate::store::Store;
use crate::trace::known_facts;

/// Which layer to edit, as the project file has it, and how it was chosen, as a person is told.
pub(super) struct Layer {
    pub(super) lines: String,
    pub(super) note: String,
}

/// Models of which it was measured which layer takes edits best: family, layers, width, and the layer.
const MEASURED: [(&str, usize, usize, usize); 1] = [("llama", 30, 576, 5)];

/// Facts that most language models know, in the schema of known_1000.json: what a quick measurement edits.
const COMMON: &[u8] = include_bytes!("../trace/common.json");

/// So many of them are edited, and no fewer than this.
const EDITED: usize = 8;
const FEWEST: usize = 4;

/// Numbers of the blocks' matrices of a model that is measured: some minutes of a processor at most.
const MOST_NUMBERS: usize = 60_000_000;

/// What a project file has where nothing is set, for a model and its rules of a search.
pub(super) const RULES: &str = "\
# Half of a key is that of the bare prompt: it is what will be asked, and a subject that begins a text has a key
# of its own. Published is one part in twenty-one.
bare-weight = 0.5
# A search for a value ends when the target leads every other answer by this much, in nats. Published is none:
# values then go further than the answer needs, at twice the time.
margin = 2
";

impl Layer {
    /// The layer that a person names.
    pub(super) fn named(layer: usize, spec: &Spec) -> Result<Self, Diagnostic> {
        let error = |error: crate::model::ModelError| Diagnostic::new(Code::LayerUnknown, error.to_string());
        spec.check_layer(layer).map_err(error)?;
        Ok(Self { lines: format!("layer = {layer}"), note: format!("layer {layer} is edited, as `--layer` says") })
    }

    /// The layer of a known model; what a measurement says of a small one; a third of the way up otherwise, which is
    /// where the known ones have it.
    pub(super) fn choose(context: &Context, folder: &Path, spec: &Spec) -> Self {
        if let Some((layer, _)) = known::published(spec) {
            return Self {
                lines: format!("layer = {layer}  # as published for this model"),
                note: format!("layer {layer} is edited: it is the one that was published for this model"),
            };
        }
        let shape = (spec.family.model_type, spec.layers, spec.width);
        if let Some((.., layer)) =
            MEASURED.iter().find(|(family, layers, width, _)| (*family, *layers, *width) == shape)
        {
            return Self {
                lines: format!(
                    "layer = {layer}  # measured for a model of this shape; `corrigenda trace --suggest-layer` measures yours"
                ),
                note: format!(
                    "layer {layer} is edited: of models of this shape it was measured that it takes edits best"
                ),
            };
        }
        if numbers(spec) > MOST_NUMBERS {
            return Self::third(spec, "none is published for this model, and it is not measured here for its size");
        }
        match measured(context, folder) {
            Ok(Some((layer, edits))) => Self {
                lines: format!(
                    "layer = {layer}  # measured with {edits} common facts; `corrigenda trace --suggest-layer` does it with yours"
                ),
                note: format!(
                    "layer {layer} of {} is edited: it took {edits} edits of common facts best; `corrigenda trace \
                     --suggest-layer` measures it with your facts",
                    spec.layers
                ),
            },
            Ok(None) => Self::third(spec, "the model knows too few common facts to measure one"),
            Err(stop) => {
                let why = stop.findings.first().map_or_else(String::new, |finding| format!(" ({})", finding.message));
                Self::third(spec, &format!("none could be measured{why}"))
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
                "layer {layer} of {} is edited: {why}, and a third of the way up is where the published ones are; \
                 `corrigenda trace --suggest-layer` measures which takes edits best",
                spec.layers
            ),
        }
    }
}

/// Numbers of the matrices of all blocks, about.
fn numbers(spec: &Spec) -> usize {
    let block = 4 * spec.width * spec.width + 3 * spec.width * spec.inner;
    block.saturating_mul(spec.layers)
}

/// Tries edits of common facts at the layers of the model, and gives the best of these and how many edits were tried;
/// nothing where the model knows too few of the facts, or no layer takes them.
fn measured(context: &Context, folder: &Path) -> Result<Option<(usize, usize)>, Stop> {
    let wrong = |finding| Stop::wrong(vec![finding], &Sources::default());
    let store = context.store().map_err(wrong)?;
    let base = Base::at(folder, &store, context.isa, false).map_err(wrong)?;
    let (facts, _) = known_facts(COMMON).map_err(|error| wrong(Diagnostic::new(Code::TraceRefused, error)))?;
    let Some((edits, count)) = edits_of(&base, &facts, EDITED, 1).filter(|(_, count)| *count >= FEWEST) else {
        return Ok(None);
    };
    context.ui.note("measuring which layer takes edits best; `--layer N` sets one instead");
    let failed = |error: std::io::Error| {
        wrong(Diagnostic::new(Code::StoreFailed, format!("a temporary folder cannot be written: {error}")))
    };
    let beside = tempfile::tempdir().map_err(failed)?;
    let text = beside.path().join("corpus.txt");
    std::fs::write(&text, corpus()).map_err(failed)?;
    let mut project = beginning(folder, &text)?;
    project.edits = edits;
    layer_of(context, &project, (&base, &store)).map(|found| found.map(|layer| (layer, count)))
}

fn layer_of(context: &Context, project: &Project, ground: (&Base, &Store)) -> Result<Option<usize>, Stop> {
    let (_, tried) = try_all(context, project, ground, None)?;
    Ok(best(&tried).map(|one| one.layer))
}

/// A project as it is begun, which is written nowhere.
fn beginning(folder: &Path, corpus: &Path) -> Result<Project, Stop> {
    let path = |path: &Path| toml_text(&path.display().to_string());
    let settings = format!(
        "format = 1\n\n[model]\npath = {}\n\n[rome]\nlayer = 0\n{RULES}\n[statistics]\ncorpus = {}\n",
        path(folder),
        path(corpus)
    );
    let files = BTreeMap::from([(PROJECT_FILE.to_owned(), settings.into_bytes())]);
    Ok(Project::of_files(Path::new("."), "", files)?)
}
