//! The key and the value of one edit (ROME, reference: Meng et al. 2022, §3.1 and appendix E.5).
//!
//! The key `k*` is the mean, over the context templates, of the input of the second MLP matrix at the subject's
//! last token. The value `v*` is that matrix's output there plus a change δ which makes the model go on with the
//! target: δ minimises the mean negative log-likelihood of the target over the templates, plus the drift (KL from
//! the base) of `"{subject} is a"`, plus a weight on its length.

use std::convert::Infallible;

use super::optimiser::{Adam, clamp, norm};
use super::resolve::Resolved;
use crate::digest::Canon;
use crate::model::Model;
use crate::model::above::Above;
use crate::numeric::rows::softmax;

/// One attempt: Adam from δ = 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Adam's rate.
    pub rate: f64,
    /// Evaluations; there is one update less.
    pub steps: usize,
}

/// How values are optimised.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Attempts, each made only if the ones before did not converge.
    pub schedule: Vec<Stage>,
    /// Weight of ‖δ‖ / ‖v₀‖².
    pub weight_decay: f64,
    /// ‖δ‖ is at most this many times ‖v₀‖.
    pub clamp: f64,
    /// Weight of the drift.
    pub kl_factor: f64,
    /// A loss below this ends an attempt.
    pub stop_loss: f64,
    /// A value has converged when the target's mean negative log-likelihood is at most this.
    pub converged_nll: f64,
    /// What the bare prompt weighs in the key, the other templates sharing the rest; all alike where nothing is said, as
    /// published. A subject at the very beginning of a text has a key of its own, of which one in twenty-one says little.
    pub bare_weight: Option<f64>,
}

impl Default for Settings {
    /// The published numbers for GPT-2 XL, with a schedule that retries what the first twenty-five steps leave
    /// unconverged.
    fn default() -> Self {
        let stage = |rate, steps| Stage { rate, steps };
        Self { schedule: vec![stage(0.5, 25), stage(0.1, 120), stage(0.5, 200)], ..Self::published() }
    }
}

impl Settings {
    /// Exactly the published optimisation: one attempt of twenty steps.
    pub fn published() -> Self {
        Self {
            schedule: vec![Stage { rate: 0.5, steps: 20 }],
            weight_decay: 0.5,
            clamp: 4.0,
            kl_factor: 0.0625,
            stop_loss: 0.05,
            converged_nll: 0.1,
            bare_weight: None,
        }
    }
}

impl Settings {
    /// Writes every number of the settings into a digest.
    pub fn describe(&self, canon: &mut Canon) {
        canon.number("stages", self.schedule.len() as u64);
        for stage in &self.schedule {
            canon.float("rate", stage.rate).number("steps", stage.steps as u64);
        }
        canon.float("weight-decay", self.weight_decay).float("clamp", self.clamp);
        canon.float("kl-factor", self.kl_factor).float("stop-loss", self.stop_loss);
        canon.float("converged-nll", self.converged_nll);
        // What is published means what it meant before there was a choice.
        if let Some(weight) = self.bare_weight {
            canon.float("bare-weight", weight);
        }
    }
}

/// The terms of the loss at one δ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Mean negative log-likelihood of the target.
    pub nll: f64,
    /// Weighted drift.
    pub kl: f64,
    /// Weighted length.
    pub decay: f64,
}

impl Loss {
    /// Their sum.
    pub fn total(&self) -> f64 {
        self.nll + self.kl + self.decay
    }
}

/// What one edit asks of the edited layer.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// `k*`, `[f]`.
    pub key: Vec<f32>,
    /// `v*` = v₀ + δ, `[d]`.
    pub value: Vec<f32>,
    /// The value before the edit, `[d]`.
    pub value_before: Vec<f32>,
    /// The loss at the δ that was kept.
    pub loss: Loss,
    /// Index of the stage that it came from.
    pub stage: usize,
    /// Evaluations made in all.
    pub evaluations: usize,
    /// Whether the value converged.
    pub converged: bool,
}

/// Where δ is added, and of what the value is the sum with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The output of the second MLP matrix: ROME.
    Mlp,
    /// The hidden state behind the block: MEMIT and those that spread a change over layers.
    Block,
}

/// The loss of one edit as a function of δ, with its gradient.
pub struct Objective<'a> {
    above: Above<'a>,
    settings: &'a Settings,
    target: &'a [u32],
    templates: usize,
    vocabulary: usize,
    /// `k*`.
    pub key: Vec<f32>,
    /// v₀ and its norm.
    pub value_before: Vec<f32>,
    length_before: f64,
    /// Log-probabilities of the drift row at δ = 0.
    drift_before: Vec<f64>,
}

