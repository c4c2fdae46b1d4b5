//! `trace`: causal tracing. Where in the model a fact is held.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use super::suggest::{Layers, suggest};
use super::traced::{Told, answer, write};
use super::{Context, Outcome};
use crate::behaviour::check_says;
use crate::build::gate::silent;
use crate::build::plan::only;
use crate::build::{Base, Stop};
use crate::model::ModelError;
use crate::plain;
use crate::progress::{Progress as _, Unseen};
use crate::project::{Code, Diagnostic, Edit, PROJECT_FILE, Project, Sources};
use crate::store::Store;
use crate::trace::{
    Gathered, Kind, KnownFact, LeftOut, Noise, NoiseRule, Places, Plan, SeveredNoise, Traced, known_facts, subject_in,
    trace,
};

/// Find where in the model a fact is held, by causal tracing
///
/// The subject is made unreadable by noise, one state after the other is restored, and what of the answer comes back is
/// that state's effect. Traced are declared edits (what the base says behind their prompts), one prompt, or a file of
/// known facts; facts that the model does not know are left out, and counted.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Ids of declared edits; all of them if nothing is said
    #[arg(value_name = "ID", conflicts_with_all = ["prompt", "facts"])]
    pub(super) ids: Vec<String>,
    /// A prompt, written out
    #[arg(long, value_name = "TEXT", requires = "subject", conflicts_with = "facts")]
    prompt: Option<String>,
    /// The subject, as it stands in the prompt
    #[arg(long, value_name = "TEXT", requires = "prompt")]
    subject: Option<String>,
    /// The answer that the model should know; what it says, if nothing is said
    #[arg(long, value_name = "TEXT", requires = "prompt")]
    answer: Option<String>,
    /// Known facts: a JSON list of `prompt`, `subject` and `attribute`, as ROME's known_1000.json
    #[arg(long, value_name = "FILE")]
    pub(super) facts: Option<PathBuf>,
    /// At most so many facts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Another model than the project's; with `--prompt` or `--facts` no project is needed then
    #[arg(long, value_name = "DIR|hf:NAME")]
    base: Option<PathBuf>,
    /// Noise: s3 (standard deviations of the subjects' embeddings), 0.1 (fixed), u0.2 (uniform)
    #[arg(long, value_name = "RULE", default_value_t)]
    noise: NoiseRule,
    /// How often each subject is corrupted
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    samples: u16,
    /// The seed of the noise; with `--suggest-layer --facts` of the drawn edits too
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u32,
    /// Layers of a window of MLPs or attentions: 10, or a quarter of a model with fewer than 28
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    window: Option<u16>,
    /// Try which layer takes edits best, and show what tracing says beside it
    ///
    /// Each edit is built alone at a layer and asked what it expects. Of a model with more than eight layers, layers far
    /// apart are tried first, and then those around the best; `--layers 0-29` tries all of thirty. Tried are the project's
    /// edits, or facts of `--facts`, answered by other subjects' answers; 24 of them if `--limit` says nothing. What was
    /// computed is kept: a run that was stopped goes on where it was.
    #[arg(long, conflicts_with_all = ["prompt", "out", "no_severed", "base"])]
    pub(super) suggest_layer: bool,
    /// Try these layers only: 3, or 2-5, or 0,4,8-9
    #[arg(long, value_name = "LAYERS", value_delimiter = ',', requires = "suggest_layer")]
    pub(super) layers: Vec<Layers>,
    /// Leave out the severed variants
    #[arg(long)]
    no_severed: bool,
    /// The noise behind which outputs are severed: that of what is kept of them, or the stream's next, as published
    #[arg(
        long,
        value_enum,
        value_name = "same|next",
        hide_possible_values = true,
        default_value_t,
        conflicts_with = "no_severed"
    )]
    severed_noise: SeveredNoise,
    /// A new folder for figures (SVG, PNG), a page, and every number as JSON
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Figures of single facts, at most so many
    #[arg(long, value_name = "N", default_value_t = 24, requires = "out")]
    pictures: usize,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    traced(context, arguments).unwrap_or_else(|outcome| outcome)
}

