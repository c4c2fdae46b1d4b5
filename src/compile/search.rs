//! The search for values: Adam through a schedule of stages, for one edit or for several side by side.

use std::convert::Infallible;

use super::optimiser::{Adam, clamp};
use super::resolve::Resolved;
use super::value::{Compiled, Hook, Loss, Objective, openings};
use super::{Settings, Stage};
use crate::model::Model;
use crate::model::above::Above;
use crate::numeric::buffers;

impl Objective<'_> {
    /// The loss at `delta` and its gradient by it.
    pub fn at(&self, delta: &[f64]) -> (Loss, Vec<f64>) {
        abreast(&self.above, &[(self, delta)]).remove(0)
    }

    /// One stage: calls `seen` with every evaluated δ and its loss, and stops as published: below `stop_loss`, or
    /// at the last step without an update.
    pub fn descend(&self, stage: Stage, mut seen: impl FnMut(&[f64], Loss)) {
        let mut attempt = Attempt::new(self, stage);
        loop {
            let (loss, gradient) = self.at(&attempt.delta);
            seen(&attempt.delta, loss);
            if !attempt.step(self, loss, &gradient) {
                return;
            }
        }
    }
}

/// The losses of several edits, at a δ each, and their gradients: all their rows, joined in `above`, pass the model
/// together. What an edit gets depends on its own rows alone.
fn abreast(above: &Above<'_>, edits: &[(&Objective<'_>, &[f64])]) -> Vec<(Loss, Vec<f64>)> {
    let narrow = |delta: &[f64]| delta.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let changes: Vec<Vec<f32>> = edits.iter().map(|(_, delta)| narrow(delta)).collect();
    let of_row = |(change, (objective, _)): (_, &(&Objective<'_>, _))| std::iter::repeat_n(change, objective.rows());
    let by_row: Vec<&[f32]> = changes.iter().map(Vec::as_slice).zip(edits).flat_map(of_row).collect();
    let mut evaluation = above.evaluate_each(&by_row);
    // They become their gradient in place.
    let mut gradient = std::mem::take(&mut evaluation.logits);
    let (mut rest, mut losses) = (gradient.as_mut_slice(), Vec::with_capacity(edits.len()));
    for (objective, delta) in edits {
        let (own, others) = rest.split_at_mut(objective.logits());
        losses.push(objective.loss(delta, own));
        rest = others;
    }
    let slopes = above.reverse_each(&evaluation, &gradient);
    let (mut rest, mut out) = (slopes.as_slice(), Vec::with_capacity(edits.len()));
    for ((objective, delta), loss) in edits.iter().zip(losses) {
        let (own, others) = rest.split_at(objective.rows());
        out.push((loss, objective.slope(delta, own)));
        rest = others;
    }
    out
}

/// One stage of one edit, as far as it has come.
struct Attempt {
    stage: Stage,
    adam: Adam,
    delta: Vec<f64>,
    evaluated: usize,
}

impl Attempt {
    fn new(objective: &Objective<'_>, stage: Stage) -> Self {
        let width = objective.value_before.len();
        Self { stage, adam: Adam::new(width, stage.rate), delta: vec![0.0; width], evaluated: 0 }
    }

    /// Goes on from the loss at its δ and the gradient there; says whether there is more to evaluate.
    fn step(&mut self, objective: &Objective<'_>, loss: Loss, gradient: &[f64]) -> bool {
        self.evaluated += 1;
        let enough = loss.total() < objective.settings.stop_loss || objective.settings.suffices(&loss);
        if enough || self.evaluated >= self.stage.steps {
            return false;
        }
        self.adam.step(&mut self.delta, gradient);
        clamp(&mut self.delta, objective.settings.clamp * objective.length_before);
        true
    }
}

/// The whole schedule of one edit, as far as it has come.
struct Search<'a> {
    index: usize,
    objective: Objective<'a>,
    attempt: Attempt,
    stage: usize,
    best: Option<(Vec<f64>, Loss, usize)>,
    evaluations: usize,
}

impl<'a> Search<'a> {
    fn new(index: usize, objective: Objective<'a>) -> Self {
        let first = objective.settings.schedule.first().expect("a schedule has a stage");
        Self { index, attempt: Attempt::new(&objective, *first), objective, stage: 0, best: None, evaluations: 0 }
    }

    /// Goes on; says whether there is more to evaluate: in this stage, or in the next one where no value has converged.
    fn step(&mut self, loss: Loss, gradient: &[f64]) -> bool {
        self.evaluations += 1;
        // Written so that NaN never becomes the best.
        let better = |best: &Loss| loss.total() < best.total() || self.objective.settings.suffices(&loss);
        if self.best.as_ref().is_none_or(|(_, best, _)| better(best)) {
            self.best = Some((self.attempt.delta.clone(), loss, self.stage));
        }
        if self.attempt.step(&self.objective, loss, gradient) {
            return true;
        }
        self.stage += 1;
        let next = self.objective.settings.schedule.get(self.stage).filter(|_| !self.converged());
        next.inspect(|stage| self.attempt = Attempt::new(&self.objective, **stage)).is_some()
    }

    fn converged(&self) -> bool {
        let settings = self.objective.settings;
        let found = |loss: &Loss| loss.nll <= settings.converged_nll || settings.suffices(loss);
        self.best.as_ref().is_some_and(|(_, loss, _)| found(loss))
    }

    fn end(self) -> Compiled {
        let (converged, evaluations) = (self.converged(), self.evaluations);
        let (delta, loss, stage) = self.best.expect("a stage evaluates δ = 0 first");
        let Objective { key, value_before, .. } = self.objective;
        let value = value_before.iter().zip(&delta).map(|(v, d)| (f64::from(*v) + d) as f32).collect();
        Compiled { key, value, value_before, loss, stage, evaluations, converged }
    }
}

/// Compiles one edit at `layer`: its key, and the value of the lowest loss that the schedule finds.
pub fn compile(model: &Model, layer: usize, edit: &Resolved, settings: &Settings) -> Compiled {
    compile_at(model, layer, edit, settings, Hook::Mlp)
}

/// The same with the value of a hook.
pub fn compile_at(model: &Model, layer: usize, edit: &Resolved, settings: &Settings, hook: Hook) -> Compiled {
    let mut out = None;
    let told = |_, step| {
        if let Step::Ended(compiled) = step {
            out = Some(compiled);
        }
        Ok::<_, Infallible>(())
    };
    let Ok(()) = compile_all(model, layer, &[edit], (settings, hook), told);
    out.expect("every edit comes to an end")
}

/// Edits are evaluated side by side up to so many positions: a weight that was fetched for one serves them all.
const POSITIONS: usize = 512;
/// And up to so many numbers that are kept for them, about: two gibibytes.
const NUMBERS: usize = 1 << 29;

/// What is told of a search.
pub enum Step {
    /// It goes on after this many evaluations, at a loss; told each [`TOLD`] evaluations.
    Goes(usize, Loss),
    /// It came to an end.
    Ended(Compiled),
}

/// Evaluations of a search after which it is told that it goes on.
const TOLD: usize = 5;

/// Compiles edits at `layer`, some of them side by side; each is bit by bit what it is alone. `told` is given the index
/// of an edit and how far its search is, ends in the order in which the searches come to them.
///
/// The allocator of the process is told to keep what is freed meanwhile ([`buffers::keep`]); beside the numbers of the
/// edits, those of their rows' common beginnings are kept, a quarter as many at most.
///
/// # Errors
/// What `told` gives.
///
/// # Panics
/// If the schedule is empty: settings are checked where they are read.
pub fn compile_all<E>(
    model: &Model,
    layer: usize,
    edits: &[&Resolved],
    (settings, hook): (&Settings, Hook),
    mut told: impl FnMut(usize, Step) -> Result<(), E>,
) -> Result<(), E> {
    let _kept = buffers::keep();
    let openings = openings(model, model.spec().layers, edits);
    let mut waiting = edits.iter().enumerate();
    let mut searches: Vec<Search<'_>> = Vec::new();
    loop {
        while room(&searches) {
            let Some((index, edit)) = waiting.next() else { break };
            searches.push(Search::new(index, Objective::behind(&openings, model, layer, edit, (settings, hook))));
        }
        if searches.is_empty() {
            return Ok(());
        }
        for search in until_one_ends(&mut searches, &mut told)? {
            told(search.index, Step::Ended(search.end()))?;
        }
    }
}

/// Whether one more fits beside these, if it is like them.
fn room(searches: &[Search<'_>]) -> bool {
    let count = searches.len();
    let fits = |of: &dyn Fn(&Above<'_>) -> usize, most: usize| {
        let sum: usize = searches.iter().map(|one| of(&one.objective.above)).sum();
        count == 0 || sum + sum / count <= most
    };
    fits(&|above| above.positions(), POSITIONS) && fits(&|above| above.numbers(), NUMBERS)
}

/// Goes on with all of them until some come to an end: these, in their order.
fn until_one_ends<'a, E>(
    searches: &mut Vec<Search<'a>>,
    told: &mut impl FnMut(usize, Step) -> Result<(), E>,
) -> Result<Vec<Search<'a>>, E> {
    let joined = Above::joined(searches.iter().map(|one| &one.objective.above));
    loop {
        let asked: Vec<_> = searches.iter().map(|one| (&one.objective, one.attempt.delta.as_slice())).collect();
        let mut found = abreast(&joined, &asked).into_iter();
        let ended = searches.extract_if(.., |search| {
            let (loss, gradient) = found.next().expect("a loss for every edit");
            !search.step(loss, &gradient)
        });
        let ended: Vec<Search<'a>> = ended.collect();
        for search in searches.iter().filter(|search| search.evaluations % TOLD == 0) {
            if let Some((_, loss, _)) = &search.best {
                told(search.index, Step::Goes(search.evaluations, *loss))?;
            }
        }
        if !ended.is_empty() {
            return Ok(ended);
        }
    }
}
