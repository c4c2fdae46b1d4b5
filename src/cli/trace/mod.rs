//! Implements `trace`: finds where in the model a fact is stored, by causal tracing.

mod arguments;
mod facts;
mod output;
pub(in crate::cli) mod suggest_layer;
mod suggest_layer_output;
mod tracing;

use std::path::Path;

use crate::behaviour::check_finite_output;
use crate::cli::context::Context;
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::export::destination::Destination;
use crate::pipeline::Base;
use crate::pipeline::policy_limits::not_finite_error;
use crate::project::{PROJECT_FILE, Project};
use crate::report::Outcome;
use crate::research::trace::{RestoredKind, RestoredTokens};
use crate::store::Store;
pub(super) use arguments::Arguments;
use facts::{gather, refuse_untraced};
use output::{TraceOutput, answer, write};
use suggest_layer::suggest;
use tracing::trace_all;

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    run_trace(context, arguments).unwrap_or_else(|outcome| outcome)
}

fn run_trace(context: &Context, arguments: &Arguments) -> Result<Outcome, Outcome> {
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
    let place =
        arguments.out.as_deref().map(|out| destination(context, out, &base, &store)).transpose().map_err(stop)?;
    let kinds = RestoredKind::ALL.into_iter().filter(|kind| !(arguments.no_severed && kind.is_severed())).collect();
    // The noise depends on the subjects of all facts, including those that `--limit` excludes. The results of a fact
    // are therefore the same with and without `--limit`.
    let (noise, plan) = arguments.rules(&base, &facts, kinds, RestoredTokens::All).map_err(stop)?;
    facts.truncate(arguments.limit().unwrap_or(usize::MAX));
    let mut output = TraceOutput::new(&base, noise, plan, facts.len() + left.len(), left);
    let (traced, untraced) = trace_all(context, &base, facts, &output.noise, &output.plan);
    output.traced = traced;
    output.left.extend(untraced);
    if output.traced.is_empty() {
        return Ok(refuse_untraced(context, &output.left));
    }
    output.sum_up();
    let files = place.map(|place| write(place, &output, arguments.pictures)).transpose().map_err(stop)?;
    answer(context, &output, files.as_ref().map(|files| (arguments.out.as_deref().unwrap_or(Path::new("")), *files)));
    Ok(Outcome::Ok)
}

fn destination(context: &Context, out: &Path, base: &Base, store: &Store) -> Result<Destination, Failure> {
    context.may_export(out)?;
    Ok(Destination::folder(out, &base.folder, store.root())?)
}

fn open(context: &Context, arguments: &Arguments, project: Option<&Project>, store: &Store) -> Result<Base, Failure> {
    match (&arguments.base, project) {
        (Some(name), _) => context.base_named(name, store, false),
        (None, Some(project)) => context.base(project, store, false),
        // Without `--base`, the caller has always loaded a project, so this arm is not reached.
        (None, None) => Err(Diagnostic::new(Code::ProjectMissing, "no model is named").into()),
    }
}
