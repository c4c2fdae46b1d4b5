//! Implements the command line, with one module per verb; a verb is a subcommand such as `build`. Each module defines
//! its arguments, calls the library, prints the answer and returns the outcome of the run.

mod bench;
mod build;
mod check;
mod context;
mod diff;
mod export;
mod import;
mod init;
mod interrupt;
mod log;
mod models;
mod patch;
mod plan;
mod report;
mod root;
mod schema;
mod shell;
mod stats;
mod store;
mod test;
mod trace;
mod verify;
mod version;
mod write_guard;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::numeric::Isa;
use crate::report::table;
use crate::ui::Color;
use context::Context;

/// Facts to change in a language model, declared in versioned files.
#[derive(Debug, Parser)]
#[command(name = "corrigenda", version, long_version = version::long(), propagate_version = true)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

impl Arguments {
    /// Parses a command line. Paths that begin with `~/` are expanded to the home folder.
    ///
    /// # Errors
    /// If help or the version was requested, or if the command line is invalid. The error holds the text to print.
    pub fn read(given: impl Iterator<Item = std::ffi::OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(crate::home::expand_arguments(given))
    }
}

/// Options that all verbs share.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Common options")]
struct Common {
    /// Folder of the project [default: the nearest folder with a corrigenda.toml, from the current one upward]
    #[arg(short = 'C', value_name = "DIR", global = true)]
    project: Option<PathBuf>,
    /// Use this model, if the project has several; by default, plan, build and test run for every model
    // The type is a path only because `init --model DIR` takes a path: clap treats the two as one option.
    #[arg(long, value_name = "NAME", global = true)]
    model: Option<PathBuf>,
    /// Format of the answer on stdout
    ///
    /// All verbs support human and json. check and test also support markdown, html, sarif, junit and github (workflow
    /// annotations); diff supports markdown and html; log supports csv
    #[arg(long, value_enum, default_value_t, global = true, hide_possible_values = true, value_name = "FORMAT")]
    format: Format,
    /// When to use colours
    #[arg(long, value_enum, default_value_t, global = true, hide_possible_values = true, value_name = "WHEN")]
    color: Color,
    /// Print plain lines instead of a progress bar
    #[arg(long, global = true, env = "CORRIGENDA_NO_PROGRESS", hide_env = true)]
    no_progress: bool,
    /// Print only the answer and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print one line per edit and per expectation
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Number of threads; by default, one per logical CPU (no result depends on it)
    #[arg(long, value_name = "N", global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Folder of the cache of compiled edits, patches and statistics; by default, in the user's cache folder
    #[arg(long, value_name = "DIR", global = true)]
    cache_dir: Option<PathBuf>,
    /// Instruction set to compute with: auto, plain, avx2 or avx512 (no result depends on it)
    #[arg(long, global = true, hide = true, default_value = "auto")]
    isa: Isa,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Init(init::Arguments),
    Import(import::Arguments),
    Check(check::Arguments),
    Plan(plan::Arguments),
    Build(build::Arguments),
    Test(test::Arguments),
    Diff(diff::Arguments),
    Log(log::Arguments),
    #[command(subcommand)]
    Export(export::Verb),
    Verify(verify::Arguments),
    #[command(subcommand)]
    Patch(patch::Verb),
    #[command(subcommand)]
    Stats(stats::Verb),
    Trace(trace::Arguments),
    Bench(bench::Arguments),
    /// Manage the cache: list, check and remove entries, or copy them to another machine
    Store {
        #[command(subcommand)]
        action: store::Action,
    },
    Completions(shell::Completions),
    Man(shell::Man),
    /// Print the JSON Schema of a project's files or of the JSON answer
    #[command(hide = true)]
    Schema {
        /// The schema to print
        which: schema::Which,
    },
}

impl Verb {
    /// Returns whether the verb needs a project. If it does, a note names a project found above the current folder.
    fn has_project(&self) -> bool {
        let apart = matches!(self, Self::Init(_) | Self::Patch(_) | Self::Completions(_) | Self::Man(_));
        !apart && !matches!(self, Self::Schema { .. }) && !matches!(self, Self::Verify(verify) if verify.is_apart())
    }

    /// Returns whether the verb stores its results as it computes them, so that an interrupted run can be resumed.
    fn keeps(&self) -> bool {
        matches!(self, Self::Build(_) | Self::Test(_) | Self::Init(_) | Self::Stats(stats::Verb::Build(_)))
            || matches!(self, Self::Trace(trace) if trace.suggest_layer)
    }

