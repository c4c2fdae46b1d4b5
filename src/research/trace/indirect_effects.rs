//! Traces one fact (Meng et al. 2022, section 2.1). The model runs on the clean prompt, on the prompt with a corrupted
//! subject, and on the corrupted prompt with one state restored. The result is a table of the answer's probability by
//! token and layer of the restored state.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rayon::prelude::*;

use super::fact::{KnownFact, Skipped, TokenizedFact, tokenize};
use super::noise::Noise;
use super::plan::{RestoredKind, RestoredTokens, SeveredNoise, TracePlan};
use crate::model::run::activation_cache::{ActivationCache, Component, RunPrefix, Severed};
use crate::model::run::activation_patching::{OutputPatch, PatchedRun, StartState};
use crate::model::{Model, ModelError, Tokens};
use crate::numeric::rows::softmax;
use crate::progress::Progress;

#[derive(Clone, Debug)]
pub struct FactTrace {
    pub fact: KnownFact,
    /// The text of each token of the prompt.
    pub tokens: Vec<String>,
    /// The index range of the subject's tokens in `tokens`.
    pub subject: Range<usize>,
    /// The text of the traced answer token: the most likely token after the prompt.
    pub answer: String,
    /// The number of tokens of the expected answer; only the first token is traced. `None` if the fact has no expected
    /// answer.
    pub answer_tokens: Option<usize>,
    /// The probability of the answer token in the clean run.
    pub clean: f64,
    /// The mean probability of the answer token in the corrupted runs.
    pub corrupted: f64,
    /// Whether states were restored at all tokens from the subject on, or only at the subject's last token.
    pub places: RestoredTokens,
    /// For each kind of restored state, the probability of the answer token, averaged over the noise samples:
    /// `[tokens][layers]`, or `[1][layers]` if only the subject's last token was restored.
    pub restored: Vec<(RestoredKind, Vec<Vec<f64>>)>,
}

impl FactTrace {
    /// Returns the total effect: the probability of the answer token in the clean run minus its mean probability in the
    /// corrupted runs.
    pub fn total_effect(&self) -> f64 {
        self.clean - self.corrupted
    }

    /// Returns the probabilities of the answer token in the runs that restore states of `kind`, `[tokens][layers]`;
    /// `None` if the kind was not traced.
    pub fn table(&self, kind: RestoredKind) -> Option<&Vec<Vec<f64>>> {
        self.restored.iter().find(|(other, _)| *other == kind).map(|(_, table)| table)
    }
}

/// The maximum number of token positions per batch. A larger number would need more memory and give the same results.
const BATCH: usize = 1024;
/// The number of batches per thread after which progress is reported.
const PROGRESS_EVERY: usize = 16;
/// The maximum number of token positions whose logits are in memory at the same time.
const MOST_ROWS: usize = 256;

/// Traces one fact, which the model must know: the first token of the expected answer must be the most likely next
/// token.
///
/// # Errors
/// If the model does not know the fact, the tokenizer rejects a text, the prompt is too long, or the output is not
/// finite.
pub fn trace(
    model: &Model,
    tokens: &Tokens,
    fact: &KnownFact,
    noise: &Noise,
    plan: &TracePlan,
    progress: &dyn Progress,
) -> Result<FactTrace, Skipped> {
    let TokenizedFact { ids, pieces, subject, answer } = tokenize(fact, tokens, model.spec().max_positions)?;
    let clean = model.run_with_cache(model.embed(&[&ids]), 1, ids.len(), None, None);
    let (said, probability) = likeliest(&model.lm_head(&clean.last()));
    if !probability.is_finite() {
        return Err(ModelError::Overflow.into());
    }
    if let Some(&first) = answer.first().filter(|first| **first != said) {
        return Err(Skipped::Unknown { expected: tokens.piece(first), found: tokens.piece(said) });
    }
    let first = corrupted(model, &clean, &ids, &subject, (noise, 0), None);
    let (samples, length) = (noise.samples, ids.len());
    let runs = TraceRuns {
        model,
        clean: &clean,
        corrupted: &first,
        severed_source: &first,
        samples,
        length,
        answer_token: said,
    };
    let low = mean(&runs.probabilities(&first.last()));
    let rows = |kind: &RestoredKind| if plan.places.only_last_subject(*kind) { 1 } else { length - subject.start };
    let cells = plan.kinds.iter().map(rows).sum::<usize>() * model.spec().layers;
    progress.begin("states to restore", cells as u64);
    let (mut restored, mut done) = (Vec::new(), 0);
    for &kind in &plan.kinds {
        // With [`SeveredNoise::Next`], states are restored in a second corrupted run, which has new noise. Its severed
        // MLP or attention outputs are copied from the first corrupted run.
        let component = kind.severs().filter(|_| plan.severed == SeveredNoise::Next);
        let severed = component.map(|component| Severed { component, position: subject.end - 1, source: &first });
        let next = severed.map(|severed| corrupted(model, &clean, &ids, &subject, (noise, 1), Some(severed)));
        let runs = TraceRuns { corrupted: next.as_ref().unwrap_or(&first), ..runs };
        let mut seen = |count: usize| {
            done += count as u64;
            progress.set_position(done);
        };
        restored.push((kind, runs.table(kind, &subject, plan, low, &mut seen)));
    }
    progress.end();
    Ok(FactTrace {
        fact: fact.clone(),
        tokens: pieces,
        subject,
        answer: tokens.piece(said),
        answer_tokens: Some(answer.len()).filter(|count| *count > 0),
        clean: probability,
        corrupted: low,
        places: plan.places,
        restored,
    })
}

