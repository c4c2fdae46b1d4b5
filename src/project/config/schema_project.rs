//! Mirrors `corrigenda.toml` in types from which its JSON Schema is derived. The types are not used to read the file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// The project file of corrigenda: the model, the folder of edits, and the settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "corrigenda project")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
pub(crate) struct ProjectFile {
    /// The format of this file: 1.
    #[schemars(range(min = 1, max = 1))]
    format: u8,
    /// The folder of edits, below the project's folder; "edits" by default.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    edits: Option<String>,
    /// The base model, or several named ones.
    model: Models,
    /// The settings of the value optimisation (ROME).
    rome: Option<RomeTable>,
    /// The settings for solving all edits together.
    link: Option<LinkTable>,
    /// The source of the second moments of the keys.
    statistics: Option<StatisticsTable>,
    /// The thresholds of `corrigenda test`.
    test: Option<TestTable>,
    /// The rules that the project sets for itself; a build that breaks one writes no patch.
    policy: Option<PolicyTable>,
}

/// The base model: one given by its path, or several named ones.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
enum Models {
    /// The only model.
    One(ModelTable),
    /// The models by name.
    Several(
        #[schemars(extend("minProperties" = 1, "propertyNames" = { "pattern": NAME, "maxLength": 64 }))]
        BTreeMap<String, NamedTable>,
    ),
}

/// The pattern of model names.
const NAME: &str = r"^[a-z0-9][a-z0-9-]*$";

/// A named model; each key under its `rome` and `statistics` overrides that of the project.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct NamedTable {
    /// The folder of the model, or its name on the Hub.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    path: String,
    /// The settings of the value optimisation (ROME).
    rome: Option<RomeTable>,
    /// The source of the second moments of the keys.
    statistics: Option<OwnStatisticsTable>,
}

/// The source of the second moments for one model; missing keys are taken from the project's.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct OwnStatisticsTable {
    /// The path of the corpus.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    corpus: Option<String>,
    /// The maximum number of tokens per document; longer ones are truncated. By default the model's context length.
    #[schemars(range(min = 1))]
    max_tokens: Option<u64>,
    /// The maximum number of documents that are read; by default all.
    #[schemars(range(min = 1))]
    max_documents: Option<u64>,
}

/// The base model.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct ModelTable {
    /// The folder of the model, or its name on the Hub.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    path: String,
}

/// The settings of the value optimisation (ROME).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct RomeTable {
    /// The layer that is edited, from 0.
    layer: Option<u32>,
    /// A file of context templates: texts that are put before the prompt.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    templates: Option<String>,
    /// The attempts of the optimisation; each is only made if the previous ones did not converge.
    #[schemars(length(min = 1, max = 8))]
    schedule: Option<Vec<StageTable>>,
    /// The weight decay: the factor of ‖δ‖ / ‖v₀‖² in the loss, where δ is the change of the initial value v₀.
    #[schemars(range(min = 0))]
    weight_decay: Option<f64>,
    /// The maximum of ‖δ‖ as a multiple of ‖v₀‖.
    #[schemars(range(min = 0))]
    clamp: Option<f64>,
    /// The weight of the KL divergence that keeps the model's other predictions about the subject.
    #[schemars(range(min = 0))]
    kl_factor: Option<f64>,
    /// The loss at which an attempt stops.
    #[schemars(range(min = 0))]
    stop_loss: Option<f64>,
    /// The mean negative log-likelihood of the target, in nats, at or below which a value has converged.
    #[schemars(range(min = 0))]
    converged_nll: Option<f64>,
    /// The weight of the bare prompt in the averaged key; by default it weighs as much as any other template.
    #[schemars(range(min = 0, max = 1))]
    bare_weight: Option<f64>,
    /// The lead of the target, in nats, at which the search stops: every token of the target has at least this much
    /// more log-probability than any other token, in every template. By default only the published `stop-loss` applies.
    #[schemars(range(min = 0))]
    margin: Option<f64>,
}

/// One attempt of the optimisation.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct StageTable {
    /// The learning rate of Adam.
    #[schemars(extend("exclusiveMinimum" = 0))]
    rate: f64,
    /// The number of evaluations of the loss; there is one Adam update fewer.
    #[schemars(range(min = 1, max = 10000))]
    steps: u32,
}