    /// Returns the formats that the verb supports for its answer on stdout.
    fn formats(&self) -> &'static [Format] {
        use Format::{Csv, Github, Html, Human, Json, Junit, Markdown, Sarif};
        match self {
            Self::Check(_) => &[Human, Json, Markdown, Html, Sarif, Junit, Github],
            Self::Test(_) => &[Human, Json, Markdown, Html, Sarif, Junit, Github],
            Self::Diff(_) => &[Human, Json, Markdown, Html],
            Self::Log(_) => &[Human, Json, Csv],
            _ => &[Human, Json],
        }
    }
}

/// The format of the answer on stdout (`--format`) or of a report file (`--report`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for a terminal.
    #[default]
    Human,
    /// JSON, for programs.
    Json,
    /// A comment on a pull request, in Markdown.
    Markdown,
    /// A self-contained HTML page.
    Html,
    /// SARIF, for code scanning.
    Sarif,
    /// JUnit XML, for viewers of test results.
    Junit,
    /// Workflow commands, which GitHub shows as annotations.
    Github,
    /// A CSV table for a spreadsheet. Only `log` supports it.
    Csv,
}

impl Format {
    /// Returns the name of the format on the command line.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// The result of a run, which determines the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Finished without findings. Exit code 0.
    Ok,
    /// Finished with findings, such as a failed expectation. Exit code 1.
    No,
    /// Not finished, for example because the input is invalid. Exit code 2.
    Error,
    /// The lock is out of date, or the base is not the locked one. Exit code 3.
    Stale,
}

impl Outcome {
    /// Returns the name of the outcome in JSON answers and reports.
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::No => "findings",
            Self::Error => "error",
            Self::Stale => "stale",
        }
    }
}

impl Outcome {
    /// Returns the outcome with this name, as in [`Outcome::word`]; `Error` for any other text.
    fn of(word: &str) -> Self {
        [Self::Ok, Self::No, Self::Stale].into_iter().find(|one| one.word() == word).unwrap_or(Self::Error)
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::SUCCESS,
            Outcome::No => Self::from(1),
            Outcome::Error => Self::from(2),
            Outcome::Stale => Self::from(3),
        }
    }
}

/// Prints help, the version or a usage error. Returns exit code 2 for a usage error or if the text cannot be written,
/// and 0 otherwise. A closed pipe is not an error.
pub fn said(answer: &clap::Error) -> ExitCode {
    let written = answer.print().and_then(|()| std::io::stdout().flush());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Outcome::Error.into(),
        _ if answer.use_stderr() => Outcome::Error.into(),
        _ => ExitCode::SUCCESS,
    }
}

/// Runs the parsed command and returns the exit code of the process.
pub fn run(arguments: &Arguments) -> ExitCode {
    interrupt::listen(arguments.verb.keeps());
    let context = Context::new(&arguments.common);
    let known = arguments.verb.formats();
    if arguments.verb.has_project() {
        context.tell_root();
    }
    let outcome = match context.format {
        format if known.contains(&format) => verb(&context, &arguments.verb),
        format => context.unknown_format(format, known),
    };
    context.tell_skipped();
    if context.ui.lost() { Outcome::Error.into() } else { outcome.into() }
}

fn verb(context: &Context, verb: &Verb) -> Outcome {
    match verb {
        Verb::Init(arguments) => init::run(context, arguments),
        Verb::Import(arguments) => import::run(context, arguments),
        Verb::Check(arguments) => check::run(context, arguments),
        Verb::Plan(arguments) => models::each(context, None, || plan::run(context, arguments)),
        Verb::Build(arguments) => models::each(context, arguments.alone(), || build::run(context, arguments)),
        Verb::Test(arguments) => models::each(context, arguments.alone(), || test::run(context, arguments)),
        Verb::Diff(arguments) => diff::run(context, arguments),
        Verb::Log(arguments) => log::run(context, arguments),
        Verb::Export(verb) => export::run(context, verb),
        Verb::Verify(arguments) => verify::run(context, arguments),
        Verb::Patch(verb) => patch::run(context, verb),
        Verb::Stats(verb) => stats::run(context, verb),
        Verb::Trace(arguments) => trace::run(context, arguments),
        Verb::Bench(arguments) => bench::run(context, arguments),
        Verb::Store { action } => store::run(context, action),
        Verb::Completions(arguments) => shell::completions(context, arguments),
        Verb::Man(arguments) => shell::man(context, arguments),
        Verb::Schema { which } => schema::run(context, *which),
    }
}
