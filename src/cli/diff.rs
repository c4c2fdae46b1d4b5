//! Implements `diff`: compares the facts, the weights and the answers of two states of a project or model.

use super::report::{ReportArguments, deliver, have_places};
use crate::behaviour::continuation::ContinuationOptions;
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Failure, Sources};
use crate::project::Project;
use crate::report::Outcome;
use crate::report::{self, Report, ReportVerb};
use crate::review::diff::{DiffOptions, diff, differs};
use crate::review::side::{DiffContext, Side, WORKTREE};
use crate::store::Store;

/// Show what changes between two states: facts, weights, and what the model says.
///
/// A state is `base` (the model without a patch), `worktree` (the project's files on disk), a git revision, a patch id,
/// or a folder with a project or a model (`./base` is a folder). `diff main` means `diff main worktree`, and `diff`
/// alone means `diff HEAD worktree`. Revisions are read from git's database without a checkout. A patch that is not in
/// the store is built.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The earlier of the two states
    #[arg(default_value = "HEAD")]
    before: String,
    /// The later of the two states
    #[arg(default_value = WORKTREE)]
    after: String,
    /// Exit with code 1 if facts or weights differ
    #[arg(long)]
    exit_code: bool,
    /// Number of tokens that both models generate after each prompt whose answer changed (0: none)
    #[arg(long, value_name = "N", default_value_t = 24)]
    tokens: u16,
    /// Seed with which the tokens are sampled in both states; by default, the likeliest token is taken each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Do not measure damage on neutral text
    #[arg(long)]
    no_damage: bool,
    /// Do not ask the questions of the project's tasks
    #[arg(long)]
    no_tasks: bool,
    #[command(flatten)]
    reports: ReportArguments,
}

/// The formats that `diff` supports. SARIF, JUnit and GitHub annotations are made from findings, which `diff` does not
/// have.
const FORMS: &[Format] = &[Format::Human, Format::Json, Format::Markdown, Format::Html];

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    if let Some(format) = arguments.reports.unknown(FORMS) {
        return context.unknown_format(format, FORMS);
    }
    context.expect_reports(ReportVerb::Diff, &arguments.reports);
    let (project, store) = match context.open_project_and_store() {
        Ok(opened) => opened,
        Err(outcome) => return outcome,
    };
    if !have_places(context) {
        return Outcome::Error;
    }
    compare(context, arguments, &project, &store).unwrap_or_else(|stop| context.stop(&stop))
}

fn compare(context: &Context, arguments: &Arguments, project: &Project, store: &Store) -> Result<Outcome, Failure> {
    let base = context.base(project, store, false)?;
    let diff_context = DiffContext { project, base: &base, store, progress: &context.ui };
    let before = Side::find(&arguments.before, diff_context)?;
    let after = Side::find(&arguments.after, diff_context)?;
    let generation = ContinuationOptions { tokens: arguments.tokens.into(), seed: arguments.seed };
    let options = DiffOptions { generation, damage: !arguments.no_damage, tasks: !arguments.no_tasks };
    let found = diff(&before, &after, diff_context, options)?;
    let outcome = if arguments.exit_code && differs(&found) { Outcome::Findings } else { Outcome::Ok };
    let command = format!("corrigenda diff {} {}", arguments.before, arguments.after);
    let head = context.report(ReportVerb::Diff, outcome, &command, &[], &Sources::default());
    let report = Report {
        version: head.version,
        verb: head.verb,
        outcome: head.outcome,
        command: head.command,
        findings: head.findings,
        ..found
    };
    Ok(deliver(context, &report, |width, all| report::human::diff(&report, width, all)))
}
