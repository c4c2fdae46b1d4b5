//! The verbs: arguments → library call → answer and exit code. One file per verb.

mod bench;
mod benched;
mod build;
mod check;
mod context;
mod diff;
mod drafts;
mod elsewhere;
mod export;
mod first_layer;
mod import;
mod init;
mod interrupt;
mod log;
mod models;
mod outputs;
mod patch;
mod plan;
mod report;
mod root;
mod schema;
mod shell;
mod stats;
mod store;
mod suggest;
mod suggested;
mod test;
mod trace;
mod traced;
mod verify;

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
#[command(name = "corrigenda", version, propagate_version = true)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

impl Arguments {
    /// Reads a command line, its paths from the home folder where they begin with `~/`.
    ///
    /// # Errors
    /// Help or the version was asked for, or the line is none that is understood: what to say.
    pub fn read(given: impl Iterator<Item = std::ffi::OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(crate::home::arguments(given))
    }
}

/// Flags that every verb has.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Common options")]
struct Common {
    /// Folder of the project [default: the nearest up with a corrigenda.toml]
    #[arg(short = 'C', value_name = "DIR", global = true)]
    project: Option<PathBuf>,
    /// Which of the project's models, where it has several; plan, build and test do each otherwise
    // A path only because `init --model DIR` is one: clap takes the two for one option.
    #[arg(long, value_name = "NAME", global = true)]
    model: Option<PathBuf>,
    /// What stdout holds
    ///
    /// Every verb answers as human or json; check and test also as markdown, html, sarif, junit and github (workflow
    /// annotations), diff as markdown and html, log as csv
    #[arg(long, value_enum, default_value_t, global = true, hide_possible_values = true, value_name = "FORMAT")]
    format: Format,
    /// When to write colours
    #[arg(long, value_enum, default_value_t, global = true, hide_possible_values = true, value_name = "WHEN")]
    color: Color,
    /// Write lines where there would be a progress bar
    #[arg(long, global = true, env = "CORRIGENDA_NO_PROGRESS", hide_env = true)]
    no_progress: bool,
    /// Say nothing but the answer and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say a line for every edit and every expectation
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Threads to compute with (changes no byte of any result)
    #[arg(long, value_name = "N", global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Where compiled edits, patches and statistics are kept
    #[arg(long, value_name = "DIR", global = true)]
    cache_dir: Option<PathBuf>,
    /// Instructions to compute with (changes no byte of any result): auto, plain, avx2, avx512
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
    /// Look after the cache: list, check, empty, carry to another machine
    Store {
        #[command(subcommand)]
        action: store::Action,
    },
    Completions(shell::Completions),
    Man(shell::Man),
    /// Print a JSON Schema of what people write, for editors
    #[command(hide = true)]
    Schema {
        /// Of which files
        which: schema::Which,
    },
}

impl Verb {
    /// Whether it is about a project: then it is worth saying which.
    fn has_project(&self) -> bool {
        let apart = matches!(self, Self::Init(_) | Self::Patch(_) | Self::Completions(_) | Self::Man(_));
        !apart && !matches!(self, Self::Schema { .. }) && !matches!(self, Self::Verify(verify) if verify.is_apart())
    }

    /// Whether what it computed is kept where it is stopped.
    fn keeps(&self) -> bool {
        matches!(self, Self::Build(_) | Self::Test(_) | Self::Init(_) | Self::Stats(stats::Verb::Build(_)))
            || matches!(self, Self::Trace(trace) if trace.suggest_layer)
    }

    /// The forms in which it answers.
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

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
    /// A comment on a pull request.
    Markdown,
    /// A page to open in a browser.
    Html,
    /// For code scanning.
    Sarif,
    /// For a list of tests.
    Junit,
    /// Annotations of a GitHub workflow.
    Github,
    /// A table for a spreadsheet.
    Csv,
}

impl Format {
    /// The name on the command line.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// How a run ended; the exit code says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Done, and the answer is yes.
    Ok,
    /// Done, and the answer is no.
    No,
    /// It could not be done: the input is wrong.
    Error,
    /// The lock, or the base that it names, is not what was found.
    Stale,
}

impl Outcome {
    /// The word for it in JSON.
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
    /// The outcome of a word of [`Outcome::word`].
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

/// Ends a run that the command line itself answers: with help, the version, or a mistake. Help that nobody can read is
/// one, too.
pub fn said(answer: &clap::Error) -> ExitCode {
    let written = answer.print().and_then(|()| std::io::stdout().flush());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Outcome::Error.into(),
        _ if answer.use_stderr() => Outcome::Error.into(),
        _ => ExitCode::SUCCESS,
    }
}

/// Runs one command.
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
    context.tell_passed_over();
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
