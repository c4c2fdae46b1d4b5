//! Generates the JSON Schemas of the files of a project and of reports. Text editors use a schema to check a file while
//! the user writes it.
//!
//! A schema is derived from the Rust type that stores the content of the file. If this type has another structure than
//! the file, the schema is derived from a type that exists only for this purpose.
//!
//! The files are not read with `serde`, which stops at the first mistake. Tests check that a schema and the reader of
//! the file accept the same keys. The reader also checks rules that a schema cannot express, such as conflicts between
//! edits.

mod project_file;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde_json::Value;

use crate::project::EndMark;
use crate::project::edits::edit::Expect;
use crate::report::Report;
use project_file::ProjectFile;

/// A kind of file for which a schema is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaKind {
    /// The schema of the files in the folder of edits.
    Edits,
    /// The schema of `corrigenda.toml`.
    Project,
    /// The schema of `probes.toml`.
    Probes,
    /// The schema of the JSON reports that commands write.
    Report,
}

impl SchemaKind {
    /// All kinds of files that have a schema. The folder `schemas/` has one file per kind.
    pub const ALL: [Self; 4] = [Self::Edits, Self::Project, Self::Probes, Self::Report];

    /// Returns the argument of `corrigenda schema` that selects this schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edits => "edits",
            Self::Project => "project",
            Self::Probes => "probes",
            Self::Report => "report",
        }
    }

    /// Returns the name of the schema's file in `schemas/`.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Edits => "edits.schema.json",
            Self::Project => "project.schema.json",
            Self::Probes => "probes.schema.json",
            Self::Report => "report.schema.json",
        }
    }
}

/// Returns the text of a schema. A test checks that the file in `schemas/` has the same text.
pub fn render(kind: SchemaKind) -> String {
    let mut schema = value(kind);
    without_formats(&mut schema);
    // In a report, null means an unknown value. The other files are TOML, which has no null, so their schemas must not
    // allow it.
    if kind != SchemaKind::Report {
        without_null(&mut schema);
    }
    // The `Display` implementation of a JSON value does not return an error, so `format!` does not panic.
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

/// Removes number formats such as `uint32` from a schema. JSON Schema does not define them, and editors do not know
/// them.
pub(crate) fn without_formats(schema: &mut Value) {
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

/// Removes null from the types of optional keys. TOML has no null; an optional key is omitted instead.
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
                    // In JSON Schema draft 7, keywords next to `$ref` are ignored, so the `$ref` is put into `allOf`.
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

/// A file of edits for corrigenda. Each `[[edit]]` is a fact that a language model should state.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(title = "corrigenda edits")]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
struct EditsFile {
    /// The version of the file format; always 1.
    #[schemars(range(min = 1, max = 1))]
    format: u8,
    /// The edits, each as one `[[edit]]` table.
    #[schemars(default)]
    edit: Vec<EditEntry>,
}

/// A fact that the model should state after the edit.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(title = "edit", extend("dependencies" = { "status": ["status-reason"], "status-reason": ["status"] }))]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
struct EditEntry {
    /// The id of the edit, unique in the project, for example "eiffel-tower.city". Another id does not change the patch.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-z0-9][a-z0-9.-]*$"))]
    id: String,
    /// The entity that the fact is about, as it is written in the sentence.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"^\S(.*\S)?$"))]
    subject: String,
    /// Other names of the subject; the edit applies to each of them.
    #[schemars(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 4096), regex(pattern = r"^\S(.*\S)?$")))]
    aliases: Vec<String>,
    /// The sentence up to the answer, with one {} in place of the subject.
    #[schemars(length(min = 2, max = 4096), regex(pattern = r"\{\}"))]
    prompt: String,
    /// Whether the prompts of the edit are user messages, to which the model's chat template is applied; false by
    /// default.
    chat: Option<bool>,
    /// The answer that the model should give after the edit.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    target: String,
    /// What the model should give directly after the target, so that it ends its answer: a full stop (`.`), its own end
    /// token (`eos`), or nothing in particular (`none`). By default, `end` under `[rome]` decides.
    end: Option<EndMark>,
    /// The answer that the model gives before the edit.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    was: Option<String>,
    /// The reason for the edit, for reviewers.
    #[schemars(length(max = 4096))]
    reason: Option<String>,
    /// A source in which the fact can be checked, for example a link.
    #[schemars(length(max = 4096))]
    source: Option<String>,
    /// The person or team that is responsible for the fact.
    #[schemars(length(max = 4096))]
    owner: Option<String>,
    /// The ticket in which the change was discussed.
    #[schemars(length(max = 4096))]
    ticket: Option<String>,
    /// The day on which the edit expires and must be reviewed again, for example 2027-01-31.
    #[schemars(regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
    expires: Option<String>,
    /// The value "parked" marks an edit that is checked but not built. An edit without a status is built.
    #[schemars(regex(pattern = r"^parked$"))]
    status: Option<String>,
    /// The reason why the edit is parked.
    #[schemars(rename = "status-reason")]
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    status_reason: Option<String>,
    /// Expectations on the patched model. In addition to them, the model must always give the target after the edit's
    /// prompt.
    expect: Option<Expect>,
}

/// The file of probes: prompts whose answers a project watches, independently of its edits.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "corrigenda probes")]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
struct ProbesFile {
    /// The version of the file format; always 1.
    #[schemars(range(min = 1, max = 1))]
    format: u8,
    /// The probes, each as one `[[probe]]` table.
    #[serde(default)]
    probe: Vec<ProbeEntry>,
}

/// A prompt whose answer the project watches, independently of its edits.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "probe")]
#[expect(dead_code, reason = "the type mirrors the file; only its schema is used")]
struct ProbeEntry {
    /// A stable name, unique among the probes.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-z0-9][a-z0-9.-]*$"))]
    id: String,
    /// The full text of the prompt, without a placeholder.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"\S"))]
    prompt: String,
    /// Whether the prompt is a user message, to which the model's chat template is applied; false by default.
    chat: Option<bool>,
    /// Whether the answer should stay unchanged; true by default.
    unchanged: Option<bool>,
    /// The reason why the prompt is watched.
    #[schemars(length(max = 4096))]
    reason: Option<String>,
}

#[cfg(test)]
pub(crate) mod tests;