/// Returns the token with the largest logit, and its probability.
fn likeliest(logits: &[f32]) -> (u32, f64) {
    let best = (0..logits.len()).fold(0, |best, id| if logits[id] > logits[best] { id } else { best });
    let mut row = logits.to_vec();
    softmax(&mut row);
    (best as u32, f64::from(row[best]))
}

fn mean(numbers: &[f64]) -> f64 {
    let mut total = 0.0;
    for number in numbers {
        total += number;
    }
    total / numbers.len() as f64
}

/// Runs the prompt with noise on the subject's embeddings, once per noise sample. `block` selects the part of the
/// random stream from which the noise is taken. The noise does not affect the tokens before the subject, so their
/// states are taken from the clean run.
fn corrupted(
    model: &Model,
    clean: &ActivationCache,
    ids: &[u32],
    subject: &Range<usize>,
    (noise, block): (&Noise, usize),
    severed: Option<Severed<'_>>,
) -> ActivationCache {
    let width = model.spec().hidden_size;
    let drawn = noise.draw(subject.len(), width, block);
    let rows = vec![&ids[subject.start..]; noise.samples];
    let x = model.embed_with(&rows, &vec![subject.start; rows.len()], |sample, token, state| {
        if token < subject.len() {
            let numbers = &drawn[(sample * subject.len() + token) * width..][..width];
            state.iter_mut().zip(numbers).for_each(|(x, number)| *x = (f64::from(*x) + number) as f32);
        }
    });
    let prefix = RunPrefix { cache: clean, length: subject.start };
    model.run_with_cache(x, noise.samples, ids.len() - subject.start, Some(prefix), severed)
}

/// The clean and the corrupted runs of one fact, from which the tables of probabilities are computed.
#[derive(Clone, Copy)]
struct TraceRuns<'r> {
    model: &'r Model,
    clean: &'r ActivationCache,
    corrupted: &'r ActivationCache,
    /// The corrupted run from which severed (fixed) MLP or attention outputs are copied.
    severed_source: &'r ActivationCache,
    samples: usize,
    length: usize,
    answer_token: u32,
}

/// The place of an entry in a table of probabilities: the token and the layer of the restored state. The run for this
/// entry computes the layers from `first` on.
#[derive(Clone, Copy)]
struct TraceCell {
    token: usize,
    layer: usize,
    first: usize,
    /// The layer of another cell at the same token. The runs of both cells are equal in all layers before `first`, so
    /// the run of this cell continues from the states of the other run. `None` if the run of this cell starts from a
    /// state in [`InitialStates`].
    trunk: Option<usize>,
}

/// The hidden states from which the runs with restored states start, by layer, token and noise sample.
struct InitialStates {
    /// The index of the first restored token. No states are stored for the tokens before it.
    token: usize,
    samples: usize,
    width: usize,
    /// The hidden states at the input of a layer, by the index of the layer: `[tokens, samples, d]` with d = the hidden
    /// size.
    states: BTreeMap<usize, Vec<f32>>,
}

