//! Mirrors `corrigenda.toml` in types from which its JSON Schema is derived.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// The project file of corrigenda: the model, where the facts are, and the numbers of the method.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "corrigenda project")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
pub(super) struct ProjectFile {
    /// The format of this file: 1.
    #[schemars(range(min = 1, max = 1))]
    format: u8,
    /// The folder of facts, below that of the project; "edits" if it is not written.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    edits: Option<String>,
    /// The base model, or several by name.
    model: Models,
    /// How a value is found.
    rome: Option<RomeTable>,
    /// How edits are solved together.
    link: Option<LinkTable>,
    /// Where second moments come from.
    statistics: Option<StatisticsTable>,
    /// When a test fails.
    test: Option<TestTable>,
    /// What the project allows itself: a build that breaks a rule writes no patch.
    policy: Option<PolicyTable>,
}

/// The base model: one by its path, or several, each under a name of its own.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
enum Models {
    /// The only model.
    One(ModelTable),
    /// Models by name.
    Several(
        #[schemars(extend("minProperties" = 1, "propertyNames" = { "pattern": NAME, "maxLength": 64 }))]
        BTreeMap<String, NamedTable>,
    ),
}

/// The pattern of model names.
const NAME: &str = r"^[a-z0-9][a-z0-9-]*$";

/// A model with a name; what it says under `rome` and `statistics` stands over what the project says, key by key.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct NamedTable {
    /// The folder of the model.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    path: String,
    /// How a value is found.
    rome: Option<RomeTable>,
    /// Where second moments come from.
    statistics: Option<OwnStatisticsTable>,
}

/// Where second moments of one model come from; what is left out is the project's.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct OwnStatisticsTable {
    /// The corpus.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    corpus: Option<String>,
    /// A document is cut behind this many tokens; the model's context where nothing is said.
    #[schemars(range(min = 1))]
    max_tokens: Option<u64>,
    /// Documents behind this many are not read; all are where nothing is said.
    #[schemars(range(min = 1))]
    max_documents: Option<u64>,
}

/// The base model.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct ModelTable {
    /// The folder of the model.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    path: String,
}

/// How a value is found.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct RomeTable {
    /// The layer that is edited, from 0.
    layer: Option<u32>,
    /// A file of texts to put before the prompt.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    templates: Option<String>,
    /// The stages of the optimisation, each tried where the one before did not converge.
    #[schemars(length(min = 1, max = 8))]
    schedule: Option<Vec<StageTable>>,
    /// The pull of the value towards where it started.
    #[schemars(range(min = 0))]
    weight_decay: Option<f64>,
    /// How far the value may go, in norms of where it started.
    #[schemars(range(min = 0))]
    clamp: Option<f64>,
    /// The weight of the divergence that keeps what else is known of the subject.
    #[schemars(range(min = 0))]
    kl_factor: Option<f64>,
    /// The loss at which the optimisation stops.
    #[schemars(range(min = 0))]
    stop_loss: Option<f64>,
    /// The negative log-likelihood below which a value has converged.
    #[schemars(range(min = 0))]
    converged_nll: Option<f64>,
    /// What the bare prompt weighs in the key; as much as every other template where nothing is said.
    #[schemars(range(min = 0, max = 1))]
    bare_weight: Option<f64>,
    /// The lead that ends a search, in nats: every token of the target has at least this much more log-probability than
    /// any other token, in every template. The search goes on to `stop-loss`, as published, where nothing is said.
    #[schemars(range(min = 0))]
    margin: Option<f64>,
}

/// A stage of the optimisation.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct StageTable {
    /// The learning rate.
    #[schemars(extend("exclusiveMinimum" = 0))]
    rate: f64,
    /// The number of steps.
    #[schemars(range(min = 1, max = 10000))]
    steps: u32,
}

/// How edits are solved together.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct LinkTable {
    /// What is added to the diagonal of the system.
    #[schemars(range(min = 0))]
    ridge: Option<f64>,
    /// Steps in which the linked set is refined; 0 for none, by the size of the set where nothing is said.
    #[schemars(range(min = 0, max = 1000))]
    refine_steps: Option<u32>,
    /// Layers that a refined set changes, from the edited one up.
    #[schemars(range(min = 1, max = 8))]
    refine_layers: Option<u32>,
}

/// Where second moments come from.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct StatisticsTable {
    /// The corpus.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    corpus: String,
    /// A document is cut behind this many tokens; the model's context where nothing is said.
    #[schemars(range(min = 1))]
    max_tokens: Option<u64>,
    /// Documents behind this many are not read; all are where nothing is said.
    #[schemars(range(min = 1))]
    max_documents: Option<u64>,
}

/// When a test fails.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct TestTable {
    /// The divergence of the next token from which an answer counts as changed.
    #[schemars(extend("exclusiveMinimum" = 0))]
    unchanged_kl: Option<f64>,
    /// The least probability of a target behind its edit's own prompt.
    #[schemars(range(min = 0, max = 1))]
    min_probability: Option<f64>,
    /// The share of edits that must hold; all where nothing is said.
    #[schemars(range(min = 0, max = 1))]
    min_efficacy: Option<f64>,
    /// The share of paraphrases that must hold; all where nothing is said.
    #[schemars(range(min = 0, max = 1))]
    min_paraphrase: Option<f64>,
    /// The share of neighbours that must stay as they are; all where nothing is said.
    #[schemars(range(min = 0, max = 1))]
    min_unchanged: Option<f64>,
    /// The most that neutral text may diverge from the base in the mean, in nats.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_damage: Option<f64>,
    /// The most by which the perplexity of neutral text may grow, as a share of the base's.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_perplexity: Option<f64>,
    /// Neutral text, one document a line; the corpus of the statistics where nothing is said.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    neutral: Option<String>,
}

/// What the project allows itself: a build that breaks a rule writes no patch.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct PolicyTable {
    /// Fields that every edit must have.
    #[serde(default)]
    #[schemars(length(max = 8))]
    require: Vec<Requirable>,
    /// The most edits in the set.
    #[schemars(range(min = 1))]
    max_edits: Option<u32>,
    /// The most of ‖Δ‖ / ‖W‖ of a tensor.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_relative_norm: Option<f64>,
    /// The least share of edits that hold.
    #[schemars(range(min = 0, max = 1))]
    min_efficacy: Option<f64>,
    /// The least share of paraphrases that hold.
    #[schemars(range(min = 0, max = 1))]
    min_paraphrase: Option<f64>,
    /// The least share of neighbours that stay as they are.
    #[schemars(range(min = 0, max = 1))]
    min_unchanged: Option<f64>,
    /// The most that a neighbour may diverge from the base, in nats.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_neighbourhood_kl: Option<f64>,
    /// The most that neutral text may diverge from the base in the mean, in nats.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_damage: Option<f64>,
    /// The most by which the perplexity of neutral text may grow, as a share of the base's.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_perplexity: Option<f64>,
    /// Subjects that no edit may touch.
    #[serde(default)]
    protected: Vec<ProtectedEntry>,
    /// What findings do, by their code.
    #[serde(default)]
    levels: BTreeMap<String, LevelName>,
    /// Why a rule is there, by the key or the code: shown with each finding.
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

/// What a finding does.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum LevelName {
    Deny,
    Warn,
    Allow,
}

/// Subjects that no edit may touch.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct ProtectedEntry {
    /// A name; * stands for any text, and the case of letters does not count.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    subject: String,
    /// Why.
    #[schemars(length(max = 4096))]
    reason: Option<String>,
}
