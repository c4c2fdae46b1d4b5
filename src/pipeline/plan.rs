//! Tokenizes every edit and finds the last token of its subject, before any edit is compiled.

use std::collections::BTreeMap;
use std::ops::Range;

use super::sinks::detect::ResidualNorms;
use super::sinks::prefaces;
use super::{Base, Plan, PlannedEdit, Setup};
use crate::behaviour::Question;
use crate::behaviour::ask::Inquiry;
use crate::behaviour::condition::condition_prompts;
use crate::behaviour::expectation::expectations;
use crate::compile::object::address;
use crate::compile::{Fact, ResolveError, Resolved};
use crate::diagnostics::{Code, Diagnostic, Failure, Sources, most_similar};
use crate::model::{ModelError, Prompt};
use crate::project::{Edit, Prefaces, Probe, Project, pairs};
use crate::store::Store;

/// Tokenizes every edit of the project, once with its subject and once with each alias, and collects warnings.
///
/// # Errors
/// If an edit or a probe cannot be tokenized or is too long for the model, if two edits have the same MLP key and the
/// project sets no ridge, or if the store cannot be read or written. Errors of edits and probes are reported together.
pub fn plan<'a>(project: &'a Project, base: &Base, setup: &Setup, store: &Store) -> Result<Plan<'a>, Failure> {
    let mut plan = Plan { edits: Vec::new(), warnings: Vec::new() };
    let mut errors = Vec::new();
    for edit in &project.edits.edits {
        let before = errors.len();
        for (name, span) in edit.names() {
            match planned(edit, name, span, base, setup) {
                Ok(planned) => plan.edits.push(planned),
                Err(error) => {
                    errors.push(unresolved(edit, span, &error));
                    // If the chat template fails for the subject, it usually fails for the aliases too, so one error is
                    // enough.
                    if matches!(error, ResolveError::Model(ModelError::Chat { .. })) {
                        break;
                    }
                }
            }
        }
        // The old answer and the expectations are checked only if the prompt can be tokenized. Otherwise one cause
        // could lead to several errors.
        if errors.len() == before {
            errors.extend(unrunnable(Some(edit), &[], base));
        }
    }
    errors.extend(unrunnable(None, &project.probes, base));
    if errors.is_empty() {
        let norms = ResidualNorms::new(base, setup, store);
        prefaces::choose_prefaces(&mut plan.edits, base, setup, &norms)?;
        plan.warnings = prefaces::warnings(&plan, base, setup, &norms)?;
    }
    plan.warnings.extend(plan.edits.iter().flat_map(|planned| planned.warnings(base)));
    if setup.ridge.unwrap_or(0.0) == 0.0 {
        errors.extend(identical_keys(&plan));
    }
    if errors.is_empty() {
        return Ok(plan);
    }
    errors.append(&mut plan.warnings);
    crate::diagnostics::sort(&mut errors);
    Err(Failure::invalid(errors, &project.edits.sources))
}

fn planned<'a>(
    edit: &'a Edit,
    name: &'a str,
    span: &'a Range<usize>,
    base: &Base,
    setup: &Setup,
) -> Result<PlannedEdit<'a>, ResolveError> {
    let Setup { layer, templates, settings, .. } = setup;
    let end = edit.end.unwrap_or(settings.end);
    let fact = Fact { subject: name, prompt: &edit.prompt, target: &edit.target, chat: edit.chat, end };
    let resolved = Resolved::new(&base.tokens, templates, fact, base.model.spec().max_positions)?;
    let reading = base.tokens.reading(edit.chat)?;
    let meaning = edit.meaning_of(name);
    let object = address(&base.locked.digest, reading.as_ref(), &meaning, *layer, templates, settings);
    Ok(PlannedEdit { edit, name, span, meaning, resolved, sink: None, object })
}

fn unresolved(edit: &Edit, name: &Range<usize>, error: &ResolveError) -> Diagnostic {
    let spans = &edit.spans;
    let message = format!("edit `{}`: {error}", edit.id);
    match error {
        ResolveError::NoToken { .. } | ResolveError::Places { .. } => Diagnostic::new(Code::SubjectUnresolved, message)
            .at(spans.file, name, "no token covers its last character")
            .help("the key of an edit is taken at the subject's last token: check the tokenizer, or reword"),
        ResolveError::TooLong { .. } => Diagnostic::new(Code::PromptTooLong, message)
            .at(spans.file, &spans.prompt, "with a context template before it and the target after it")
            .help("shorten the prompt"),
        ResolveError::Model(ModelError::Chat { .. }) => {
            without_chat(message).at(spans.file, spans.chat.as_ref().unwrap_or(&spans.prompt), "asked in a chat")
        }
        ResolveError::NoEndToken => Diagnostic::new(Code::TargetUnresolved, message)
            .at(spans.file, &spans.target, "the answer has no end")
            .help("write `end = \".\"`, or remove `end`"),
        ResolveError::EmptyTarget(_) | ResolveError::Model(_) => {
            Diagnostic::new(Code::TargetUnresolved, message).at(spans.file, &spans.target, "cannot be tokenized")
        }
    }
}

