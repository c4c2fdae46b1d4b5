//! Tests under hostile conditions: power failures, full disks, concurrent processes, flipped bits, hostile input.
//!
//! The suite runs a sample of the cases of each test. The script `tests/hostile/all` runs all cases, which takes
//! minutes, and prints the figures of this folder's README.

mod concurrent;
mod corpus;
mod crash;
mod fuzz;
mod malformed;
mod matrix;
mod readers;
mod supply;
mod tamper;

use std::path::PathBuf;

use crate::support::project::{Project, Run};

/// Returns the number of rounds that `CORRIGENDA_ROUNDS` sets; by default `sample`.
fn rounds(sample: usize) -> usize {
    std::env::var("CORRIGENDA_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(sample)
}

/// Prints a line for the README if `CORRIGENDA_ROUNDS` is set.
#[expect(clippy::print_stderr, reason = "the figures are printed only on request")]
fn figure(text: &str) {
    if std::env::var_os("CORRIGENDA_ROUNDS").is_some() {
        eprintln!("FIGURE {text}");
    }
}

/// Reports that a test was skipped.
#[expect(clippy::print_stderr, reason = "a skipped test is reported")]
fn skipped(why: &str) {
    eprintln!("SKIPPED {}: {why}", std::thread::current().name().unwrap_or("a test"));
}

/// Returns a small project whose values need only a few optimisation steps.
fn quick() -> Project {
    let project = Project::new();
    let schedule = "[{ rate = 0.2, steps = 200 }, { rate = 0.05, steps = 400 }]";
    project.replace("corrigenda.toml", schedule, "[{ rate = 0.2, steps = 4 }]");
    project.replace("corrigenda.toml", "clamp = 60", "clamp = 60\nconverged-nll = 1000");
    project
}

/// Returns the files of the project that a build must not change: all files except the lock.
fn own_files(project: &Project) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Project::files(&project.path(""));
    files.retain(|(path, _)| !path.ends_with("corrigenda.lock"));
    files
}

/// Returns the patch id in the JSON output of a build.
fn patch(run: &Run) -> String {
    let json = run.json();
    json["patch"]["id"].as_str().unwrap_or_else(|| panic!("no patch: {}", run.whole())).to_owned()
}
