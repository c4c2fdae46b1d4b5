//! Generates the JSON Schemas of the JSON output of commands. The output of `check`, `test` and `diff` is a report,
//! whose schema is generated in `src/schema`.

use clap::ValueEnum;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::Answered;
use super::ask::AskAnswer;
use super::bench::{BenchAnswer, TrainAnswer, TrainedList};
use super::build::BuildAnswer;
use super::export::{CheckpointAnswer, GgufAnswer, PatchAnswer, PeftAnswer};
use super::log::LogAnswer;
use super::plan::{OtherBaseAnswer, PlanAnswer};
use super::project::{ImportAnswer, InitAnswer};
use super::statistics::StatisticsAnswer;
use super::store::{StoreCheck, StoreCleanup, StoreEntries, StoreFolder, StoreImport};
use super::trace::{LayerSearchAnswer, TraceAnswer};
use super::verify::VerifyAnswer;
use crate::schema::without_formats;

/// The kinds of JSON output that have separate schemas, named by command and action. `check`, `test` and `diff` share
/// the schema [`SchemaKind::Report`](crate::schema::SchemaKind::Report).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum AnswerKind {
    Ask,
    Bench,
    BenchTrain,
    /// The JSON output of `bench trained ls`.
    BenchTrained,
    Build,
    /// The JSON output of `export checkpoint` and `patch apply`.
    ExportCheckpoint,
    ExportGguf,
    ExportPeft,
    Import,
    Init,
    Log,
    PatchShow,
    Plan,
    /// The JSON output of `plan --base`.
    PlanBase,
    /// The JSON output of `stats build`, `stats show` and `stats import`.
    Stats,
    StoreDir,
    StoreGc,
    StoreImport,
    /// The JSON output of `store ls` and `store export`.
    StoreLs,
    StoreVerify,
    /// The JSON output of `trace --suggest-layer`.
    SuggestLayer,
    Trace,
    Verify,
}

impl AnswerKind {
    /// Returns the argument of `corrigenda schema` that selects the schema, such as `plan-base`. The schema's file in
    /// `schemas/answers/` has the same name, followed by `.schema.json`.
    pub(in crate::cli) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn schema(self) -> Schema {
        match self {
            Self::Ask => schema::<AskAnswer>(),
            Self::Bench => schema::<BenchAnswer<'static>>(),
            Self::BenchTrain => schema::<TrainAnswer>(),
            Self::BenchTrained => schema::<TrainedList>(),
            Self::Build => schema::<BuildAnswer<'static>>(),
            Self::ExportCheckpoint => schema::<CheckpointAnswer<'static>>(),
            Self::ExportGguf => schema::<GgufAnswer<'static>>(),
            Self::ExportPeft => schema::<PeftAnswer<'static>>(),
            Self::Import => schema::<ImportAnswer<'static>>(),
            Self::Init => schema::<InitAnswer<'static>>(),
            Self::Log => schema::<LogAnswer<'static>>(),
            Self::PatchShow => schema::<PatchAnswer<'static>>(),
            Self::Plan => schema::<PlanAnswer<'static>>(),
            Self::PlanBase => schema::<OtherBaseAnswer<'static>>(),
            Self::Stats => schema::<StatisticsAnswer<'static>>(),
            Self::StoreDir => schema::<StoreFolder<'static>>(),
            Self::StoreGc => schema::<StoreCleanup>(),
            Self::StoreImport => schema::<StoreImport<'static>>(),
            Self::StoreLs => schema::<StoreEntries>(),
            Self::StoreVerify => schema::<StoreCheck<'static>>(),
            Self::SuggestLayer => schema::<LayerSearchAnswer<'static>>(),
            Self::Trace => schema::<TraceAnswer<'static>>(),
            Self::Verify => schema::<VerifyAnswer<'static>>(),
        }
    }
}

fn schema<T: JsonSchema>() -> Schema {
    SchemaSettings::draft07().for_serialize().into_generator().into_root_schema_for::<Answered<'static, T>>()
}

/// Returns the text of the JSON Schema of a command's JSON output. A test compares it with the file in
/// `schemas/answers/`.
pub(in crate::cli) fn render(kind: AnswerKind) -> String {
    let mut schema = kind.schema().to_value();
    schema["title"] = Value::String(format!("corrigenda {} answer", kind.name()));
    schema["description"] = Value::String(
        "The answer in JSON. A run that cannot finish writes only version, outcome and findings.".to_owned(),
    );
    without_formats(&mut schema);
    format!("{schema:#}\n")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn committed_answer_schemas_are_current() {
        for kind in AnswerKind::value_variants() {
            let name = format!("{}.schema.json", kind.name());
            let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "schemas", "answers", &name].iter().collect();
            if std::env::var_os("UPDATE_SCHEMAS").is_some() {
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of schemas");
                std::fs::write(&path, render(*kind)).expect("the folder of schemas");
            }
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(committed, render(*kind), "{name}: run this test with UPDATE_SCHEMAS=1");
        }
    }
}
