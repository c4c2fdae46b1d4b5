//! Seconds and memory of one edit beside the published procedure in PyTorch, on models of true size.
//!
//!     cargo run --release --example random_checkpoint -- gpt2-xl /tmp/gpt2-xl ../shared/data/gpt2-tokenizer
//!     cargo bench --bench compare -- /tmp/gpt2-xl[:LAYER] [MORE …] [--python PYTHON]
//!         [--edits N] [--steps N] [--documents N] [--rounds N]
//!
//! Both take the same facts (of CounterFact), the same templates, the same documents (of Wikipedia), and as many
//! evaluations for every value (twenty, as published), with two threads. Each does its work in processes of their own,
//! which are watched: VmHWM is all that was ever resident, pages of the mapped weights included; RssAnon is what the
//! process holds for itself, at its peak as seen every ten milliseconds.
//!
//! Of PyTorch the procedure alone is timed, without start, loading and scoring. Beside it stands, of statistics, what a
//! key more takes; of edits, a build less what it takes once they are compiled: their keys and values, which is the
//! procedure but for its last solve and update. The whole verb, with opening the model, link, patch, scores and lock, is
//! a row of its own. Of several rounds, one of each after the other, the least of every figure is shown: a machine that
//! is shared only ever takes longer. The factor of C here, and its inverse there, are made with the statistics. Here
//! edits are compiled side by side, as `build` does it; there one after the other, as published.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]
#![expect(unreachable_pub, reason = "a bench has no outside")]

mod sides;
mod watch;

use std::path::{Path, PathBuf};

use corrigenda::bench::data::{Dataset, all};
use corrigenda::model::Model;
use corrigenda::numeric::Isa;
use sides::{Corrigenda, Job, Torch};
use watch::{Failure, Seen};

/// The facts.
const RECORDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/counterfact/dev.json");
/// The documents of the statistics.
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/wiki_8mb.txt");

struct Arguments {
    models: Vec<(PathBuf, Option<usize>)>,
    edits: usize,
    steps: usize,
    documents: usize,
    rounds: usize,
    python: Option<PathBuf>,
}

fn main() -> Result<(), Failure> {
    let arguments = arguments()?;
    if let Some(path) = [RECORDS, CORPUS].into_iter().find(|path| !Path::new(path).exists()) {
        println!("SKIPPED compare: {path} is not here");
        return Ok(());
    }
    println!("| model | what | figure | corrigenda | PyTorch | ratio |\n|---|---|---|---|---|---|");
    for (model, layer) in &arguments.models {
        compare(model, *layer, &arguments)?;
    }
    Ok(())
}

fn compare(model: &Path, layer: Option<usize>, arguments: &Arguments) -> Result<(), Failure> {
    let model = std::path::absolute(model)?;
    let layers = Model::open(&model, Isa::detect())?.spec().layers;
    let job = Job {
        // As published for GPT-2: 8 of 24, 12 of 36, 17 of 48.
        layer: layer.unwrap_or(layers * 17 / 48),
        corpus: Path::new(CORPUS).canonicalize()?,
        steps: arguments.steps,
        documents: arguments.documents,
        cases: all(Path::new(RECORDS), Dataset::Counterfact)?.0.into_iter().take(arguments.edits).collect(),
        model,
    };
    let name = job.model.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = format!("{name}, layer {}", job.layer);
    let torch = arguments.python.as_deref().map(|python| Torch::new(&job, python)).transpose()?;
    let corrigenda = Corrigenda::new(&job)?;
    let (keys, seen) = corrigenda.statistics()?;
    let print = |what: &str, rows: &[(&str, String)]| {
        rows.iter().for_each(|(figure, cells)| println!("| {name} | {what} | {figure} | {cells} |"));
    };
    let show = |what: &str, count: u64, ours: Seen, theirs: Option<Seen>| {
        print(what, &figures(count, &ours, theirs.as_ref()));
    };
    let theirs = torch.as_ref().map(|torch| torch.statistics(keys)).transpose()?;
    show(&format!("a key of {keys}"), keys, seen, theirs);
    let edits = job.cases.len() as u64;
    let (mut ours, mut again, mut theirs) = (None, None, None);
    for _ in 0..arguments.rounds {
        ours = Some(corrigenda.edits()?.or_less(ours));
        again = Some(corrigenda.relinked()?.or_less(again));
        if let Some(torch) = &torch {
            theirs = Some(torch.edits()?.or_less(theirs));
        }
    }
    let (Some(ours), Some(again)) = (ours, again) else { return Ok(()) };
    let compiled = ours.clone().less(&again).ok_or("too few edits to tell what one takes")?;
    // Memory is that of the verb.
    print(&format!("an edit of {edits}"), &figures(edits, &compiled, theirs.as_ref())[..2]);
    show(&format!("an edit of {edits}, the whole verb"), edits, ours, theirs);
    show(&format!("{edits} edits linked again"), 1, again, None);
    Ok(())
}

/// What both needed, times for each of `count`, and by what factor PyTorch needed more.
fn figures(count: u64, ours: &Seen, theirs: Option<&Seen>) -> [(&'static str, String); 4] {
    let cells = |number: &dyn Fn(&Seen) -> f64, text: &dyn Fn(f64) -> String| {
        let theirs = theirs.map(number);
        let ratio = theirs.map_or_else(String::new, |theirs| format!("{:.1}", theirs / number(ours)));
        [text(number(ours)), theirs.map_or_else(String::new, text), ratio].join(" | ")
    };
    [
        ("time", cells(&|seen| seen.seconds / count as f64, &time)),
        ("processor time", cells(&|seen| seen.processors / count as f64, &time)),
        ("RssAnon", cells(&|seen| seen.anonymous as f64, &gib)),
        ("VmHWM", cells(&|seen| seen.resident as f64, &gib)),
    ]
}

fn time(seconds: f64) -> String {
    match seconds {
        short if short < 0.01 => format!("{:.0} µs", 1e6 * short),
        short if short < 0.1 => format!("{:.1} ms", 1e3 * short),
        seconds => format!("{seconds:.2} s"),
    }
}

fn gib(bytes: f64) -> String {
    format!("{:.2} GiB", bytes / (1_u64 << 30) as f64)
}

fn arguments() -> Result<Arguments, Failure> {
    let mut out = Arguments { models: Vec::new(), edits: 3, steps: 20, documents: 400, rounds: 1, python: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            // Given by cargo.
            "--bench" => {}
            "--edits" => out.edits = value()?.parse()?,
            "--steps" => out.steps = value()?.parse()?,
            "--rounds" => out.rounds = value()?.parse()?,
            "--documents" => out.documents = value()?.parse()?,
            "--python" => out.python = Some(value()?.into()),
            model => out.models.push(match model.rsplit_once(':') {
                Some((folder, layer)) => (folder.into(), Some(layer.parse()?)),
                None => (model.into(), None),
            }),
        }
    }
    if out.models.is_empty() {
        return Err(
            "usage: cargo bench --bench compare -- FOLDER[:LAYER] … [--python P] [--edits N] [--steps N] [--documents N] \
             [--rounds N]".into()
        );
    }
    Ok(out)
}