/// The settings for solving all edits together.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct LinkTable {
    /// The ridge on the diagonal of the linear system, as a share of the mean diagonal.
    #[schemars(range(min = 0))]
    ridge: Option<f64>,
    /// The number of refinement steps of a linked set, 0 for none. By default, only large sets are refined.
    #[schemars(range(min = 0, max = 1000))]
    refine_steps: Option<u32>,
    /// The number of layers that a refined set changes, from the edited one up.
    #[schemars(range(min = 1, max = 8))]
    refine_layers: Option<u32>,
}

/// The source of the second moments of the keys.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct StatisticsTable {
    /// The path of the corpus.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    corpus: String,
    /// The maximum number of tokens per document; longer ones are truncated. By default the model's context length.
    #[schemars(range(min = 1))]
    max_tokens: Option<u64>,
    /// The maximum number of documents that are read; by default all.
    #[schemars(range(min = 1))]
    max_documents: Option<u64>,
}

/// The thresholds of `corrigenda test`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct TestTable {
    /// The KL divergence of the next token, in nats, from which on an answer counts as changed.
    #[schemars(extend("exclusiveMinimum" = 0))]
    unchanged_kl: Option<f64>,
    /// The minimum probability of the target after the edit's own prompt.
    #[schemars(range(min = 0, max = 1))]
    min_probability: Option<f64>,
    /// The minimum share of edits that must hold; all by default.
    #[schemars(range(min = 0, max = 1))]
    min_efficacy: Option<f64>,
    /// The minimum share of paraphrases that must hold; all by default.
    #[schemars(range(min = 0, max = 1))]
    min_paraphrase: Option<f64>,
    /// The minimum share of neighbours whose answer must stay unchanged; all by default.
    #[schemars(range(min = 0, max = 1))]
    min_unchanged: Option<f64>,
    /// The maximum mean KL divergence from the base model on neutral text, in nats.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_damage: Option<f64>,
    /// The maximum relative growth of the perplexity of neutral text; 0.1 is 10 %.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_perplexity: Option<f64>,
    /// A file of neutral text, one document per line; by default the corpus of the statistics.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    neutral: Option<String>,
}

/// The rules that the project sets for itself; a build that breaks one writes no patch.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct PolicyTable {
    /// Fields that every edit must have.
    #[serde(default)]
    #[schemars(length(max = 8))]
    require: Vec<Requirable>,
    /// The maximum number of edits in the set.
    #[schemars(range(min = 1))]
    max_edits: Option<u32>,
    /// The maximum of ‖Δ‖ / ‖W‖ for any tensor, where Δ is the change of the weight W.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_relative_norm: Option<f64>,
    /// The minimum share of edits that hold.
    #[schemars(range(min = 0, max = 1))]
    min_efficacy: Option<f64>,
    /// The minimum share of paraphrases that hold.
    #[schemars(range(min = 0, max = 1))]
    min_paraphrase: Option<f64>,
    /// The minimum share of neighbours whose answer stays unchanged.
    #[schemars(range(min = 0, max = 1))]
    min_unchanged: Option<f64>,
    /// The maximum KL divergence of any neighbour from the base model, in nats.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_neighbourhood_kl: Option<f64>,
    /// The maximum mean KL divergence from the base model on neutral text, in nats.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_damage: Option<f64>,
    /// The maximum relative growth of the perplexity of neutral text; 0.1 is 10 %.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_perplexity: Option<f64>,
    /// Subjects that no edit may change.
    #[serde(default)]
    protected: Vec<ProtectedEntry>,
    /// The levels of findings, by their code.
    #[serde(default)]
    levels: BTreeMap<String, LevelName>,
    /// The reasons for the rules, by key or code; shown with each finding.
    #[serde(default)]
    reasons: BTreeMap<String, String>,
}

/// A field that can be required.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Requirable {
    Was,
    Reason,
    Source,
    Owner,
    Ticket,
    Expires,
    Paraphrase,
    Unchanged,
}

/// The effect of a finding: an error, a warning, or hidden.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum LevelName {
    Deny,
    Warn,
    Allow,
}

/// Subjects that no edit may change.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct ProtectedEntry {
    /// The name of the subject; * matches any text, and case is ignored.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    subject: String,
    /// The reason for the protection.
    #[schemars(length(max = 4096))]
    reason: Option<String>,
}