fn traced(context: &Context, arguments: &Arguments) -> Result<Outcome, Outcome> {
    let alone = arguments.base.is_some() && (arguments.prompt.is_some() || arguments.facts.is_some());
    if arguments.base.is_some() && !alone && arguments.ids.is_empty() && !context.root.join(PROJECT_FILE).exists() {
        let finding = Diagnostic::new(Code::TraceRefused, "nothing says what to trace in this model");
        let help =
            "`--prompt TEXT --subject TEXT`, or `--facts FILE`; without them declared edits are traced, of a project";
        return Err(context.fail(finding.help(help)));
    }
    let project = if alone { None } else { Some(context.project()?) };
    let store = context.store().map_err(|finding| context.fail(finding))?;
    let stop = |stop: Stop| context.stop(&stop);
    let (mut facts, left) = gather(arguments, project.as_ref()).map_err(stop)?;
    if let Some(project) = project.as_ref().filter(|_| arguments.suggest_layer) {
        let base = context.base(project, &store, false).map_err(stop)?;
        let texts = facts.iter().map(|fact| fact.prompt.as_str().into());
        check_says(&base.model, &base.tokens, texts).map_err(|error| stop(silent(&error)))?;
        return suggest(context, arguments, project, (&base, &store), facts).map_err(stop);
    }
    let store = store.for_reading();
    let base = open(context, arguments, project.as_ref(), &store).map_err(stop)?;
    let place = arguments.out.as_deref().map(|out| place(context, out, &base, &store)).transpose().map_err(stop)?;
    let kinds = Kind::ALL.into_iter().filter(|kind| !(arguments.no_severed && kind.is_severed())).collect();
    // The noise goes by the subjects of all facts, whether they are traced or not: a part is traced as the whole is.
    let (noise, plan) = arguments.rules(&base, &facts, (kinds, Places::All)).map_err(stop)?;
    facts.truncate(arguments.limit().unwrap_or(usize::MAX));
    let mut told = Told::new(&base, noise, plan, facts.len() + left.len(), left);
    let (traced, left) = trace_all(context, &base, facts, &told.noise, &told.plan);
    told.traced = traced;
    told.left.extend(left);
    if told.traced.is_empty() {
        return Ok(nothing(context, &told.left));
    }
    told.sum_up();
    let files = place.map(|place| write(place, &told, arguments.pictures)).transpose().map_err(stop)?;
    answer(context, &told, files.as_ref().map(|files| (arguments.out.as_deref().unwrap_or(Path::new("")), *files)));
    Ok(Outcome::Ok)
}

impl Arguments {
    /// How many facts at most, where that is said.
    pub(super) fn limit(&self) -> Option<usize> {
        self.limit.and_then(|limit| usize::try_from(limit).ok())
    }

    /// The noise for these facts, and what is restored.
    pub(super) fn rules(
        &self,
        base: &Base,
        facts: &[KnownFact],
        (kinds, places): (Vec<Kind>, Places),
    ) -> Result<(Noise, Plan), Stop> {
        let subjects: Vec<&str> = facts.iter().map(KnownFact::subject_text).collect();
        let noise = Noise::new(self.noise, &base.model, &base.tokens, &subjects, self.seed, usize::from(self.samples));
        let wrong = |error: ModelError| {
            Stop::wrong(vec![Diagnostic::new(Code::TraceRefused, error.to_string())], &Sources::default())
        };
        let usual = Plan::usual_window(base.model.spec().layers);
        let window = self.window.map_or(usual, usize::from);
        Ok((noise.map_err(wrong)?, Plan { kinds, window, severed: self.severed_noise, places }))
    }
}

/// Traced facts; and those that cannot be traced, by their ids.
type Results = (Vec<Traced>, Vec<(String, LeftOut)>);

