//! The three runs of one fact, and the table of what restoring each state gives back (Meng et al. 2022, section 2.1).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rayon::prelude::*;

use super::fact::{KnownFact, LeftOut, Resolved, resolve};
use super::noise::Noise;
use crate::model::traced::{Outputs, Part, Record, Resumed, Start};
use crate::model::{Model, ModelError, Tokens};
use crate::numeric::rows::softmax;
use crate::progress::Progress;

/// What is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The hidden state behind one layer.
    State,
    /// The outputs of the MLPs of a window of layers.
    Mlp,
    /// The outputs of the attentions of a window of layers.
    Attention,
    /// The hidden state behind one layer, where the MLPs above it keep what they say of the corrupted subject.
    MlpSevered,
    /// The same with the attentions above it.
    AttentionSevered,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::State, Self::Mlp, Self::Attention, Self::MlpSevered, Self::AttentionSevered];
    /// Those that are traced at every token.
    pub const TABLES: [Self; 3] = [Self::State, Self::Mlp, Self::Attention];

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Mlp => "mlp",
            Self::Attention => "attention",
            Self::MlpSevered => "mlp-severed",
            Self::AttentionSevered => "attention-severed",
        }
    }

    /// Whether the outputs of a window of layers are restored.
    pub fn is_window(self) -> bool {
        matches!(self, Self::Mlp | Self::Attention)
    }

    /// Whether it is traced at the subject's last token only.
    pub fn is_severed(self) -> bool {
        self.severs().is_some()
    }

    /// The part that is severed.
    fn severs(self) -> Option<Part> {
        match self {
            Self::MlpSevered => Some(Part::Mlp),
            Self::AttentionSevered => Some(Part::Attention),
            _ => None,
        }
    }
}

/// What of a fact is traced.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is restored.
    pub kinds: Vec<Kind>,
    /// How many layers a window has.
    pub window: usize,
    /// What noise the severed variants go on with.
    pub severed: SeveredNoise,
    /// At which tokens things are restored.
    pub places: Places,
}

/// The tokens at which states and windows are restored; severed kinds have the subject's last token only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places {
    /// Every token from the subject on.
    All,
    /// The subject's last token.
    LastSubject,
}

impl Places {
    /// Whether a kind is restored at the subject's last token only.
    pub fn only_last_subject(self, kind: Kind) -> bool {
        kind.is_severed() || self == Self::LastSubject
    }

    /// Their name.
    pub fn name(self) -> &'static str {
        if self == Self::All { "all" } else { "last-subject" }
    }
}

/// The noise of the run in which a state is restored and outputs are severed. What is kept of these is of a corrupted
/// run before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SeveredNoise {
    /// That of the run before it: the state is all that differs
    #[default]
    Same,
    /// The next of the stream, as the published figures have it
    Next,
}

impl SeveredNoise {
    /// Its name.
    pub fn name(self) -> &'static str {
        if self == Self::Same { "same" } else { "next" }
    }
}

impl Plan {
    /// The layers of a window where nobody says how many: ten, as published for models of 28 to 48 layers, and a
    /// quarter of fewer layers. A window of all layers would tell one layer from no other.
    pub fn usual_window(layers: usize) -> usize {
        if layers >= 28 { 10 } else { (layers / 4).max(1) }
    }

    /// The layers of the window at `layer`: fewer at the ends.
    pub fn window(&self, layer: usize, layers: usize) -> Range<usize> {
        let first = layer.saturating_sub(self.window / 2);
        let end = layer + self.window.div_ceil(2);
        first..end.min(layers)
    }
}

/// A traced fact.
#[derive(Clone, Debug)]
pub struct Traced {
    /// The fact.
    pub fact: KnownFact,
    /// Its tokens as people read them.
    pub tokens: Vec<String>,
    /// The tokens of its subject.
    pub subject: Range<usize>,
    /// The token that is followed: the likeliest behind the prompt.
    pub answer: String,
    /// How many tokens the whole answer has, where one was given: the first of them is followed.
    pub answer_tokens: Option<usize>,
    /// Its probability.
    pub clean: f64,
    /// Its mean probability with the subject corrupted.
    pub corrupted: f64,
    /// At which tokens things were restored.
    pub places: Places,
    /// Its mean probability with one thing restored, by kind: `[tokens][layers]`; of severed kinds, and where only the
    /// subject's last token was restored, only the row of that token is there.
    pub restored: Vec<(Kind, Vec<Vec<f64>>)>,
}

