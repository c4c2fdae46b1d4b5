//! Parses the command line, runs the command and returns its exit code.

use std::process::ExitCode;

use corrigenda::cli::Arguments;

fn main() -> ExitCode {
    match Arguments::read(std::env::args_os()) {
        Ok(arguments) => corrigenda::cli::run(&arguments),
        Err(usage) => corrigenda::cli::print_usage(&usage),
    }
}
