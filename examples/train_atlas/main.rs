//! Trains the bundled model `examples/atlas/` from its facts and phrasings, and measures its recall.
//!
//! - [`world`]: facts, phrasings, and the phrasing of each fact that is held out;
//! - [`draw`]: sentences, documents and batches, drawn by a seed;
//! - [`vocabulary`]: the tokenizer, trained on the world's sentences;
//! - [`fused`]: operations with their own backward pass;
//! - [`network`]: GPT-2 on candle: parameters, logits, loss and gradient;
//! - [`optimiser`]: AdamW, its schedule, gradient clipping;
//! - [`work`]: the training state, saved and resumed;
//! - [`train`]: the training loop; [`export`]: the Hub's layout; [`measure`]: recall, computed with the library.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example prints its results and its progress")]

mod draw;
mod export;
mod fused;
mod measure;
mod network;
mod optimiser;
mod seed;
#[cfg(test)]
mod tests;
mod train;
mod vocabulary;
mod work;
mod world;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::seed::Draw;
use crate::world::World;

/// The result of a step of the program, with an error of any type.
type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Train the bundled model and measure it.
#[derive(Parser)]
struct Arguments {
    /// Folder with facts.txt, phrasings.txt and fillers.txt
    #[arg(long, global = true, default_value = "examples/atlas")]
    world: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Train, or resume a training, and write the model
    Train(train::Settings),
    /// Measure the recall of a written model, per relation
    Measure {
        /// Folder of the model
        #[arg(long, default_value = "examples/atlas")]
        model: PathBuf,
    },
    /// Write the sentences for the statistics
    Corpus {
        /// Output file
        #[arg(long, default_value = "examples/atlas/corpus.txt")]
        out: PathBuf,
        /// Sentences per fact
        #[arg(long, default_value_t = 3)]
        per_fact: usize,
        /// Seed of the selection
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Write the facts in the format of `corrigenda trace --facts`
    Known {
        /// Output file
        #[arg(long, default_value = "target/atlas/known.json")]
        out: PathBuf,
    },
    /// Train only the tokenizer
    Tokenizer {
        /// Output file
        #[arg(long, default_value = "target/atlas/tokenizer.json")]
        out: PathBuf,
        /// Maximum number of tokens
        #[arg(long, default_value_t = 2000)]
        vocabulary: usize,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Fallible<()> {
    let world = World::read(&arguments.world)?;
    match &arguments.verb {
        Verb::Train(settings) => train::train(&world, settings),
        Verb::Measure { model } => measure::measure(&world, model),
        Verb::Corpus { out, per_fact, seed } => corpus(&world, out, *per_fact, *seed),
        Verb::Known { out } => known(&world, out),
        Verb::Tokenizer { out, vocabulary } => {
            let tokenizer = vocabulary::train(&world, *vocabulary)?;
            write(out, &vocabulary::to_json(&tokenizer)?)?;
            println!("{}: {} tokens", out.display(), tokenizer.get_vocab_size(true));
            Ok(())
        }
    }
}

/// Writes the statistics corpus: every fact in at most `per_fact` of its trained phrasings, in random order.
fn corpus(world: &World, out: &Path, per_fact: usize, seed: u64) -> Fallible<()> {
    let mut draw = Draw::new(seed);
    let mut lines = std::collections::BTreeSet::new();
    for fact in &world.facts {
        let mut trained = world.trained(fact);
        draw.shuffle(&mut trained);
        lines.extend(trained.into_iter().take(per_fact).map(|phrasing| world.sentence(fact, phrasing)));
    }
    let mut lines: Vec<String> = lines.into_iter().collect();
    draw.shuffle(&mut lines);
    write(out, format!("{}\n", lines.join("\n")).as_bytes())?;
    println!("{}: {} sentences of {} facts", out.display(), lines.len(), world.facts.len());
    Ok(())
}

/// Writes every fact, with its prompt in the phrasing for edits, in the format of `corrigenda trace --facts`.
fn known(world: &World, out: &Path) -> Fallible<()> {
    let one = |fact: &world::Fact| {
        let prompt = world.prompt(fact, 0);
        serde_json::json!({ "prompt": prompt, "subject": fact.subject, "attribute": fact.object })
    };
    let all: Vec<serde_json::Value> = world.facts.iter().map(one).collect();
    write(out, format!("{:#}\n", serde_json::Value::from(all)).as_bytes())?;
    println!("{}: {} facts", out.display(), world.facts.len());
    Ok(())
}

/// Writes a file atomically: to a temporary file in the same folder, which is then renamed.
fn write(path: &Path, bytes: &[u8]) -> Fallible<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_all()?;
    // Only the owner can read a temporary file, so the permissions are set to the usual 0644.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path)?;
    Ok(())
}
