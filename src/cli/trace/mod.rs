//! Implements `trace`: finds where in the model a fact is stored, by causal tracing.

pub(crate) mod output;
pub(crate) mod suggest_layer;
pub(crate) mod suggested_output;

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use crate::behaviour::check_finite_output;
use crate::cli::context::Context;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources};
use crate::model::ModelError;
use crate::pipeline::Base;
use crate::pipeline::plan::select_edits;
use crate::pipeline::policy_limits::not_finite_error;
use crate::progress::{Progress as _, Unseen};
use crate::project::{Edit, PROJECT_FILE, Project};
use crate::regular_file;
use crate::report::Outcome;
use crate::research::trace::{
    FactTrace, GatheredFacts, KnownFact, Noise, NoiseRule, RestoredKind, RestoredTokens, SeveredNoise, Skipped,
    TracePlan, known_facts, subject_in, trace,
};
use crate::store::Store;
use output::{TraceOutput, answer, write};
use suggest_layer::{Layers, suggest};

/// Find where in the model a fact is stored, by causal tracing
///
/// Noise on the subject's embeddings hides the subject from the model. Then one hidden state or window of layers at a
/// time is restored to its value without noise. The effect of that state is the increase in the answer's probability.
/// You can trace declared edits (their old answers), one prompt, or a file of known facts. Facts that the model does
/// not know are left out and counted.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Ids of declared edits; by default, all edits
    #[arg(value_name = "ID", conflicts_with_all = ["prompt", "facts"])]
    pub(super) ids: Vec<String>,
    /// A prompt, with its subject written out
    #[arg(long, value_name = "TEXT", requires = "subject", conflicts_with = "facts")]
    prompt: Option<String>,
    /// The subject, exactly as in the prompt
    #[arg(long, value_name = "TEXT", requires = "prompt")]
    subject: Option<String>,
    /// The answer that the model should know; by default, the model's own answer
    #[arg(long, value_name = "TEXT", requires = "prompt")]
    answer: Option<String>,
    /// File of known facts: a JSON list of `prompt`, `subject` and `attribute`, as in ROME's known_1000.json
    #[arg(long, value_name = "FILE")]
    pub(super) facts: Option<PathBuf>,
    /// Maximum number of facts; by default, all (24 edits with `--suggest-layer`)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Trace this model instead of the project's; with `--prompt` or `--facts`, no project is needed
    #[arg(long, value_name = "DIR|hf:NAME")]
    base: Option<PathBuf>,
    /// Noise: s3 (normal, 3 standard deviations of the subjects' embeddings), 0.1 (normal, this standard deviation),
    /// u0.2 (uniform, up to this value)
    #[arg(long, value_name = "RULE", default_value_t)]
    noise: NoiseRule,
    /// Number of noise samples per subject
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    samples: u16,
    /// Seed of the noise; with `--suggest-layer --facts`, also of the selection of edits
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u32,
    /// Number of layers in a window of MLPs or attentions; by default 10, or a quarter of the layers of a model with
    /// fewer than 28
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    window: Option<u16>,
    /// Measure which layer takes edits best, and show the results of tracing for comparison
    ///
    /// Each edit is built alone at a layer and tested against its expectations. In a model with more than eight layers,
    /// layers far apart are tried first, then layers around the best ones; `--layers 0-29` tries all layers of a model
    /// with thirty. The edits are those of the project, or are made from facts of `--facts` and answers of other
    /// subjects; 24 are tried by default. Results are stored, so an interrupted run can be resumed.
    #[arg(long, conflicts_with_all = ["prompt", "out", "no_severed", "base"])]
    pub(super) suggest_layer: bool,
    /// Try only these layers: 3, or 2-5, or 0,4,8-9
    #[arg(long, value_name = "LAYERS", value_delimiter = ',', requires = "suggest_layer")]
    pub(super) layers: Vec<Layers>,
    /// Skip the severed variants
    #[arg(long)]
    no_severed: bool,
    /// Noise of a run with severed outputs: `same` as in the corrupted run from which these outputs are taken
    /// (default), or the `next` noise of the stream, as in the published code
    #[arg(
        long,
        value_enum,
        value_name = "same|next",
        hide_possible_values = true,
        default_value_t,
        conflicts_with = "no_severed"
    )]
    severed_noise: SeveredNoise,
    /// New folder for figures (SVG, PNG), an HTML page, and all numbers as JSON
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Maximum number of facts with figures of their own
    #[arg(long, value_name = "N", default_value_t = 24, requires = "out")]
    pictures: usize,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    traced(context, arguments).unwrap_or_else(|outcome| outcome)
}

