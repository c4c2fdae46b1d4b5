//! Defines and reads the settings of the tables `[rome]`, `[link]`, `[statistics]` and `[test]`.
//!
//! The JSON Schema of `corrigenda.toml` is derived from these types, and their doc comments become its descriptions. A
//! setting that the file does not have is `None`; the module that uses the setting chooses the default.

use std::ops::Range;
use std::path::PathBuf;

use schemars::JsonSchema;
use toml::Spanned;
use toml::de::DeValue;

use crate::diagnostics::Code;
use crate::project::edits::end::EndMark;
use crate::project::edits::says::{JudgedBy, SaysRule};
use crate::project::read::numbers::LowerBound;
use crate::project::read::rules;
use crate::project::read::toml_reader::{TomlReader, TomlTable, TomlText};

/// The maximum number of optimisation attempts in `schedule` under `[rome]`.
pub const MOST_STAGES: usize = 8;
/// The maximum value of `steps` for one attempt in `schedule` under `[rome]`.
pub const MOST_STEPS: i64 = 10_000;

pub(crate) const ROME_KEYS: &[&str] = &[
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
    "end",
];
pub(crate) const STAGE_KEYS: &[&str] = &["rate", "steps"];
pub(crate) const LINK_KEYS: &[&str] = &["ridge", "refine-steps", "refine-layers"];
/// The maximum value of `refine-steps` under `[link]`.
const MOST_REFINING: i64 = 1000;
/// The maximum value of `refine-layers` under `[link]`.
const MOST_LAYERS: i64 = 8;
pub(crate) const STATISTICS_KEYS: &[&str] = &["corpus", "max-tokens", "max-documents"];
pub(crate) const TEST_KEYS: &[&str] = &[
    "unchanged-kl",
    "min-probability",
    "min-efficacy",
    "min-paraphrase",
    "min-consequence",
    "min-unchanged",
    "max-damage",
    "max-perplexity",
    "max-task-loss",
    "neutral",
    "by",
    "says",
    "max-repeats",
];

/// The settings of the ROME optimisation. The optimisation searches for the vector v that the edited MLP layer must
/// output at the subject, so that the model gives the target.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(rename = "RomeTable", deny_unknown_fields, rename_all = "kebab-case")]
pub struct RomeConfig {
    /// The index of the layer whose MLP is edited, from 0.
    pub layer: Option<usize>,
    /// The byte range of `layer` in the project file.
    #[schemars(skip)]
    pub layer_span: Option<Range<usize>>,
    /// A file of context templates. These are texts that are put before the prompt when the MLP key and the value v are
    /// computed.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    pub templates: Option<PathBuf>,
    /// The attempts of the optimisation, in order. Each attempt after the first is made only if no earlier one has
    /// converged.
    #[schemars(length(min = 1, max = 8))]
    pub schedule: Option<Vec<StageConfig>>,
    /// The weight decay: the factor of ‖δ‖ / ‖v₀‖² in the loss. v₀ is the MLP output at the subject before the edit,
    /// and δ is the change of this vector.
    #[schemars(range(min = 0))]
    pub weight_decay: Option<f64>,
    /// The maximum of ‖δ‖ / ‖v₀‖. v₀ is the MLP output at the subject before the edit, and δ is the change of this
    /// vector.
    #[schemars(range(min = 0))]
    pub clamp: Option<f64>,
    /// The factor of the KL divergence in the loss. This term preserves the model's other predictions about the
    /// subject.
    #[schemars(range(min = 0))]
    pub kl_factor: Option<f64>,
    /// The total loss, including weight decay and KL divergence, below which an optimisation attempt stops.
    #[schemars(range(min = 0))]
    pub stop_loss: Option<f64>,
    /// The mean negative log-likelihood of the target, in nats, at or below which an optimisation attempt has
    /// converged.
    #[schemars(range(min = 0))]
    pub converged_nll: Option<f64>,
    /// The weight of the prompt without a context template when the MLP keys of all templates are averaged. By default
    /// it equals the weight of one template.
    #[schemars(range(min = 0, max = 1))]
    pub bare_weight: Option<f64>,
    /// The margin, in nats, of an additional stop condition. An optimisation attempt also stops if the log-probability
    /// of each target token exceeds that of every other token by at least this margin, with every context template. By
    /// default, this condition is not used.
    #[schemars(range(min = 0))]
    pub margin: Option<f64>,
    /// What the edited model should give directly after every target, so that it ends its answer: a full stop (`.`), its
    /// own end token (`eos`), or nothing in particular (`none`, the default).
    pub end: Option<EndMark>,
}

