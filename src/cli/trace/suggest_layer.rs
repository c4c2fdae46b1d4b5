//! Implements `trace --suggest-layer`: measures at which layer edits work best, and traces the facts of these edits for
//! comparison.

use std::time::{Duration, Instant};

use super::arguments::Arguments;
use super::facts::fact_of_edit;
use super::suggest_layer_output::{LayerSearchOutput, answer, around, human};
use super::tracing::trace_each;
use crate::behaviour::expectation::Share;
use crate::behaviour::{Question, scores};
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::compile::Stage;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources};
use crate::pipeline::setup::CorpusDigest;
use crate::pipeline::statistics::load_or_compute_layers;
use crate::pipeline::{Base, BuildContext, Setup};
use crate::project::{Edit, EditSet, Project, parse_files};
use crate::report::Outcome;
use crate::report::table::{percent, plural};
use crate::research::layers::best_layer::{LayerResult, Shares, best, indistinguishable};
use crate::research::layers::coarse_search::{CoarseSearch, Round};
use crate::research::layers::layer_trials::LayerTrials;
use crate::research::trace::cache::trace_cached;
use crate::research::trace::counterfactuals::counterfactual_edits;
use crate::research::trace::{AverageEffects, KnownFact, RestoredKind, RestoredTokens};
use crate::store::Store;

/// The maximum number of edits to try if `--limit` is not set. The run time grows with this number, because each edit
/// is optimised and tested at every tried layer.
const EDITS: usize = 24;

pub(crate) fn suggest(
    context: &Context,
    arguments: &Arguments,
    project: &Project,
    (base, store): (&Base, &Store),
    gathered: Vec<KnownFact>,
) -> Result<Outcome, Failure> {
    let named = layers(arguments, base)?;
    let project = some_edits(arguments, project, base, gathered)?;
    let (rounds, tried) = try_all(context, &project, (base, store), named)?;
    let facts: Vec<KnownFact> = project.edits.edits.iter().map(fact_of_edit).collect();
    // Only MLP and attention outputs are restored, because the printed table and the JSON show only their effects.
    let kinds = vec![RestoredKind::Mlp, RestoredKind::Attention];
    let (noise, plan) = arguments.rules(base, &facts, kinds, RestoredTokens::LastSubject)?;
    let traced_base = (&base.model, &base.tokens, &base.locked.digest);
    let (traced, left) = trace_each(context, facts, |fact| trace_cached(traced_base, fact, (&noise, &plan), store))?;
    let found = best(&tried);
    let others = |chosen: &LayerResult| {
        let others = tried.iter().filter(|one| one.layer != chosen.layer && indistinguishable(chosen, one));
        others.map(|one| one.layer).collect()
    };
    let output = LayerSearchOutput {
        base: (base.name(), base.locked.digest.short()),
        edits: project.edits.edits.iter().map(|edit| edit.id.clone()).collect(),
        rounds,
        suggested: found.map(|found| found.layer),
        indistinguishable: found.map_or_else(Vec::new, others),
        tried,
        window: plan.window,
        noise,
        traced: AverageEffects::of(&traced),
        left_out: left,
    };
    let outcome = if output.suggested.is_some() { Outcome::Ok } else { Outcome::Findings };
    match context.format {
        Format::Json => context.answer_json(outcome, &[], &Sources::default(), answer(&output)),
        _ => context.ui.answer(&human(&output, &project.config.model.prefix(), context.ui.width())),
    }
    Ok(outcome)
}

/// Builds and tests edits at the layers `named`. If `named` is `None`, searches for the best layer: it tries layers far
/// apart first, then layers around the best ones. Returns the rounds of the search, and the results in ascending order
/// of layers.
pub(crate) fn try_all(
    context: &Context,
    project: &Project,
    (base, store): (&Base, &Store),
    named: Option<Vec<usize>>,
) -> Result<(Vec<Round>, Vec<LayerResult>), Failure> {
    let (mut coarse, first) = match named {
        Some(layers) => (None, Round { layers, around: Vec::new() }),
        None => {
            let (coarse, first) = CoarseSearch::new(base.model.spec().layers);
            (Some(coarse), first)
        }
    };
    let setup = Setup::at_layer(project, base, store, CorpusDigest::Remembered, Ok(first.layers[0]))?;
    let trials = LayerTrials::new(project, base, store, &context.ui);
    let (mut rounds, mut tried, mut next) = (Vec::new(), Vec::new(), Some(first));
    while let Some(round) = next {
        context.ui.note(&ahead(&round, project, &setup));
        let build_context = BuildContext { project, base, setup: &setup, store, progress: &context.ui };
        let statistics = load_or_compute_layers(build_context, &round.layers)?;
        let mut clock = Clock::new(base.model.spec().layers, &round.layers);
        for (&layer, (cached, _)) in round.layers.iter().zip(&statistics) {
            let began = Instant::now();
            let (one, kept) = trials.at(&setup.for_layer(layer), cached)?;
            clock.done(layer, (!kept).then(|| began.elapsed()));
            context.ui.note(&format!(
                "{}{}",
                row(&one),
                if kept { "; read from the store".to_owned() } else { clock.left() }
            ));
            tried.push(one);
        }
        rounds.push(round);
        tried.sort_by_key(|one: &LayerResult| one.layer);
        next = coarse.as_mut().and_then(|coarse| coarse.next(&tried));
    }
    Ok((rounds, tried))
}

