//! Defines types from which the JSON Schema of `corrigenda.toml` is derived, for those tables that the program stores
//! in a different form. The types are not used to read the file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::project::{LinkConfig, RomeConfig, StatisticsConfig, TestConfig};

/// The project file of corrigenda: the model, the folder of edits, and the settings.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(title = "corrigenda project")]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
pub(crate) struct ProjectFile {
    /// The format of this file: 1.
    #[schemars(range(min = 1, max = 1))]
    format: u8,
    /// The folder of edits, below the project's folder; "edits" by default.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    edits: Option<String>,
    /// The base model, or several base models by name.
    model: Models,
    /// The settings of the value optimisation (ROME).
    rome: Option<RomeConfig>,
    /// The settings for solving all edits of the set together.
    link: Option<LinkConfig>,
    /// The source of the second moments of the MLP keys.
    statistics: Option<StatisticsConfig>,
    /// The thresholds of `corrigenda test`.
    test: Option<TestConfig>,
    /// The rules that the project sets for itself; a build that breaks one writes no patch.
    policy: Option<PolicyTable>,
}

/// The base model: one model given by its path, or several models by name.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
enum Models {
    /// The only model.
    One(ModelTable),
    /// The models by name.
    Several(
        #[schemars(extend("minProperties" = 1, "propertyNames" = { "pattern": NAME, "maxLength": 64 }))]
        BTreeMap<String, NamedTable>,
    ),
}

/// The regular expression that every name of a model must match.
const NAME: &str = r"^[a-z0-9][a-z0-9-]*$";

/// A named model. Each key under the model's `rome` and `statistics` overrides the key of the project.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
struct NamedTable {
    /// The folder of the model, or its name on the Hub.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    path: String,
    /// The settings of the value optimisation (ROME).
    rome: Option<RomeConfig>,
    /// The source of the second moments of the MLP keys.
    statistics: Option<OwnStatisticsTable>,
}

/// The source of the second moments of the MLP keys for one model; missing keys are taken from the project's
/// `statistics`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
struct OwnStatisticsTable {
    /// The path of the corpus whose tokens give the MLP keys.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    corpus: Option<String>,
    /// The maximum number of tokens per document; longer documents are truncated. By default the model's context
    /// length.
    #[schemars(range(min = 1))]
    max_tokens: Option<u64>,
    /// The maximum number of documents that are read from the corpus; by default all.
    #[schemars(range(min = 1))]
    max_documents: Option<u64>,
}

/// The base model.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
struct ModelTable {
    /// The folder of the model, or its name on the Hub.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    path: String,
}

/// The rules that the project sets for itself; a build that breaks one writes no patch.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
struct PolicyTable {
    /// Fields that every edit must have.
    #[serde(default)]
    #[schemars(length(max = 8))]
    require: Vec<Requirable>,
    /// The maximum number of edits in the set.
    #[schemars(range(min = 1))]
    max_edits: Option<u32>,
    /// The maximum of ‖Δ‖ / ‖W‖ (Frobenius norms) for any tensor, where Δ is the change of the weight W.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_relative_norm: Option<f64>,
    /// The minimum share of edits whose target the patched model gives.
    #[schemars(range(min = 0, max = 1))]
    min_efficacy: Option<f64>,
    /// The minimum share of paraphrases to which the patched model gives the target.
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
    /// The maximum relative growth of the perplexity on neutral text; 0.1 is 10 %.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_perplexity: Option<f64>,
    /// Subjects that no edit may change.
    #[serde(default)]
    protected: Vec<ProtectedEntry>,
    /// The severity of findings, by their code.
    #[serde(default)]
    levels: BTreeMap<String, LevelName>,
    /// The reasons for the rules, by the key of a rule or the code of a finding; shown with each finding.
    #[serde(default)]
    reasons: BTreeMap<String, String>,
}

/// A field of an edit that `require` under `[policy]` can make mandatory.
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

/// The severity of a finding: an error, a warning, or hidden.
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
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
struct ProtectedEntry {
    /// The name of the subject; * matches any text, and case is ignored.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    subject: String,
    /// The reason for the protection.
    #[schemars(length(max = 4096))]
    reason: Option<String>,
}
