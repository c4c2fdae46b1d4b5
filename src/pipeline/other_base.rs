//! Evaluates the facts of a project with another base model. Reports the answers of this model, and the prompts whose
//! tokens or subject positions differ from those in `corrigenda.lock`.

use super::Base;
use super::setup::{layer_for, templates_of};
use super::sinks::detect;
use crate::behaviour::{AnswerScore, NextTokenDistribution, Question, next, scores};
use crate::compile::resolve::PromptRow;
use crate::compile::{Fact, Resolved};
use crate::diagnostics::Failure;
use crate::model::{ModelError, Prompt};
use crate::project::{Edit, EndMark, Lock, Project};

/// The predictions of a model for one fact, and the tokens of the prompt.
pub struct FactReading<'a> {
    pub edit: &'a Edit,
    /// The subject of the edit, or one of its aliases.
    pub name: &'a str,
    /// The tokens of the prompt, as text.
    pub tokens: Vec<String>,
    pub position: usize,
    /// The tokens of the prompt and the position of the subject's last token, as `corrigenda.lock` records them. `None`
    /// if they equal `tokens` and `position`, or if `corrigenda.lock` has no entry for the edit.
    pub before: Option<(Vec<String>, usize)>,
    /// The most probable next token, as text, and its probability.
    pub top: (String, f64),
    pub target: AnswerScore,
    /// The score of the old answer; `None` if the edit has no `was`.
    pub was: Option<AnswerScore>,
}

/// A fact that cannot be evaluated, because its text cannot be tokenized or the model's output is not finite.
pub struct UnreadableFact<'a> {
    pub edit: &'a Edit,
    /// The reason why the fact cannot be evaluated, as an error message for the user.
    pub why: String,
}

pub struct OtherBaseFacts<'a> {
    /// The facts that were evaluated, sorted by edit id. The aliases of an edit follow its subject.
    pub readings: Vec<FactReading<'a>>,
    pub unreadable: Vec<UnreadableFact<'a>>,
    /// The layer that a build would edit, or the reason why no layer can be chosen.
    pub layer: Result<usize, String>,
}

/// A tokenized fact, on which the model has not run yet.
struct Resolvable<'a> {
    edit: &'a Edit,
    name: &'a str,
    row: PromptRow,
    /// The answers to score: the target, and then the old answer if the edit has one.
    questions: Vec<Question>,
}

/// Evaluates the chosen edits with `base`, which may be another model than the project's base model.
///
/// # Errors
/// If the project's context templates cannot be used.
pub fn read<'a>(
    project: &'a Project,
    base: &Base,
    lock: Option<&Lock>,
    chosen: &[&'a Edit],
) -> Result<OtherBaseFacts<'a>, Failure> {
    let templates =
        templates_of(project).map_err(|finding| Failure::from(finding).with_sources(&project.edits.sources))?;
    let layer = layer_for(project, base).map_err(|finding| finding.message);
    let (mut resolved, mut unreadable) = (Vec::new(), Vec::new());
    let prefaces = lock.map(|lock| lock.prefaces(&project.edits)).unwrap_or_default();
    for edit in chosen {
        for (name, _) in edit.names() {
            let preface = Some(prefaces.of(edit, name)).filter(|text| !text.is_empty());
            match resolve(base, edit, (name, preface), &templates) {
                Ok(one) => resolved.push(one),
                Err(why) => unreadable.push(UnreadableFact { edit, why }),
            }
        }
    }
    let (readings, silent): (Vec<_>, Vec<_>) =
        ask(base, lock, resolved).into_iter().partition(|one| one.target.is_finite());
    let why = || ModelError::Overflow.to_string();
    unreadable.extend(silent.into_iter().map(|one| UnreadableFact { edit: one.edit, why: why() }));
    Ok(OtherBaseFacts { readings, unreadable, layer })
}

/// Tokenizes the prompt and the answers of an edit. `name` is the subject or an alias, and `preface` is a text that is
/// put before the prompt.
fn resolve<'a>(
    base: &Base,
    edit: &'a Edit,
    (name, preface): (&'a str, Option<&str>),
    templates: &[String],
) -> Result<Resolvable<'a>, String> {
    let (tokens, limit) = (&base.tokens, base.model.spec().max_positions);
    // The end of the answer does not matter here: only the target is scored.
    let fact = Fact { subject: name, prompt: &edit.prompt, target: &edit.target, chat: edit.chat, end: EndMark::None };
    let mut resolved = Resolved::new(tokens, &detect::with_preface(templates, preface), fact, limit)
        .map_err(|error| error.to_string())?;
    let filled = [preface.unwrap_or_default(), &edit.filled_with(name)].concat();
    let question = |answer: &String| Question::new(tokens, Prompt { text: &filled, chat: edit.chat }, answer, limit);
    let answers = [Some(&edit.target), edit.was.as_ref()].into_iter().flatten();
    let questions = answers.map(question).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    // `resolved.rows[0]` is the prompt alone, without a context template.
    Ok(Resolvable { edit, name, row: resolved.rows.swap_remove(0), questions })
}

/// Evaluates all facts in batches, so that the model's weights are read once per batch and not once per fact.
fn ask<'a>(base: &Base, lock: Option<&Lock>, resolved: Vec<Resolvable<'a>>) -> Vec<FactReading<'a>> {
    let all_questions: Vec<Question> = resolved.iter().flat_map(|one| one.questions.iter().cloned()).collect();
    let mut scores = scores(&base.model, &all_questions).into_iter();
    let rows: Vec<Vec<u32>> = resolved.iter().map(|one| one.row.ids.clone()).collect();
    let answers: Vec<NextTokenDistribution> =
        rows.chunks(BATCH_ROWS).flat_map(|some| next(&base.model, some)).collect();
    let reading = |(Resolvable { edit, name, row, questions }, said): (Resolvable<'a>, NextTokenDistribution)| {
        let mut score = || scores.next().expect("every question has a score");
        let tokens = base.tokens.pieces(&row.ids);
        let before = locked(lock, edit, name).filter(|before| *before != (tokens.clone(), row.position));
        let (target, was) = (score(), (questions.len() > 1).then(score));
        let top = (base.tokens.piece(said.top), said.probability);
        FactReading { edit, name, position: row.position, before, tokens, top, target, was }
    };
    resolved.into_iter().zip(answers).map(reading).collect()
}

/// The maximum number of prompts in a batch, which bounds the logits in memory. The results do not depend on this
/// number.
const BATCH_ROWS: usize = 64;

/// Returns the tokens of the prompt and the position of the subject's last token, as `lock` records them for an edit.
/// `name` is the subject or an alias of the edit. Returns `None` if there is no lock, or if it has no entry for `name`.
fn locked(lock: Option<&Lock>, edit: &Edit, name: &str) -> Option<(Vec<String>, usize)> {
    let alias = (name != edit.subject).then_some(name);
    let mut entries = lock.into_iter().flat_map(|lock| &lock.edits);
    let found = entries.find(|locked| locked.id == edit.id && locked.alias.as_deref() == alias);
    found.map(|locked| (locked.tokens.clone(), locked.position as usize))
}
