//! Combines the settings of `corrigenda.toml` with the published values for the base model and with defaults.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::Base;
use crate::compile::{Settings, Stage, presets};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::{Digest, FieldHasher};
use crate::link::Refinement;
use crate::model::ModelError;
use crate::project::{Lock, Project, RomeConfig};
use crate::regular_file;
use crate::stats::Provenance;
use crate::store::{Store, memo, requested};

/// The settings of a build, that is, all inputs except the edits and the base model.
#[derive(Clone, Debug)]
pub struct Setup {
    pub layer: usize,
    /// The context templates: texts with `{}` in place of the prompt. The first template is `{}` alone.
    pub templates: Vec<String>,
    pub settings: Settings,
    /// The ridge that is added to the diagonal of the linear system, as a share of the mean diagonal entry. `None` if
    /// the project does not set a ridge.
    pub ridge: Option<f64>,
    /// The settings of the refinement; `None` if the linked edits are not refined.
    pub refinement: Option<Refinement>,
    /// The path of the corpus, from which the second moment of the MLP keys is computed. Empty if the corpus digest is
    /// [`CorpusDigest::Assumed`].
    pub corpus: PathBuf,
    pub provenance: Provenance,
    /// The digest of the imported file, for each layer whose second moment was imported. The second moment of such a
    /// layer is not computed from the corpus.
    pub imports: BTreeMap<usize, Digest>,
}

/// The way in which a command obtains the digest of the corpus.
#[derive(Clone, Copy, Debug)]
pub enum CorpusDigest {
    /// The digest is taken from the store if the metadata of the corpus file has not changed since the file was last
    /// hashed. Otherwise the file is hashed.
    Remembered,
    /// The corpus file is always read and hashed.
    Fresh,
    /// The given digest is used without a check, for commands that compute nothing from the corpus.
    Assumed(Digest),
}

impl CorpusDigest {
    /// Returns the corpus digest that a `corrigenda.lock` records. If the project has no edits, the lock records no
    /// corpus, and the digest of an empty file is returned.
    pub fn of_lock(lock: &Lock) -> Self {
        Self::Assumed(lock.statistics.first().map_or_else(|| Digest::of(b""), |locked| locked.corpus))
    }
}

/// The default maximum number of tokens per document of the corpus. It is the context length of GPT-J, the longest of
/// the models with published values. For a model with a shorter context, the maximum is its context length.
const DEFAULT_MAX_TOKENS: usize = 2048;

const MAX_TEMPLATE_BYTES: u64 = 1 << 20;

impl Setup {
    /// Reads the project's settings. If the project does not set a value, the published value for the base model is
    /// used, or else a default.
    ///
    /// # Errors
    /// If no layer is set or published, or if the context templates or the corpus cannot be used; all errors are
    /// reported together.
    pub fn new(project: &Project, base: &Base, store: &Store, corpus: CorpusDigest) -> Result<Self, Failure> {
        Self::at_layer(project, base, store, corpus, layer_for(project, base))
    }

    /// Does the same as [`Setup::new`], but with the given `layer` instead of the layer in `corrigenda.toml`.
    ///
    /// # Errors
    /// As for [`Setup::new`]; an error in `layer` is reported with the other errors.
    pub fn at_layer(
        project: &Project,
        base: &Base,
        store: &Store,
        corpus: CorpusDigest,
        layer: Result<usize, Diagnostic>,
    ) -> Result<Self, Failure> {
        let mut findings = Vec::new();
        let mut report = |finding: Diagnostic| findings.push(finding);
        let published = presets::published(base.model.spec());
        let layer = layer.map_err(&mut report).ok();
        let templates = templates_of(project).map_err(&mut report).ok();
        let corpus = read_corpus(project, store, corpus).map_err(&mut report).ok();
        let (Some(layer), Some(templates), Some((corpus, digest))) = (layer, templates, corpus) else {
            return Err(Failure::invalid(findings, &project.edits.sources));
        };
        let spec = base.model.spec();
        let limits = project.config.statistics.as_ref();
        let limit = limits.and_then(|limits| limits.max_tokens).and_then(|limit| usize::try_from(limit).ok());
        let max_tokens = limit.unwrap_or(DEFAULT_MAX_TOKENS).min(spec.max_positions);
        let mut provenance = Provenance::new(base.locked.digest, layer, spec.intermediate_size, digest, max_tokens);
        provenance.max_documents = limits.and_then(|limits| limits.max_documents);
        let settings = settings(&project.config.rome, published.map(|(_, settings)| settings).unwrap_or_default());
        let (ridge, refinement) = (project.config.link.ridge, refinement(project));
        let imports = imports(project, store, &provenance, spec.layers);
        provenance.imported = imports.get(&layer).copied();
        Ok(Self { layer, templates, settings, ridge, refinement, corpus, provenance, imports })
    }

