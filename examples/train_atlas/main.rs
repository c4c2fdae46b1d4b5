//! Trains the bundled model `examples/atlas/` from its facts and phrasings, and measures what it knows.
//!
//! - [`world`]: facts, phrasings, and which phrasing of a fact is held out;
//! - [`draw`]: the seeded generator, sentences, documents and batches;
//! - [`vocabulary`]: the tokenizer, trained on the world's sentences;
//! - [`fused`]: operations with a reverse of their own;
//! - [`network`]: GPT-2 on candle: parameters, logits, loss and gradient;
//! - [`optimiser`]: AdamW, its schedule, clipping;
//! - [`work`]: the state of a training, saved and resumed;
//! - [`train`]: the loop; [`export`]: the Hub's layout; [`measure`]: recall through the library itself.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example speaks to the person who runs it")]

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

/// Anything may go wrong in its own words.
type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Train the bundled model and measure it.
#[derive(Parser)]
struct Arguments {
    /// Folder of facts.txt, phrasings.txt and fillers.txt
    #[arg(long, global = true, default_value = "examples/atlas")]
    world: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Train, or go on with a training, and write the model
    Train(train::Settings),
    /// Recall of a written model, per relation
    Measure {
        /// Folder of the model
        #[arg(long, default_value = "examples/atlas")]
        model: PathBuf,
    },
    /// Write the sentences for statistics
    Corpus {
        /// File to write
        #[arg(long, default_value = "examples/atlas/corpus.txt")]
        out: PathBuf,
        /// Sentences per fact
        #[arg(long, default_value_t = 3)]
        per_fact: usize,
        /// Seed of the choice
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Write the facts as `corrigenda trace --facts` reads them
    Known {
        /// File to write
        #[arg(long, default_value = "target/atlas/known.json")]
        out: PathBuf,
    },
    /// Train the tokenizer alone
    Tokenizer {
        /// File to write
        #[arg(long, default_value = "target/atlas/tokenizer.json")]
        out: PathBuf,
        /// Tokens at most
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

/// Every fact in `per_fact` of its trained phrasings, in a drawn order.
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

/// Every fact behind the phrasing for edits.
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

/// Writes a file whole: beside its place, then renamed.
fn write(path: &Path, bytes: &[u8]) -> Fallible<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_all()?;
    // A temporary file is readable by its owner alone; this one is for everybody, like its neighbours.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path)?;
    Ok(())
}
