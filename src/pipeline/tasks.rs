//! Reads the tasks of a project and compares two models on them. Applies the limit on the fall of the accuracy.

use super::Base;
use crate::behaviour::task::compare::{TaskModel, compare};
use crate::behaviour::task::read::read;
use crate::behaviour::task::{EncodedTask, TaskResult};
use crate::diagnostics::{Code, Diagnostic, Failure, Sources};
use crate::digest::FieldHasher;
use crate::progress::Progress;
use crate::project::{Limit, Project, TaskConfig, TaskScorer};
use crate::store::{Store, memo};

/// Reads and tokenizes all tasks of a project. All mistakes of all files are reported at once.
///
/// # Errors
/// If the file of a task cannot be read, a question cannot be asked, or no question of a task fits into the context.
pub fn read_tasks(project: &Project, base: &Base) -> Result<Vec<EncodedTask>, Failure> {
    let mut sources = project.edits.sources.clone();
    let (mut tasks, mut findings) = (Vec::new(), Vec::new());
    for config in &project.config.tasks {
        let path = project.config.resolve(&config.file);
        let encoded = read(config, &path, project.config.file, &mut sources).and_then(|task| {
            let limit = base.model.spec().max_positions;
            EncodedTask::new(config, &task, &base.tokens, limit, &sources)
        });
        match encoded {
            Ok(task) if task.count() == 0 => findings.push(too_long(project, config)),
            Ok(task) => tasks.push(task),
            Err(found) => findings.extend(found),
        }
    }
    if findings.is_empty() { Ok(tasks) } else { Err(Failure::invalid(findings, &sources)) }
}

/// Reads the files of all tasks of a project without a model. Adds their texts to `sources`, and returns all mistakes.
pub fn task_mistakes(project: &Project, sources: &mut Sources) -> Vec<Diagnostic> {
    let mistakes = |config: &TaskConfig| {
        let path = project.config.resolve(&config.file);
        read(config, &path, project.config.file, sources).err().unwrap_or_default()
    };
    project.config.tasks.iter().flat_map(mistakes).collect()
}

fn too_long(project: &Project, config: &TaskConfig) -> Diagnostic {
    let message = format!("task `{}`: every question is longer than the context of the model", config.name);
    Diagnostic::new(Code::TaskUnusable, message).at(project.config.file, &config.span, "this file")
}

/// Compares two models on tasks, and marks the results that break `limit`, the largest allowed fall of the accuracy.
///
/// # Errors
/// If the logits of a model are not finite, or a model cannot be created.
pub fn measure_tasks(
    tasks: &[EncodedTask],
    base: &Base,
    models: [TaskModel<'_, '_>; 2],
    limit: Option<f64>,
    progress: &dyn Progress,
) -> Result<Vec<TaskResult>, Failure> {
    let mut results = compare(tasks, &base.tokens, models, progress)?;
    for result in &mut results {
        result.limit = limit;
        result.pass = limit.is_none_or(|limit| result.loss() <= limit);
    }
    Ok(results)
}

/// Returns a finding for each task whose accuracy falls more than allowed. The finding marks the task in
/// `corrigenda.toml`, and the limit if the policy sets it.
pub fn broken_tasks(project: &Project, results: &[TaskResult]) -> Vec<Diagnostic> {
    let policy = &project.config.policy;
    let finding = |result: &TaskResult| {
        let limit = result.limit.filter(|_| !result.pass)?;
        let [lower, upper] = result.interval;
        let message = format!(
            "the accuracy of task `{}` falls from {:.4} to {:.4}; a fall of at most {limit} is allowed",
            result.name, result.before, result.after
        );
        let label = format!(
            "{} questions, {}, difference {:+.4} (95 % interval {lower:+.4} to {upper:+.4})",
            result.questions, result.protocol, result.difference
        );
        let mut finding = Diagnostic::new(Code::MaxTaskLoss, message);
        if let Some(task) = project.config.tasks.iter().find(|task| task.name == result.name) {
            finding = finding.at(project.config.file, &task.span, label);
        }
        let rule = policy.max_task_loss.as_ref().filter(|rule| rule.value.total_cmp(&limit).is_eq());
        Some(match rule {
            Some(rule) => policy.point(finding, rule),
            None => finding,
        })
    };
    results.iter().filter_map(finding).collect()
}

/// Adds the files of all tasks, and what is read from them, to a hash. `limit` is the limit of the policy.
///
/// # Errors
/// If the file of a task cannot be read.
pub fn describe_tasks(
    project: &Project,
    limit: &Limit,
    store: &Store,
    hasher: &mut FieldHasher,
) -> Result<(), Failure> {
    hasher.float("max-task-loss", limit.value).number("tasks", project.config.tasks.len() as u64);
    for TaskConfig { name, file, form, by, limit: most, span } in &project.config.tasks {
        let path = project.config.resolve(file);
        let digest = memo::digest_text(store, &path).map_err(|error| {
            let finding = Diagnostic::new(Code::TaskUnusable, format!("task `{name}`: {error}"));
            Failure::from(finding.at(project.config.file, span, "this file")).with_sources(&project.edits.sources)
        })?;
        hasher.digest("file", &digest).text("form", form.as_str());
        hasher.texts("by", by.map(TaskScorer::as_str).into_iter()).number("limit", most.map_or(0, |most| most as u64));
    }
    Ok(())
}
