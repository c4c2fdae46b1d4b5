//! Implements `check`: checks the project's files for syntax, contradictions and violations of the policy, and the files
//! of its tasks for questions that cannot be asked.

use super::report::{ReportArguments, deliver};
use crate::cli::context::Context;
use crate::diagnostics::{Diagnostic, Findings, Sources, summary};
use crate::pipeline::tasks::task_mistakes;
use crate::project::Project;
use crate::report::Outcome;
use crate::report::{Report, ReportVerb};

/// Check the project file, every edit and task: syntax, TOML keys, contradictions, policy (reads no model)
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    reports: ReportArguments,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    context.expect_reports(ReportVerb::Check, &arguments.reports);
    match Project::load(&context.root) {
        Ok(mut project) => {
            // `check` reads the files of all models, so `--model` has no effect except that the given name is checked.
            let unknown = context.selected_model().and_then(|name| project.config.choose(Some(&name)).err());
            let expired = context.expired(&project);
            let mut sources = project.edits.sources.clone();
            let tasks = task_mistakes(&project, &mut sources);
            let findings = [unknown.into_iter().collect(), project.warnings.clone(), expired, tasks].concat();
            let edits = project.edits.edits.len();
            checked(context, Some(edits), &findings, &sources)
        }
        Err(Findings { diagnostics, sources }) => checked(context, None, &diagnostics, &sources),
    }
}

fn checked(context: &Context, edits: Option<usize>, findings: &[Diagnostic], sources: &Sources) -> Outcome {
    let errors: Vec<&Diagnostic> = findings.iter().filter(|one| one.is_error()).collect();
    let outcome = if errors.is_empty() {
        Outcome::Ok
    } else if errors.iter().all(|one| one.code.is_adjustable()) {
        Outcome::Findings
    } else {
        Outcome::Error
    };
    context.show(findings, sources);
    let report = Report {
        edits,
        files: sources.paths(),
        ..context.report(ReportVerb::Check, outcome, "corrigenda check", findings, sources)
    };
    deliver(context, &report, |_, _| sentence(edits, findings))
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
