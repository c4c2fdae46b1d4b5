//! Times the training of MEND and KE on CounterFact records of the shared model `counterfact-gpt2`, next to PyTorch:
//!
//!     cargo bench --bench hypernetworks -- [--editor mend|ke] [--steps N] [--seed N] [--networks frozen] [--python PYTHON]
//!
//! With `--python`, the same training runs in PyTorch afterwards (`hypernetworks_torch.py`), with the same parameters, the
//! same texts and two threads. Both print the validation losses, the median time of the steps after the first three, and
//! the median time of an edit: to compute the changes for one fact, and to add them to copies of the matrices.
//!
//! With `--networks frozen`, only the rates of MEND are trained. The ratio of the two validation losses shows what the
//! networks contribute, because the scores of edits do not.
//!
//!     cargo bench --bench hypernetworks -- --memory FOLDER [--editor mend|ke]
//!
//! This measures the time and the peak memory of one step with the default settings for the checkpoint in the folder, for
//! example one of GPT-2 XL's shape that `random_checkpoint` wrote.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]
#![expect(unreachable_pub, reason = "a bench has no outside")]

#[path = "support/arguments.rs"]
mod arguments;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use arguments::{argument, option};
use corrigenda::digest::Digest;
use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;
use corrigenda::research::bench::data::{Case, Dataset, for_each_record};
use corrigenda::research::bench::peak_memory::PeakMemory;
use corrigenda::research::hypernetworks::capture::{CapturedFact, capture};
use corrigenda::research::hypernetworks::learner::Learner;
use corrigenda::research::hypernetworks::settings::{Method, TrainedOn, TrainingNumbers, numbers, training_settings};
use corrigenda::research::hypernetworks::sites::changed;
use corrigenda::research::hypernetworks::stored::{AnyEditor, TrainingInputs};
use corrigenda::research::hypernetworks::train::{FactText, Training, TrainingData, TrainingFact};

type Failure = Box<dyn std::error::Error>;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/hypernetworks_torch.py");
/// The number of facts that are edited after the training.
const TESTED: usize = 50;
/// The number of facts that are validated.
const VALIDATION: usize = 30;
/// The length of an unrelated text in tokens.
const UNRELATED_TOKENS: usize = 32;
/// The maximum number of unrelated texts to train on.
const UNRELATED: usize = 1000;
/// The steps and edits that are not timed.
const UNTIMED: usize = 3;

fn shared(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path)
}

fn fact(world: (&Model, &Tokens), case: &Case) -> Result<TrainingFact, Failure> {
    let limit = world.0.spec().max_positions;
    let text = |prompt: &str| FactText::new(world.1, prompt, &case.target, limit);
    let rephrased = case.paraphrases.iter().map(|prompt| text(prompt)).collect::<Result<_, _>>()?;
    Ok(TrainingFact { stated: text(&case.filled())?, rephrased })
}

/// Returns the beginnings of the lines of a file that have at least 30 words, all in ASCII.
fn unrelated(tokens: &Tokens) -> Result<Vec<Vec<u32>>, Failure> {
    let text = std::fs::read_to_string(shared("data/wiki_8mb.txt"))?;
    let lines = text.lines().filter(|line| line.is_ascii() && line.split(' ').count() >= 30);
    let mut texts = Vec::new();
    for line in lines.take(UNRELATED + 2 * VALIDATION) {
        let mut ids = tokens.encode(&line[..line.len().min(1500)])?.ids;
        if ids.len() >= UNRELATED_TOKENS {
            ids.truncate(UNRELATED_TOKENS);
            texts.push(ids);
        }
    }
    Ok(texts)
}

/// Reads the data: the facts to edit after the training, and those of the training.
fn open(model: &Model, tokens: &Tokens) -> Result<(Vec<TrainingFact>, TrainingData), Failure> {
    let mut cases = Vec::new();
    for_each_record(&shared("data/counterfact/dev.json"), Dataset::Counterfact, |edits| {
        cases.extend(edits.into_iter().flatten());
    })?;
    let mut rest = cases.split_off(TESTED.min(cases.len()));
    let learned = rest.split_off(VALIDATION.min(rest.len()));
    let facts = |some: &[Case]| some.iter().map(|case| fact((model, tokens), case)).collect::<Result<_, Failure>>();
    let mut texts = unrelated(tokens)?;
    let validation_unrelated = texts.split_off(texts.len() - VALIDATION);
    let data =
        TrainingData { facts: facts(&learned)?, unrelated: texts, validation: facts(&rest)?, validation_unrelated };
    Ok((facts(&cases)?, data))
}

