//! `check`: is what people wrote well formed and free of contradictions?

use serde_json::json;

use super::{Context, Format, Outcome};
use crate::project::diagnostic::summary;
use crate::project::{Diagnostic, Project, Sources};

pub(super) fn run(context: &Context) -> Outcome {
    match Project::load(&context.root) {
        Ok(project) => {
            let edits = project.edits.edits.len();
            report(context, Outcome::Ok, Some(edits), &project.warnings, &project.edits.sources)
        }
        Err(findings) => report(context, Outcome::Error, None, &findings.diagnostics, &findings.sources),
    }
}

fn report(
    context: &Context,
    outcome: Outcome,
    edits: Option<usize>,
    findings: &[Diagnostic],
    sources: &Sources,
) -> Outcome {
    match context.format {
        Format::Json => context.answer_json(outcome, findings, sources, json!({ "edits": edits })),
        Format::Human | Format::Csv => {
            context.ui.findings(findings, sources);
            context.ui.answer(&sentence(edits, findings));
        }
    }
    outcome
}

fn sentence(edits: Option<usize>, findings: &[Diagnostic]) -> String {
    match edits {
        None => summary(findings),
        Some(edits) => {
            let plural = if edits == 1 { "" } else { "s" };
            let found = if findings.is_empty() { "no findings".to_owned() } else { summary(findings) };
            format!("{edits} edit{plural}, {found}")
        }
    }
}