    /// Returns a copy of the setup that uses only the imported second moments that `lock` records. Second moments that
    /// were imported later are ignored.
    #[must_use]
    pub fn with_imports_of(mut self, lock: &Lock) -> Self {
        self.imports = imports_of(lock);
        self.for_layer(self.layer)
    }

    /// Returns the layers that a build changes, the edited layer first.
    pub fn layers(&self, base: &Base) -> Vec<usize> {
        let count = self.refinement.as_ref().map_or(1, |refinement| refinement.layers);
        (self.layer..base.model.spec().layers).take(count).collect()
    }

    /// Returns a copy of the setup with `layer` as the edited layer. In the copy, `provenance` describes the second
    /// moment of the MLP keys at `layer`.
    #[must_use]
    pub fn for_layer(&self, layer: usize) -> Self {
        let imported = self.imports.get(&layer).copied();
        let provenance = Provenance { layer, imported, ..self.provenance.clone() };
        Self { layer, provenance, ..self.clone() }
    }

    /// Returns the ridge that is added to the diagonal of the linear system, as a share of the mean diagonal entry. If
    /// the project does not set a ridge, this is the default ridge of refined sets, or 0 without refinement.
    pub fn link_ridge(&self) -> f64 {
        let refined = self.refinement.as_ref().map_or(0.0, |refinement| refinement.ridge);
        self.ridge.unwrap_or(refined)
    }

    /// Returns the digest of the settings on which the compiled edits, the second moments and the patch depend.
    pub fn digest(&self) -> Digest {
        let mut hasher = FieldHasher::new("settings/1");
        hasher.number("layer", self.layer as u64);
        hasher.texts("templates", self.templates.iter().map(String::as_str));
        self.settings.describe(&mut hasher);
        hasher.float("ridge", self.link_ridge()).number("max-tokens", self.provenance.max_tokens as u64);
        hasher.number("max-documents", self.provenance.max_documents.unwrap_or(u64::MAX));
        // Without a refinement, nothing is added to the hash. The digest is then the same as in versions of the program
        // that had no refinement.
        if let Some(refinement) = &self.refinement {
            refinement.describe(&mut hasher);
        }
        hasher.finish()
    }
}

/// Returns, for each layer with an imported second moment, the digest of the imported file. For a project on disk, the
/// last `corrigenda stats import` or `corrigenda stats build` takes precedence over `corrigenda.lock`. For a git
/// revision, only the imports in its `corrigenda.lock` are used.
fn imports(project: &Project, store: &Store, provenance: &Provenance, layers: usize) -> BTreeMap<usize, Digest> {
    // An unreadable `corrigenda.lock` is ignored here, because every command that needs the lock reports the error.
    let mut imports = project.lock().ok().flatten().map(|lock| imports_of(&lock)).unwrap_or_default();
    for layer in (0..layers).filter(|_| !project.is_snapshot()) {
        let address = Provenance { layer, ..provenance.summed() }.address();
        match requested::requested(store, &project.config.root, &address) {
            Some(Some(file)) => drop(imports.insert(layer, file)),
            Some(None) => drop(imports.remove(&layer)),
            None => {}
        }
    }
    imports
}

fn imports_of(lock: &Lock) -> BTreeMap<usize, Digest> {
    let imported = lock.statistics.iter().filter_map(|one| Some((usize::try_from(one.layer).ok()?, one.imported?)));
    imported.collect()
}

/// The minimum number of edits in a set that is refined by default; each alias counts as an edit. The edits of a
/// smaller set disturb one another little, so the closed-form solution is used without refinement.
pub const REFINED_FROM: usize = 25;

/// Returns the settings of the refinement; `None` if the project's edits are not refined.
fn refinement(project: &Project) -> Option<Refinement> {
    let (link, default) = (&project.config.link, Refinement::default());
    let names = project.edits.edits.iter().map(|edit| edit.names().count()).sum::<usize>();
    let default_steps = if names < REFINED_FROM { 0 } else { default.steps };
    let steps = link.refine_steps.unwrap_or(default_steps);
    let layers = link.refine_layers.unwrap_or(default.layers);
    (steps > 0).then_some(Refinement { steps, layers, ..default })
}

/// Returns the layer that a build on `base` edits: the layer in `corrigenda.toml`, or the published layer for this
/// model.
///
/// # Errors
/// If no layer is set or published, or if the base model has fewer layers.
pub fn layer_for(project: &Project, base: &Base) -> Result<usize, Diagnostic> {
    let published = presets::published(base.model.spec()).map(|(layer, _)| layer);
    let (config, spec) = (&project.config, base.model.spec());
    let last = spec.layers - 1;
    let Some(layer) = config.rome.layer.or(published) else {
        let shape = format!("{} layers of width {}", spec.layers, spec.hidden_size);
        return Err(Diagnostic::new(
            Code::LayerMissing,
            format!("no layer is set, and none is published for a model of this shape ({shape})"),
        )
        .at(config.file, &config.model.span, "of this model")
        .help(format!(
            "write `layer = N` under `[{}rome]`, N from 0 to {last}: `corrigenda trace --suggest-layer` measures which \
             layer is best for these edits",
            config.model.prefix()
        ))
        .help(format!("a layer is published for {}", presets::names())));
    };
    spec.check_layer(layer).map_err(|error: ModelError| {
        let finding = Diagnostic::new(Code::LayerUnknown, error.to_string());
        match &config.rome.layer_span {
            Some(span) => finding.at(config.file, span, format!("0 to {last}")),
            None => finding,
        }
    })?;
    Ok(layer)
}

