//! A set of facts as another base reads it: what is still needed there, what is true already, and whose subject has
//! other tokens than the lock remembers.

use super::setup::{layer_for, templates_of};
use super::sink;
use super::{Base, Stop};
use crate::behaviour::{Next, Question, Score, next, scores};
use crate::compile::resolve::Row;
use crate::compile::{Fact, Resolved};
use crate::model::{ModelError, Prompt};
use crate::project::{Edit, Lock, Project};

/// What a base says of one fact.
pub struct Reading<'a> {
    /// The fact.
    pub edit: &'a Edit,
    /// The name of its subject: the subject, or one of its aliases.
    pub name: &'a str,
    /// The prompt's tokens.
    pub tokens: Vec<String>,
    /// The position of the subject's last token.
    pub position: usize,
    /// What the lock remembers, where that is not the same: the tokens and the position.
    pub before: Option<(Vec<String>, usize)>,
    /// What the base says by itself, and with which probability.
    pub top: (String, f64),
    /// How it takes the target.
    pub target: Score,
    /// How it takes the old answer.
    pub was: Option<Score>,
}

/// A fact that the base cannot read, and why.
pub struct Unreadable<'a> {
    /// The fact.
    pub edit: &'a Edit,
    /// Why.
    pub why: String,
}

/// A set on another base.
pub struct Elsewhere<'a> {
    /// Facts that it reads, by id; an edit's aliases behind its subject.
    pub readings: Vec<Reading<'a>>,
    /// Facts that it cannot read.
    pub unreadable: Vec<Unreadable<'a>>,
    /// The layer that a build would edit, or why there is none.
    pub layer: Result<usize, String>,
}

/// A fact as the base reads it, before it is asked.
struct Resolvable<'a> {
    edit: &'a Edit,
    name: &'a str,
    row: Row,
    /// The new answer, and the old one if there is one.
    questions: Vec<Question>,
}

/// Reads the chosen edits with `base`, which need not be the project's.
///
/// # Errors
/// The project's templates cannot be used.
pub fn read<'a>(
    project: &'a Project,
    base: &Base,
    lock: Option<&Lock>,
    chosen: &[&'a Edit],
) -> Result<Elsewhere<'a>, Stop> {
    let templates = templates_of(project).map_err(|finding| Stop::wrong(vec![finding], &project.edits.sources))?;
    let layer = layer_for(project, base).map_err(|finding| finding.message);
    let (mut resolved, mut unreadable) = (Vec::new(), Vec::new());
    let prefaces = lock.map(|lock| lock.prefaces(&project.edits)).unwrap_or_default();
    for edit in chosen {
        for (name, _) in edit.names() {
            let preface = Some(prefaces.of(edit, name)).filter(|text| !text.is_empty());
            match resolve(base, edit, (name, preface), &templates) {
                Ok(one) => resolved.push(one),
                Err(why) => unreadable.push(Unreadable { edit, why }),
            }
        }
    }
    let (readings, silent): (Vec<_>, Vec<_>) =
        ask(base, lock, resolved).into_iter().partition(|one| one.target.is_finite());
    let why = || ModelError::Overflow.to_string();
    unreadable.extend(silent.into_iter().map(|one| Unreadable { edit: one.edit, why: why() }));
    Ok(Elsewhere { readings, unreadable, layer })
}

/// An edit under one name, stated after the same text as in the lock.
fn resolve<'a>(
    base: &Base,
    edit: &'a Edit,
    (name, preface): (&'a str, Option<&str>),
    templates: &[String],
) -> Result<Resolvable<'a>, String> {
    let (tokens, limit) = (&base.tokens, base.model.spec().positions);
    let fact = Fact { subject: name, prompt: &edit.prompt, target: &edit.target, chat: edit.chat };
    let mut resolved =
        Resolved::new(tokens, &sink::templates(templates, preface), fact, limit).map_err(|error| error.to_string())?;
    let filled = [preface.unwrap_or_default(), &edit.filled_with(name)].concat();
    let question = |answer: &String| Question::new(tokens, Prompt { text: &filled, chat: edit.chat }, answer, limit);
    let answers = [Some(&edit.target), edit.was.as_ref()].into_iter().flatten();
    let questions = answers.map(question).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    // The bare prompt is the first of the rows.
    Ok(Resolvable { edit, name, row: resolved.rows.swap_remove(0), questions })
}

/// Asks the base all of it at once: its weights are read once for many facts.
fn ask<'a>(base: &Base, lock: Option<&Lock>, resolved: Vec<Resolvable<'a>>) -> Vec<Reading<'a>> {
    let questions: Vec<Question> = resolved.iter().flat_map(|one| one.questions.iter().cloned()).collect();
    let mut scores = scores(&base.model, &questions).into_iter();
    let rows: Vec<Vec<u32>> = resolved.iter().map(|one| one.row.ids.clone()).collect();
    let said: Vec<Next> = rows.chunks(HELD).flat_map(|some| next(&base.model, some)).collect();
    let reading = |(Resolvable { edit, name, row, questions }, said): (Resolvable<'a>, Next)| {
        let mut score = || scores.next().expect("a score per question");
        let tokens = base.tokens.pieces(&row.ids);
        let before = locked(lock, edit, name).filter(|before| *before != (tokens.clone(), row.position));
        let (target, was) = (score(), (questions.len() > 1).then(score));
        let top = (base.tokens.piece(said.top), said.probability);
        Reading { edit, name, position: row.position, before, tokens, top, target, was }
    };
    resolved.into_iter().zip(said).map(reading).collect()
}

/// Rows whose logits are held at once: bounds memory and changes nothing.
const HELD: usize = 64;

/// The tokens and the position that the lock remembers.
fn locked(lock: Option<&Lock>, edit: &Edit, name: &str) -> Option<(Vec<String>, usize)> {
    let alias = (name != edit.subject).then_some(name);
    let mut locked = lock.into_iter().flat_map(|lock| &lock.edits);
    let found = locked.find(|locked| locked.id == edit.id && locked.alias.as_deref() == alias);
    found.map(|locked| (locked.tokens.clone(), locked.position as usize))
}
