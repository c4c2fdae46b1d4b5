//! Finds the MLP values of edits: optimises δ, the change of the value, with Adam. If the first stage of the schedule
//! does not converge, later stages try again with other learning rates and more evaluations.

use std::convert::Infallible;

use super::optimiser::{Adam, clamp};
use super::resolve::Resolved;
use super::value::{Compiled, Hook, Loss, Objective, shared_prefixes};
use super::{Settings, Stage};
use crate::model::Model;
use crate::model::run::suffix_pass::SuffixPass;
use crate::numeric::malloc;

impl Objective<'_> {
    /// Returns the loss at `delta` and its gradient with respect to `delta`, from one forward and one backward pass.
    pub fn at(&self, delta: &[f64]) -> (Loss, Vec<f64>) {
        evaluate_batch(&self.suffix, &[(self, delta)]).remove(0)
    }

    /// Runs one stage of the schedule, and calls `seen` with every evaluated change of the value and its loss. The
    /// stage ends when the loss is below [`Settings::stop_loss`], when [`Loss::lead`] reaches [`Settings::margin`], or
    /// after [`Stage::steps`] evaluations.
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

/// Returns the loss and the gradient of each edit at the given change of its value. `suffix` contains the prompts of
/// all edits, in the same order, and evaluates them as one batch. The result of an edit does not depend on the other
/// edits.
fn evaluate_batch(suffix: &SuffixPass<'_>, edits: &[(&Objective<'_>, &[f64])]) -> Vec<(Loss, Vec<f64>)> {
    let narrow = |delta: &[f64]| delta.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let changes: Vec<Vec<f32>> = edits.iter().map(|(_, delta)| narrow(delta)).collect();
    let of_row = |(change, (objective, _)): (_, &(&Objective<'_>, _))| std::iter::repeat_n(change, objective.rows());
    let by_row: Vec<&[f32]> = changes.iter().map(Vec::as_slice).zip(edits).flat_map(of_row).collect();
    let mut evaluation = suffix.evaluate_each(&by_row);
    // [`Objective::loss`] replaces the logits in this buffer by the gradient of the loss.
    let mut gradient = std::mem::take(&mut evaluation.logits);
    let (mut rest, mut losses) = (gradient.as_mut_slice(), Vec::with_capacity(edits.len()));
    for (objective, delta) in edits {
        let (own, others) = rest.split_at_mut(objective.logits());
        losses.push(objective.loss(delta, own));
        rest = others;
    }
    let gradients = suffix.reverse_each(&evaluation, &gradient);
    let (mut remaining_gradients, mut out) = (gradients.as_slice(), Vec::with_capacity(edits.len()));
    for ((objective, delta), loss) in edits.iter().zip(losses) {
        let (own, others) = remaining_gradients.split_at(objective.rows());
        out.push((loss, objective.gradient(delta, own)));
        remaining_gradients = others;
    }
    out
}

/// The search for the value of one edit, in one stage of the schedule.
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

    /// Takes one optimiser step with the loss and the gradient at `self.delta`. Returns whether another evaluation is
    /// needed. If not, `self.delta` is unchanged.
    fn step(&mut self, objective: &Objective<'_>, loss: Loss, gradient: &[f64]) -> bool {
        self.evaluated += 1;
        let enough = loss.total() < objective.settings.stop_loss || objective.settings.suffices(&loss);
        if enough || self.evaluated >= self.stage.steps {
            return false;
        }
        self.adam.step(&mut self.delta, gradient);
        clamp(&mut self.delta, objective.settings.clamp * objective.norm_before);
        true
    }
}

/// The search for the value of one edit, over all stages of the schedule.
struct EditSearch<'a> {
    index: usize,
    objective: Objective<'a>,
    attempt: Attempt,
    stage: usize,
    best: Option<(Vec<f64>, Loss, usize)>,
    evaluations: usize,
}

impl<'a> EditSearch<'a> {
    fn new(index: usize, objective: Objective<'a>) -> Self {
        let first = objective.settings.schedule.first().expect("a schedule has a stage");
        Self { index, attempt: Attempt::new(&objective, *first), objective, stage: 0, best: None, evaluations: 0 }
    }