impl Traced {
    /// Clean minus corrupted.
    pub fn total_effect(&self) -> f64 {
        self.clean - self.corrupted
    }

    /// The table of a kind, if it was traced.
    pub fn table(&self, kind: Kind) -> Option<&Vec<Vec<f64>>> {
        self.restored.iter().find(|(other, _)| *other == kind).map(|(_, table)| table)
    }
}

/// Rows are run so many positions at a time: bounds memory and changes nothing.
const BATCH: usize = 1024;
/// Batches a thread behind which it is told how far the work is.
const TOLD: usize = 16;
/// Last states whose logits are held at once.
const HELD: usize = 256;

/// Traces one fact. The model must know it: the first token of its answer is the likeliest.
///
/// # Errors
/// The model does not know the fact, or cannot read it.
pub fn trace(
    model: &Model,
    tokens: &Tokens,
    fact: &KnownFact,
    noise: &Noise,
    plan: &Plan,
    progress: &dyn Progress,
) -> Result<Traced, LeftOut> {
    let Resolved { ids, pieces, subject, answer } = resolve(fact, tokens, model.spec().positions)?;
    let clean = model.record(model.embed(&[&ids]), 1, ids.len(), None, None);
    let (said, probability) = likeliest(&model.head(&clean.last()));
    if !probability.is_finite() {
        return Err(ModelError::Overflow.into());
    }
    if let Some(&first) = answer.first().filter(|first| **first != said) {
        return Err(LeftOut::Unknown { expected: tokens.piece(first), found: tokens.piece(said) });
    }
    let first = corrupted(model, &clean, &ids, &subject, (noise, 0), None);
    let (samples, length) = (noise.samples, ids.len());
    let runs = Runs { model, clean: &clean, corrupted: &first, kept: &first, samples, length, said };
    let low = mean(&runs.probabilities(&first.last()));
    let rows = |kind: &Kind| if plan.places.only_last_subject(*kind) { 1 } else { length - subject.start };
    let cells = plan.kinds.iter().map(rows).sum::<usize>() * model.spec().layers;
    progress.begin("states to restore", cells as u64);
    let (mut restored, mut done) = (Vec::new(), 0);
    for &kind in &plan.kinds {
        // What is kept of the severed outputs is of the first noise; what goes on may be of the next.
        let part = kind.severs().filter(|_| plan.severed == SeveredNoise::Next);
        let next = part
            .map(|part| corrupted(model, &clean, &ids, &subject, (noise, 1), Some((part, subject.end - 1, &first))));
        let runs = Runs { corrupted: next.as_ref().unwrap_or(&first), ..runs };
        let mut seen = |cells: usize| {
            done += cells as u64;
            progress.at(done);
        };
        restored.push((kind, runs.table(kind, &subject, plan, low, &mut seen)));
    }
    progress.end();
    Ok(Traced {
        fact: fact.clone(),
        tokens: pieces,
        subject,
        answer: tokens.piece(said),
        answer_tokens: Some(answer.len()).filter(|tokens| *tokens > 0),
        clean: probability,
        corrupted: low,
        places: plan.places,
        restored,
    })
}

/// The token of the greatest logit, and its probability.
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

/// The runs with noise on the subject, of the first numbers of the stream or of a block behind them: a row per sample,
/// from the subject's first token on. What stands before it is as it was.
fn corrupted(
    model: &Model,
    clean: &Record,
    ids: &[u32],
    subject: &Range<usize>,
    (noise, block): (&Noise, usize),
    severed: Option<(Part, usize, &Record)>,
) -> Record {
    let width = model.spec().width;
    let drawn = noise.draw(subject.len(), width, block);
    let rows = vec![&ids[subject.start..]; noise.samples];
    let x = model.embed_changed(&rows, subject.start, |sample, token, state| {
        if token < subject.len() {
            let numbers = &drawn[(sample * subject.len() + token) * width..][..width];
            state.iter_mut().zip(numbers).for_each(|(x, noise)| *x = (f64::from(*x) + noise) as f32);
        }
    });
    model.record(x, noise.samples, ids.len() - subject.start, Some((clean, subject.start)), severed)
}

