//! A set of facts as another base reads it: what is still needed there, what is true already, and whose subject has
//! other tokens than the lock remembers.

use super::setup::{layer_for, templates_of};
use super::{Base, Stop};
use crate::behaviour::{Next, Question, Score, next, scores};
use crate::compile::{Fact, Resolved};
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
    let (mut readings, mut unreadable) = (Vec::new(), Vec::new());
    for edit in chosen {
        for (name, _) in edit.names() {
            match one(base, lock, edit, name, &templates) {
                Ok(reading) => readings.push(reading),
                Err(why) => unreadable.push(Unreadable { edit, why }),
            }
        }
    }
    Ok(Elsewhere { readings, unreadable, layer })
}

fn one<'a>(
    base: &Base,
    lock: Option<&Lock>,
    edit: &'a Edit,
    name: &'a str,
    templates: &[String],
) -> Result<Reading<'a>, String> {
    let (tokens, limit) = (&base.tokens, base.model.spec().positions);
    let fact = Fact { subject: name, prompt: &edit.prompt, target: &edit.target };
    let resolved = Resolved::new(tokens, templates, fact, limit).map_err(|error| error.to_string())?;
    let answers = [Some(&edit.target), edit.was.as_ref()];
    let question = |answer: &String| Question::new(tokens, &edit.filled_with(name), answer, limit);
    let questions: Vec<Question> =
        answers.into_iter().flatten().map(question).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let scores = scores(&base.model, &questions);
    let row = &resolved.rows[0];
    let Next { top, probability, .. } = next(&base.model, std::slice::from_ref(&row.ids)).remove(0);
    let pieces = tokens.pieces(&row.ids);
    let alias = (name != edit.subject).then_some(name);
    let locked = lock.into_iter().flat_map(|lock| &lock.edits);
    let locked = locked.filter(|locked| locked.id == edit.id && locked.alias.as_deref() == alias);
    let before = locked.map(|locked| (locked.tokens.clone(), locked.position as usize)).next();
    Ok(Reading {
        edit,
        name,
        position: row.position,
        before: before.filter(|before| *before != (pieces.clone(), row.position)),
        tokens: pieces,
        top: (tokens.piece(top), probability),
        target: scores[0],
        was: scores.get(1).copied(),
    })
}
