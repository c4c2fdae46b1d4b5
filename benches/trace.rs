//! Compares causal tracing with a PyTorch implementation, which runs a full forward pass per cell: both compute the
//! same tables of the same facts.
//!
//!     cargo run --release --example random_checkpoint -- gpt2 /tmp/gpt2 TOKENIZER.json
//!     cargo bench --bench trace -- /tmp/gpt2 FACTS.json PYTHON [--limit N] [--window W]
//!
//! The traced answer is the one that the model predicts, whatever answer the file has. Both sides run as separate
//! processes with two threads, one after the other. For PyTorch, only the tracing is timed, without its start; for
//! `corrigenda trace`, the whole process.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/trace_torch.py");
const KINDS: [&str; 3] = ["state", "mlp", "attention"];
/// The standard deviation of the Gaussian noise that is added to the subject's embeddings.
const NOISE: &str = "0.1";

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [model, facts_file, python, more @ ..] = words.as_slice() else {
        println!("usage: cargo bench --bench trace -- MODEL FACTS.json PYTHON [--limit N] [--window W]");
        return Ok(());
    };
    let option = |name: &str, usual: &str| {
        let at = more.iter().position(|word| word == name);
        at.and_then(|at| more.get(at + 1)).cloned().unwrap_or_else(|| usual.to_owned())
    };
    // A model with random weights predicts none of the answers in the file, so the answers are removed from it.
    let known: Vec<Value> = serde_json::from_slice(&std::fs::read(facts_file)?)?;
    let bare = |fact: &Value| json!({ "prompt": fact["prompt"], "subject": fact["subject"] });
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), json!(known.iter().map(bare).collect::<Vec<_>>()).to_string())?;
    let facts = file.path().to_str().ok_or("a temporary folder with a name that is no text")?;
    let (limit, window) = (option("--limit", "1"), option("--window", "10"));
    let shared = ["--limit", &limit, "--window", &window, "--noise", NOISE];
    let start = Instant::now();
    let mut ours = Command::new(env!("CARGO_BIN_EXE_corrigenda"));
    ours.args(["trace", "--base", model, "--facts", facts, "--no-severed", "--format", "json", "--threads", "2", "-q"]);
    let ours = answered(ours.args(shared))?;
    let seconds = start.elapsed().as_secs_f64();
    let theirs = answered(Command::new(python).args([SCRIPT, model, facts]).args(shared))?;
    let traced: Value = serde_json::from_str(&ours.0)?;
    let rows: Vec<Value> = theirs.0.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let slow: f64 = theirs.1.lines().find_map(|line| line.strip_prefix("seconds ")).unwrap_or("nan").trim().parse()?;
    println!("| facts | corrigenda | PyTorch | ratio | largest difference |\n|---|---|---|---|---|");
    let difference = difference(&traced, &rows)?;
    println!("| {} | {seconds:.1} s | {slow:.1} s | {:.1} | {difference:.1e} |", rows.len(), slow / seconds);
    Ok(())
}

/// Runs a command and returns its standard output and standard error; a failing command is an error.
fn answered(command: &mut Command) -> Result<(String, String), Failure> {
    let output = command.output()?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok((String::from_utf8(output.stdout)?, errors)) } else { Err(errors.into()) }
}

/// Returns the largest difference, over all facts and cells, between the probabilities that the two programs computed.
fn difference(ours: &Value, theirs: &[Value]) -> Result<f64, Failure> {
    let facts =
        ours["facts"].as_array().filter(|facts| facts.len() == theirs.len()).ok_or("other facts were traced")?;
    let mut most = 0.0_f64;
    for (fact, reference) in facts.iter().zip(theirs) {
        for kind in KINDS {
            let (a, b) = (numbers(&fact["restored"][kind]), numbers(&reference["tables"][kind]));
            if a.len() != b.len() || a.is_empty() {
                return Err(format!("{kind}: {} cells and {}", a.len(), b.len()).into());
            }
            most = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(most, f64::max);
        }
    }
    Ok(most)
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        other => other.as_f64().into_iter().collect(),
    }
}
