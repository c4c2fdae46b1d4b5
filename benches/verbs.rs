//! Measures commands as a user runs them: `cargo bench --bench verbs`.
//!
//! Measured are: `build` of the project at the repository root (18 edits), from an empty cache and again without
//! changes; `test` of this project and its `diff` with the base; `diff` of 11 edits; `check` of a thousand edits;
//! `build` of ten edits on the shared model `counterfact-gpt2`, from an empty cache and again without changes; and
//! `--version`, which shows the cost of a process. The figures are the wall time of the whole process: the best and the
//! median of several runs.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]
#![expect(unreachable_pub, reason = "a bench has no outside")]

#[path = "support/counterfact.rs"]
mod counterfact;
#[path = "support/project.rs"]
mod project;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use corrigenda::project::{LOCK_FILE, PROJECT_FILE};
use counterfact::{Failure, MODEL, RECORDS, absent};

const RUNS: usize = 7;

/// Runs the binary once and returns the wall time in seconds. If the command fails, the error contains its output.
fn run(arguments: &[&Path]) -> Result<f64, Failure> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corrigenda"));
    command.args(arguments);
    let start = Instant::now();
    let output = command.output()?;
    let seconds = start.elapsed().as_secs_f64();
    if output.status.success() {
        Ok(seconds)
    } else {
        Err(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into())
    }
}

/// Runs the binary `RUNS` times, with `prepare` before each run, and prints one row of the table.
fn measure(name: &str, arguments: &[&Path], mut prepare: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    let mut seconds = Vec::new();
    for _ in 0..RUNS {
        prepare()?;
        match run(arguments) {
            Ok(one) => seconds.push(one),
            Err(failure) => {
                println!("{name:<38} FAILED: {failure}");
                return Ok(());
            }
        }
    }
    seconds.sort_by(f64::total_cmp);
    println!("{name:<38} {:>10.1} {:>10.1}", 1e3 * seconds[0], 1e3 * seconds[RUNS / 2]);
    Ok(())
}

/// Removes a file or a folder; does nothing if the path does not exist.
fn remove(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => Ok(std::fs::remove_dir_all(path)?),
        Ok(_) => Ok(std::fs::remove_file(path)?),
        Err(_) => Ok(()),
    }
}

/// Measures `build`, `test` and `diff` of the project at the repository root. The build uses `--locked`, so the project
/// does not change.
fn bundled(folder: &Path) -> Result<(), Failure> {
    let (root, cache) = (Path::new(env!("CARGO_MANIFEST_DIR")), folder.join("bundled"));
    let arguments = ["build", "--locked", "-C"].map(Path::new);
    let build = [&arguments[..], &[root, "--cache-dir".as_ref(), &cache]].concat();
    measure("build of edits/, empty cache", &build, || remove(&cache))?;
    measure("build of edits/, nothing to do", &build, || Ok(()))?;
    let with = |verb: &'static [&'static str]| -> Vec<&Path> {
        let tail: [&Path; 4] = ["-C".as_ref(), root, "--cache-dir".as_ref(), cache.as_ref()];
        verb.iter().map(Path::new).chain(tail).collect()
    };
    measure("test of edits/", &with(&["test"]), || Ok(()))?;
    measure("diff of edits/ with the base", &with(&["diff", "base"]), || Ok(()))?;
    measure("the same, empty cache", &with(&["diff", "base"]), || remove(&cache))?;
    some_of_bundled(root, folder)
}

/// Measures `diff` with the base for eleven of the project's edits, from an empty cache.
fn some_of_bundled(root: &Path, folder: &Path) -> Result<(), Failure> {
    let (project, cache) = (folder.join("eleven"), folder.join("eleven-cache"));
    std::fs::create_dir_all(project.join("edits"))?;
    for file in ["people", "places", "works"].map(|name| format!("edits/{name}.toml")) {
        std::fs::copy(root.join(&file), project.join(&file))?;
    }
    // The copied project refers to the model and the corpus of the original by absolute paths.
    let examples = root.join("examples").display().to_string();
    let settings = std::fs::read_to_string(root.join(PROJECT_FILE))?.replace("\"examples", &format!("\"{examples}"));
    std::fs::write(project.join(PROJECT_FILE), settings)?;
    let diff: [&Path; 6] =
        ["diff".as_ref(), "base".as_ref(), "-C".as_ref(), &project, "--cache-dir".as_ref(), cache.as_ref()];
    measure("diff of 11 edits, empty cache", &diff, || remove(&cache))?;
    measure("diff of 11 edits, statistics there", &diff, || {
        remove(&cache.join("v1/objects"))?;
        remove(&cache.join("v1/patches"))
    })
}

fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    println!("{:<38} {:>10} {:>10}", format!("{RUNS} runs, ms"), "minimum", "median");
    bundled(folder.path())?;
    if let Some(path) = absent(&[MODEL, RECORDS, project::EASYEDIT]) {
        println!("SKIPPED verbs: {} is not here", path.display());
        return Ok(());
    }
    let [many, ten, cache] = ["many", "ten", "cache"].map(|name| folder.path().join(name));
    let (thousand, few) = (project::from_easyedit(&many, 0, 1000)?, project::from_records(&ten, 0, 10)?);
    println!("check: {thousand}\nbuild: {few}");
    let nothing = || Ok(());
    measure("--version", &["--version".as_ref()], nothing)?;
    measure(&format!("check, {} edits", thousand.edits), &["check".as_ref(), "-C".as_ref(), &many], nothing)?;
    let build: [&Path; 5] = ["build".as_ref(), "-C".as_ref(), &ten, "--cache-dir".as_ref(), &cache];
    measure(&format!("build, {} edits, empty cache", few.edits), &build, || {
        remove(&cache)?;
        remove(&ten.join(LOCK_FILE))
    })?;
    measure(&format!("build, {} edits, nothing to do", few.edits), &build, nothing)
}
