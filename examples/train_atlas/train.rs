//! Implements the training loop, which saves its state and can be resumed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokenizers::Tokenizer;

use crate::draw::{Recipe, Source, Text};
use crate::network::{Network, Shape};
use crate::optimiser::{Moments, Schedule};
use crate::seed::Draw;
use crate::work::State;
use crate::world::World;
use crate::{Fallible, export, vocabulary};

/// The settings of the command `train`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    schedule: Schedule,
    #[command(flatten)]
    recipe: Recipe,
    /// Rows per batch
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Seed of the initial weights and the training text
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads; each computes its share of the batch
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Folder of the saved state; an interrupted training resumes from it
    #[arg(long, default_value = "target/atlas")]
    work: PathBuf,
    /// Output folder of the model
    #[arg(long, default_value = "examples/atlas")]
    out: PathBuf,
    /// Minutes between two saves of the state
    #[arg(long, default_value_t = 3.0)]
    save_every: f64,
}

impl Settings {
    /// Returns one line with all settings that determine the result of a training. A saved state with another line is
    /// not resumed.
    fn identity(&self, world: &World) -> String {
        let Self { shape, schedule, recipe, batch, seed, threads, .. } = self;
        let world = &world.digest;
        format!("{shape:?} {schedule:?} {recipe:?} batch {batch} seed {seed} threads {threads} world {world}")
    }
}

/// The environment variables from which candle reads its number of threads.
const CANDLE_THREADS: [&str; 2] = ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"];

/// Restarts this program with one candle thread, unless the environment already sets the number of candle's threads.
///
/// Each worker computes its share of the batch. candle's own threads wait in busy loops and would compete with the
/// workers, and their number can only be set in the environment. On systems other than Unix the program does not
/// restart: training is slower, but the result is the same.
fn one_thread_in_candle() -> Fallible<()> {
    if CANDLE_THREADS.iter().all(|name| std::env::var_os(name).is_some()) {
        return Ok(());
    }
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        let mut again = std::process::Command::new(std::env::current_exe()?);
        again.args(std::env::args_os().skip(1)).envs(CANDLE_THREADS.map(|name| (name, "1")));
        Err(again.exec().into())
    }
    #[cfg(not(unix))]
    Ok(())
}

/// Trains to the last step, from the saved state if there is one, and writes the model.
pub(crate) fn train(world: &World, settings: &Settings) -> Fallible<()> {
    one_thread_in_candle()?;
    let tokenizer = tokenizer(world, settings)?;
    let shape = Shape { vocabulary: tokenizer.get_vocab_size(true), ..settings.shape.clone() };
    let identity = settings.identity(world);
    let mut state = match State::load(&settings.work, &identity)? {
        Some(state) => {
            eprintln!("going on after step {}", state.step);
            state
        }
        None => begin(&shape, settings.seed),
    };
    eprintln!("{} parameters, {} tokens, {} facts", state.flat.len(), shape.vocabulary, world.facts.len());
    let source = Source { world, tokenizer: &tokenizer, recipe: &settings.recipe };
    run(&mut state, settings, &identity, &shape, &source)?;
    export::write(&settings.out, &shape, &state.flat, &tokenizer)?;
    println!("{}: written; `measure` says what it knows", settings.out.display());
    Ok(())
}

/// Runs the steps that `state` has not yet completed, and saves the state at intervals.
fn run(state: &mut State, settings: &Settings, identity: &str, shape: &Shape, source: &Source<'_>) -> Fallible<()> {
    let parameters = shape.parameters();
    let workers = workers(settings.threads)?;
    let mut report = Report::new(settings.schedule.steps, state.step);
    let mut saved = Instant::now();
    while state.step < settings.schedule.steps {
        let batch = source.batch(&mut state.draw, settings.batch, shape.context + 1)?;
        let (loss, gradient) = gradient(&workers, shape, &state.flat, &batch)?;
        if !loss.is_finite() {
            return Err(format!("the loss of step {} is {loss}", state.step).into());
        }
        let State { step, flat, moments, .. } = state;
        moments.step(&settings.schedule, *step, &parameters, flat, &gradient);
        *step += 1;
        report.step(*step, loss);
        if saved.elapsed() > Duration::from_secs_f64(60.0 * settings.save_every) {
            state.save(&settings.work, identity)?;
            saved = Instant::now();
        }
    }
    report.end();
    state.save(&settings.work, identity)
}

