//! JSON Schemas, so that an editor helps while a fact is being written.
//!
//! The schemas come from types of their own. The walk cannot come from them: `serde` stops at the first value that
//! does not fit, and a person who has made five mistakes wants to see five. A test holds the two together: the
//! same keys, and the same judgement on a corpus of documents. The walk is the stricter of the two, for a schema
//! cannot see across edits, nor into Unicode: what a schema refuses, the walk refuses, never the other way round.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde_json::Value;

use crate::report::Report;

/// Which schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaKind {
    /// Of the files in `edits/`.
    Edits,
    /// Of `corrigenda.toml`.
    Project,
    /// Of `probes.toml`.
    Probes,
    /// Of what the verbs answer to programs.
    Report,
}

impl SchemaKind {
    /// Every schema.
    pub const ALL: [Self; 4] = [Self::Edits, Self::Project, Self::Probes, Self::Report];

    /// The name of the file under `schemas/`.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Edits => "edits.schema.json",
            Self::Project => "project.schema.json",
            Self::Probes => "probes.schema.json",
            Self::Report => "report.schema.json",
        }
    }
}

/// The text of a schema, as it stands in `schemas/`.
pub fn render(kind: SchemaKind) -> String {
    let mut schema = value(kind);
    without_formats(&mut schema);
    // A report is written by us, and there null says that nothing is known.
    if kind != SchemaKind::Report {
        without_null(&mut schema);
    }
    // A JSON value always prints.
    format!("{schema:#}\n")
}

fn value(kind: SchemaKind) -> Value {
    let read = SchemaSettings::draft07().for_deserialize().into_generator();
    let written = SchemaSettings::draft07().for_serialize().into_generator();
    match kind {
        SchemaKind::Edits => read.into_root_schema_for::<EditsFile>().to_value(),
        SchemaKind::Project => read.into_root_schema_for::<ProjectFile>().to_value(),
        SchemaKind::Probes => read.into_root_schema_for::<ProbesFile>().to_value(),
        SchemaKind::Report => written.into_root_schema_for::<Report>().to_value(),
    }
}

/// Number formats are words of Rust: no editor knows them.
fn without_formats(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let numeric =
                |format: &Value| matches!(format.as_str(), Some("double" | "uint" | "uint8" | "uint32" | "uint64"));
            if object.get("format").is_some_and(numeric) {
                object.remove("format");
            }
            object.values_mut().for_each(without_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(without_formats),
        _ => {}
    }
}

/// An optional key may be left out; TOML has no null to write for it.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
                if let [only] = choices.as_slice() {
                    // Draft 7 ignores what stands beside a `$ref`, but not beside an `allOf`.
                    let only = only.clone();
                    object.remove("anyOf");
                    object.insert("allOf".into(), Value::Array(vec![only]));
                }
            }
            object.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// A file of facts for corrigenda: each [[edit]] is one sentence whose answer a language model should change.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "corrigenda edits")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct EditsFile {
    /// The format of this file: 1.
    #[schemars(range(min = 1, max = 1))]
    format: u8,
    /// The facts of this file.
    #[serde(default)]
    edit: Vec<EditEntry>,
}

/// One fact to change.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "edit")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct EditEntry {
    /// A stable name, unique in the project, for example "eiffel-tower.city". Renaming it changes no weight.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-z0-9][a-z0-9.-]*$"))]
    id: String,
    /// Who or what the fact is about, as it stands in the sentence.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"^\S(.*\S)?$"))]
    subject: String,
    /// Other names of the subject: the fact is edited for each of them too.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 4096), regex(pattern = r"^\S(.*\S)?$")))]
    aliases: Vec<String>,
    /// The sentence up to the answer, with one {} where the subject stands.
    #[schemars(length(min = 2, max = 4096), regex(pattern = r"\{\}"))]
    prompt: String,
    /// The answer that the model should give.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    target: String,
    /// The answer that the model gives so far.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    was: Option<String>,
    /// Why the fact is changed.
    #[schemars(length(max = 4096))]
    reason: Option<String>,
    /// Where the fact can be checked, for example a link.
    #[schemars(length(max = 4096))]
    source: Option<String>,
    /// Who answers for the fact.
    #[schemars(length(max = 4096))]
    owner: Option<String>,
    /// Where the change was discussed.
    #[schemars(length(max = 4096))]
    ticket: Option<String>,
    /// The day from which the fact must be looked at again, for example 2027-01-31.
    #[schemars(regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
    expires: Option<String>,
    /// What should hold beside the edit itself.
    expect: Option<ExpectTable>,
}

/// What should hold beside the edit itself.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "expectations")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct ExpectTable {
    /// Prompts, written out in full, that should give the target too.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(min = 1, max = 4096), regex(pattern = r"\S")))]
    paraphrase: Vec<String>,
    /// Prompts, written out in full, whose answer should stay as it is.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(min = 1, max = 4096), regex(pattern = r"\S")))]
    unchanged: Vec<String>,
    /// Answers that count as the target wherever it is asked for.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(min = 1, max = 4096), regex(pattern = r"\S")))]
    accept: Vec<String>,
    /// The least probability of the target behind the edit's own prompt.
    #[schemars(range(min = 0, max = 1))]
    min_probability: Option<f64>,
    /// The share of the paraphrases that must hold; all where nothing is said.
    #[schemars(range(min = 0, max = 1))]
    min_paraphrase: Option<f64>,
    /// The divergence of the next token from which one of `unchanged` counts as changed.
    #[schemars(extend("exclusiveMinimum" = 0))]
    unchanged_kl: Option<f64>,
}

/// The project file of corrigenda: the model, where the facts are, and the numbers of the method.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "corrigenda project")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct ProjectFile {
    /// The format of this file: 1.
    #[schemars(range(min = 1, max = 1))]
    format: u8,
    /// The folder of facts; "edits" if it is not written.
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

/// Names of models.
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
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct LinkTable {
    /// What is added to the diagonal of the system.
    #[schemars(range(min = 0))]
    ridge: Option<f64>,
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
    levels: std::collections::BTreeMap<String, LevelName>,
    /// Why a rule is there, by the key or the code: shown with each finding.
    #[serde(default)]
    reasons: std::collections::BTreeMap<String, String>,
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

/// Prompts that a project watches, whatever its edits say.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "corrigenda probes")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct ProbesFile {
    /// The format of this file: 1.
    #[schemars(range(min = 1, max = 1))]
    format: u8,
    /// The prompts.
    #[serde(default)]
    probe: Vec<ProbeEntry>,
}

/// A prompt to watch.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "probe")]
#[expect(dead_code, reason = "a mirror of the file: its fields are read by derives alone")]
struct ProbeEntry {
    /// A stable name, unique among the probes.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-z0-9][a-z0-9.-]*$"))]
    id: String,
    /// The prompt, written out in full.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    prompt: String,
    /// Whether its answer should stay as it is; if nothing is said, it should.
    unchanged: Option<bool>,
    /// Why it is watched.
    #[schemars(length(max = 4096))]
    reason: Option<String>,
}

#[cfg(test)]
#[path = "schema_tests.rs"]
pub(super) mod tests;
