//! `corrigenda.toml`: where things are, and the numbers that a project sets.
//!
//! A number that is not written stays `None`: its default belongs to the layer that uses it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::{Code, Diagnostic, Findings, sort};
use super::files;
use super::models::{self, MODEL_KEYS, ModelConfig, NamedModel};
use super::numbers::Zero;
use super::policy::{POLICY_KEYS, PROTECTED_KEYS, Policy};
use super::rules;
use super::sources::{FileId, Sources};
use super::walk::{Entry, Homes, Text, Walk};
use crate::home;

/// The name of the project file.
pub const PROJECT_FILE: &str = "corrigenda.toml";
/// The folder of edits, unless the project names another.
pub const DEFAULT_EDITS: &str = "edits";
/// The format of project files that this version reads.
pub const PROJECT_FORMAT: i64 = 1;
/// The most stages in a schedule.
pub const MOST_STAGES: usize = 8;
/// The most steps in one stage.
pub const MOST_STEPS: i64 = 10_000;

pub(super) const PROJECT_KEYS: &[&str] = &["format", "edits", "model", "rome", "link", "statistics", "test", "policy"];
pub(super) const ROME_KEYS: &[&str] = &[
    "layer",
    "templates",
    "schedule",
    "weight-decay",
    "clamp",
    "kl-factor",
    "stop-loss",
    "converged-nll",
    "bare-weight",
    "margin",
];
pub(super) const STAGE_KEYS: &[&str] = &["rate", "steps"];
pub(super) const LINK_KEYS: &[&str] = &["ridge", "refine-steps", "refine-layers"];
/// The most steps of a refinement.
const MOST_REFINING: i64 = 1000;
/// The most layers that a refinement changes.
const MOST_LAYERS: i64 = 8;
pub(super) const STATISTICS_KEYS: &[&str] = &["corpus", "max-tokens", "max-documents"];
pub(super) const TEST_KEYS: &[&str] = &[
    "unchanged-kl",
    "min-probability",
    "min-efficacy",
    "min-paraphrase",
    "min-unchanged",
    "max-damage",
    "max-perplexity",
    "neutral",
];

const HOMES: Homes = &[
    ("at the top of the file", PROJECT_KEYS),
    ("under `[model]`", MODEL_KEYS),
    ("under `[rome]`", ROME_KEYS),
    ("in a stage of `schedule`", STAGE_KEYS),
    ("under `[link]`", LINK_KEYS),
    ("under `[statistics]`", STATISTICS_KEYS),
    ("under `[test]`", TEST_KEYS),
    ("under `[policy]`", POLICY_KEYS),
    ("under `[[policy.protected]]`", PROTECTED_KEYS),
];

/// A project's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The folder that holds the project file; paths below are relative to it.
    pub root: PathBuf,
    /// The project file, for diagnostics of other layers.
    pub file: FileId,
    /// The folder of edits, below `root`.
    pub edits: PathBuf,
    /// The base model: the chosen one, where there are several.
    pub model: ModelConfig,
    /// The models that have names, the chosen one among them.
    pub models: BTreeMap<String, NamedModel>,
    /// How a value is found.
    pub rome: RomeConfig,
    /// How edits are solved together.
    pub link: LinkConfig,
    /// Where second moments come from.
    pub statistics: Option<StatisticsConfig>,
    /// When a test fails.
    pub test: TestConfig,
    /// What the project allows itself.
    pub policy: Policy,
}

/// How a value is found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RomeConfig {
    /// The layer that is edited.
    pub layer: Option<usize>,
    /// Where that is written.
    pub layer_span: Option<Range<usize>>,
    /// A file of texts to put before the prompt.
    pub templates: Option<PathBuf>,
    /// The stages of the optimisation.
    pub schedule: Option<Vec<Stage>>,
    /// The pull of the value towards where it started.
    pub weight_decay: Option<f64>,
    /// How far the value may go, in norms of where it started.
    pub clamp: Option<f64>,
    /// The weight of the divergence that keeps the subject's essence.
    pub kl_factor: Option<f64>,
    /// The loss at which the optimisation stops.
    pub stop_loss: Option<f64>,
    /// The negative log-likelihood below which a value has converged.
    pub converged_nll: Option<f64>,
    /// What the bare prompt weighs in the key; as much as every other template where nothing is said.
    pub bare_weight: Option<f64>,
    /// The lead of the target, in nats, that ends a search; the published stopping rule alone where nothing is said.
    pub margin: Option<f64>,
}

