//! Reads the `[[task]]` tables of `corrigenda.toml`. A task is a file of questions with known answers, which measures
//! what a model can do. The files are not read here.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settings::read_required_path;
use crate::diagnostics::{Code, Diagnostic, list_in_words, nearest};
use crate::project::read::rules;
use crate::project::read::toml_reader::{TomlReader, TomlTable, TomlText};

pub(crate) const TASK_KEYS: &[&str] = &["name", "file", "form", "by", "limit"];

/// A task: a file of questions, and how the answers of a model are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskConfig {
    /// The name of the task in reports; by default the name of the file without its extension.
    pub name: String,
    /// The path of the file of questions.
    pub file: PathBuf,
    pub form: TaskForm,
    /// How the answers are scored. By default, questions with choices are scored by likelihood, and prompts without
    /// choices by text.
    pub by: Option<TaskScorer>,
    /// The number of questions that are asked, from the beginning of the file; by default all.
    pub limit: Option<usize>,
    /// The byte range of `file` in `corrigenda.toml`.
    pub span: Range<usize>,
}

/// The form of the records in a task's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskForm {
    /// Records with `question`, `choices` and `answer`, or records with `prompt` and `answer`.
    #[default]
    Plain,
    /// MMLU: the published CSV files, or the JSON records of the Hugging Face Hub.
    Mmlu,
    /// ARC: the published JSON records, or those of the Hugging Face Hub.
    Arc,
}

impl TaskForm {
    const NAMES: [(&'static str, Self); 3] = [("plain", Self::Plain), ("mmlu", Self::Mmlu), ("arc", Self::Arc)];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Mmlu => "mmlu",
            Self::Arc => "arc",
        }
    }
}

/// How the answers of a model to the questions of a task are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskScorer {
    /// The choice with the largest likelihood is the answer.
    Likelihood,
    /// The answer is read from the text that the model generates.
    Text,
}

impl TaskScorer {
    const NAMES: [(&'static str, Self); 2] = [("likelihood", Self::Likelihood), ("text", Self::Text)];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Likelihood => "likelihood",
            Self::Text => "text",
        }
    }
}

/// Reads all `[[task]]` tables. Two tasks must not have the same name.
pub(super) fn read(reader: &mut TomlReader, top: &TomlTable<'_, '_>) -> Vec<TaskConfig> {
    let entries = reader.tables(top, "task", "this task");
    let tasks: Vec<TaskConfig> = entries.iter().filter_map(|entry| read_task(reader, entry)).collect();
    let mut seen: BTreeMap<&str, &Range<usize>> = BTreeMap::new();
    for task in &tasks {
        match seen.get(task.name.as_str()) {
            Some(first) => reader.push(
                Diagnostic::new(Code::DuplicateTask, format!("two tasks have the name `{}`", task.name))
                    .at(reader.file, &task.span, "second here")
                    .with(reader.file, first, "first here")
                    .help("set `name` of one of them"),
            ),
            None => drop(seen.insert(&task.name, &task.span)),
        }
    }
    tasks
}

fn read_task(reader: &mut TomlReader, entry: &TomlTable<'_, '_>) -> Option<TaskConfig> {
    reader.known_keys(entry, TASK_KEYS);
    let name = reader.text(entry, "name").inspect(|text| rules::fact(reader, "name", text));
    let file = read_required_path(reader, entry, "file");
    let form = one_of(reader, entry, "form", &TaskForm::NAMES).unwrap_or_default();
    let by = one_of(reader, entry, "by", &TaskScorer::NAMES);
    let limit = reader.integer(entry, "limit", 1..=i64::from(u32::MAX)).and_then(|limit| usize::try_from(limit).ok());
    let TomlText { value, span } = file?;
    let stem = || Path::new(&value).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.map_or_else(stem, |text| text.value);
    Some(TaskConfig { name, file: value.into(), form, by, limit, span })
}

/// Reads an optional text that must be one of the given names. Another text gives a finding.
fn one_of<T: Copy>(
    reader: &mut TomlReader,
    entry: &TomlTable<'_, '_>,
    key: &str,
    known: &[(&'static str, T)],
) -> Option<T> {
    let text = reader.text(entry, key)?;
    let found = known.iter().find(|(name, _)| *name == text.value).map(|(_, value)| *value);
    if found.is_none() {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let message = format!("`{key}` of a task must be one of {}", list_in_words(&names));
        let finding = Diagnostic::new(Code::OutOfRange, message).at(reader.file, &text.span, "unknown");
        reader.push(match nearest(&text.value, &names) {
            Some(near) => finding.suggest(Some(near), ""),
            None => finding,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::{RenderStyle, Sources, render};
    use crate::project::config::parse;

    const HEAD: &str = "format = 1\n[model]\npath = \"m\"\n";

    #[test]
    fn tasks_are_read() {
        let text = format!(
            "{HEAD}[[task]]\nfile = \"tasks/sums.jsonl\"\n[[task]]\nname = \"hard\"\nfile = \"arc.jsonl\"\n\
             form = \"arc\"\nby = \"text\"\nlimit = 20\n"
        );
        let mut sources = Sources::default();
        let file = sources.add("corrigenda.toml", &text);
        let (config, _, findings) = parse(Path::new("."), file, &text);
        assert!(findings.is_empty(), "{findings:?}");
        let [plain, hard] = config.expect("valid").tasks.try_into().expect("two tasks");
        assert_eq!((plain.name.as_str(), plain.form, plain.by, plain.limit), ("sums", TaskForm::Plain, None, None));
        assert_eq!(&text[plain.span], "\"tasks/sums.jsonl\"");
        assert_eq!((hard.name.as_str(), hard.form, hard.by), ("hard", TaskForm::Arc, Some(TaskScorer::Text)));
        assert_eq!(hard.limit, Some(20));
    }

    #[test]
    fn every_mistake_of_a_task_is_a_finding() {
        let text = format!(
            "{HEAD}[[task]]\nname = \"a\"\n[[task]]\nfile = \"b.csv\"\nform = \"mmul\"\nby = \"judge\"\nlimit = 0\n\
             [[task]]\nname = \"b\"\nfile = \" \"\n[[task]]\nname = \" \"\nfile = \"x/b.json\"\nlimits = 1\n\
             [[task]]\nfile = \"x/b.json\"\n"
        );
        let mut sources = Sources::default();
        let file = sources.add("corrigenda.toml", &text);
        let (_, _, findings) = parse(Path::new("."), file, &text);
        let drawn: Vec<_> = findings.iter().map(|one| render(one, &sources, RenderStyle::default())).collect();
        insta::assert_snapshot!(drawn.join("\n\n"));
        let one = "format = 1\n[model]\npath = \"m\"\n[task]\nfile = \"a.jsonl\"\n";
        assert_eq!(parse(Path::new("."), file, one).2.len(), 1);
    }
}