impl InitialStates {
    fn state(&self, cell: TraceCell, sample: usize) -> &[f32] {
        let at = (cell.token - self.token) * self.samples + sample;
        &self.states[&cell.first][at * self.width..][..self.width]
    }
}

impl<'r> TraceRuns<'r> {
    /// Returns the probabilities of the answer token, `[tokens][layers]`, or `[1][layers]` if only the subject's last
    /// token is restored. Tokens before the subject get the probability `low` of the corrupted run, because their
    /// states are not corrupted.
    fn table(
        &self,
        kind: RestoredKind,
        subject: &Range<usize>,
        plan: &TracePlan,
        low: f64,
        seen: &mut dyn FnMut(usize),
    ) -> Vec<Vec<f64>> {
        let layers = self.model.spec().layers;
        let only_last = plan.places.only_last_subject(kind);
        let tokens = if only_last { subject.end - 1..subject.end } else { subject.start..self.length };
        let before = if only_last { 0 } else { tokens.start };
        let mut table = vec![vec![low; layers]; before + tokens.len()];
        let groups: Vec<Vec<TraceCell>> = tokens.clone().flat_map(|token| groups(kind, token, layers, plan)).collect();
        let starts = self.starts(kind, &tokens, &groups);
        // Batches run in parallel, because copying memory in one batch overlaps with matrix products in another.
        for batches in self.batches(&groups).chunks(PROGRESS_EVERY * rayon::current_num_threads()) {
            let found = batches.par_iter().with_max_len(1).map(|some| self.batch(kind, some, plan, &starts));
            let found: Vec<(TraceCell, f64)> = found.collect::<Vec<_>>().into_iter().flatten().collect();
            seen(found.len());
            for (cell, probability) in found {
                table[cell.token - tokens.start + before][cell.layer] = probability;
            }
        }
        table
    }

