//! A hostile world: power that fails, disks that fill, several programs at once, bytes that flip, input made to harm.
//!
//! Each is a sample here; `tests/hostile/all` runs everything, for minutes, and prints the figures of the README beside it.

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

/// How many rounds a test goes, where `CORRIGENDA_ROUNDS` asks for more than a sample.
fn rounds(sample: usize) -> usize {
    std::env::var("CORRIGENDA_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(sample)
}

/// Says a figure where all of them are wanted.
#[expect(clippy::print_stderr, reason = "figures are for whoever asked for them")]
fn figure(text: &str) {
    if std::env::var_os("CORRIGENDA_ROUNDS").is_some() {
        eprintln!("FIGURE {text}");
    }
}

/// Says loudly that a test did not run.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn skipped(why: &str) {
    eprintln!("SKIPPED {}: {why}", std::thread::current().name().unwrap_or("a test"));
}

/// A small project whose values are found in a moment.
fn quick() -> Project {
    let project = Project::new();
    let schedule = "[{ rate = 0.2, steps = 200 }, { rate = 0.05, steps = 400 }]";
    project.replace("corrigenda.toml", schedule, "[{ rate = 0.2, steps = 4 }]");
    project.replace("corrigenda.toml", "clamp = 60", "clamp = 60\nconverged-nll = 1000");
    project
}

/// What a build must leave as it was, whatever becomes of it: every file of the project but the lock.
fn own_files(project: &Project) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Project::files(&project.path(""));
    files.retain(|(path, _)| !path.ends_with("corrigenda.lock"));
    files
}

/// The patch that a build names.
fn patch(run: &Run) -> String {
    let json = run.json();
    json["patch"]["id"].as_str().unwrap_or_else(|| panic!("no patch: {}", run.whole())).to_owned()
}