/// A stage of the optimisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// The learning rate.
    pub rate: f64,
    /// The number of steps.
    pub steps: u32,
}

/// How edits are solved together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkConfig {
    /// What is added to the diagonal of the system.
    pub ridge: Option<f64>,
    /// Steps in which a linked set is refined: none for 0; by the size of the set where nothing is said.
    pub refine_steps: Option<usize>,
    /// Layers that a refined set changes.
    pub refine_layers: Option<usize>,
}

/// Where second moments come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatisticsConfig {
    /// The corpus, as written.
    pub corpus: PathBuf,
    /// Where that is written.
    pub span: Range<usize>,
    /// A document is cut behind this many tokens; the model's context where nothing is said.
    pub max_tokens: Option<u64>,
    /// Documents behind this many are not read; all are where nothing is said.
    pub max_documents: Option<u64>,
}

/// When a test fails.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TestConfig {
    /// The divergence from which an answer counts as changed.
    pub unchanged_kl: Option<f64>,
    /// The least P of a target behind its edit's own prompt.
    pub min_probability: Option<f64>,
    /// The share of edits that must hold; all where nothing is said.
    pub min_efficacy: Option<f64>,
    /// The share of paraphrases that must hold; all where nothing is said.
    pub min_paraphrase: Option<f64>,
    /// The share of neighbours that must stay as they are; all where nothing is said.
    pub min_unchanged: Option<f64>,
    /// The most that neutral text may diverge in the mean, in nats.
    pub max_damage: Option<f64>,
    /// The most by which the perplexity of neutral text may grow, as a share.
    pub max_perplexity: Option<f64>,
    /// Neutral text, one document a line; the corpus of the statistics where nothing is said.
    pub neutral: Option<PathBuf>,
}

impl RomeConfig {
    /// These words over those of `shared`, key by key.
    pub(super) fn over(self, shared: &Self) -> Self {
        let shared = shared.clone();
        Self {
            layer_span: if self.layer.is_some() { self.layer_span } else { shared.layer_span },
            layer: self.layer.or(shared.layer),
            templates: self.templates.or(shared.templates),
            schedule: self.schedule.or(shared.schedule),
            weight_decay: self.weight_decay.or(shared.weight_decay),
            clamp: self.clamp.or(shared.clamp),
            kl_factor: self.kl_factor.or(shared.kl_factor),
            stop_loss: self.stop_loss.or(shared.stop_loss),
            converged_nll: self.converged_nll.or(shared.converged_nll),
            bare_weight: self.bare_weight.or(shared.bare_weight),
            margin: self.margin.or(shared.margin),
        }
    }
}

impl Config {
    /// Reads the project file in `root`.
    pub fn load(root: &Path) -> Result<(Self, Vec<Diagnostic>, Sources), Findings> {
        let mut sources = Sources::default();
        let (config, _, mut findings) = read(root, &mut sources);
        sort(&mut findings);
        match config {
            Some(config) if !findings.iter().any(Diagnostic::is_error) => Ok((config, findings, sources)),
            _ => Err(Findings { diagnostics: findings, sources }),
        }
    }

    /// A path of the project file, from where the program runs; from the home folder where it begins with `~/`.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        // A path is shown as it is written: without the `./` of a project in the current folder.
        if self.root == Path::new(".") { home::expanded(path) } else { self.root.join(home::expanded(path)) }
    }
}

/// Reads the project file as far as it goes; the folder of edits is known even if the rest is not.
pub(super) fn read(root: &Path, sources: &mut Sources) -> (Option<Config>, PathBuf, Vec<Diagnostic>) {
    let path = root.join(PROJECT_FILE);
    let file =
        if root.is_file() || path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            Err(missing(root))
        } else {
            files::read(&path, PROJECT_FILE, sources).and_then(|bytes| files::add(PROJECT_FILE, bytes, sources))
        };
    match file {
        Ok(file) => parse(root, file, sources.text(file)),
        Err(finding) => (None, PathBuf::from(DEFAULT_EDITS), vec![finding]),
    }
}