/// The Adam settings of one attempt of the ROME optimisation. An attempt is made only if no earlier attempt has
/// converged.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema)]
#[schemars(rename = "StageTable", deny_unknown_fields)]
pub struct StageConfig {
    /// The learning rate of Adam.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub rate: f64,
    /// The number of loss evaluations; the number of Adam updates is one less.
    #[schemars(range(min = 1, max = 10000))]
    pub steps: u32,
}

/// The settings of the link, the linear solve that combines all edits into one patch.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(rename = "LinkTable", deny_unknown_fields, rename_all = "kebab-case")]
pub struct LinkConfig {
    /// The ridge that is added to the diagonal of the linear system, as a share of the mean diagonal entry.
    #[schemars(range(min = 0))]
    pub ridge: Option<f64>,
    /// The number of refinement steps after the linear solve; 0 means no refinement. The default is 20 if the project
    /// has at least 25 subjects and aliases in total, and 0 otherwise.
    #[schemars(range(min = 0, max = 1000))]
    pub refine_steps: Option<usize>,
    /// The number of layers that the refinement changes: the edited layer and the layers that directly follow it.
    #[schemars(range(min = 1, max = 8))]
    pub refine_layers: Option<usize>,
}

/// The corpus from which the second moments of the MLP keys (the matrix C of the ROME paper) are computed, and the
/// amount of its text that is read.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "StatisticsTable", deny_unknown_fields, rename_all = "kebab-case")]
pub struct StatisticsConfig {
    /// The path of the corpus, a text file with one document per line. The second moments are computed from its text.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    pub corpus: PathBuf,
    /// The byte range of `corpus` in the project file.
    #[schemars(skip)]
    pub span: Range<usize>,
    /// The maximum number of tokens per document; longer documents are truncated. By default, the maximum is 2,048
    /// or the model's context length, whichever is less.
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u64>,
    /// The maximum number of documents that are read; by default all.
    #[schemars(range(min = 1))]
    pub max_documents: Option<u64>,
}

/// The limits that `corrigenda test` applies to probabilities, to KL divergences, to the shares of correct and
/// unchanged answers, and to the perplexity of neutral text.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(rename = "TestTable", deny_unknown_fields, rename_all = "kebab-case")]
pub struct TestConfig {
    /// The KL divergence between the next-token distributions of base and patched model, in nats, at or above which the
    /// answer to a neighbour prompt counts as changed.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub unchanged_kl: Option<f64>,
    /// The minimum probability of the target after the prompt of the edit.
    #[schemars(range(min = 0, max = 1))]
    pub min_probability: Option<f64>,
    /// The minimum share of edits for which the patched model gives the target; all edits by default.
    #[schemars(range(min = 0, max = 1))]
    pub min_efficacy: Option<f64>,
    /// The minimum share of paraphrases to which the patched model gives the target; all paraphrases by default.
    #[schemars(range(min = 0, max = 1))]
    pub min_paraphrase: Option<f64>,
    /// The minimum share of consequences for which the patched model gives the answer; by default, the share has no
    /// limit.
    #[schemars(range(min = 0, max = 1))]
    pub min_consequence: Option<f64>,
    /// The minimum share of neighbour prompts whose answer stays unchanged; all neighbour prompts by default.
    #[schemars(range(min = 0, max = 1))]
    pub min_unchanged: Option<f64>,
    /// The maximum mean KL divergence from the base model on neutral text, in nats.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub max_damage: Option<f64>,
    /// The maximum relative growth of the perplexity of neutral text from the base model to the patched model; 0.1
    /// means 10 %.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub max_perplexity: Option<f64>,
    /// The maximum fall of the accuracy of any task from the base model to the patched model, as a share; 0.02 means 2
    /// percentage points.
    #[schemars(range(min = 0, max = 1))]
    pub max_task_loss: Option<f64>,
    /// A file of neutral text, which is unrelated to the edits. Each line is one document. A file whose name ends in
    /// `.json` or `.jsonl` has records with the texts `Corpus` and `Text`, as ME-PPL. By default, the corpus under
    /// `[statistics]` is used.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    pub neutral: Option<PathBuf>,
    /// What decides whether an answer is right: the probabilities of its tokens (`teacher-forcing`, the default), or the
    /// text that the model generates (`generation`).
    pub by: Option<JudgedBy>,
    /// The rule for generated text, if it decides: it must contain the answer (the default), or be exactly the answer.
    pub says: Option<SaysRule>,
    /// The maximum share of prompts with a target after which the patched model's text repeats itself. If it is set,
    /// `test` generates the texts.
    #[schemars(range(min = 0, max = 1))]
    pub max_repeats: Option<f64>,
}

