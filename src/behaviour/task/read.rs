//! Reads the file of a task. All mistakes of the file are reported at once, each with its line.

use std::ops::Range;
use std::path::Path;

use super::forms::{read_csv, read_json};
use super::records::{Located, json_values};
use super::{Item, Protocol};
use crate::diagnostics::{CappedFindings, Code, Diagnostic, FileId, Sources};
use crate::project::read::files;
use crate::project::{TaskConfig, TaskForm};
use crate::regular_file;

/// The maximum size of a task's file in bytes (64 MiB). The published test questions of MMLU have 7 MB.
const MOST_BYTES: u64 = 1 << 26;

/// The questions of a task, as its file states them.
#[derive(Debug)]
pub struct ReadTask {
    pub protocol: Protocol,
    /// The questions, each with its byte range in `file`.
    pub items: Vec<(Range<usize>, Item)>,
    pub file: FileId,
}

/// Reads the file of a task at `path`. `project_file` is `corrigenda.toml`, which a finding marks if the file cannot be
/// opened. The text of the task's file is added to `sources`.
///
/// # Errors
/// If the file cannot be read, is not UTF-8 or has no question, or if a question cannot be asked.
pub fn read(
    task: &TaskConfig,
    path: &Path,
    project_file: FileId,
    sources: &mut Sources,
) -> Result<ReadTask, Vec<Diagnostic>> {
    let refuse = |why: String| {
        let message = format!("task `{}`: {why}", task.name);
        vec![Diagnostic::new(Code::TaskUnusable, message).at(project_file, &task.span, "this file")]
    };
    let bytes = regular_file::read(path, MOST_BYTES).map_err(|error| refuse(format!("{}: {error}", path.display())))?;
    let file = files::add(&task.file.display().to_string(), bytes, sources).map_err(|finding| vec![finding])?;
    let most = task.limit.unwrap_or(usize::MAX);
    let found = items(task.form, &task.file, sources.text(file), most);
    if found.is_empty() {
        return Err(refuse("the file has no question".to_owned()));
    }
    check(task, file, found)
}

fn items(form: TaskForm, path: &Path, text: &str, most: usize) -> Vec<Located<Item>> {
    let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    if form == TaskForm::Mmlu && is_csv {
        return read_csv(text, most);
    }
    let item = |found: Located<serde_json::Value>| Located {
        value: found.value.and_then(|value| read_json(form, &value)),
        span: found.span,
    };
    json_values(text, most).into_iter().map(item).collect()
}

/// Returns the questions, or a finding for each question that cannot be asked. All questions of a task must have the
/// same protocol.
fn check(task: &TaskConfig, file: FileId, found: Vec<Located<Item>>) -> Result<ReadTask, Vec<Diagnostic>> {
    let (mut items, mut findings, mut wrong) = (Vec::new(), CappedFindings::default(), false);
    let mut shared: Option<Protocol> = None;
    for Located { span, value } in found {
        let checked = value.and_then(|item| {
            let protocol = Protocol::of(task.form, task.by, &item)?;
            match *shared.get_or_insert(protocol) {
                first if first == protocol => Ok(item),
                _ => Err("a file has either questions with choices or prompts without choices, not both".to_owned()),
            }
        });
        match checked {
            Ok(item) => items.push((span, item)),
            Err(why) => {
                wrong = true;
                findings.push(unusable(task, file, &span, &why));
            }
        }
    }
    match shared {
        Some(protocol) if !wrong => Ok(ReadTask { protocol, items, file }),
        _ => Err(findings.finish()),
    }
}

/// Returns the finding for a question that cannot be asked.
pub(super) fn unusable(task: &TaskConfig, file: FileId, span: &Range<usize>, why: &str) -> Diagnostic {
    let finding = Diagnostic::new(Code::TaskUnusable, format!("task `{}`: {why}", task.name));
    finding.at(file, span, "this question")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::{RenderStyle, render};
    use crate::project::TaskScorer;

    fn config(name: &str, form: TaskForm) -> TaskConfig {
        TaskConfig { name: "t".into(), file: name.into(), form, by: None, limit: None, span: 8..17 }
    }

    /// Reads a task file with the given bytes. Returns the number of questions or the printed findings.
    fn read_bytes(config: &TaskConfig, bytes: &[u8]) -> Result<usize, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(&config.file);
        std::fs::write(&path, bytes).expect("the file is written");
        let mut sources = Sources::default();
        let project = sources.add("corrigenda.toml", "file =  \"t.jsonl\"\n");
        read(config, &path, project, &mut sources).map(|task| task.items.len()).map_err(|findings| {
            let drawn: Vec<_> = findings.iter().map(|one| render(one, &sources, RenderStyle::default())).collect();
            drawn.join("\n\n")
        })
    }

    const GOOD: &str = "{\"question\": \"2 + 2 =\", \"choices\": [\"3\", \"4\"], \"answer\": 1}\n";

    #[test]
    fn every_bad_question_is_a_finding() {
        let text = format!(
            "{GOOD}{{\"question\": \"q\", \"choices\": [\"a\"], \"answer\": 0}}\n\n\
             {{\"question\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": \"C\"}}\nnot JSON\n\
             {{\"prompt\": \"p\", \"answer\": \"a\"}}\n"
        );
        let found = read_bytes(&config("t.jsonl", TaskForm::Plain), text.as_bytes()).expect_err("bad questions");
        insta::assert_snapshot!(found);
    }

    #[test]
    fn a_byte_order_mark_is_allowed() {
        let text = format!("\u{feff}{GOOD}{GOOD}");
        assert_eq!(read_bytes(&config("t.jsonl", TaskForm::Plain), text.as_bytes()), Ok(2));
        let csv = "\u{feff}q,a,b,c,d,A\nq,a,b,c,d,B\n";
        assert_eq!(read_bytes(&config("t.CSV", TaskForm::Mmlu), csv.as_bytes()), Ok(2));
    }

    #[test]
    fn files_that_are_not_tasks_are_refused() {
        let plain = config("t.jsonl", TaskForm::Plain);
        assert!(read_bytes(&plain, b" \n\n").expect_err("empty").contains("the file has no question"));
        assert!(read_bytes(&plain, b"{\"question\": \"\xff\"}").expect_err("bytes").contains("not UTF-8 at byte 14"));
        assert!(read_bytes(&plain, b"\xff\xfe{\0").expect_err("wide").contains("UTF-16"));
        assert!(read_bytes(&config("t.csv", TaskForm::Mmlu), GOOD.as_bytes()).expect_err("JSON").contains("6 columns"));
        assert!(read_bytes(&config("t.jsonl", TaskForm::Arc), GOOD.as_bytes()).is_err());
        let by = TaskConfig { by: Some(TaskScorer::Likelihood), ..plain.clone() };
        assert!(
            read_bytes(&by, b"{\"prompt\": \"p\", \"answer\": \"a\"}").expect_err("no choices").contains("likelihood")
        );
        let mut sources = Sources::default();
        let project = sources.add("corrigenda.toml", "file =  \"t.jsonl\"\n");
        let found = read(&plain, Path::new("no/such/t.jsonl"), project, &mut sources).expect_err("absent");
        assert_eq!((found.len(), found[0].labels[0].span.clone()), (1, 8..17));
    }

    #[test]
    fn only_the_first_questions_are_read() {
        let limited = TaskConfig { limit: Some(2), ..config("t.jsonl", TaskForm::Plain) };
        assert_eq!(read_bytes(&limited, format!("{GOOD}{GOOD}not JSON\n").as_bytes()), Ok(2));
    }
}
