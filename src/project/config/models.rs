//! Reads the models of a project: either one `[model]` table, or one `[model.NAME]` table per model.
//!
//! A named model inherits the project's `[rome]` and `[statistics]` tables, and can override each of their keys.
//! [`Config`](super::Config) holds the settings of one selected model, so most code does not depend on the number of
//! models.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::settings::{RomeConfig, StatisticsConfig, read_required_path};
use crate::diagnostics::{Code, Diagnostic, did_you_mean, list_in_words, nearest, shorten};
use crate::project::read::toml_reader::{TomlReader, TomlTable};

pub(crate) const MODEL_KEYS: &[&str] = &["path"];
pub(crate) const NAMED_KEYS: &[&str] = &["path", "rome", "statistics"];
pub const MOST_NAME_BYTES: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelConfig {
    /// `NAME` of the table `[model.NAME]`; `None` for a plain `[model]` table.
    pub name: Option<String>,
    /// The folder of the model, or its name on the Hugging Face Hub, as it is written in `corrigenda.toml`.
    pub path: PathBuf,
    pub span: Range<usize>,
}

impl ModelConfig {
    /// Returns the prefix that the tables of this model have in `corrigenda.toml`: `model.NAME.`, as in
    /// `[model.NAME.rome]`. The prefix is empty for a model without a name.
    pub fn prefix(&self) -> String {
        self.name.as_ref().map_or_else(String::new, |name| format!("model.{name}."))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct NamedModel {
    pub model: ModelConfig,
    /// The ROME settings of this model. A key that the model does not set has the value from the project's `[rome]`.
    pub rome: RomeConfig,
    /// The statistics settings of this model. A key that the model does not set has the value from the project's
    /// `[statistics]`.
    pub statistics: Option<StatisticsConfig>,
}

/// The initially selected model (`None` if no model is valid), and all named models by name.
pub(crate) type ModelSet = (Option<ModelConfig>, BTreeMap<String, NamedModel>);

/// Returns whether a text is a valid model name: a-z, 0-9 and hyphens, no hyphen at the start, at most
/// [`MOST_NAME_BYTES`] bytes.
pub fn is_model_name(name: &str) -> bool {
    let known = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=MOST_NAME_BYTES).contains(&name.len()) && name.bytes().all(known) && !name.starts_with('-')
}

/// Reads the `[model]` table, or all `[model.NAME]` tables. `rome` and `statistics` are the project's settings, which a
/// named model inherits.
pub(crate) fn read(
    reader: &mut TomlReader,
    top: &TomlTable<'_, '_>,
    rome: &RomeConfig,
    statistics: Option<&StatisticsConfig>,
) -> ModelSet {
    let table = reader.required(top, "model").and_then(|_| reader.table(top, "model", "`[model]`"));
    let Some(table) = table else { return ModelSet::default() };
    let named = |(key, value): &(&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let key: &Spanned<std::borrow::Cow<'_, str>> = key;
        key.get_ref() != "path" && matches!(value.get_ref(), DeValue::Table(_))
    };
    let Some((first, _)) = table.table.iter().find(named) else {
        reader.known_keys(&table, MODEL_KEYS);
        let path = read_required_path(reader, &table, "path");
        let model = path.map(|path| ModelConfig { name: None, path: path.value.into(), span: path.span });
        return (model, BTreeMap::new());
    };
    if let Some(path) = table.table.get("path") {
        let message = "`[model]` has a `path`, and also contains models with names";
        let finding = Diagnostic::new(Code::ModelAmbiguous, message)
            .at(reader.file, &path.span(), "a model without a name")
            .with(reader.file, &first.span(), "a model with a name")
            .help("give every model a name: move this `path` under a `[model.NAME]` of its own")
            .help("if the project has one model only, write its settings under `[rome]` and `[statistics]`");
        reader.push(finding);
        return ModelSet::default();
    }
    let mut models = BTreeMap::new();
    for (key, value) in table.table {
        models.extend(read_named(reader, key, value, rome, statistics));
    }
    (models.values().next().map(|one| one.model.clone()), models)
}

fn read_named(
    reader: &mut TomlReader,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    rome: &RomeConfig,
    statistics: Option<&StatisticsConfig>,
) -> Option<(String, NamedModel)> {
    let name = key.get_ref().to_string();
    let table = reader.as_table(&format!("`model.{}`", shorten(&name)), "this model", value)?;
    if !is_model_name(&name) {
        let message = format!("`{}` is not a name for a model", shorten(&name));
        let finding = Diagnostic::new(Code::BadId, message)
            .at(reader.file, &key.span(), "this name")
            .help("a name has letters a-z, digits and hyphens, and begins with a letter or a digit");
        reader.push(finding);
    }
    reader.known_keys(&table, NAMED_KEYS);
    let path = read_required_path(reader, &table, "path");
    let own = RomeConfig::read(reader, &table, "`rome` of this model").unwrap_or_default();
    let moments = StatisticsConfig::read(reader, &table, "`statistics` of this model", statistics);
    let path = path?;
    let model = ModelConfig { name: Some(name.clone()), path: path.value.into(), span: path.span };
    let statistics = moments.or_else(|| statistics.cloned());
    Some((name, NamedModel { model, rome: own.over(rome), statistics }))
}

/// Returns the error that `--model` is missing: the project has several models, and the command works on one of them.
pub fn unchosen(names: &[&str]) -> Diagnostic {
    let message = format!("the project has {} models, and the command works on one", names.len());
    Diagnostic::new(Code::ModelUnchosen, message)
        .help(format!("choose one with `--model NAME`: {}", list_in_words(names)))
}

pub(super) fn unknown(name: &str, names: &[&str]) -> Diagnostic {
    let finding = Diagnostic::new(Code::ModelUnknown, format!("the project has no model `{}`", shorten(name)));
    let finding = nearest(name, names).map(did_you_mean).into_iter().fold(finding, Diagnostic::help);
    match names {
        [] => finding.help("its only model has no name: omit `--model`, or write `[model.NAME]`"),
        names => finding.help(format!("its models are {}", list_in_words(names))),
    }
}

#[cfg(test)]
#[path = "models_tests.rs"]
mod tests;
