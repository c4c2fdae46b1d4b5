//! Writes a project of CounterFact facts on the shared `counterfact-gpt2` into a new folder: `cargo run --release
//! --example counterfact_project -- DIR [--edits N] [--skip K] [--from dev|easyedit]`.
//!
//! `dev`: records whose true answer the base gives, with their paraphrases, and with those neighbours whose true answer
//! the base gives too. `easyedit`: many records for measurements of time; the model is not run to select them. The
//! sentences of the corpus do not name an edited subject.
#![expect(clippy::print_stdout, reason = "an example prints what it wrote")]
#![expect(unreachable_pub, reason = "the shared modules have public items, and an example has no API")]

#[path = "../benches/support/arguments.rs"]
mod arguments;
#[path = "../benches/support/counterfact.rs"]
mod counterfact;
#[path = "../benches/support/project.rs"]
mod project;

use std::path::Path;

use arguments::{argument, option};
use counterfact::{Failure, MODEL, RECORDS, absent};

fn main() -> Result<(), Failure> {
    let usage = "usage: counterfact_project DIR [--edits N] [--skip K] [--from dev|easyedit]";
    let folder = std::env::args().nth(1).filter(|folder| !folder.starts_with('-')).ok_or(usage)?;
    if let Some(path) = absent(&[MODEL, RECORDS, project::EASYEDIT]) {
        return Err(format!("the shared test data is not here: {}", path.display()).into());
    }
    let (skip, edits) = (option("--skip", 0)?, option("--edits", 10)?);
    let written = match argument("--from").as_deref() {
        None | Some("dev") => project::from_records(Path::new(&folder), skip, edits)?,
        Some("easyedit") => project::from_easyedit(Path::new(&folder), skip, edits)?,
        Some(other) => return Err(format!("--from wants dev or easyedit, not {other:?}").into()),
    };
    println!("{folder}: {written}");
    if written.edits < edits {
        return Err(format!("{edits} edits were asked for; the data has no more").into());
    }
    Ok(())
}