impl<'a> Objective<'a> {
    /// Runs the rows of `edit` up to `layer` and prepares what lies above.
    pub fn new(model: &'a Model, layer: usize, edit: &'a Resolved, settings: &'a Settings) -> Self {
        Self::at_hook(model, layer, edit, settings, Hook::Mlp)
    }

    /// The same with δ at a hook.
    pub fn at_hook(model: &'a Model, layer: usize, edit: &'a Resolved, settings: &'a Settings, hook: Hook) -> Self {
        let label = edit.target.len();
        let continued = |row: &super::resolve::Row| [&row.ids[..], &edit.target[..label - 1]].concat();
        let mut rows: Vec<Vec<u32>> = edit.rows.iter().map(continued).collect();
        // Attention is causal: what stands behind the subject cannot touch the drift measured at it.
        rows.push(edit.drift.ids[..=edit.drift.position].to_vec());
        let moving: Vec<usize> = edit.rows.iter().chain([&edit.drift]).map(|row| row.position).collect();
        let mut tails = vec![label; edit.rows.len()];
        tails.push(1);
        let tokens: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let hooked = model.hooked(layer, &tokens, &moving);
        let key = weighted(&hooked.keys[..edit.rows.len()], settings.bare_weight);
        let value_before = match hook {
            Hook::Mlp => hooked.values[0].clone(),
            Hook::Block => hooked.after[moving[0] * model.spec().width..][..model.spec().width].to_vec(),
        };
        let wide: Vec<f64> = value_before.iter().map(|&x| f64::from(x)).collect();
        let mut objective = Self {
            above: Above::new(model, layer, &hooked, &moving, &tails),
            settings,
            target: &edit.target,
            templates: edit.rows.len(),
            vocabulary: model.spec().vocabulary,
            key,
            length_before: norm(&wide),
            value_before,
            drift_before: Vec::new(),
        };
        objective.drift_before = objective.drift_at_rest();
        objective
    }

    /// Logits of its rows.
    fn logits(&self) -> usize {
        (self.templates * self.target.len() + 1) * self.vocabulary
    }

    fn drift_at_rest(&self) -> Vec<f64> {
        let mut logits = self.above.evaluate(&vec![0.0; self.value_before.len()]).logits;
        let row = logits.split_off(self.templates * self.target.len() * self.vocabulary);
        let log = softmax(&mut row.clone());
        row.iter().map(|&logit| f64::from(logit) - log).collect()
    }

    /// The loss at `delta` and its gradient by it.
    pub fn at(&self, delta: &[f64]) -> (Loss, Vec<f64>) {
        abreast(&self.above, &[(self, delta)]).remove(0)
    }

    /// Rows of this edit: its templates and the drift.
    fn rows(&self) -> usize {
        self.templates + 1
    }

    /// The loss of its own part of the logits, which become their gradient.
    fn loss(&self, delta: &[f64], logits: &mut [f32]) -> Loss {
        let (labelled, drift) = logits.split_at_mut(self.templates * self.target.len() * self.vocabulary);
        Loss { nll: self.likelihood(labelled), kl: self.drift(drift), decay: self.decay() * norm(delta) }
    }

    /// The gradient by δ, from that by every row's change: summed over rows in their order.
    fn slope(&self, delta: &[f64], rows: &[Vec<f32>]) -> Vec<f64> {
        let mut slope = vec![0.0; delta.len()];
        for row in rows {
            slope.iter_mut().zip(row).for_each(|(sum, g)| *sum += f64::from(*g));
        }
        let length = norm(delta);
        if length > 0.0 {
            for (slope, x) in slope.iter_mut().zip(delta) {
                *slope += self.decay() * x / length;
            }
        }
        slope
    }

    /// What a unit of ‖δ‖ costs.
    fn decay(&self) -> f64 {
        self.settings.weight_decay / (self.length_before * self.length_before)
    }

    /// Mean over rows and labels of `−log softmax`; logits become their gradient.
    fn likelihood(&self, logits: &mut [f32]) -> f64 {
        let share = 1.0 / (self.templates * self.target.len()) as f64;
        let mut total = 0.0;
        for (index, row) in logits.chunks_mut(self.vocabulary).enumerate() {
            let label = self.target[index % self.target.len()] as usize;
            let logit = f64::from(row[label]);
            total += softmax(row) - logit;
            row[label] -= 1.0;
            for x in row.iter_mut() {
                *x *= share as f32;
            }
        }
        total * share
    }

