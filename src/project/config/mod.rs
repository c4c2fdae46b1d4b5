//! Reads `corrigenda.toml`: the paths and the settings of a project.
//!
//! A setting that the file does not have is `None`; the module that uses the setting chooses the default.

pub mod models;
pub mod paths;
pub mod policy;
pub mod settings;
pub mod tasks;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::read::files;
use super::read::rules;
use super::read::toml_reader::{KeysByTable, TomlReader};
use crate::diagnostics::{Code, Diagnostic, FileId, Findings, Sources, sort};
use crate::home;
use models::{MODEL_KEYS, ModelConfig, NamedModel, unchosen, unknown};
use policy::{POLICY_KEYS, PROTECTED_KEYS, Policy};
use settings::{
    LINK_KEYS, LinkConfig, ROME_KEYS, RomeConfig, STAGE_KEYS, STATISTICS_KEYS, StatisticsConfig, TEST_KEYS, TestConfig,
    read_path,
};
use tasks::{TASK_KEYS, TaskConfig};

pub const PROJECT_FILE: &str = "corrigenda.toml";
/// The folder of edits if `corrigenda.toml` does not set `edits`.
pub const DEFAULT_EDITS: &str = "edits";
/// The only value of `format` in `corrigenda.toml` that this version of the program accepts.
pub const PROJECT_FORMAT: i64 = 1;
pub(crate) const PROJECT_KEYS: &[&str] =
    &["format", "edits", "model", "rome", "link", "statistics", "test", "task", "policy"];
const TABLES: KeysByTable = &[
    ("at the top of the file", PROJECT_KEYS),
    ("under `[model]`", MODEL_KEYS),
    ("under `[rome]`", ROME_KEYS),
    ("in a stage of `schedule`", STAGE_KEYS),
    ("under `[link]`", LINK_KEYS),
    ("under `[statistics]`", STATISTICS_KEYS),
    ("under `[test]`", TEST_KEYS),
    ("under `[[task]]`", TASK_KEYS),
    ("under `[policy]`", POLICY_KEYS),
    ("under `[[policy.protected]]`", PROTECTED_KEYS),
];

/// The content of `corrigenda.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The folder that contains `corrigenda.toml`. Relative paths in the file are relative to this folder.
    pub root: PathBuf,
    /// The id of `corrigenda.toml` in [`Sources`], which has the file texts for error messages.
    pub file: FileId,
    /// The folder of edits, relative to `root`.
    pub edits: PathBuf,
    /// The base model. In a project with several models, [`Config::choose`] selects it.
    pub model: ModelConfig,
    /// All models that have a name, including the one in `model`; empty if the project's only model has no name.
    pub models: BTreeMap<String, NamedModel>,
    pub rome: RomeConfig,
    /// The `[link]` table: settings of the linear solve that computes one patch from all edits.
    pub link: LinkConfig,
    /// The `[statistics]` table: the corpus from which the second moments of the MLP keys are computed; `None` if the
    /// table is missing.
    pub statistics: Option<StatisticsConfig>,
    pub test: TestConfig,
    /// The `[[task]]` tables, in the order of the file.
    pub tasks: Vec<TaskConfig>,
    pub policy: Policy,
}

impl Config {
    /// Reads `corrigenda.toml` in the folder `root`. Returns the settings, the warnings, and the text of the file,
    /// which is needed to print the warnings.
    ///
    /// # Errors
    /// If the file is missing or has an error; all errors and warnings are returned.
    pub fn load(root: &Path) -> Result<(Self, Vec<Diagnostic>, Sources), Findings> {
        let mut sources = Sources::default();
        let (config, _, mut findings) = read(root, &mut sources);
        sort(&mut findings);
        match config {
            Some(config) if !findings.iter().any(Diagnostic::is_error) => Ok((config, findings, sources)),
            _ => Err(Findings { diagnostics: findings, sources }),
        }
    }

    /// Returns the names of all named models, sorted; empty if the project's only model has no name.
    pub fn model_names(&self) -> Vec<&str> {
        self.models.keys().map(String::as_str).collect()
    }

