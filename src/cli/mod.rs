//! Implements the command line. There is one module per subcommand, such as `build`. Each module
//! defines the arguments of its subcommand, calls the library, prints the output and returns the outcome of the run.

mod answers;
mod ask;
mod bench;
mod build;
mod check;
mod common_options;
mod context;
mod diff;
mod export;
mod format;
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
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::report::Outcome;
use common_options::CommonOptions;
use context::Context;
use format::Format;

/// Change facts in a language model; the facts are declared in versioned files.
#[derive(Debug, Parser)]
#[command(name = "corrigenda", version, long_version = version::long(), propagate_version = true)]
pub struct Arguments {
    #[command(flatten)]
    common: CommonOptions,
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

#[derive(Debug, Subcommand)]
enum Verb {
    Init(init::Arguments),
    Import(import::Arguments),
    Check(check::Arguments),
    Plan(plan::Arguments),
    Build(build::Arguments),
    Test(test::Arguments),
    Diff(diff::Arguments),
    Ask(ask::Arguments),
    Log(log::Arguments),
    #[command(subcommand)]
    Export(export::ExportVerb),
    Verify(verify::Arguments),
    #[command(subcommand)]
    Patch(patch::PatchVerb),
    #[command(subcommand)]
    Stats(stats::StatsVerb),
    Trace(trace::Arguments),
    Bench(bench::BenchCommand),
    /// Manage the cache: list, check and remove entries, or copy them to another machine
    Store {
        #[command(subcommand)]
        action: store::Action,
    },
    Completions(shell::Completions),
    Man(shell::Man),
    /// Print the JSON Schema of a project file or of a command's JSON output
    #[command(hide = true)]
    Schema {
        /// The schema to print
        which: schema::SchemaName,
    },
}

impl Verb {
    /// Returns whether the command uses a project. If it does, and the project is in a folder above the current one,
    /// the program prints a note with that folder.
    fn has_project(&self) -> bool {
        let apart = matches!(self, Self::Init(_) | Self::Patch(_) | Self::Completions(_) | Self::Man(_));
        !apart && !matches!(self, Self::Schema { .. }) && !matches!(self, Self::Verify(verify) if verify.is_apart())
    }

    /// Returns whether the command stores results as it computes them, so that the next run continues after an
    /// interruption.
    fn stores_results(&self) -> bool {
        matches!(self, Self::Build(_) | Self::Test(_) | Self::Init(_) | Self::Stats(stats::StatsVerb::Build(_)))
            || matches!(self, Self::Trace(trace) if trace.suggest_layer)
            || matches!(self, Self::Bench(bench) if bench.stores_results())
    }

    /// Returns the values of `--format` that the command accepts.
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

/// Prints help, the version or a usage error. The exit code is 2 for a usage error or if the text cannot be written,
/// and otherwise 0. A closed pipe is not an error.
pub fn print_usage(answer: &clap::Error) -> ExitCode {
    let written = answer.print().and_then(|()| std::io::stdout().flush());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Outcome::Error.into(),
        _ if answer.use_stderr() => Outcome::Error.into(),
        _ => ExitCode::SUCCESS,
    }
}

/// Runs the command of a parsed command line and returns the exit code of the process.
pub fn run(arguments: &Arguments) -> ExitCode {
    interrupt::listen(arguments.verb.stores_results());
    let context = Context::new(&arguments.common);
    let known = arguments.verb.formats();
    if arguments.verb.has_project() {
        context.note_root();
    }
    let outcome = match context.format {
        format if known.contains(&format) => verb(&context, &arguments.verb),
        format => context.unknown_format(format, known),
    };
    context.tell_skipped();
    if context.ui.write_failed() { Outcome::Error.into() } else { outcome.into() }
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
        Verb::Ask(arguments) => ask::run(context, arguments),
        Verb::Log(arguments) => log::run(context, arguments),
        Verb::Export(verb) => export::run(context, verb),
        Verb::Verify(arguments) => verify::run(context, arguments),
        Verb::Patch(verb) => patch::run(context, verb),
        Verb::Stats(verb) => stats::run(context, verb),
        Verb::Trace(arguments) => trace::run(context, arguments),
        Verb::Bench(arguments) => bench::run(context, arguments),
        Verb::Store { action } => store::run(context, action),
        Verb::Completions(arguments) => shell::completions(context, arguments, Arguments::command()),
        Verb::Man(arguments) => shell::man(context, arguments, Arguments::command()),
        Verb::Schema { which } => schema::run(context, *which),
    }
}