fn traced(context: &Context, arguments: &Arguments) -> Result<Outcome, Outcome> {
    let alone = arguments.base.is_some() && (arguments.prompt.is_some() || arguments.facts.is_some());
    if arguments.base.is_some() && !alone && arguments.ids.is_empty() && !context.root.join(PROJECT_FILE).exists() {
        let finding = Diagnostic::new(Code::TraceRefused, "no fact to trace in this model is given");
        let help =
            "give `--prompt TEXT --subject TEXT`, or `--facts FILE`; by default the edits of a project are traced";
        return Err(context.fail(finding.help(help)));
    }
    let project = if alone { None } else { Some(context.project()?) };
    let store = context.store().map_err(|finding| context.fail(finding))?;
    let stop = |stop: Failure| context.stop(&stop);
    let (mut facts, left) = gather(arguments, project.as_ref()).map_err(stop)?;
    if let Some(project) = project.as_ref().filter(|_| arguments.suggest_layer) {
        let base = context.base(project, &store, false).map_err(stop)?;
        let texts = facts.iter().map(|fact| fact.prompt.as_str().into());
        check_finite_output(&base.model, &base.tokens, texts).map_err(|error| stop(not_finite_error(&error)))?;
        return suggest(context, arguments, project, (&base, &store), facts).map_err(stop);
    }
    let store = store.for_reading();
    let base = open(context, arguments, project.as_ref(), &store).map_err(stop)?;
    let place = arguments.out.as_deref().map(|out| place(context, out, &base, &store)).transpose().map_err(stop)?;
    let kinds = RestoredKind::ALL.into_iter().filter(|kind| !(arguments.no_severed && kind.is_severed())).collect();
    // The noise depends on the subjects of all facts, even of those that are not traced, so that a subset has the same
    // results as the whole set.
    let (noise, plan) = arguments.rules(&base, &facts, (kinds, RestoredTokens::All)).map_err(stop)?;
    facts.truncate(arguments.limit().unwrap_or(usize::MAX));
    let mut output = TraceOutput::new(&base, noise, plan, facts.len() + left.len(), left);
    let (traced, left) = trace_all(context, &base, facts, &output.noise, &output.plan);
    output.traced = traced;
    output.left.extend(left);
    if output.traced.is_empty() {
        return Ok(nothing(context, &output.left));
    }
    output.sum_up();
    let files = place.map(|place| write(place, &output, arguments.pictures)).transpose().map_err(stop)?;
    answer(context, &output, files.as_ref().map(|files| (arguments.out.as_deref().unwrap_or(Path::new("")), *files)));
    Ok(Outcome::Ok)
}

impl Arguments {
    /// Returns the maximum number of facts; `None` if `--limit` is not set.
    pub(super) fn limit(&self) -> Option<usize> {
        self.limit.and_then(|limit| usize::try_from(limit).ok())
    }

    /// Returns the noise, whose strength may depend on the subjects of `facts`, and the plan of what is restored.
    pub(super) fn rules(
        &self,
        base: &Base,
        facts: &[KnownFact],
        (kinds, places): (Vec<RestoredKind>, RestoredTokens),
    ) -> Result<(Noise, TracePlan), Failure> {
        let subjects: Vec<&str> = facts.iter().map(KnownFact::subject_text).collect();
        let noise = Noise::new(self.noise, &base.model, &base.tokens, &subjects, self.seed, usize::from(self.samples));
        let wrong = |error: ModelError| Failure::from(Diagnostic::new(Code::TraceRefused, error.to_string()));
        let usual = TracePlan::default_window(base.model.spec().layers);
        let window = self.window.map_or(usual, usize::from);
        Ok((noise.map_err(wrong)?, TracePlan { kinds, window, severed: self.severed_noise, places }))
    }
}

/// The traced facts, and the facts that could not be traced, each as its id and the reason.
type Results = (Vec<FactTrace>, Vec<(String, Skipped)>);

/// Traces facts one after the other. Facts that cannot be traced are returned with the reason.
pub(super) fn trace_all(
    context: &Context,
    base: &Base,
    facts: Vec<KnownFact>,
    noise: &Noise,
    plan: &TracePlan,
) -> Results {
    if let [fact] = facts.as_slice() {
        return match trace(&base.model, &base.tokens, fact, noise, plan, &context.ui) {
            Ok(one) => (vec![one], Vec::new()),
            Err(error) => (Vec::new(), vec![(fact.id.clone(), error)]),
        };
    }
    let one = |fact: &KnownFact| Ok::<_, Infallible>(trace(&base.model, &base.tokens, fact, noise, plan, &Unseen));
    let Ok(traced) = trace_each(context, facts, one);
    traced
}

/// Traces facts one after the other with the function `one`.
///
/// # Errors
/// If `one` fails.
pub(super) fn trace_each<E>(
    context: &Context,
    facts: Vec<KnownFact>,
    one: impl Fn(&KnownFact) -> Result<Result<FactTrace, Skipped>, E>,
) -> Result<Results, E> {
    let (mut traced, mut left) = (Vec::new(), Vec::new());
    context.ui.begin("facts to trace", facts.len() as u64);
    for (index, fact) in facts.into_iter().enumerate() {
        match one(&fact).inspect_err(|_| context.ui.end())? {
            Ok(one) => {
                context.ui.line(&said(&one));
                traced.push(one);
            }
            Err(error) => left.push((fact.id, error)),
        }
        context.ui.at(index as u64 + 1);
    }
    context.ui.end();
    Ok((traced, left))
}