    /// Splits the cells of a table of probabilities into batches of at most [`BATCH`] token positions. All cells of a
    /// group are in the same batch, even if the group alone has more positions.
    fn batches<'g>(&self, groups: &'g [Vec<TraceCell>]) -> Vec<&'g [Vec<TraceCell>]> {
        let (mut batches, mut rest) = (Vec::new(), groups);
        while !rest.is_empty() {
            let mut positions = 0;
            let fits = |group: &&Vec<TraceCell>| {
                positions += (self.length - group[0].token) * self.samples * group.len();
                positions <= BATCH
            };
            let (some, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            batches.push(some);
            rest = later;
        }
        batches
    }

    /// Returns the hidden states from which the runs for all cells in `groups` start; a cell is an entry of the table
    /// of probabilities. If single hidden states are restored, a run starts from a clean hidden state. If MLP or
    /// attention outputs are restored, a run starts from the hidden state after the first layer of its window. This
    /// state is the output of the layer for its corrupted input, with the clean MLP or attention output.
    fn starts(&self, kind: RestoredKind, tokens: &Range<usize>, groups: &[Vec<TraceCell>]) -> InitialStates {
        let tokens: Vec<usize> = tokens.clone().collect();
        let firsts: BTreeSet<usize> = groups.iter().map(|group| group[0].first).collect();
        let part = if kind == RestoredKind::Mlp { Component::Mlp } else { Component::Attention };
        let states = |first: usize| {
            if kind.is_window() {
                self.model.patch_one_layer(first - 1, part, self.corrupted, self.clean, &tokens)
            } else {
                let all = tokens.iter().flat_map(|&token| vec![self.clean.state(first, 0, token); self.samples]);
                all.flatten().copied().collect()
            }
        };
        let states = firsts.into_iter().map(|first| (first, states(first))).collect();
        InitialStates { token: tokens[0], samples: self.samples, width: self.model.spec().hidden_size, states }
    }

    /// Runs the model for all cells in `groups`; a cell is an entry of the table of probabilities. Returns the
    /// probability of the answer token for each cell, averaged over the noise samples.
    fn batch(
        &self,
        kind: RestoredKind,
        groups: &[Vec<TraceCell>],
        plan: &TracePlan,
        starts: &InitialStates,
    ) -> Vec<(TraceCell, f64)> {
        let mut cells: Vec<TraceCell> = groups.iter().flatten().copied().collect();
        cells.sort_by_key(|cell| cell.first);
        let trunk_index = |cell: &TraceCell| {
            let layer = cell.trunk?;
            cells.iter().position(|other| (other.token, other.layer) == (cell.token, layer))
        };
        let row = |cell: TraceCell, trunk: Option<usize>, sample: usize| PatchedRun {
            cache: self.corrupted,
            row: sample,
            position: cell.token,
            first: cell.first,
            start: match trunk {
                Some(trunk) => StartState::Fork(trunk * self.samples + sample),
                None => StartState::State(starts.state(cell, sample)),
            },
            // A forked run starts after the window of restored layers, so none of its MLP or attention outputs are
            // replaced.
            outputs: if trunk.is_some() { None } else { self.outputs(kind, cell, sample, plan) },
        };
        let rows = |cell: &TraceCell| {
            let (cell, trunk) = (*cell, trunk_index(cell));
            (0..self.samples).map(move |sample| row(cell, trunk, sample))
        };
        let rows: Vec<PatchedRun<'_>> = cells.iter().flat_map(rows).collect();
        let found = self.probabilities(&self.model.run_patched(&rows));
        cells.iter().copied().zip(found.chunks(self.samples).map(mean)).collect()
    }

    /// Returns the MLP or attention outputs to insert into the run for `cell`, an entry of the table of probabilities:
    /// clean outputs for a window of layers, or corrupted outputs if they are severed. `row` is the index of the noise
    /// sample. Returns `None` if only a hidden state is restored.
    fn outputs(&self, kind: RestoredKind, cell: TraceCell, row: usize, plan: &TracePlan) -> Option<OutputPatch<'r>> {
        let layers = self.model.spec().layers;
        let (part, layers) = match kind {
            RestoredKind::State => return None,
            RestoredKind::Mlp => (Component::Mlp, plan.window(cell.layer, layers)),
            RestoredKind::Attention => (Component::Attention, plan.window(cell.layer, layers)),
            RestoredKind::MlpSevered => (Component::Mlp, cell.first..layers),
            RestoredKind::AttentionSevered => (Component::Attention, cell.first..layers),
        };
        let of = if kind.is_window() { self.clean } else { self.severed_source };
        Some(OutputPatch { component: part, layers, source: of, row: if kind.is_window() { 0 } else { row } })
    }

    /// Returns the probability of the answer token for each run. `states` has the final hidden state of each run,
    /// `[runs, d]` with d = the hidden size.
    fn probabilities(&self, states: &[f32]) -> Vec<f64> {
        let (width, vocabulary) = (self.model.spec().hidden_size, self.model.spec().vocabulary);
        let mut out = Vec::with_capacity(states.len() / width);
        for some in states.chunks(MOST_ROWS * width) {
            let mut logits = self.model.lm_head(some);
            let said = logits.par_chunks_mut(vocabulary).map(|row| {
                softmax(row);
                f64::from(row[self.answer_token as usize])
            });
            out.extend(said.collect::<Vec<f64>>());
        }
        out
    }
}

/// Returns the cells of one token in groups; a cell is an entry of the table of probabilities, with its own run of the
/// model. All cells of a group have windows of restored layers that start at the same layer. If single hidden states
/// are restored, each group has one cell.
///
/// In a group, the run with the longest window computes all layers of the window. The run of a shorter window with at
/// least two layers has the same states up to the end of its window, so it continues from a copy of them.
fn groups(kind: RestoredKind, token: usize, layers: usize, plan: &TracePlan) -> Vec<Vec<TraceCell>> {
    let mut groups: Vec<Vec<TraceCell>> = Vec::new();
    // All windows that reach below layer 0 are cut off there, so they start at the same layer. The loop begins with the
    // last layer, so the longest of these windows is found first, and its cell is the first of its group.
    for layer in (0..layers).rev() {
        let window = plan.window(layer, layers);
        let first = if kind.is_window() { window.start + 1 } else { layer + 1 };
        let own = TraceCell { token, layer, first, trunk: None };
        match groups.last_mut().filter(|group| kind.is_window() && group[0].first == first) {
            // A run starts after the first layer of its window. If the window has only this layer, no layer of the
            // window is left to copy from the run with the longest window, so the run is not forked.
            Some(group) if window.len() == 1 => group.push(own),
            Some(group) => group.push(TraceCell { first: window.end, trunk: Some(group[0].layer), ..own }),
            None => groups.push(vec![own]),
        }
    }
    groups
}
