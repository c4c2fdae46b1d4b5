//! Collects the facts to trace: declared edits, one prompt, or a file of known facts.

use super::arguments::Arguments;
use crate::cli::context::Context;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources};
use crate::pipeline::plan::select_edits;
use crate::project::{Edit, Project};
use crate::regular_file;
use crate::report::Outcome;
use crate::research::trace::{GatheredFacts, KnownFact, Skipped, known_facts, subject_in};

pub(super) fn gather(arguments: &Arguments, project: Option<&Project>) -> Result<GatheredFacts, Failure> {
    let refused = |message: String| Failure::from(Diagnostic::new(Code::TraceRefused, message));
    let (facts, left) = match (&arguments.prompt, &arguments.subject, &arguments.facts) {
        (Some(prompt), Some(subject), _) => {
            let place = subject_in(prompt, subject)
                .map_err(|error| Diagnostic::new(Code::TraceRefused, error.to_string()).help(SUBJECT_AS_WRITTEN))?;
            if arguments.answer.as_ref().is_some_and(|answer| answer.trim().is_empty()) {
                return Err(refused(
                    "the answer is empty: leave `--answer` out to trace what the model says".to_owned(),
                ));
            }
            let (prompt, answer) = (prompt.clone(), arguments.answer.clone());
            (
                vec![KnownFact {
                    id: "prompt".to_owned(),
                    prompt,
                    subject: place,
                    answer,
                    relation: None,
                    chat: false,
                }],
                Vec::new(),
            )
        }
        (_, _, Some(file)) => {
            let text = regular_file::read(file, MOST_FACTS_BYTES).map_err(|error| error.to_string());
            let text = text.and_then(|bytes| Ok(regular_file::text(bytes)?));
            let text = text.map_err(|error| refused(format!("reading {}: {error}", file.display())))?;
            known_facts(text.as_bytes()).map_err(|error| refused(format!("{}: {error}", file.display())))?
        }
        _ => {
            let project = project.ok_or_else(|| refused("there is no project".to_owned()))?;
            (select_edits(project, &arguments.ids)?.into_iter().map(fact_of_edit).collect(), Vec::new())
        }
    };
    if facts.is_empty() && left.is_empty() {
        return Err(refused("there is no fact to trace".to_owned()));
    }
    Ok((facts, left))
}

const SUBJECT_AS_WRITTEN: &str = "write the subject exactly as in the prompt";

/// The maximum size of a file of known facts, in bytes. The file is read into memory as a whole, so its size is
/// limited.
const MOST_FACTS_BYTES: u64 = 1 << 26;

/// Returns the fact that an edit replaces: the edit's prompt with the answer `was`, or without an answer if the edit
/// has no `was`.
pub(super) fn fact_of_edit(edit: &Edit) -> KnownFact {
    KnownFact {
        id: edit.id.clone(),
        prompt: edit.filled_prompt(),
        subject: edit.subject_range(),
        answer: edit.was.clone(),
        relation: None,
        chat: edit.chat,
    }
}

/// Prints why no fact was traced. The outcome is `Findings` if the model knows none of the facts, and `Error` if some
/// facts were left out for another reason.
pub(super) fn refuse_untraced(context: &Context, left: &[(String, Skipped)]) -> Outcome {
    const SHOWN: usize = 10;
    let finding = |(id, why): &(String, Skipped)| {
        let finding = Diagnostic::new(Code::TraceRefused, format!("`{id}` is not traced: {why}"));
        match why {
            Skipped::Unknown { .. } => {
                finding.help("only an answer that the model gives can be traced; leave the answer out to trace that")
            }
            Skipped::NoSubject { .. } => finding.help(SUBJECT_AS_WRITTEN),
            _ => finding,
        }
    };
    let mut findings: Vec<Diagnostic> = left.iter().take(SHOWN).map(finding).collect();
    if let Some(more) = left.len().checked_sub(SHOWN + 1).map(|more| more + 1) {
        findings.push(Diagnostic::new(Code::TraceRefused, format!("{more} more facts are not traced")));
    }
    let unknown = left.iter().all(|(_, why)| matches!(why, Skipped::Unknown { .. }));
    context.refuse(if unknown { Outcome::Findings } else { Outcome::Error }, &findings, &Sources::default())
}
