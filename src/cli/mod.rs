//! The verbs: arguments → library call → answer and exit code. One file per verb.

mod check;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::ui::{Color, Ui};

/// Facts to change in a language model, declared in versioned files.
#[derive(Debug, Parser)]
#[command(name = "corrigenda", version, propagate_version = true)]
pub struct Arguments {
    /// Folder of the project: where corrigenda.toml is
    #[arg(short = 'C', value_name = "DIR", default_value = ".", global = true)]
    project: PathBuf,
    /// What stdout holds
    #[arg(long, value_enum, default_value_t, global = true)]
    format: Format,
    /// When to write colours
    #[arg(long, value_enum, default_value_t, global = true)]
    color: Color,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check the project file and every edit: syntax, keys, contradictions (reads no model)
    Check,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// How a run ended; the exit code says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Done, and the answer is yes.
    Ok,
    /// It could not be done: the input is wrong.
    Error,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::SUCCESS,
            Outcome::Error => Self::from(2),
        }
    }
}

/// Runs one command.
pub fn run(arguments: &Arguments) -> ExitCode {
    let ui = Ui::new(arguments.color);
    match arguments.verb {
        Verb::Check => check::run(&ui, &arguments.project, arguments.format),
    }
    .into()
}
