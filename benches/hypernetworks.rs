//! Trains MEND or KE on CounterFact records, and measures the trained editor on other records of the shared model
//! `counterfact-gpt2`, each edited alone: `cargo bench --bench hypernetworks -- [--editor mend|ke] [--steps N] [--seed N]
//! [--test N] [--networks frozen]`.
//!
//! With `--networks frozen`, only the rates of MEND are trained. The ratio of the two validation losses shows what the
//! networks contribute, because the scores of edits do not.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]
#![expect(unreachable_pub, reason = "a bench has no outside")]

#[path = "support/arguments.rs"]
mod arguments;

use std::path::{Path, PathBuf};
use std::time::Instant;

use arguments::{argument, option};
use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;
use corrigenda::numeric::random::NumpyRandomState;
use corrigenda::research::bench::data::{Case, Dataset, for_each_record};
use corrigenda::research::bench::metrics::counterfact::{LikelihoodMeans, LikelihoodMetrics, LikelihoodQuestions};
use corrigenda::research::hypernetworks::capture::{CapturedFact, capture};
use corrigenda::research::hypernetworks::ke::{Ke, KeSizes};
use corrigenda::research::hypernetworks::learner::Learner;
use corrigenda::research::hypernetworks::mend::Mend;
use corrigenda::research::hypernetworks::sites::{BLOCKS, changed, sites};
use corrigenda::research::hypernetworks::train::{FactText, Training, TrainingData, TrainingFact, TrainingSettings};

type Failure = Box<dyn std::error::Error>;

/// The number of facts that are validated.
const VALIDATION: usize = 30;
/// The length of an unrelated text in tokens.
const UNRELATED_TOKENS: usize = 32;
/// The maximum number of unrelated texts to train on.
const UNRELATED: usize = 3000;
/// The steps between two lines of output.
const EVERY: usize = 50;

struct World {
    model: Model,
    tokens: Tokens,
    /// The tested records.
    tested: Vec<Case>,
    data: TrainingData,
}

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

fn open(tested: usize) -> Result<World, Failure> {
    let folder = shared("models/counterfact-gpt2");
    let model = Model::open(&folder, Isa::detect())?;
    let tokens = Tokens::open(&folder, model.spec().vocabulary)?;
    let mut cases = Vec::new();
    for_each_record(&shared("data/counterfact/dev.json"), Dataset::Counterfact, |case| cases.extend(case))?;
    let mut rest = cases.split_off(tested.min(cases.len()));
    let learned = rest.split_off(VALIDATION.min(rest.len()));
    let facts = |some: &[Case]| some.iter().map(|case| fact((&model, &tokens), case)).collect::<Result<_, Failure>>();
    let mut texts = unrelated(&tokens)?;
    let validation_unrelated = texts.split_off(texts.len() - VALIDATION);
    let (facts, validation) = (facts(&learned)?, facts(&rest)?);
    let data = TrainingData { facts, unrelated: texts, validation, validation_unrelated };
    Ok(World { model, tokens, tested: cases, data })
}

/// Trains the editor and measures it.
fn run<L: Learner>(world: &World, learner: L, steps: usize, seed: u32) -> Result<(), Failure> {
    let settings = TrainingSettings { seed, ..TrainingSettings::default() };
    let mut training = Training::new(&world.model, &world.data, settings, learner)?;
    println!("{} facts, {} unrelated texts", world.data.facts.len(), world.data.unrelated.len());
    let begun = Instant::now();
    for step in 0..=steps {
        if step % EVERY == 0 || step == steps {
            let loss = training.validate()?;
            let total = loss.total(settings.weights);
            println!("step {step:4}  edit {:.4}  KL {:.5}  loss {total:.5}", loss.edit, loss.divergence);
        }
        if step < steps {
            training.step()?;
        }
    }
    println!("{:.0} ms per step of {} facts", begun.elapsed().as_secs_f64() * 1e3 / steps as f64, settings.batch);
    measure(world, &training.learner)
}

/// Prints the metrics of CounterFact for every tested record edited alone.
fn measure<L: Learner>(world: &World, learner: &L) -> Result<(), Failure> {
    let (sites, limit) = (learner.sites(), world.model.spec().max_positions);
    let mut measured: Vec<LikelihoodMetrics> = Vec::new();
    for case in &world.tested {
        let text = fact((&world.model, &world.tokens), case)?.stated;
        let (_, rows) = capture(&world.model, sites, &text.tokens, text.labels);
        let edits = learner.apply(&[CapturedFact { text: &text.tokens, rows: &rows }]);
        let edited = changed(&world.model, sites, &L::changes(&edits)[0]);
        measured.push(LikelihoodQuestions::new(case, &world.tokens, limit)?.measure(&edited));
    }
    let means = LikelihoodMeans::of(&measured);
    let shown = |name: &str, part: [corrigenda::numeric::mean::Mean; 3]| {
        println!("{name}S {:5.1}  {name}M {:6.1}", 100.0 * part[0].value, 100.0 * part[1].value);
    };
    println!("{} records, S {:.1}", measured.len(), 100.0 * means.score());
    for (name, part) in [("E", means.rewrite), ("P", means.paraphrase), ("N", means.neighbour)] {
        shown(name, part);
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    for path in ["models/counterfact-gpt2", "data/counterfact/dev.json", "data/wiki_8mb.txt"] {
        if !shared(path).exists() {
            println!("skipped: {} is absent", shared(path).display());
            return Ok(());
        }
    }
    let world = open(option("--test", 50)?)?;
    let seed = option("--seed", 0)? as u32;
    let mut numbers = NumpyRandomState::new(seed);
    let sites = sites(world.model.spec(), BLOCKS);
    match argument("--editor").as_deref() {
        None | Some("mend") => {
            let mut mend = Mend::new(world.model.spec(), world.model.isa(), sites, 256, &mut numbers);
            if argument("--networks").as_deref() == Some("frozen") {
                mend.learning.networks = 0.0;
            }
            run(&world, mend, option("--steps", 400)?, seed)
        }
        Some("ke") => {
            let mut ke = Ke::zeros(&world.model, sites, KeSizes { cells: 128, condition: 192, hidden: 128 });
            ke.draw(&mut numbers);
            ke.learning_rate = 1e-3;
            run(&world, ke, option("--steps", 300)?, seed)
        }
        Some(other) => Err(format!("--editor is mend or ke, not {other:?}").into()),
    }
}