impl RomeConfig {
    pub(super) fn read(reader: &mut TomlReader, above: &TomlTable<'_, '_>, what: &'static str) -> Option<Self> {
        let table = reader.table(above, "rome", what)?;
        reader.known_keys(&table, ROME_KEYS);
        let layer = reader.integer(&table, "layer", 0..=i64::from(u32::MAX));
        Some(Self {
            layer: layer.and_then(|layer| usize::try_from(layer).ok()),
            layer_span: table.table.get("layer").map(Spanned::span),
            templates: read_path(reader, &table, "templates").map(|text| text.value.into()),
            schedule: read_schedule(reader, &table),
            weight_decay: reader.number(&table, "weight-decay", LowerBound::IncludesZero),
            clamp: reader.number(&table, "clamp", LowerBound::IncludesZero),
            kl_factor: reader.number(&table, "kl-factor", LowerBound::IncludesZero),
            stop_loss: reader.number(&table, "stop-loss", LowerBound::IncludesZero),
            converged_nll: reader.number(&table, "converged-nll", LowerBound::IncludesZero),
            bare_weight: reader.share(&table, "bare-weight"),
            margin: reader.number(&table, "margin", LowerBound::IncludesZero),
            end: EndMark::read(reader, &table),
        })
    }

    /// Returns these settings; a setting that is `None` gets the value from `shared`.
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
            end: self.end.or(shared.end),
        }
    }
}

impl StatisticsConfig {
    /// Reads a `[statistics]` table. A missing key gets the value from `shared`, the `[statistics]` table of the whole
    /// project.
    pub(super) fn read(
        reader: &mut TomlReader,
        above: &TomlTable<'_, '_>,
        what: &'static str,
        shared: Option<&Self>,
    ) -> Option<Self> {
        let table = reader.table(above, "statistics", what)?;
        reader.known_keys(&table, STATISTICS_KEYS);
        let corpus = match shared {
            Some(_) => read_path(reader, &table, "corpus"),
            None => read_required_path(reader, &table, "corpus"),
        };
        let mut limit = |key| reader.integer(&table, key, 1..=i64::MAX).and_then(|number| u64::try_from(number).ok());
        let (max_tokens, max_documents) = (limit("max-tokens"), limit("max-documents"));
        let max_tokens = max_tokens.or(shared.and_then(|shared| shared.max_tokens));
        let max_documents = max_documents.or(shared.and_then(|shared| shared.max_documents));
        let (corpus, span) = match corpus {
            Some(corpus) => (corpus.value.into(), corpus.span),
            None => shared.map(|shared| (shared.corpus.clone(), shared.span.clone()))?,
        };
        Some(Self { corpus, span, max_tokens, max_documents })
    }
}

