//! Asks two models the questions of all tasks. The answers of each model are cached in the store, so a later run with
//! another patch asks only the patched model.

use super::Protocol;
use super::encode::{EncodedItem, EncodedTask};
use super::result::{PairedMarks, TaskResult};
use super::score::Answers;
use crate::behaviour::cache::MeasurementCache;
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::model::{Model, Tokens};
use crate::progress::Progress;

/// The number of questions that are asked and cached together. An interrupted run keeps the answers to all earlier
/// groups.
const GROUP: usize = 32;

/// One of the two models to compare.
#[derive(Clone, Copy)]
pub struct TaskModel<'f, 'm> {
    /// The cache of the answers of this model alone; see [`MeasurementCache::of_before`].
    pub cache: MeasurementCache<'f>,
    /// A function that returns the model. It is called only if an answer is not cached.
    pub model: &'f dyn Fn() -> Result<&'m Model, Failure>,
}

/// Asks both models the questions of all tasks, and compares their answers. Every task must have a question.
///
/// # Errors
/// If the logits of a model are not finite, or a model cannot be created.
pub fn compare(
    tasks: &[EncodedTask],
    tokens: &Tokens,
    models: [TaskModel<'_, '_>; 2],
    progress: &dyn Progress,
) -> Result<Vec<TaskResult>, Failure> {
    let known = models.map(|model| tasks.iter().map(|task| recall(&model.cache, task)).collect::<Vec<_>>());
    let missing: usize =
        known.iter().flatten().flatten().filter(|(_, found)| found.is_none()).map(|(some, _)| some.len()).sum();
    if missing > 0 {
        progress.begin_short("questions of tasks asked of a model", missing as u64);
    }
    let mut done = 0;
    let [first, second] = known;
    let asked = answer_all(models[0], tokens, first, &mut done, progress)
        .and_then(|before| Ok((before, answer_all(models[1], tokens, second, &mut done, progress)?)));
    if missing > 0 {
        progress.end();
    }
    let (before, after) = asked?;
    Ok(tasks.iter().zip(before.iter().zip(&after)).map(|(task, (was, is))| result(task, was, is)).collect())
}

/// Some questions of a task, and the answers of a model if they are cached.
type Group<'t> = (&'t [EncodedItem], Option<Answers>);

fn recall<'t>(cache: &MeasurementCache<'_>, task: &'t EncodedTask) -> Vec<Group<'t>> {
    task.questions.chunks(GROUP).map(|some| (some, cache.task_answers(some))).collect()
}

/// Some questions of a task, and the answers of a model.
type Answered<'t> = (&'t [EncodedItem], Answers);

/// Asks a model the questions of all tasks whose answers are not cached, and caches the answers. Returns the groups of
/// questions of each task. `done` is the number of questions that were asked so far, for the progress.
fn answer_all<'t>(
    model: TaskModel<'_, '_>,
    tokens: &Tokens,
    tasks: Vec<Vec<Group<'t>>>,
    done: &mut u64,
    progress: &dyn Progress,
) -> Result<Vec<Vec<Answered<'t>>>, Failure> {
    let mut out = Vec::with_capacity(tasks.len());
    for groups in tasks {
        let mut answered = Vec::with_capacity(groups.len());
        for (questions, known) in groups {
            if let Some(answers) = known {
                answered.push((questions, answers));
                continue;
            }
            let found = Answers::of((model.model)()?, tokens, questions);
            let found = found.map_err(|error| Failure::from(Diagnostic::new(Code::NotFinite, error.to_string())))?;
            model.cache.store_task_answers(questions, &found);
            *done += questions.len() as u64;
            progress.set_position(*done);
            answered.push((questions, found));
        }
        out.push(answered);
    }
    Ok(out)
}

fn result(task: &EncodedTask, before: &[Answered<'_>], after: &[Answered<'_>]) -> TaskResult {
    let compared = |protocol: Protocol| {
        let marks = |groups: &[Answered<'_>]| -> Vec<bool> {
            groups.iter().flat_map(|(questions, answers)| answers.marks(protocol, questions)).collect()
        };
        PairedMarks::new(&marks(before), &marks(after))
    };
    let pairs = compared(task.protocol);
    let by_sum = (task.protocol == Protocol::PerCharacter).then(|| compared(Protocol::Sum).accuracies);
    TaskResult {
        name: task.name.clone(),
        form: task.form,
        protocol: task.protocol.name().to_owned(),
        questions: task.count(),
        left_out: task.left_out.len(),
        before: pairs.accuracies[0],
        after: pairs.accuracies[1],
        difference: pairs.difference,
        interval: pairs.interval,
        became_right: pairs.became_right,
        became_wrong: pairs.became_wrong,
        by_sum,
        limit: None,
        pass: true,
    }
}