/// Returns the error for a chat prompt if the model has no usable chat template.
fn without_chat(message: String) -> Diagnostic {
    Diagnostic::new(Code::ChatUnusable, message).help(
        "use `chat` only for models that were trained to chat, with the template of that training; leave it out for \
               others",
    )
}

/// Checks the old answer and the expectations of `edit`, and the prompts of `probes`. Returns an error for each text
/// that the model cannot evaluate, for example because it is too long.
fn unrunnable(edit: Option<&Edit>, probes: &[Probe], base: &Base) -> Vec<Diagnostic> {
    let (limit, tokens) = (base.model.spec().max_positions, &base.tokens);
    let edits: Vec<&Edit> = edit.into_iter().collect();
    let mut found: Vec<Diagnostic> = Vec::new();
    let what = if edit.is_some() { "edit" } else { "probe" };
    let mut note = |id: &str, error: ModelError, file, span: &Range<usize>| {
        let message = format!("{what} `{id}`: {error}");
        let finding = match error {
            ModelError::Chat { .. } => without_chat(message),
            _ => Diagnostic::new(Code::PromptTooLong, message).help("shorten the text"),
        };
        let finding = finding.at(file, span, "cannot be evaluated");
        found.push(match edit.and_then(|edit| edit.spans.chat.as_ref()) {
            Some(chat) => finding.with(file, chat, "it is asked in a chat"),
            None => finding,
        });
    };
    for checked in &edits {
        for (was, span) in checked.was.iter().zip(&checked.spans.was) {
            let asked = checked.names().map(|(name, _)| {
                Question::new(tokens, Prompt { text: &checked.filled_with(name), chat: checked.chat }, was, limit)
            });
            if let Some(error) = asked.filter_map(Result::err).next() {
                note(&checked.id, error, checked.spans.file, span);
            }
        }
    }
    let asked = expectations(&edits, probes, &Prefaces::default());
    for one in condition_prompts(&asked).iter().chain(&asked) {
        if let Err(error) = Inquiry::new(tokens, one.model_input(), one.answers.iter().copied(), limit) {
            note(one.id, error, one.file, &one.span);
        }
    }
    found
}

/// Returns the warning that the base model does not predict `was`, the old answer of the edit. The warning points to
/// `span`, the byte range of `was` in the edit file. `label` is the text at this place, for example what the model
/// predicts instead.
pub fn base_disagrees(edit: &Edit, was: &str, span: &Range<usize>, label: impl Into<String>) -> Diagnostic {
    let message = format!("edit `{}`: the base does not say {was:?}", edit.id);
    Diagnostic::new(Code::BaseDisagrees, message)
        .at(edit.spans.file, span, label)
        .help("correct `was`, or reword the prompt as the training text may have it")
}

/// Returns an error for every pair of edits with identical MLP keys. MLP keys are identical if the tokens up to the
/// subject's last token are the same in every context template. Without this check, the linear solve would reject these
/// pairs only after all edits are compiled.
fn identical_keys(plan: &Plan<'_>) -> Vec<Diagnostic> {
    let mut groups: BTreeMap<Vec<&[u32]>, Vec<&PlannedEdit<'_>>> = BTreeMap::new();
    for planned in &plan.edits {
        groups.entry(planned.key_tokens()).or_default().push(planned);
    }
    let mut findings = Vec::new();
    for (first, second) in groups.values().flat_map(|group| pairs(group)) {
        let (edit, other) = (second.edit, first.edit);
        let message = format!("edits `{}` and `{}` have the same key: cosine 1", other.id, edit.id);
        let finding = Diagnostic::new(Code::ParallelKeys, message)
            .at(edit.spans.file, second.span, "the model reads the same tokens up to here")
            .with(other.spans.file, first.span, "and up to here")
            .help("a key has one value: leave one of the edits out, or begin its prompt with other words")
            .help("or set `ridge` under `[link]`: then both hold in part");
        findings.push(finding);
    }
    findings
}

/// Returns the edits with these ids, or all edits if the list is empty.
///
/// # Errors
/// If `ids` contains an id that no edit of the project has.
pub fn select_edits<'e>(project: &'e Project, ids: &[String]) -> Result<Vec<&'e Edit>, Failure> {
    let unknown = ids.iter().filter(|id| project.edits.get(id).is_none());
    let findings: Vec<Diagnostic> = unknown.map(|id| unknown_id(project, id)).collect();
    if !findings.is_empty() {
        return Err(Failure::invalid(findings, &Sources::default()));
    }
    Ok(project.edits.edits.iter().filter(|edit| ids.is_empty() || ids.contains(&edit.id)).collect())
}

fn unknown_id(project: &Project, id: &str) -> Diagnostic {
    if let Some(why) = project.edits.written().get(id).and_then(|edit| edit.parked.as_ref()) {
        let message = format!("edit `{id}` is parked: {why}");
        return Diagnostic::new(Code::UnknownId, message).help("a parked fact is not part of the set");
    }
    let finding = Diagnostic::new(Code::UnknownId, format!("no edit has the id `{id}`"));
    let near = most_similar(id, project.edits.edits.iter().map(|edit| edit.id.as_str()));
    finding.suggest(near, "`corrigenda plan` lists the ids")
}