/// What the cells of a table go on from.
#[derive(Clone, Copy)]
struct Runs<'r> {
    model: &'r Model,
    clean: &'r Record,
    corrupted: &'r Record,
    /// The corrupted run of which severed outputs are kept.
    kept: &'r Record,
    samples: usize,
    length: usize,
    said: u32,
}

/// One cell of a table: where it stands, and from which layer on it is computed.
#[derive(Clone, Copy)]
struct Cell {
    token: usize,
    layer: usize,
    first: usize,
    /// The layer of the cell that it leaves at its first layer, if it shares a beginning.
    trunk: Option<usize>,
}

/// What the cells of a table begin with: what stands at each of its tokens, in every sample, before each first layer.
struct Starts {
    /// The first of the tokens.
    token: usize,
    samples: usize,
    width: usize,
    /// Of every first layer that a cell has, `[tokens, samples, d]`.
    states: BTreeMap<usize, Vec<f32>>,
}

impl Starts {
    fn state(&self, cell: Cell, sample: usize) -> &[f32] {
        let at = (cell.token - self.token) * self.samples + sample;
        &self.states[&cell.first][at * self.width..][..self.width]
    }
}

impl<'r> Runs<'r> {
    /// `[tokens][layers]`, or `[1][layers]` where only the subject's last token is restored. Before the subject nothing is corrupted, and
    /// restoring changes nothing.
    fn table(
        &self,
        kind: Kind,
        subject: &Range<usize>,
        plan: &Plan,
        low: f64,
        seen: &mut dyn FnMut(usize),
    ) -> Vec<Vec<f64>> {
        let layers = self.model.spec().layers;
        let only_last = plan.places.only_last_subject(kind);
        let tokens = if only_last { subject.end - 1..subject.end } else { subject.start..self.length };
        let before = if only_last { 0 } else { tokens.start };
        let mut table = vec![vec![low; layers]; before + tokens.len()];
        let groups: Vec<Vec<Cell>> = tokens.clone().flat_map(|token| groups(kind, token, layers, plan)).collect();
        let starts = self.starts(kind, &tokens, &groups);
        // Batches stand side by side, so that what is copied for one is copied while another is multiplied.
        for batches in self.batches(&groups).chunks(TOLD * rayon::current_num_threads()) {
            let found = batches.par_iter().with_max_len(1).map(|some| self.batch(kind, some, plan, &starts));
            let found: Vec<(Cell, f64)> = found.collect::<Vec<_>>().into_iter().flatten().collect();
            seen(found.len());
            for (cell, found) in found {
                table[cell.token - tokens.start + before][cell.layer] = found;
            }
        }
        table
    }