fn said(one: &FactTrace) -> String {
    format!("{}: {:?} {:.3}, corrupted {:.3}", one.fact.id, one.answer, one.clean, one.corrupted)
}

fn place(
    context: &Context,
    out: &Path,
    base: &Base,
    store: &Store,
) -> Result<crate::export::destination::Destination, Failure> {
    context.may_export(out)?;
    Ok(crate::export::destination::Destination::folder(out, &base.folder, store.root())?)
}

fn open(context: &Context, arguments: &Arguments, project: Option<&Project>, store: &Store) -> Result<Base, Failure> {
    let wrong = Failure::from;
    match (&arguments.base, project) {
        (Some(name), _) => context.base_named(name, store, false),
        (None, Some(project)) => context.base(project, store, false),
        // Without `--base` there is always a project: the caller loads it.
        (None, None) => Err(wrong(Diagnostic::new(Code::ProjectMissing, "no model is named"))),
    }
}

fn gather(arguments: &Arguments, project: Option<&Project>) -> Result<GatheredFacts, Failure> {
    let wrong = |message: String| Failure::from(Diagnostic::new(Code::TraceRefused, message));
    let (facts, left) = match (&arguments.prompt, &arguments.subject, &arguments.facts) {
        (Some(prompt), Some(subject), _) => {
            let place = subject_in(prompt, subject).map_err(|error| {
                let finding = Diagnostic::new(Code::TraceRefused, error.to_string()).help(AS_IT_STANDS);
                Failure::from(finding)
            })?;
            if arguments.answer.as_ref().is_some_and(|answer| answer.trim().is_empty()) {
                return Err(wrong("the answer is empty: leave `--answer` out to trace what the model says".to_owned()));
            }
            let (prompt, answer) = (prompt.clone(), arguments.answer.clone());
            (
                vec![KnownFact {
                    id: "prompt".to_owned(),
                    prompt,
                    subject: place,
                    answer,
                    relation: None,
                    chat: false,
                }],
                Vec::new(),
            )
        }
        (_, _, Some(file)) => {
            let text = regular_file::read(file, MOST_FACTS_BYTES).map_err(|error| error.to_string());
            let text = text.and_then(|bytes| Ok(regular_file::text(bytes)?));
            let text = text.map_err(|error| wrong(format!("reading {}: {error}", file.display())))?;
            known_facts(text.as_bytes()).map_err(|error| wrong(format!("{}: {error}", file.display())))?
        }
        _ => {
            let project = project.ok_or_else(|| wrong("there is no project".to_owned()))?;
            (select_edits(project, &arguments.ids)?.into_iter().map(of_edit).collect(), Vec::new())
        }
    };
    match facts.is_empty() && left.is_empty() {
        true => Err(wrong("there is no fact to trace".to_owned())),
        false => Ok((facts, left)),
    }
}

const AS_IT_STANDS: &str = "write the subject exactly as in the prompt";

/// The maximum size of a file of known facts, in bytes.
const MOST_FACTS_BYTES: u64 = 1 << 26;

/// Returns the old fact of an edit. Its answer is the edit's `was`, or `None` if the edit has no `was`.
pub(super) fn of_edit(edit: &Edit) -> KnownFact {
    KnownFact {
        id: edit.id.clone(),
        prompt: edit.filled_prompt(),
        subject: edit.subject_range(),
        answer: edit.was.clone(),
        relation: None,
        chat: edit.chat,
    }
}

/// Ends a run that traced no fact. The outcome is `No` if the model knows none of the facts, and `Error` if the reason
/// is another one for some of them.
fn nothing(context: &Context, left: &[(String, Skipped)]) -> Outcome {
    const SHOWN: usize = 10;
    let finding = |(id, why): &(String, Skipped)| {
        let finding = Diagnostic::new(Code::TraceRefused, format!("`{id}` is not traced: {why}"));
        match why {
            Skipped::Unknown { .. } => {
                finding.help("only an answer that the model gives can be traced; leave the answer out to trace that")
            }
            Skipped::NoSubject { .. } => finding.help(AS_IT_STANDS),
            _ => finding,
        }
    };
    let mut findings: Vec<Diagnostic> = left.iter().take(SHOWN).map(finding).collect();
    if let Some(more) = left.len().checked_sub(SHOWN + 1).map(|more| more + 1) {
        findings.push(Diagnostic::new(Code::TraceRefused, format!("{more} more facts are not traced")));
    }
    let unknown = left.iter().all(|(_, why)| matches!(why, Skipped::Unknown { .. }));
    context.refuse(if unknown { Outcome::Findings } else { Outcome::Error }, &findings, &Sources::default())
}
