//! Reports of verbs: to stdout in the form that is asked for, and into files beside it.

use std::path::PathBuf;

use clap::ValueEnum as _;

use super::{Context, Format, Outcome};
use crate::project::{Code, Diagnostic};
use crate::report::{Report, github, html, json, junit, markdown, sarif};
use crate::store::atomic;

/// Where reports are written to beside stdout.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ReportArguments {
    /// Write the answer into a file too, in the form FORMAT (repeatable)
    #[arg(long = "report", value_name = "FORMAT=FILE", value_parser = parse)]
    pub reports: Vec<(Format, PathBuf)>,
}

fn parse(text: &str) -> Result<(Format, PathBuf), String> {
    let (format, path) = text.split_once('=').ok_or("a report is written FORMAT=FILE, such as html=report.html")?;
    let known = Format::from_str(format, false).ok().filter(|format| *format != Format::Csv);
    let format = known
        .ok_or_else(|| format!("no report has the format `{format}`: json, markdown, html, sarif, junit or github"))?;
    if path.is_empty() {
        return Err("the name of the file is missing".to_owned());
    }
    Ok((format, path.into()))
}

/// Gives a report: the answer on stdout, and every file that was asked for.
pub(super) fn deliver(context: &Context, report: &Report, human: impl Fn(usize, bool) -> String) -> Outcome {
    let form = |format: Format, width: usize| match format {
        Format::Human | Format::Csv => human(width, context.ui.verbose()),
        Format::Json => json::render(report),
        Format::Markdown => markdown::render(report),
        Format::Html => html::render(report),
        Format::Sarif => sarif::render(report),
        Format::Junit => junit::render(report),
        Format::Github => github::render(report),
    };
    let mut outcome = Outcome::of(&report.outcome);
    for (format, path) in context.reports() {
        let text = form(format, usize::MAX);
        let text = format!("{}\n", text.trim_end_matches('\n'));
        if let Err(error) = atomic::write(&path, text.as_bytes()) {
            let finding = Diagnostic::new(Code::StoreFailed, format!("the report was not written: {error}"));
            context.ui.findings(&[finding], &crate::project::Sources::default());
            outcome = Outcome::Error;
        }
    }
    let answer = form(context.format, context.ui.width());
    match context.format {
        // These are commands, and meant as such.
        Format::Github => context.ui.raw(answer.as_bytes()),
        _ => context.ui.answer(&answer),
    }
    outcome
}
