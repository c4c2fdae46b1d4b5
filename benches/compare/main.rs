//! Compares the time and memory of edits with those of the published procedure in PyTorch, on models of published
//! sizes.
//!
//!     cargo run --release --example random_checkpoint -- gpt2-xl /tmp/gpt2-xl ../shared/data/gpt2-tokenizer
//!     cargo bench --bench compare -- /tmp/gpt2-xl[:LAYER] [MORE …] [--python PYTHON]
//!         [--edits N] [--steps N] [--documents N] [--rounds N]
//!
//! Both sides use the same facts (of CounterFact), the same prompt templates, the same documents (of Wikipedia), the
//! same number of evaluations per value (twenty, as published), and two threads. Each side runs in processes of its
//! own, whose memory is measured: VmHWM is the peak resident memory, including pages of the mapped weights; RssAnon is
//! the anonymous memory, as the maximum of samples every ten milliseconds.
//!
//! For PyTorch, only the procedure is timed, without start, loading and scoring. For corrigenda, the time of a key is
//! the difference between a long and a short statistics run, divided by the difference of their numbers of keys. The
//! time of an edit is the time of a build minus that of a build of edits that are already compiled. This difference is
//! the computation of keys and values, which is the procedure without its final solve and update. A second table has
//! the whole command, with opening the model, link, patch, scores and `corrigenda.lock`. The rounds alternate between
//! both sides, and the minimum of every figure is shown, because load on a shared machine can only add time. The factor
//! of C (corrigenda) and its inverse (PyTorch) are computed in the statistics runs. corrigenda compiles edits in
//! parallel, as `build` does; PyTorch computes them one after another, as published.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]
#![expect(unreachable_pub, reason = "a bench has no outside")]

mod sides;
mod watch;

use std::path::{Path, PathBuf};

use corrigenda::model::Model;
use corrigenda::numeric::Isa;
use corrigenda::research::bench::data::{Dataset, read_all};
use sides::{Corrigenda, Job, Torch};
use watch::{Failure, Seen};

/// The dataset file with the CounterFact records to edit.
const RECORDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/counterfact/dev.json");
/// The corpus over which the second moments are summed, one document per line.
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
        // The published layers for GPT-2 are 8 of 24, 12 of 36 and 17 of 48.
        layer: layer.unwrap_or(layers * 17 / 48),
        corpus: Path::new(CORPUS).canonicalize()?,
        steps: arguments.steps,
        documents: arguments.documents,
        cases: read_all(Path::new(RECORDS), Dataset::Counterfact)?.0.into_iter().take(arguments.edits).collect(),
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
    let torch_statistics = torch.as_ref().map(|torch| torch.statistics(keys)).transpose()?;
    show(&format!("a key of {keys}"), keys, seen, torch_statistics);
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
    // Only the times are shown, because the memory is measured for the whole command.
    print(&format!("an edit of {edits}"), &figures(edits, &compiled, theirs.as_ref())[..2]);
    show(&format!("an edit of {edits}, the whole verb"), edits, ours, theirs);
    show(&format!("{edits} edits linked again"), 1, again, None);
    Ok(())
}

/// Returns the rows of a table: a name, and the figures of corrigenda and of PyTorch with their ratio. Times are
/// divided by `count`, the number of edits or keys.
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
            // `cargo bench` adds this flag.
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