/// Returns the tokenizer of the working folder if it belongs to a saved state; otherwise trains a new one.
fn tokenizer(world: &World, settings: &Settings) -> Fallible<Tokenizer> {
    let path = settings.work.join("tokenizer.json");
    // The saved settings include the world's digest, so a training only resumes with a tokenizer of the same world.
    if settings.work.join("state.safetensors").is_file() && path.is_file() {
        return Tokenizer::from_file(&path);
    }
    let tokenizer = vocabulary::train(world, settings.shape.vocabulary)?;
    crate::write(&path, &vocabulary::to_json(&tokenizer)?)?;
    Ok(tokenizer)
}

fn begin(shape: &Shape, seed: u64) -> State {
    let mut draw = Draw::new(seed);
    let flat = shape.draw(&mut draw);
    let moments = Moments::zero(flat.len());
    State { step: 0, draw, flat, moments }
}

/// Returns one thread pool per share of a batch. Each pool has one thread, so the shares do not compete for threads,
/// and the result of a share does not depend on the other shares.
fn workers(count: usize) -> Fallible<Vec<ThreadPool>> {
    let pool = |_| ThreadPoolBuilder::new().num_threads(1).build();
    Ok((0..count.max(1)).map(pool).collect::<Result<_, _>>()?)
}

/// Returns the mean loss of a batch and its gradient. The shares are added in a fixed order, so that the result is
/// reproducible.
fn gradient(workers: &[ThreadPool], shape: &Shape, flat: &[f32], batch: &[Text]) -> Fallible<(f32, Vec<f32>)> {
    let total: f32 = batch.iter().flat_map(|row| &row.weights[1..]).sum();
    let share = |rows: &[Text]| Network::new(shape, flat)?.gradient(rows);
    let shares: Vec<candle_core::Result<(f32, Vec<f32>)>> = std::thread::scope(|scope| {
        let rows = batch.chunks(batch.len().div_ceil(workers.len()));
        let running: Vec<_> =
            rows.zip(workers).map(|(rows, pool)| scope.spawn(move || pool.install(|| share(rows)))).collect();
        running.into_iter().map(|thread| thread.join().expect("a share does not panic")).collect()
    });
    let (mut loss, mut gradient) = (0.0, vec![0.0; flat.len()]);
    for result in shares {
        let (share_loss, slopes) = result?;
        loss += share_loss / total;
        gradient.iter_mut().zip(slopes).for_each(|(sum, part)| *sum += part / total);
    }
    Ok((loss, gradient))
}

/// The progress output: a bar on a terminal, or lines at intervals if no bar can be shown.
struct Report {
    bar: ProgressBar,
    began: Instant,
    first: u64,
    loss: f32,
}

/// The number of steps between two lines of output if no progress bar can be shown.
const LINE_EVERY: u64 = 50;

impl Report {
    fn new(steps: u64, first: u64) -> Self {
        let bar = ProgressBar::new(steps).with_position(first);
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} loss {msg} {per_sec} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        Self { bar, began: Instant::now(), first, loss: f32::NAN }
    }

    fn step(&mut self, step: u64, loss: f32) {
        self.loss = if self.loss.is_nan() { loss } else { 0.95 * self.loss + 0.05 * loss };
        self.bar.set_message(format!("{:.3}", self.loss));
        self.bar.set_position(step);
        if self.bar.is_hidden() && step.is_multiple_of(LINE_EVERY) {
            let pace = (step - self.first) as f64 / self.began.elapsed().as_secs_f64();
            eprintln!("step {step}: loss {:.3}, {pace:.2} steps a second", self.loss);
        }
    }

    fn end(&self) {
        self.bar.finish();
    }
}
