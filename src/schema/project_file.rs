//! Defines types for the JSON Schema of `corrigenda.toml`. They have the structure of the file's tables, because the
//! types that store the settings have another structure. They are not used to read the file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::project::{LinkConfig, RomeConfig, StatisticsConfig, TaskForm, TaskScorer, TestConfig};

/// The project file of corrigenda: the model, the folder of edits, and the settings.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(title = "corrigenda project")]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
pub(crate) struct ProjectFile {
    /// The version of the file format; always 1.
    #[schemars(range(min = 1, max = 1))]
    format: u8,
    /// The folder of edits, inside the project's folder; "edits" by default.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    edits: Option<String>,
    /// The base model, or several base models by name.
    model: Models,
    /// The settings of the ROME optimisation, which is run for every edit.
    rome: Option<RomeConfig>,
    /// The settings of the linear solve that combines all edits into one patch.
    link: Option<LinkConfig>,
    /// The source of the second moments of the MLP keys.
    statistics: Option<StatisticsConfig>,
    /// The limits that `corrigenda test` applies to probabilities, to KL divergences, to the shares of correct and
    /// unchanged answers, and to the perplexity of neutral text.
    test: Option<TestConfig>,
    /// The tasks: files of questions with known answers, which measure what the base and the patched model can do.
    task: Option<Vec<TaskTable>>,
    /// The rules that the project sets for itself. A build that breaks a rule writes no patch.
    policy: Option<PolicyTable>,
}

/// The base model: one model with its path, or several named models.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
enum Models {
    /// The only model of the project, which has no name.
    One(ModelTable),
    /// Several models, each under its name.
    Several(
        #[schemars(extend("minProperties" = 1, "propertyNames" = { "pattern": NAME, "maxLength": 64 }))]
        BTreeMap<String, NamedTable>,
    ),
}

/// The regular expression for the name of a model.
const NAME: &str = r"^[a-z0-9][a-z0-9-]*$";

/// A named model. A key under the model's `rome` or `statistics` overrides the same key of the project.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
struct NamedTable {
    /// The folder of the model, or its name on the Hugging Face Hub.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    path: String,
    /// The settings of the ROME optimisation for this model.
    rome: Option<RomeConfig>,
    /// The source of the second moments of the MLP keys for this model.
    statistics: Option<OwnStatisticsTable>,
}

/// The source of the second moments of the MLP keys for one model. A missing key has the value from the project's
/// `statistics`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
struct OwnStatisticsTable {
    /// The path of the corpus, a text file with one document per line. The second moments are computed from its text.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    corpus: Option<String>,
    /// The maximum number of tokens per document; longer documents are truncated. By default, the maximum is 2,048
    /// or the model's context length, whichever is less.
    #[schemars(range(min = 1))]
    max_tokens: Option<u64>,
    /// The maximum number of documents that are read from the corpus; by default all.
    #[schemars(range(min = 1))]
    max_documents: Option<u64>,
}

/// The base model of a project with one model.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
struct ModelTable {
    /// The folder of the model, or its name on the Hugging Face Hub.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    path: String,
}

/// A task: a file of questions, which are asked of the base and of the patched model.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
struct TaskTable {
    /// The name of the task in reports; by default the name of the file without its extension.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    name: Option<String>,
    /// The path of the file of questions.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    file: String,
    /// The form of the records in the file; "plain" by default.
    form: Option<TaskForm>,
    /// How the answers are scored. By default, questions with choices are scored by likelihood, and prompts without
    /// choices by text.
    by: Option<TaskScorer>,
    /// The number of questions that are asked, from the beginning of the file; by default all.
    #[schemars(range(min = 1))]
    limit: Option<u32>,
}

/// The rules that the project sets for itself. A build that breaks a rule writes no patch.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
struct PolicyTable {
    /// Fields that every edit must have.
    #[serde(default)]
    #[schemars(length(max = 8))]
    require: Vec<Requirable>,
    /// The maximum number of edits in the project; parked edits are not counted.
    #[schemars(range(min = 1))]
    max_edits: Option<u32>,
    /// The maximum of ‖Δ‖ / ‖W‖ (Frobenius norms) for each changed tensor, where Δ is the change of the weight W.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_relative_norm: Option<f64>,
    /// The minimum share of edits for which the patched model gives the target.
    #[schemars(range(min = 0, max = 1))]
    min_efficacy: Option<f64>,
    /// The minimum share of paraphrases to which the patched model gives the target.
    #[schemars(range(min = 0, max = 1))]
    min_paraphrase: Option<f64>,
    /// The minimum share of consequences for which the patched model gives the answer.
    #[schemars(range(min = 0, max = 1))]
    min_consequence: Option<f64>,
    /// The minimum share of neighbour prompts whose answer stays unchanged.
    #[schemars(range(min = 0, max = 1))]
    min_unchanged: Option<f64>,
    /// The maximum KL divergence from the base model on any neighbour prompt, in nats.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_neighbourhood_kl: Option<f64>,
    /// The maximum mean KL divergence from the base model on neutral text, in nats.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_damage: Option<f64>,
    /// The maximum relative growth of the perplexity of neutral text from the base model to the patched model; 0.1
    /// means 10 %.
    #[schemars(extend("exclusiveMinimum" = 0))]
    max_perplexity: Option<f64>,
    /// The maximum fall of the accuracy of any task from the base model to the patched model, as a share; 0.02 means 2
    /// percentage points.
    #[schemars(range(min = 0, max = 1))]
    max_task_loss: Option<f64>,
    /// Subjects that no edit may change.
    #[serde(default)]
    protected: Vec<ProtectedEntry>,
    /// The severities that replace the default severities of findings. Each key is the code of a finding, such as
    /// `edit-expired`.
    #[serde(default)]
    levels: BTreeMap<String, LevelName>,
    /// The reasons for the rules, which are shown in findings about broken rules. Each key is the key of a rule, such
    /// as `max-edits`, or the code of a finding.
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

/// The severity of a finding: an error (deny), a warning (warn), or not shown (allow).
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum LevelName {
    Deny,
    Warn,
    Allow,
}

/// A rule that forbids edits whose subject or alias matches a name or a pattern.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
struct ProtectedEntry {
    /// The name of the subject, or a pattern: * matches any text, and case is ignored.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    subject: String,
    /// The reason for the protection.
    #[schemars(length(max = 4096))]
    reason: Option<String>,
}