    /// Selects the model `name`: replaces `model`, `rome` and `statistics` by those of the named model. In a project
    /// with one model, `None` changes nothing.
    ///
    /// # Errors
    /// If no model has this name, or if `name` is `None` and the project has several models.
    pub fn choose(&mut self, name: Option<&str>) -> Result<(), Diagnostic> {
        let name = match name {
            None if self.models.len() < 2 => return Ok(()),
            None => return Err(unchosen(&self.model_names())),
            Some(name) => name,
        };
        let Some(NamedModel { model, rome, statistics }) = self.models.get(name).cloned() else {
            return Err(unknown(name, &self.model_names()));
        };
        (self.model, self.rome, self.statistics) = (model, rome, statistics);
        Ok(())
    }

    /// Selects the model with the same name as the selected model of `other`. If this project has only one model, that
    /// model stays selected, even if its name differs.
    ///
    /// # Errors
    /// If the project has several models and none of them has this name.
    pub fn choose_as(&mut self, other: &Self) -> Result<(), Diagnostic> {
        let name = other.model.name.as_deref();
        self.choose(name.filter(|name| self.models.contains_key(*name) || self.models.len() > 1))
    }

    /// Resolves a path from `corrigenda.toml`: expands a leading `~/`, and joins a relative path to `root`.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        // Joining to `.` would add `./`, and messages would not show the path as it is written in the file.
        if self.root == Path::new(".") { home::expand(path) } else { self.root.join(home::expand(path)) }
    }
}

/// Reads `corrigenda.toml` and returns the settings, the folder of edits, and the findings. The folder is returned even
/// if other settings are invalid, so that the edits can still be checked.
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
            .help("`-C` takes the folder that contains corrigenda.toml");
    }
    let finding = Diagnostic::new(Code::ProjectMissing, format!("there is no {PROJECT_FILE} in `{folder}`"));
    // `ancestors` only removes the last parts of the path text, so a `..` in `root` must be resolved first.
    let whole = std::fs::canonicalize(root).unwrap_or_default();
    let mut above = whole.ancestors().skip(1).enumerate();
    if let Some((steps, _)) = above.find(|(_, parent)| parent.join(PROJECT_FILE).is_file()) {
        let up = vec![".."; steps + 1].join("/");
        let up = if root == Path::new(".") { up } else { root.join(up).display().to_string() };
        return finding.help(format!("there is one in `{up}`: use `-C {up}`"));
    }
    finding.help("name the project's folder with `-C DIR`, or start one with `corrigenda init`")
}

/// Parses the text of `corrigenda.toml` and returns the settings, the folder of edits, and the findings. The settings
/// are `None` if the file names no valid model or has an unsupported `format`.
pub(crate) fn parse(root: &Path, file: FileId, text: &str) -> (Option<Config>, PathBuf, Vec<Diagnostic>) {
    let (mut reader, tree) = TomlReader::document(file, text, TABLES);
    let top = TomlReader::root(&tree);
    if !reader.format(&top, "format", PROJECT_FORMAT) && top.has("format") {
        return (None, PathBuf::from(DEFAULT_EDITS), reader.finish());
    }
    reader.known_keys(&top, PROJECT_KEYS);
    let edits = read_path(&mut reader, &top, "edits").and_then(|path| rules::path_below(&mut reader, "edits", &path));
    let edits = edits.unwrap_or_else(|| DEFAULT_EDITS.into());
    let rome = RomeConfig::read(&mut reader, &top, "`[rome]`").unwrap_or_default();
    let link = LinkConfig::read(&mut reader, &top).unwrap_or_default();
    let statistics = StatisticsConfig::read(&mut reader, &top, "`[statistics]`", None);
    let (model, models) = models::read(&mut reader, &top, &rome, statistics.as_ref());
    let test = TestConfig::read(&mut reader, &top).unwrap_or_default();
    let tasks = tasks::read(&mut reader, &top);
    let policy = Policy::read(&mut reader, &top);
    let config = model.map(|model| Config {
        root: root.to_owned(),
        file,
        edits: edits.clone(),
        model,
        models,
        rome,
        link,
        statistics,
        test,
        tasks,
        policy,
    });
    // In a project with several models, the first model by name is selected until `Config::choose` is called.
    let config = config.map(|mut config| {
        let first = config.model.name.clone();
        let _ = config.choose(first.as_deref());
        config
    });
    (config, edits, reader.finish())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