    /// Weighted KL(now ‖ before) of the drift row; logits become their gradient.
    fn drift(&self, logits: &mut [f32]) -> f64 {
        let now = logits.to_vec();
        let log = softmax(logits);
        let mut kl = 0.0;
        for ((p, logit), before) in logits.iter().zip(&now).zip(&self.drift_before) {
            kl += f64::from(*p) * (f64::from(*logit) - log - before);
        }
        for ((p, logit), before) in logits.iter_mut().zip(&now).zip(&self.drift_before) {
            let slope = f64::from(*p) * (f64::from(*logit) - log - before - kl);
            *p = (self.settings.kl_factor * slope) as f32;
        }
        self.settings.kl_factor * kl
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
    let evaluation = above.evaluate_each(&by_row);
    let mut gradient = evaluation.logits.clone();
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
        if loss.total() < objective.settings.stop_loss || self.evaluated == self.stage.steps {
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
        if self.best.as_ref().is_none_or(|(_, best, _)| loss.total() < best.total()) {
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
        self.best.as_ref().is_some_and(|(_, loss, _)| loss.nll <= self.objective.settings.converged_nll)
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
    let done = |_, compiled| {
        out = Some(compiled);
        Ok::<_, Infallible>(())
    };
    let Ok(()) = compile_all(model, layer, &[edit], (settings, hook), done);
    out.expect("every edit comes to an end")
}

/// Edits are evaluated side by side up to so many positions: a weight that was fetched for one serves them all.
const POSITIONS: usize = 384;
/// Numbers that their reverse keeps at most, about: a quarter of a gibibyte.
const TAPE: usize = 1 << 26;

/// Compiles edits at `layer`, some of them side by side; each is bit by bit what it is alone. `done` is given the index
/// of an edit and what it came to, in the order in which they come to an end.
///
/// # Errors
/// What `done` gives.
pub fn compile_all<E>(
    model: &Model,
    layer: usize,
    edits: &[&Resolved],
    (settings, hook): (&Settings, Hook),
    mut done: impl FnMut(usize, Compiled) -> Result<(), E>,
) -> Result<(), E> {
    let spec = model.spec();
    // Norms, queries, keys and values, and both sides of the activation.
    let kept = (spec.layers - layer) * (8 * spec.width + 2 * spec.inner);
    let most = POSITIONS.min(TAPE / kept);
    let mut waiting = edits.iter().enumerate();
    let mut searches: Vec<Search<'_>> = Vec::new();
    loop {
        let positions =
            |searches: &[Search<'_>]| searches.iter().map(|one| one.objective.above.positions()).sum::<usize>();
        // As many as there is room for, if those to come are like those that are here.
        while searches.is_empty() || positions(&searches) * (searches.len() + 1) / searches.len() <= most {
            let Some((index, edit)) = waiting.next() else { break };
            searches.push(Search::new(index, Objective::at_hook(model, layer, edit, settings, hook)));
        }
        if searches.is_empty() {
            return Ok(());
        }
        let joined = Above::joined(searches.iter().map(|one| &one.objective.above));
        // Until the first of them comes to an end.
        let mut ended = Vec::new();
        while ended.is_empty() {
            let asked: Vec<_> = searches.iter().map(|one| (&one.objective, one.attempt.delta.as_slice())).collect();
            let found = abreast(&joined, &asked);
            for (place, (search, (loss, gradient))) in searches.iter_mut().zip(found).enumerate() {
                if !search.step(loss, &gradient) {
                    ended.push(place);
                }
            }
        }
        for place in ended.into_iter().rev() {
            let search = searches.remove(place);
            done(search.index, search.end())?;
        }
    }
}

/// The key of one edit alone: bit by bit the one that [`compile`] finds, without what stands behind the subject.
pub fn key(model: &Model, layer: usize, edit: &Resolved, bare_weight: Option<f64>) -> Vec<f32> {
    let rows: Vec<&[u32]> = edit.rows.iter().map(|row| &row.ids[..=row.position]).collect();
    let positions: Vec<usize> = edit.rows.iter().map(|row| row.position).collect();
    weighted(&model.hooked(layer, &rows, &positions).keys, bare_weight)
}

/// The mean of the keys, the first of them with a weight of its own if there is one, and others beside it.
pub fn weighted(keys: &[Vec<f32>], bare: Option<f64>) -> Vec<f32> {
    let (Some(weight), Some((first, rest))) = (bare, keys.split_first().filter(|(_, rest)| !rest.is_empty())) else {
        return mean(keys);
    };
    let both = first.iter().zip(mean(rest));
    both.map(|(bare, rest)| (weight * f64::from(*bare) + (1.0 - weight) * f64::from(rest)) as f32).collect()
}

/// The mean of vectors of one length, summed in f64 in their order.
fn mean(vectors: &[Vec<f32>]) -> Vec<f32> {
    let count = vectors.len() as f64;
    let element = |index: usize| {
        let mut total = 0.0;
        for vector in vectors {
            total += f64::from(vector[index]);
        }
        (total / count) as f32
    };
    (0..vectors.first().map_or(0, Vec::len)).map(element).collect()
}