/// Trains the editor and prints the losses and the times.
fn run<L: Learner>(
    (model, data, tested): (&Model, &TrainingData, &[TrainingFact]),
    learner: L,
    numbers: &TrainingNumbers,
    (steps, seed): (usize, u32),
) -> Result<(), Failure> {
    let settings = training_settings(numbers, seed);
    let mut training = Training::new(model, data, settings, learner)?;
    println!("{} facts, {} unrelated texts", data.facts.len(), data.unrelated.len());
    let validate = |session: &mut Training<'_, L>, step: usize| -> Result<(), Failure> {
        let loss = session.validate()?;
        let total = loss.total(settings.weights);
        println!("step {step:4}  edit {:.4}  KL {:.5}  loss {total:.5}", loss.edit, loss.divergence);
        Ok(())
    };
    validate(&mut training, 0)?;
    let mut times = Vec::new();
    for _ in 0..steps + UNTIMED {
        let begun = Instant::now();
        training.step()?;
        times.push(milliseconds(begun));
    }
    validate(&mut training, times.len())?;
    println!("{:.1} ms per step of {} facts", median(&times[UNTIMED..]), settings.batch);
    let edit = |fact: &TrainingFact| {
        let begun = Instant::now();
        let FactText { tokens, labels } = &fact.stated;
        let (_, rows) = capture(model, training.learner.sites(), tokens, *labels);
        let edits = training.learner.apply(&[CapturedFact { text: tokens, rows: &rows }]);
        drop(changed(model, training.learner.sites(), &L::changes(&edits)[0]));
        milliseconds(begun)
    };
    let edits: Vec<f64> = tested.iter().map(edit).collect();
    if edits.len() > UNTIMED {
        println!("{:.2} ms per edit", median(&edits[UNTIMED..]));
    }
    Ok(())
}

fn milliseconds(begun: Instant) -> f64 {
    1e3 * begun.elapsed().as_secs_f64()
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Runs one step on texts of the default lengths, and prints its time and the peak anonymous memory.
fn memory(model: &Model, method: Method) -> Result<(), Failure> {
    let numbers = numbers(method, model.spec(), false, &TrainingNumbers::new());
    let text =
        |length: usize, start: usize| (0..length).map(|k| ((start + 7 * k) % model.spec().vocabulary) as u32).collect();
    let stated = |start: usize| FactText { tokens: text(15, start), labels: 1 };
    let fact = |index: usize| TrainingFact { stated: stated(index), rephrased: vec![stated(index + 100)] };
    let locality = (numbers["locality-tokens"] as usize).min(model.spec().max_positions);
    let data = TrainingData {
        facts: (0..10).map(fact).collect(),
        unrelated: (0..10).map(|index| text(locality, 31 * index)).collect(),
        ..TrainingData::default()
    };
    let parts: Vec<String> = numbers.iter().map(|(name, number)| format!("{name} {number}")).collect();
    println!("{} of {}: {}", method.name(), model.spec().family.model_type, parts.join(", "));
    let peak = PeakMemory::start();
    let learner = inputs(model, method, numbers.clone(), 0).editor(model, true);
    let begun = Instant::now();
    match learner {
        AnyEditor::Mend(mend) => drop(Training::new(model, &data, training_settings(&numbers, 0), mend)?.step()?.edit),
        AnyEditor::Ke(ke) => drop(Training::new(model, &data, training_settings(&numbers, 0), ke)?.step()?.edit),
    }
    println!("{:.1} s for one step of {} facts", begun.elapsed().as_secs_f64(), numbers["batch"]);
    println!("{:.2} GiB of anonymous memory at most", peak.stop().unwrap_or(0) as f64 / f64::from(1 << 30));
    Ok(())
}

fn inputs(model: &Model, method: Method, numbers: TrainingNumbers, seed: u32) -> TrainingInputs {
    let nothing = Digest::of(b"");
    TrainingInputs::new((method, TrainedOn::Cf), (nothing, model), numbers, (seed, false), nothing)
}

fn main() -> Result<(), Failure> {
    let method = match argument("--editor").as_deref() {
        None | Some("mend") => Method::Mend,
        Some("ke") => Method::Ke,
        Some(other) => return Err(format!("--editor is mend or ke, not {other:?}").into()),
    };
    if let Some(folder) = argument("--memory") {
        return memory(&Model::open(Path::new(&folder), Isa::detect())?, method);
    }
    for path in ["models/counterfact-gpt2", "data/counterfact/dev.json", "data/wiki_8mb.txt"] {
        if !shared(path).exists() {
            println!("skipped: {} is absent", shared(path).display());
            return Ok(());
        }
    }
    let folder = shared("models/counterfact-gpt2");
    let model = Model::open(&folder, Isa::detect())?;
    let tokens = Tokens::open(&folder, model.spec().vocabulary)?;
    let (tested, data) = open(&model, &tokens)?;
    let (steps, seed) = (option("--steps", 100)?, option("--seed", 0)?);
    let mut changed = TrainingNumbers::new();
    match argument("--networks").as_deref() {
        None => {}
        Some("frozen") if method == Method::Mend => drop(changed.insert("networks".to_owned(), 0.0)),
        Some(other) => return Err(format!("--networks is `frozen`, for MEND only, not {other:?}").into()),
    }
    let numbers = numbers(method, model.spec(), false, &changed);
    let world = (&model, &data, &tested[..]);
    match inputs(&model, method, numbers.clone(), seed as u32).editor(&model, true) {
        AnyEditor::Mend(mend) => run(world, mend, &numbers, (steps, seed as u32))?,
        AnyEditor::Ke(ke) => run(world, ke, &numbers, (steps, seed as u32))?,
    }
    if let Some(python) = argument("--python") {
        println!("\nPyTorch:");
        let (steps, seed) = (steps.to_string(), seed.to_string());
        let arguments = ["--editor", method.name(), "--threads", "2", "--steps", &steps, "--seed", &seed];
        let ran = Command::new(python).arg(SCRIPT).args(arguments).status()?;
        if !ran.success() {
            return Err(format!("{SCRIPT} failed").into());
        }
    }
    Ok(())
}
