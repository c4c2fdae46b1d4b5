//! The command line: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use corrigenda::cli::Arguments;

fn main() -> ExitCode {
    corrigenda::cli::run(&Arguments::parse())
}