/// Traces facts, one after the other; those that cannot be traced are told with the reason.
pub(super) fn trace_all(context: &Context, base: &Base, facts: Vec<KnownFact>, noise: &Noise, plan: &Plan) -> Results {
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

/// Traces facts in one way or another, one after the other.
///
/// # Errors
/// What `one` gives.
pub(super) fn trace_each<E>(
    context: &Context,
    facts: Vec<KnownFact>,
    one: impl Fn(&KnownFact) -> Result<Result<Traced, LeftOut>, E>,
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

fn said(one: &Traced) -> String {
    format!("{}: {:?} {:.3}, corrupted {:.3}", one.fact.id, one.answer, one.clean, one.corrupted)
}

fn place(context: &Context, out: &Path, base: &Base, store: &Store) -> Result<crate::export::place::Place, Stop> {
    context.may_export(out).map_err(|finding| Stop::wrong(vec![finding], &Sources::default()))?;
    Ok(crate::export::place::Place::folder(out, &base.folder, store.root())?)
}

fn open(context: &Context, arguments: &Arguments, project: Option<&Project>, store: &Store) -> Result<Base, Stop> {
    let wrong = |finding| Stop::wrong(vec![finding], &Sources::default());
    match (&arguments.base, project) {
        (Some(name), _) => context.base_named(name, store, false),
        (None, Some(project)) => context.base(project, store, false),
        // Without a base there is a project: the caller saw to it.
        (None, None) => Err(wrong(Diagnostic::new(Code::ProjectMissing, "no model is named"))),
    }
}

fn gather(arguments: &Arguments, project: Option<&Project>) -> Result<Gathered, Stop> {
    let wrong = |message: String| Stop::wrong(vec![Diagnostic::new(Code::TraceRefused, message)], &Sources::default());
    let (facts, left) = match (&arguments.prompt, &arguments.subject, &arguments.facts) {
        (Some(prompt), Some(subject), _) => {
            let place = subject_in(prompt, subject).map_err(|error| {
                let finding = Diagnostic::new(Code::TraceRefused, error.to_string()).help(AS_IT_STANDS);
                Stop::wrong(vec![finding], &Sources::default())
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
            let text = plain::read(file, MOST_FACTS_BYTES).map_err(|error| error.to_string());
            let text = text.and_then(|bytes| Ok(plain::text(bytes)?));
            let text = text.map_err(|error| wrong(format!("reading {}: {error}", file.display())))?;
            known_facts(text.as_bytes()).map_err(|error| wrong(format!("{}: {error}", file.display())))?
        }
        _ => {
            let project = project.ok_or_else(|| wrong("there is no project".to_owned()))?;
            (only(project, &arguments.ids)?.into_iter().map(of_edit).collect(), Vec::new())
        }
    };
    match facts.is_empty() && left.is_empty() {
        true => Err(wrong("there is no fact to trace".to_owned())),
        false => Ok((facts, left)),
    }
}

const AS_IT_STANDS: &str = "write the subject as it stands in the prompt, letter for letter";

/// The largest file of known facts that is read.
const MOST_FACTS_BYTES: u64 = 1 << 26;

/// What the base knows of an edit's fact: its old answer, where that is written.
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

/// No fact was traced: that is a `no` where the model knows none of them, and an error where none can be read.
fn nothing(context: &Context, left: &[(String, LeftOut)]) -> Outcome {
    const SHOWN: usize = 10;
    let finding = |(id, why): &(String, LeftOut)| {
        let finding = Diagnostic::new(Code::TraceRefused, format!("`{id}` is not traced: {why}"));
        match why {
            LeftOut::Unknown { .. } => {
                finding.help("only what a model knows can be traced; without an answer, what it says is")
            }
            LeftOut::NoSubject { .. } => finding.help(AS_IT_STANDS),
            _ => finding,
        }
    };
    let mut findings: Vec<Diagnostic> = left.iter().take(SHOWN).map(finding).collect();
    if let Some(more) = left.len().checked_sub(SHOWN + 1).map(|more| more + 1) {
        findings.push(Diagnostic::new(Code::TraceRefused, format!("and {more} more are not traced")));
    }
    let unknown = left.iter().all(|(_, why)| matches!(why, LeftOut::Unknown { .. }));
    context.refuse(if unknown { Outcome::No } else { Outcome::Error }, &findings, &Sources::default())
}