fn missing(root: &Path) -> Diagnostic {
    let folder = if root.as_os_str().is_empty() { ".".into() } else { root.to_string_lossy() };
    if root.is_file() {
        return Diagnostic::new(Code::ProjectMissing, format!("`{folder}` is a file"))
            .help("`-C` wants the folder that holds corrigenda.toml");
    }
    let finding = Diagnostic::new(Code::ProjectMissing, format!("there is no {PROJECT_FILE} in `{folder}`"));
    // As the system sees it: `..` in a path that is written would name other folders above it.
    let whole = std::fs::canonicalize(root).unwrap_or_default();
    let mut above = whole.ancestors().skip(1).enumerate();
    if let Some((steps, _)) = above.find(|(_, folder)| folder.join(PROJECT_FILE).is_file()) {
        let up = vec![".."; steps + 1].join("/");
        let up = if root == Path::new(".") { up } else { root.join(up).display().to_string() };
        return finding.help(format!("there is one in `{up}`: `-C {up}`"));
    }
    finding.help("name the project's folder with `-C DIR`, or start one with `corrigenda init`")
}

/// Reads the text of a project file.
pub(super) fn parse(root: &Path, file: FileId, text: &str) -> (Option<Config>, PathBuf, Vec<Diagnostic>) {
    let (mut walk, tree) = Walk::document(file, text, HOMES);
    let top = Walk::root(&tree);
    if !walk.format(&top, "format", PROJECT_FORMAT) && top.has("format") {
        return (None, PathBuf::from(DEFAULT_EDITS), walk.finish());
    }
    walk.known_keys(&top, PROJECT_KEYS);
    let edits = read_path(&mut walk, &top, "edits").and_then(|text| rules::path_below(&mut walk, "edits", &text));
    let edits = edits.unwrap_or_else(|| DEFAULT_EDITS.into());
    let rome = read_rome(&mut walk, &top, "`[rome]`").unwrap_or_default();
    let link = walk.table(&top, "link", "`[link]`").map(|table| {
        walk.known_keys(&table, LINK_KEYS);
        let mut number = |key, range| walk.integer(&table, key, range).and_then(|number| usize::try_from(number).ok());
        let refine_steps = number("refine-steps", 0..=MOST_REFINING);
        let refine_layers = number("refine-layers", 1..=MOST_LAYERS);
        LinkConfig { ridge: walk.number(&table, "ridge", Zero::Allowed), refine_steps, refine_layers }
    });
    let statistics = read_statistics(&mut walk, &top, "`[statistics]`", None);
    let (model, models) = models::read(&mut walk, &top, &rome, statistics.as_ref());
    let test = walk.table(&top, "test", "`[test]`").map(|table| {
        walk.known_keys(&table, TEST_KEYS);
        TestConfig {
            unchanged_kl: walk.number(&table, "unchanged-kl", Zero::Refused),
            min_probability: walk.share(&table, "min-probability"),
            min_efficacy: walk.share(&table, "min-efficacy"),
            min_paraphrase: walk.share(&table, "min-paraphrase"),
            min_unchanged: walk.share(&table, "min-unchanged"),
            max_damage: walk.number(&table, "max-damage", Zero::Refused),
            max_perplexity: walk.number(&table, "max-perplexity", Zero::Refused),
            neutral: read_path(&mut walk, &table, "neutral").map(|text| text.value.into()),
        }
    });
    let policy = Policy::read(&mut walk, &top);
    let config = model.map(|model| Config {
        root: root.to_owned(),
        file,
        edits: edits.clone(),
        model,
        models,
        rome,
        link: link.unwrap_or_default(),
        statistics,
        test: test.unwrap_or_default(),
        policy,
    });
    // The first of several, until another is chosen.
    let config = config.map(|mut config| {
        let first = config.model.name.clone();
        let _ = config.choose(first.as_deref());
        config
    });
    (config, edits, walk.finish())
}