    /// Groups of about [`BATCH`] positions: one at least, however many rows it has.
    fn batches<'g>(&self, groups: &'g [Vec<Cell>]) -> Vec<&'g [Vec<Cell>]> {
        let (mut batches, mut rest) = (Vec::new(), groups);
        while !rest.is_empty() {
            let mut positions = 0;
            let fits = |group: &&Vec<Cell>| {
                positions += (self.length - group[0].token) * self.samples * group.len();
                positions <= BATCH
            };
            let (some, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            batches.push(some);
            rest = later;
        }
        batches
    }

    /// A restored state is the clean one. Of a window the first layer is computed here: it takes what it took, so that
    /// what comes of it differs at one token alone.
    fn starts(&self, kind: Kind, tokens: &Range<usize>, groups: &[Vec<Cell>]) -> Starts {
        let tokens: Vec<usize> = tokens.clone().collect();
        let firsts: BTreeSet<usize> = groups.iter().map(|group| group[0].first).collect();
        let part = if kind == Kind::Mlp { Part::Mlp } else { Part::Attention };
        let states = |first: usize| match kind.is_window() {
            true => self.model.set_once(first - 1, part, self.corrupted, self.clean, &tokens),
            false => {
                let all = tokens.iter().flat_map(|&token| vec![self.clean.state(first, 0, token); self.samples]);
                all.flatten().copied().collect()
            }
        };
        let states = firsts.into_iter().map(|first| (first, states(first))).collect();
        Starts { token: tokens[0], samples: self.samples, width: self.model.spec().width, states }
    }

    /// The cells of a few groups, each with its probability.
    fn batch(&self, kind: Kind, groups: &[Vec<Cell>], plan: &Plan, starts: &Starts) -> Vec<(Cell, f64)> {
        let mut cells: Vec<Cell> = groups.iter().flatten().copied().collect();
        cells.sort_by_key(|cell| cell.first);
        let trunk = |cell: &Cell| {
            let layer = cell.trunk?;
            cells.iter().position(|other| (other.token, other.layer) == (cell.token, layer))
        };
        let row = |cell: Cell, trunk: Option<usize>, sample: usize| Resumed {
            from: self.corrupted,
            row: sample,
            position: cell.token,
            first: cell.first,
            start: match trunk {
                Some(trunk) => Start::Trunk(trunk * self.samples + sample),
                None => Start::State(starts.state(cell, sample)),
            },
            // Whoever leaves a trunk leaves it where the own window ends.
            outputs: if trunk.is_some() { None } else { self.outputs(kind, cell, sample, plan) },
        };
        let rows = |cell: &Cell| {
            let (cell, trunk) = (*cell, trunk(cell));
            (0..self.samples).map(move |sample| row(cell, trunk, sample))
        };
        let rows: Vec<Resumed<'_>> = cells.iter().flat_map(rows).collect();
        let found = self.probabilities(&self.model.resume(&rows));
        cells.iter().copied().zip(found.chunks(self.samples).map(mean)).collect()
    }

    /// What else is set in the layers that are computed of a cell.
    fn outputs(&self, kind: Kind, cell: Cell, row: usize, plan: &Plan) -> Option<Outputs<'r>> {
        let layers = self.model.spec().layers;
        let (part, layers) = match kind {
            Kind::State => return None,
            Kind::Mlp => (Part::Mlp, plan.window(cell.layer, layers)),
            Kind::Attention => (Part::Attention, plan.window(cell.layer, layers)),
            Kind::MlpSevered => (Part::Mlp, cell.first..layers),
            Kind::AttentionSevered => (Part::Attention, cell.first..layers),
        };
        let of = if kind.is_window() { self.clean } else { self.kept };
        Some(Outputs { part, layers, of, row: if kind.is_window() { 0 } else { row } })
    }

    /// The probability of the answer behind last states, `[rows, d]`.
    fn probabilities(&self, states: &[f32]) -> Vec<f64> {
        let (width, vocabulary) = (self.model.spec().width, self.model.spec().vocabulary);
        let mut out = Vec::with_capacity(states.len() / width);
        for some in states.chunks(HELD * width) {
            let mut logits = self.model.head(some);
            let said = logits.par_chunks_mut(vocabulary).map(|row| {
                softmax(row);
                f64::from(row[self.said as usize])
            });
            out.extend(said.collect::<Vec<f64>>());
        }
        out
    }
}

/// The cells of a token, those together that share a beginning. Windows that begin at one layer are one run up to the
/// end of the shorter: the longest is the trunk, and the others leave it where they end.
fn groups(kind: Kind, token: usize, layers: usize, plan: &Plan) -> Vec<Vec<Cell>> {
    let mut groups: Vec<Vec<Cell>> = Vec::new();
    // From the last layer down the longest window of a beginning comes first.
    for layer in (0..layers).rev() {
        let window = plan.window(layer, layers);
        let first = if kind.is_window() { window.start + 1 } else { layer + 1 };
        let own = Cell { token, layer, first, trunk: None };
        match groups.last_mut().filter(|group| kind.is_window() && group[0].first == first) {
            // A window of one layer has no more in common with a longer one than what both begin with.
            Some(group) if window.len() == 1 => group.push(own),
            Some(group) => group.push(Cell { first: window.end, trunk: Some(group[0].layer), ..own }),
            None => groups.push(vec![own]),
        }
    }
    groups
}
