//! The command line: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use corrigenda::cli::Arguments;

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => corrigenda::cli::run(&arguments),
        Err(said) => corrigenda::cli::said(&said),
    }
}