/// Returns a sentence that announces a round of the search: its layers, the number of MLP values to optimise, and the
/// number of forward and backward passes.
fn ahead(round: &Round, project: &Project, setup: &Setup) -> String {
    let names: usize = project.edits.edits.iter().map(|edit| edit.names().count()).sum();
    let values = names * round.layers.len();
    let steps = |stages: &[Stage]| stages.iter().map(|stage| stage.steps).sum::<usize>();
    let schedule = &setup.settings.schedule;
    format!(
        "{} to try{}: {} of {}; {} evaluations if the first attempts converge, at most {}, fewer if results are in the store",
        plural(round.layers.len(), "layer"),
        around(round),
        plural(values, "value"),
        plural(project.edits.edits.len(), "edit"),
        values * steps(&schedule[..schedule.len().min(1)]),
        values * steps(schedule),
    )
}

/// Formats the results of one layer for the progress output.
fn row(one: &LayerResult) -> String {
    let share = |share: Share| if share.all == 0 { "-".to_owned() } else { percent(share.value()) };
    let Shares { efficacy, paraphrase, unchanged } = one.shares;
    let [efficacy, paraphrase, unchanged] = [efficacy, paraphrase, unchanged].map(share);
    let score = percent(one.shares.score());
    format!("layer {}: efficacy {efficacy}, paraphrase {paraphrase}, unchanged {unchanged}, score {score}", one.layer)
}

/// Estimates the remaining time of a round of the search from the time that its finished layers took.
struct Clock {
    count: usize,
    left: Vec<usize>,
    units: usize,
    took: Duration,
}

impl Clock {
    fn new(count: usize, layers: &[usize]) -> Self {
        Self { count, left: layers.to_vec(), units: 0, took: Duration::ZERO }
    }

    /// Returns the relative cost of an edit at `layer`: the number of layers through which the optimisation
    /// backpropagates, from the last layer down to `layer`.
    fn units(&self, layer: usize) -> usize {
        self.count - layer
    }

    /// Records that `layer` is finished. `took` is `None` if its results were read from the store.
    fn done(&mut self, layer: usize, took: Option<Duration>) {
        self.left.retain(|left| *left != layer);
        if let Some(took) = took {
            self.units += self.units(layer);
            self.took += took;
        }
    }

    fn left(&self) -> String {
        let units: usize = self.left.iter().map(|&layer| self.units(layer)).sum();
        if units == 0 || self.units == 0 {
            return String::new();
        }
        let seconds = self.took.as_secs_f64() * units as f64 / self.units as f64;
        let time = if seconds < 90.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) };
        format!("; {} to go, about {time}", plural(self.left.len(), "layer"))
    }
}

fn refused(message: String) -> Failure {
    Failure::from(Diagnostic::new(Code::TraceRefused, message))
}

/// Returns the layers of `--layers` without duplicates, in ascending order; `None` without that option.
fn layers(arguments: &Arguments, base: &Base) -> Result<Option<Vec<usize>>, Failure> {
    let count = base.model.spec().layers;
    let mut named: Vec<usize> = arguments.layers.iter().flat_map(|range| range.0.clone()).collect();
    named.sort_unstable();
    named.dedup();
    match named.last() {
        None => Ok(None),
        Some(last) if *last >= count => {
            Err(refused(format!("the model has the layers 0 to {}: there is no layer {last}", count - 1)))
        }
        Some(_) => Ok(Some(named)),
    }
}

/// Returns the project with only the edits to try: some of the project's edits, or edits that are made from known
/// facts.
fn some_edits(
    arguments: &Arguments,
    project: &Project,
    base: &Base,
    facts: Vec<KnownFact>,
) -> Result<Project, Failure> {
    let mut some = project.clone();
    some.probes.clear();
    let count = arguments.limit().unwrap_or(EDITS);
    if arguments.facts.is_none() {
        let wanted = |edit: &Edit| arguments.ids.is_empty() || arguments.ids.contains(&edit.id);
        some.edits.edits.retain(wanted);
        // If more than `count` edits are selected, those with the lowest digests of subject, prompt and target are
        // tried. This choice is the same in every run, and does not favour a file or a relation.
        let mut order: Vec<_> = some.edits.edits.iter().map(|edit| (edit.meaning(), edit.id.clone())).collect();
        order.sort();
        order.truncate(count);
        some.edits.edits.retain(|edit| order.iter().any(|(_, id)| *id == edit.id));
        return Ok(some);
    }
    let Some(edits) = edits_of(base, &facts, count, u64::from(arguments.seed)) else {
        return Err(Failure::from(
            Diagnostic::new(Code::TraceRefused, "none of these facts can be used for an edit to try layers")
                .help("a record needs `relation_id` and an `attribute` that the model says")
                .help("another record of its relation must have another attribute"),
        ));
    };
    some.edits = edits;
    Ok(some)
}

/// Samples at most `count` facts that the base knows, and makes one edit from each: the target is the answer of another
/// fact of the same relation. Returns `None` if no edit can be made.
pub(crate) fn edits_of(base: &Base, facts: &[KnownFact], count: usize, seed: u64) -> Option<EditSet> {
    let (text, found) = counterfactual_edits(facts, count, seed, |fact| knows(base, fact));
    // Each edit was already parsed alone, so parsing all of them together cannot fail.
    let (edits, _) = parse_files(vec![("known facts, said otherwise".to_owned(), text.into_bytes())]).ok()?;
    (found > 0).then_some(edits)
}

fn knows(base: &Base, fact: &KnownFact) -> bool {
    let Some(answer) = &fact.answer else { return false };
    let question =
        Question::new(&base.tokens, fact.prompt.as_str().into(), answer.trim(), base.model.spec().max_positions);
    question.is_ok_and(|question| scores(&base.model, &[question])[0].holds)
}
