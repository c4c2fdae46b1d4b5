//! Times greedy decoding, and compares the tokens with those of Hugging Face transformers:
//!
//!     cargo bench --bench generation -- FOLDER [--prompts N] [--tokens N] [--python PYTHON]
//!
//! FOLDER has a checkpoint. The prompts are the questions of `known_smollm2_dev.json`. They are continued by 50 tokens,
//! each prompt alone and 32 together. With `--python`, transformers does the same in the same run with two threads
//! (`generation_torch.py`), and every disagreement of the tokens is listed with the gap between the two logits.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]
#![expect(unreachable_pub, reason = "a bench has no outside")]

#[path = "support/arguments.rs"]
mod arguments;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use arguments::{argument, option};
use corrigenda::behaviour::continuation::{ContinuationOptions, generate};
use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;

type Failure = Box<dyn std::error::Error>;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/generation_torch.py");
/// The number of prompts that are continued alone for the time of one prompt.
const ALONE: usize = 5;
const TOGETHER: usize = 32;

fn prompts(count: usize) -> Result<Vec<String>, Failure> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/known_smollm2_dev.json");
    let records: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(path)?)?;
    let prompt = |record: &serde_json::Value| -> Option<String> {
        Some(record["template"].as_str()?.replace("{}", record["subject"].as_str()?))
    };
    Ok(records.iter().filter_map(prompt).take(count).collect())
}

fn main() -> Result<(), Failure> {
    let folder = std::env::args().skip(1).find(|one| !one.starts_with("--")).ok_or("the first argument is a folder")?;
    let folder = PathBuf::from(folder);
    let model = Model::open(&folder, Isa::detect())?;
    let tokens = Tokens::open(&folder, model.spec().vocabulary)?;
    let (count, most) = (option("--prompts", 100)?, option("--tokens", 50)?);
    let options = ContinuationOptions { tokens: most, seed: None };
    let texts = prompts(count)?;
    let rows: Vec<Vec<u32>> = texts
        .iter()
        .map(|text| tokens.encode_prompt(text.as_str().into()).map(|one| one.encoded.ids))
        .collect::<Result<_, _>>()?;
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let time = |batch: &[&[u32]]| -> Result<(f64, Vec<Vec<u32>>), Failure> {
        let begun = Instant::now();
        let made = generate(&model, &tokens, batch, options, &mut |_, _| {})?;
        Ok((begun.elapsed().as_secs_f64(), made.into_iter().map(|text| text.ids).collect()))
    };
    time(&rows[..1])?;
    let mut alone: Vec<f64> = Vec::new();
    for row in rows.iter().take(ALONE) {
        alone.push(time(&[*row])?.0);
    }
    alone.sort_by(f64::total_cmp);
    let (together, _) = time(&rows[..TOGETHER.min(rows.len())])?;
    println!("one prompt, {most} tokens: {:.3} s; {TOGETHER} prompts: {together:.3} s", alone[alone.len() / 2]);
    let mut ids = Vec::new();
    for batch in rows.chunks(TOGETHER) {
        ids.extend(time(batch)?.1);
    }
    if let Some(python) = argument("--python") {
        let wanted = serde_json::json!({
            "folder": folder, "rows": rows, "ids": ids, "tokens": most, "alone": ALONE, "together": TOGETHER,
        });
        let file = std::env::temp_dir().join(format!("generation-{}.json", std::process::id()));
        std::fs::write(&file, serde_json::to_vec(&wanted)?)?;
        let ran = Command::new(python).arg(SCRIPT).arg(&file).status()?;
        std::fs::remove_file(&file)?;
        if !ran.success() {
            return Err(format!("{SCRIPT} failed").into());
        }
    }
    Ok(())
}