/// A path that says something; whether it exists is for the layer that opens it.
fn read_path(walk: &mut Walk, entry: &Entry<'_, '_>, key: &str) -> Option<Text> {
    let text = walk.text(entry, key)?;
    rules::path(walk, key, &text).then_some(text)
}

pub(super) fn read_required_path(walk: &mut Walk, entry: &Entry<'_, '_>, key: &str) -> Option<Text> {
    walk.required(entry, key)?;
    read_path(walk, entry, key)
}

pub(super) fn read_rome(walk: &mut Walk, above: &Entry<'_, '_>, what: &'static str) -> Option<RomeConfig> {
    let table = walk.table(above, "rome", what)?;
    walk.known_keys(&table, ROME_KEYS);
    let layer = walk.integer(&table, "layer", 0..=i64::from(u32::MAX));
    Some(RomeConfig {
        layer: layer.and_then(|layer| usize::try_from(layer).ok()),
        layer_span: table.table.get("layer").map(Spanned::span),
        templates: read_path(walk, &table, "templates").map(|text| text.value.into()),
        schedule: read_schedule(walk, &table),
        weight_decay: walk.number(&table, "weight-decay", Zero::Allowed),
        clamp: walk.number(&table, "clamp", Zero::Allowed),
        kl_factor: walk.number(&table, "kl-factor", Zero::Allowed),
        stop_loss: walk.number(&table, "stop-loss", Zero::Allowed),
        converged_nll: walk.number(&table, "converged-nll", Zero::Allowed),
        bare_weight: walk.share(&table, "bare-weight"),
        margin: walk.number(&table, "margin", Zero::Allowed),
    })
}

fn read_schedule(walk: &mut Walk, rome: &Entry<'_, '_>) -> Option<Vec<Stage>> {
    let stages: &[Spanned<DeValue<'_>>] = walk.array(rome, "schedule", "an array of `{ rate = …, steps = … }`")?;
    if stages.is_empty() || stages.len() > MOST_STAGES {
        let span = rome.table.get("schedule").map_or(0..0, Spanned::span);
        let message = format!("`schedule` must have from 1 to {MOST_STAGES} stages, not {}", stages.len());
        walk.note(Code::OutOfRange, message, &span, "out of range");
    }
    let stages = stages.iter().filter_map(|stage| {
        let table = walk.as_table("every stage of `schedule`", "this stage", stage)?;
        walk.known_keys(&table, STAGE_KEYS);
        let _ = (walk.required(&table, "rate"), walk.required(&table, "steps"));
        let rate = walk.number(&table, "rate", Zero::Refused);
        let steps = walk.integer(&table, "steps", 1..=MOST_STEPS);
        Some(Stage { rate: rate?, steps: u32::try_from(steps?).ok()? })
    });
    Some(stages.collect())
}

/// The table, its own words over those of `shared`.
pub(super) fn read_statistics(
    walk: &mut Walk,
    above: &Entry<'_, '_>,
    what: &'static str,
    shared: Option<&StatisticsConfig>,
) -> Option<StatisticsConfig> {
    let table = walk.table(above, "statistics", what)?;
    walk.known_keys(&table, STATISTICS_KEYS);
    let corpus = match shared {
        Some(_) => read_path(walk, &table, "corpus"),
        None => read_required_path(walk, &table, "corpus"),
    };
    let mut limit = |key| walk.integer(&table, key, 1..=i64::MAX).and_then(|number| u64::try_from(number).ok());
    let (max_tokens, max_documents) = (limit("max-tokens"), limit("max-documents"));
    let max_tokens = max_tokens.or(shared.and_then(|shared| shared.max_tokens));
    let max_documents = max_documents.or(shared.and_then(|shared| shared.max_documents));
    let (corpus, span) = match corpus {
        Some(corpus) => (corpus.value.into(), corpus.span),
        None => shared.map(|shared| (shared.corpus.clone(), shared.span.clone()))?,
    };
    Some(StatisticsConfig { corpus, span, max_tokens, max_documents })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