impl LinkConfig {
    pub(super) fn read(reader: &mut TomlReader, top: &TomlTable<'_, '_>) -> Option<Self> {
        let table = reader.table(top, "link", "`[link]`")?;
        reader.known_keys(&table, LINK_KEYS);
        let mut number =
            |key, range| reader.integer(&table, key, range).and_then(|number| usize::try_from(number).ok());
        let refine_steps = number("refine-steps", 0..=MOST_REFINING);
        let refine_layers = number("refine-layers", 1..=MOST_LAYERS);
        Some(Self { ridge: reader.number(&table, "ridge", LowerBound::IncludesZero), refine_steps, refine_layers })
    }
}

impl TestConfig {
    pub(super) fn read(reader: &mut TomlReader, top: &TomlTable<'_, '_>) -> Option<Self> {
        let table = reader.table(top, "test", "`[test]`")?;
        reader.known_keys(&table, TEST_KEYS);
        let by = JudgedBy::read(reader, &table);
        if let Some(says) = table.table.get("says").filter(|_| by != Some(JudgedBy::Generation)) {
            let message = "`says` under `[test]` has no effect without `by = \"generation\"`".to_owned();
            reader.note(Code::OutOfRange, message, &says.span(), "no effect");
        }
        Some(Self {
            unchanged_kl: reader.number(&table, "unchanged-kl", LowerBound::ExcludesZero),
            min_probability: reader.share(&table, "min-probability"),
            min_efficacy: reader.share(&table, "min-efficacy"),
            min_paraphrase: reader.share(&table, "min-paraphrase"),
            min_consequence: reader.share(&table, "min-consequence"),
            min_unchanged: reader.share(&table, "min-unchanged"),
            max_damage: reader.number(&table, "max-damage", LowerBound::ExcludesZero),
            max_perplexity: reader.number(&table, "max-perplexity", LowerBound::ExcludesZero),
            max_task_loss: reader.share(&table, "max-task-loss"),
            neutral: read_path(reader, &table, "neutral").map(|text| text.value.into()),
            by,
            says: SaysRule::read(reader, &table, "says"),
            max_repeats: reader.share(&table, "max-repeats"),
        })
    }
}

fn read_schedule(reader: &mut TomlReader, rome: &TomlTable<'_, '_>) -> Option<Vec<StageConfig>> {
    let stages: &[Spanned<DeValue<'_>>] = reader.array(rome, "schedule", "an array of `{ rate = …, steps = … }`")?;
    if stages.is_empty() || stages.len() > MOST_STAGES {
        let span = rome.table.get("schedule").map_or(0..0, Spanned::span);
        let message = format!("`schedule` must have from 1 to {MOST_STAGES} stages, not {}", stages.len());
        reader.note(Code::OutOfRange, message, &span, "out of range");
    }
    let stages = stages.iter().filter_map(|stage| {
        let table = reader.as_table("every stage of `schedule`", "this stage", stage)?;
        reader.known_keys(&table, STAGE_KEYS);
        let _ = (reader.required(&table, "rate"), reader.required(&table, "steps"));
        let rate = reader.number(&table, "rate", LowerBound::ExcludesZero);
        let steps = reader.integer(&table, "steps", 1..=MOST_STEPS);
        Some(StageConfig { rate: rate?, steps: u32::try_from(steps?).ok()? })
    });
    Some(stages.collect())
}

/// Reads a path, which must not be empty. The function does not check whether the file exists.
pub(super) fn read_path(reader: &mut TomlReader, entry: &TomlTable<'_, '_>, key: &str) -> Option<TomlText> {
    let text = reader.text(entry, key)?;
    rules::path(reader, key, &text).then_some(text)
}

pub(super) fn read_required_path(reader: &mut TomlReader, entry: &TomlTable<'_, '_>, key: &str) -> Option<TomlText> {
    reader.required(entry, key)?;
    read_path(reader, entry, key)
}
