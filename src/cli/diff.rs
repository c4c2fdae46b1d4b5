//! `diff`
use super::report::ReportArguments;
use super::{Context, Outcome};
/// Show what changes
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    reports: ReportArguments,
}
pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    context.expect_reports("diff", &arguments.reports);
    Outcome::Ok
}
