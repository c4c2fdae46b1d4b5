//! Writes the report of a command to stdout in the format of `--format`, and to the files of `--report`.

use std::path::{Path, PathBuf};

use clap::ValueEnum as _;

use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic};
use crate::report::Outcome;
use crate::report::{Report, github, html, json, junit, markdown, sarif};
use crate::store::atomic;

/// The option `--report`: files to which the report is also written.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ReportArguments {
    /// Also write the report to this file, in this format (repeatable)
    #[arg(long = "report", value_name = "FORMAT=FILE", value_parser = parse)]
    pub reports: Vec<(Format, PathBuf)>,
}

fn parse(text: &str) -> Result<(Format, PathBuf), String> {
    let (format, path) = text.split_once('=').ok_or("expected FORMAT=FILE, such as html=report.html")?;
    let known = Format::from_str(format, false).ok().filter(|known| *known != Format::Csv);
    let known = known.ok_or_else(|| {
        format!("unknown report format `{format}`: expected json, markdown, html, sarif, junit, github or human")
    })?;
    if path.is_empty() {
        return Err("the name of the file is missing".to_owned());
    }
    Ok((known, path.into()))
}

impl ReportArguments {
    /// Returns the first format of `--report` that is not in `known`, if any.
    pub(super) fn unknown(&self, known: &[Format]) -> Option<Format> {
        self.reports.iter().map(|(format, _)| *format).find(|format| !known.contains(format))
    }
}

/// Writes the report `text` to the file `path`. An existing file is replaced.
///
/// # Errors
/// If `path` is protected, such as a file of the project, if its folder does not exist, or if writing fails. The error
/// is a message with the reason.
fn write(context: &Context, path: &Path, text: &str) -> Result<(), String> {
    may_write(context, path)?;
    atomic::write(path, text.as_bytes()).map_err(|error| error.to_string())
}

/// Checks that a file may be written to `path`, and that its folder exists.
///
/// # Errors
/// If the path is protected or its folder does not exist; the text is the reason.
pub(super) fn may_write(context: &Context, path: &Path) -> Result<(), String> {
    context.may_write(path)?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        Some(folder) => Err(format!("the folder `{}` does not exist", folder.display())),
        None => Ok(()),
    }
}

/// Returns whether all files of `--report` may be written, and prints a finding for each file that must not be written.
/// Commands that take minutes call this function before they start to compute.
pub(super) fn have_places(context: &Context) -> bool {
    let wrong: Vec<_> = context.reports().iter().filter_map(|(_, path)| may_write(context, path).err()).collect();
    let finding = |why: &String| Diagnostic::new(Code::StoreFailed, format!("the report was not written: {why}"));
    let findings: Vec<_> = wrong.iter().map(finding).collect();
    context.ui.findings(&findings, &crate::diagnostics::Sources::default());
    findings.is_empty()
}

/// Writes the report to stdout and to the files of `--report`. Returns the outcome of the report, or `Error` if a file
/// cannot be written. `human` formats the report for a terminal; its arguments are the width in columns, and whether
/// `--verbose` is set.
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
    let mut outcome = report.outcome;
    for (format, path) in context.reports() {
        let text = form(format, usize::MAX);
        let text = format!("{}\n", text.trim_end_matches('\n'));
        if let Err(error) = write(context, &path, &text) {
            let finding = Diagnostic::new(Code::StoreFailed, format!("the report was not written: {error}"));
            context.ui.findings(&[finding], &crate::diagnostics::Sources::default());
            outcome = Outcome::Error;
        }
    }
    let answer = form(context.format, context.ui.width());
    match context.format {
        // An empty output is not printed, because it would appear as an empty line.
        _ if answer.is_empty() => {}
        // In this format, the output consists of workflow commands for GitHub. `Ui::answer` would escape these, and
        // GitHub would then not execute them.
        Format::Github => context.ui.raw(answer.as_bytes()),
        _ => context.ui.answer(&answer),
    }
    outcome
}
