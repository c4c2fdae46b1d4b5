//! The command line.

use clap::Parser;

/// Compiles declared fact edits into one small, content-addressed weight patch.
///
/// No verb is finished yet: this build carries the numerics and the model, as a library.
#[derive(Parser)]
#[command(version)]
struct Arguments {}

fn main() {
    Arguments::parse();
}