fn settings(config: &RomeConfig, default: Settings) -> Settings {
    let stages = config.schedule.as_ref().map(|stages| {
        stages.iter().map(|stage| Stage { rate: stage.rate, steps: stage.steps as usize }).collect::<Vec<_>>()
    });
    Settings {
        schedule: stages.unwrap_or(default.schedule),
        weight_decay: config.weight_decay.unwrap_or(default.weight_decay),
        clamp: config.clamp.unwrap_or(default.clamp),
        kl_factor: config.kl_factor.unwrap_or(default.kl_factor),
        stop_loss: config.stop_loss.unwrap_or(default.stop_loss),
        converged_nll: config.converged_nll.unwrap_or(default.converged_nll),
        bare_weight: config.bare_weight.or(default.bare_weight),
        margin: config.margin.or(default.margin),
        end: config.end.unwrap_or(default.end),
    }
}

/// Returns the context templates of a project; by default, the built-in context templates.
///
/// # Errors
/// If the file cannot be read, or a line is not a valid template.
pub fn templates_of(project: &Project) -> Result<Vec<String>, Diagnostic> {
    let Some(path) = &project.config.rome.templates else { return Ok(presets::lines(presets::TEMPLATES)) };
    let shown = path.display();
    let snapshot = project.snapshot_file(path);
    let wrong = |why: String| {
        Diagnostic::new(Code::TemplatesUnusable, why)
            .help("write one template per line, each with one `{}` at its end; the first line is `{}` alone")
    };
    let text = match snapshot {
        Some(bytes) => {
            let bytes = bytes.ok_or_else(|| wrong(format!("the templates {shown} do not exist")))?;
            String::from_utf8_lossy(bytes).trim_start_matches('\u{feff}').to_owned()
        }
        None => read_templates(project, path).map_err(wrong)?,
    };
    let templates = presets::lines(&text);
    if templates.first().is_none_or(|first| first != "{}") {
        return Err(wrong(format!("{shown}:1: the first template is not `{{}}` alone")));
    }
    let is_template = |template: &String| template.matches("{}").count() == 1 && template.ends_with("{}");
    if let Some(line) = templates.iter().position(|template| !is_template(template)) {
        return Err(wrong(format!("{shown}:{}: a template needs one `{{}}`, at its end", line + 1)));
    }
    Ok(templates)
}

fn read_templates(project: &Project, path: &std::path::Path) -> Result<String, String> {
    let (shown, whole) = (path.display(), project.config.resolve(path));
    let bytes = regular_file::read(&whole, MAX_TEMPLATE_BYTES).map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => format!("the templates {shown} are not a regular file"),
        ErrorKind::FileTooLarge => format!("the templates {shown} are longer than one mebibyte"),
        _ => format!("reading the templates {shown}: {error}"),
    })?;
    regular_file::text(bytes).map_err(|why| format!("reading the templates {shown}: {why}"))
}

fn read_corpus(project: &Project, store: &Store, corpus: CorpusDigest) -> Result<(PathBuf, Digest), Diagnostic> {
    if let CorpusDigest::Assumed(digest) = corpus {
        return Ok((PathBuf::new(), digest));
    }
    let Some(statistics) = &project.config.statistics else {
        return Err(Diagnostic::new(Code::CorpusUnusable, "no corpus is set for the statistics of the keys").help(
            "write `corpus = \"corpus.txt\"` under `[statistics]`: plain text of the kind that the model was trained \
             on, one document per line",
        ));
    };
    let path = project.config.resolve(&statistics.corpus);
    let unusable = |error: String| {
        Diagnostic::new(Code::CorpusUnusable, error).at(project.config.file, &statistics.span, "the corpus")
    };
    // Without this check, `corrigenda.lock` would record the digest of a Git LFS pointer instead of the digest of the
    // corpus.
    if let Err(error) = regular_file::open(&path)
        && regular_file::is_pointer(&error)
    {
        return Err(unusable(format!("reading the corpus {}: {error}", path.display())));
    }
    let digest = match corpus {
        CorpusDigest::Fresh => memo::digest_text_fresh(&path),
        _ => memo::digest_text(store, &path),
    };
    match digest {
        Ok(digest) => Ok((path, digest)),
        Err(error) => Err(unusable(error.to_string()).help("paths are relative to the folder of corrigenda.toml")),
    }
}
