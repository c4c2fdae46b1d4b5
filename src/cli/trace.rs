//! `trace`: causal tracing. Where in the model a fact is held.

use std::path::{Path, PathBuf};

use super::traced::{Told, answer, write};
use super::{Context, Outcome};
use crate::build::base::folder_named;
use crate::build::plan::only;
use crate::build::{Base, Stop};
use crate::progress::Progress as _;
use crate::project::{Code, Diagnostic, Edit, Project, Sources};
use crate::store::Store;
use crate::trace::{
    Gathered, Kind, KnownFact, LeftOut, Noise, NoiseRule, Plan, Traced, known_facts, subject_in, trace,
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
    ids: Vec<String>,
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
    facts: Option<PathBuf>,
    /// At most so many facts
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Another model than the project's; with `--prompt` or `--facts` no project is needed then
    #[arg(long, value_name = "DIR|hf:NAME")]
    base: Option<PathBuf>,
    /// Noise: s3 (standard deviations of the subjects' embeddings), 0.1 (fixed), u0.2 (uniform)
    #[arg(long, value_name = "RULE", default_value_t)]
    noise: NoiseRule,
    /// How often each subject is corrupted
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    samples: u16,
    /// The seed of the noise
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u32,
    /// Layers of a window of MLPs or attentions: 10, or a quarter of a model with fewer than 28
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    window: Option<u16>,
    /// Leave out the severed variants
    #[arg(long)]
    no_severed: bool,
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
    let project = if alone { None } else { Some(context.project()?) };
    let store = context.store().map_err(|finding| context.fail(finding))?.for_reading();
    let stop = |stop: Stop| context.stop(&stop);
    let (facts, left) = gather(arguments, project.as_ref()).map_err(stop)?;
    let base = open(context, arguments, project.as_ref(), &store).map_err(stop)?;
    let place = arguments.out.as_deref().map(|out| place(out, &base, &store)).transpose().map_err(stop)?;
    let subjects: Vec<&str> = facts.iter().map(KnownFact::subject_text).collect();
    let samples = usize::from(arguments.samples);
    let noise = Noise::new(arguments.noise, &base.model, &base.tokens, &subjects, arguments.seed, samples);
    let noise = noise.map_err(|error| context.fail(Diagnostic::new(Code::TraceRefused, error.to_string())))?;
    let mut told = Told::new(&base, noise, plan(arguments, &base), facts.len() + left.len(), left);
    context.ui.begin("facts to trace", facts.len() as u64);
    for (index, fact) in facts.iter().enumerate() {
        match trace(&base.model, &base.tokens, fact, &told.noise, &told.plan) {
            Ok(one) => {
                context.ui.line(&said(&one));
                told.traced.push(one);
            }
            Err(error) => told.left.push((fact.id.clone(), error)),
        }
        context.ui.at(index as u64 + 1);
    }
    context.ui.end();
    if told.traced.is_empty() {
        return Ok(nothing(context, &told.left));
    }
    told.sum_up();
    let files = place.map(|place| write(place, &told, arguments.pictures)).transpose().map_err(stop)?;
    answer(context, &told, files.as_ref().map(|files| (arguments.out.as_deref().unwrap_or(Path::new("")), *files)));
    Ok(Outcome::Ok)
}

fn said(one: &Traced) -> String {
    format!("{}: {:?} {:.3}, corrupted {:.3}", one.fact.id, one.answer, one.clean, one.corrupted)
}

fn plan(arguments: &Arguments, base: &Base) -> Plan {
    let kinds = Kind::ALL.into_iter().filter(|kind| !(arguments.no_severed && kind.is_severed())).collect();
    let usual = Plan::usual_window(base.model.spec().layers);
    Plan { kinds, window: arguments.window.map_or(usual, usize::from) }
}

fn place(out: &Path, base: &Base, store: &Store) -> Result<crate::export::place::Place, Stop> {
    Ok(crate::export::place::Place::folder(out, &base.folder, store.root())?)
}

fn open(context: &Context, arguments: &Arguments, project: Option<&Project>, store: &Store) -> Result<Base, Stop> {
    let wrong = |finding| Stop::wrong(vec![finding], &Sources::default());
    match (&arguments.base, project) {
        (Some(name), _) => {
            folder_named(name).and_then(|folder| Base::at(&folder, store, context.isa, false)).map_err(wrong)
        }
        (None, Some(project)) => Base::open(project, store, context.isa, false),
        // Without a base there is a project: the caller saw to it.
        (None, None) => Err(wrong(Diagnostic::new(Code::ProjectMissing, "no model is named"))),
    }
}

fn gather(arguments: &Arguments, project: Option<&Project>) -> Result<Gathered, Stop> {
    let wrong = |message: String| Stop::wrong(vec![Diagnostic::new(Code::TraceRefused, message)], &Sources::default());
    let (mut facts, left) = match (&arguments.prompt, &arguments.subject, &arguments.facts) {
        (Some(prompt), Some(subject), _) => {
            let place = subject_in(prompt, subject).map_err(|error| wrong(error.to_string()))?;
            let (prompt, answer) = (prompt.clone(), arguments.answer.clone());
            (vec![KnownFact { id: "prompt".to_owned(), prompt, subject: place, answer, chat: false }], Vec::new())
        }
        (_, _, Some(file)) => {
            let bytes = std::fs::read(file).map_err(|error| wrong(format!("reading {}: {error}", file.display())))?;
            known_facts(&bytes).map_err(|error| wrong(format!("{}: {error}", file.display())))?
        }
        _ => {
            let project = project.ok_or_else(|| wrong("there is no project".to_owned()))?;
            (only(project, &arguments.ids)?.into_iter().map(of_edit).collect(), Vec::new())
        }
    };
    facts.truncate(arguments.limit.unwrap_or(usize::MAX));
    match facts.is_empty() && left.is_empty() {
        true => Err(wrong("there is no fact to trace".to_owned())),
        false => Ok((facts, left)),
    }
}

/// What the base knows of an edit's fact: its old answer, where that is written.
fn of_edit(edit: &Edit) -> KnownFact {
    KnownFact {
        id: edit.id.clone(),
        prompt: edit.filled_prompt(),
        subject: edit.subject_range(),
        answer: edit.was.clone(),
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
                finding.help("only what a model knows can be traced: `corrigenda plan` shows what it says")
            }
            LeftOut::NoSubject { .. } => {
                finding.help("write the subject as it stands in the prompt, letter for letter")
            }
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