    /// Receives the loss and the gradient at the current change of the value. Returns whether another evaluation is
    /// needed. When a stage ends without convergence, the next stage begins.
    fn step(&mut self, loss: Loss, gradient: &[f64]) -> bool {
        self.evaluations += 1;
        // The comparison is false for a NaN loss, so NaN never replaces an earlier loss.
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

/// Compiles one edit at `layer`: computes its MLP key and its MLP value. The result is the value with the lowest loss,
/// or the first value for which [`Loss::lead`] reaches [`Settings::margin`].
pub fn compile(model: &Model, layer: usize, edit: &Resolved, settings: &Settings) -> Compiled {
    compile_at(model, layer, edit, settings, Hook::Mlp)
}

/// Does the same as [`compile`], but adds δ, the change of the value, at `hook`.
pub fn compile_at(model: &Model, layer: usize, edit: &Resolved, settings: &Settings, hook: Hook) -> Compiled {
    let mut out = None;
    let report = |_, step| {
        if let Step::Ended(compiled) = step {
            out = Some(compiled);
        }
        Ok::<_, Infallible>(())
    };
    let Ok(()) = compile_all(model, layer, &[edit], (settings, hook), report);
    out.expect("the search of every edit ends")
}

/// The maximum number of token positions in a batch of edits; a single edit may have more. Edits are evaluated in
/// batches, so that each weight is loaded once for all edits of the batch.
const POSITIONS: usize = 512;
/// The approximate maximum number of f32 values that a batch of edits keeps in memory for its forward and backward
/// passes: two gibibytes.
const NUMBERS: usize = 1 << 29;

/// A report of [`compile_all`] about the search of one edit.
pub enum Step {
    /// The search continues. Contains the number of evaluations of the loss, and the lowest loss so far.
    Progress(usize, Loss),
    /// The search has ended. Contains the key and the value of the edit.
    Ended(Compiled),
}

/// The number of evaluations of the loss between two progress reports.
const REPORT_EVERY: usize = 5;

/// Compiles edits at `layer` in batches. Each result is bit-identical to the result of [`compile_at`]. `report`
/// receives the index of an edit and the progress of its search. The searches may end in any order.
///
/// While the function runs, the allocator of the process retains freed memory ([`malloc::retain_freed_memory`]). The
/// activations of a batch need at most about two gibibytes. The KV cache of shared prefixes needs at most half a
/// gibibyte.
///
/// # Errors
/// If `report` returns an error.
///
/// # Panics
/// If the schedule in `settings` is empty. The reader of a project's settings rejects an empty schedule.
pub fn compile_all<E>(
    model: &Model,
    layer: usize,
    edits: &[&Resolved],
    (settings, hook): (&Settings, Hook),
    mut report: impl FnMut(usize, Step) -> Result<(), E>,
) -> Result<(), E> {
    let _kept = malloc::retain_freed_memory();
    let prefixes = shared_prefixes(model, model.spec().layers, edits);
    let mut waiting = edits.iter().enumerate();
    let mut searches: Vec<EditSearch<'_>> = Vec::new();
    loop {
        while room(&searches) {
            let Some((index, edit)) = waiting.next() else { break };
            searches.push(EditSearch::new(
                index,
                Objective::with_prefixes(&prefixes, model, layer, edit, (settings, hook)),
            ));
        }
        if searches.is_empty() {
            return Ok(());
        }
        for search in until_one_ends(&mut searches, &mut report)? {
            report(search.index, Step::Ended(search.end()))?;
        }
    }
}

/// Returns whether one more edit fits into the batch. The additional edit is assumed to be as large as the average edit
/// of the batch. Any edit fits into an empty batch.
fn room(searches: &[EditSearch<'_>]) -> bool {
    let count = searches.len();
    let fits = |of: &dyn Fn(&SuffixPass<'_>) -> usize, most: usize| {
        let sum: usize = searches.iter().map(|one| of(&one.objective.suffix)).sum();
        count == 0 || sum + sum / count <= most
    };
    fits(&|suffix| suffix.positions(), POSITIONS) && fits(&|suffix| suffix.stored_floats(), NUMBERS)
}

/// Evaluates all edits of the batch repeatedly until at least one search ends. Removes each search that ended from
/// `searches` and returns it.
fn until_one_ends<'a, E>(
    searches: &mut Vec<EditSearch<'a>>,
    report: &mut impl FnMut(usize, Step) -> Result<(), E>,
) -> Result<Vec<EditSearch<'a>>, E> {
    let joined = SuffixPass::joined(searches.iter().map(|one| &one.objective.suffix));
    loop {
        let asked: Vec<_> = searches.iter().map(|one| (&one.objective, one.attempt.delta.as_slice())).collect();
        let mut found = evaluate_batch(&joined, &asked).into_iter();
        let ended = searches.extract_if(.., |search| {
            let (loss, gradient) = found.next().expect("one loss per edit");
            !search.step(loss, &gradient)
        });
        let ended: Vec<EditSearch<'a>> = ended.collect();
        for search in searches.iter().filter(|search| search.evaluations % REPORT_EVERY == 0) {
            if let Some((_, loss, _)) = &search.best {
                report(search.index, Step::Progress(search.evaluations, *loss))?;
            }
        }
        if !ended.is_empty() {
            return Ok(ended);
        }
    }
}
