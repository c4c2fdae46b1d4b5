//! `check`: is what people wrote well formed and free of contradictions?

use std::path::Path;

use serde_json::json;

use super::{Format, Outcome};
use crate::project::diagnostic::summary;
use crate::project::{Diagnostic, Project, Sources, to_json};
use crate::ui::Ui;

pub(super) fn run(ui: &Ui, root: &Path, format: Format) -> Outcome {
    match Project::load(root) {
        Ok(project) => {
            let edits = project.edits.edits.len();
            report(ui, format, Outcome::Ok, Some(edits), &project.warnings, &project.edits.sources)
        }
        Err(findings) => report(ui, format, Outcome::Error, None, &findings.diagnostics, &findings.sources),
    }
}

fn report(
    ui: &Ui,
    format: Format,
    outcome: Outcome,
    edits: Option<usize>,
    findings: &[Diagnostic],
    sources: &Sources,
) -> Outcome {
    match format {
        Format::Json => {
            let word = if outcome == Outcome::Ok { "ok" } else { "error" };
            let list: Vec<_> = findings.iter().map(|finding| to_json(finding, sources)).collect();
            ui.answer(&json!({ "version": 1, "outcome": word, "edits": edits, "findings": list }).to_string());
        }
        Format::Human => {
            ui.findings(findings, sources);
            ui.answer(&sentence(edits, findings));
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
