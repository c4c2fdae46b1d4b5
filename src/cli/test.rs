//! Implements `test`: checks whether the patched model answers as the edits and probes expect.

use std::path::{Path, PathBuf};

use super::report::{ReportArguments, deliver, have_places, may_write};
use crate::behaviour::PromptKind;
use crate::behaviour::ask::PredictionPair;
use crate::behaviour::cache::MeasurementCache;
use crate::behaviour::expectation::Expectation;
use crate::cli::context::Context;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources};
use crate::pipeline::link_inputs::prepare;
use crate::pipeline::obtain_patch::setup_for_lock;
use crate::pipeline::plan::select_edits;
use crate::pipeline::statistics::load_or_compute_changed;
use crate::pipeline::{Base, BuildContext, locked_patch, plan};
use crate::project::lock::accepted::{Acceptances, Accepted, MOST_BYTES, accepted_file, render};
use crate::project::{Edit, Lock, Project};
use crate::regular_file;
use crate::report::Outcome;
use crate::report::{self, Culprit, DecidedBy, Report, ReportSide, ReportVerb, SideKind, Verdict};
use crate::review::answers::answer;
use crate::review::bisect::culprits;
use crate::review::measure::{ModelPair, PatchedModel};
use crate::review::side::{BASE, DiffContext, Side, WORKTREE};
use crate::review::test_run::{TestInput, TestRun};
use crate::store::{Store, atomic};

/// Check whether the patched model answers as the edits expect; exit code 1 if an expectation fails.
///
/// Failures that were accepted with --update are in corrigenda.accepted, which is reviewed like the facts.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Test only these edits (repeatable, or separated by commas)
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<String>,
    /// Accept all failures: write them to corrigenda.accepted (refused if CI is set)
    #[arg(long, conflicts_with = "only")]
    update: bool,
    /// Do not measure damage on neutral text and do not check its limits
    #[arg(long)]
    no_damage: bool,
    /// Do not ask the questions of the project's tasks and do not check their limit
    #[arg(long)]
    no_tasks: bool,
    /// For each failure, find the edit that causes it
    #[arg(long)]
    bisect: bool,
    /// Ask this model instead of the patched one: a folder with a descendant of the same shape, for example fine-tuned or
    /// quantised and read back; shows which edits survived
    #[arg(long, value_name = "DIR", conflicts_with_all = ["update", "bisect"])]
    on: Option<PathBuf>,
    /// Also generate a text after every prompt, greedily, and show the shares that say the answer; with --verbose, every
    /// text
    #[arg(long)]
    said: bool,
    /// Write the generated texts to this file, one JSON object per line: id, kind, prompt, target, base, text
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    #[command(flatten)]
    reports: ReportArguments,
}

impl Arguments {
    /// Returns what is about one model only: a report, a file of texts, or a descendant; `None` if there is nothing of
    /// these.
    pub(super) fn alone(&self) -> Option<&'static str> {
        let report = self.reports.reports.first().map(|_| "a report");
        let texts = self.texts.as_ref().map(|_| "a file of texts");
        report.or(texts).or(self.on.as_ref().map(|_| "a descendant"))
    }

    /// Returns whether both models generate a text after every prompt.
    fn texts(&self, project: &Project) -> bool {
        self.said || self.texts.is_some() || project.config.test.max_repeats.is_some()
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    context.expect_reports(ReportVerb::Test, &arguments.reports);
    let (project, store) = match context.open_project_and_store() {
        Ok(opened) => opened,
        Err(outcome) => return outcome,
    };
    if !have_places(context) {
        return Outcome::Error;
    }
    if let Some(why) = arguments.texts.as_ref().and_then(|path| may_write(context, path).err()) {
        return context.fail(Diagnostic::new(Code::ExportRefused, why));
    }
    run_test(context, arguments, &project, &store).unwrap_or_else(|stop| context.stop(&stop))
}

fn run_test(context: &Context, arguments: &Arguments, project: &Project, store: &Store) -> Result<Outcome, Failure> {
    if arguments.update {
        refuse_under_ci()?;
    }
    let edits = select_edits(project, &arguments.only)?;
    let base = context.base(project, store, false)?;
    if let Some(folder) = &arguments.on {
        return test_descendant(context, arguments, (project, &base, store), &edits, folder);
    }
    let lock = locked_patch::lock(project, &base, store)?;
    let id = lock.patch.id;
    let patch = locked_patch::patch(store, &id)?;
    let patched = PatchedModel::new(&base, &patch, &project.edits.sources);
    let mut sources = project.edits.sources.clone();
    let whole = arguments.only.is_empty();
    let (after, cache) = (|| patched.model(), MeasurementCache::new(store, base.locked.digest, None, Some(id)));
    let texts = arguments.texts(project);
    let pair = ModelPair { before: &base.model, after: &after, cache, texts, progress: &context.ui };
    let (prefaces, damage, tasks) = (lock.prefaces(&project.edits), !arguments.no_damage, !arguments.no_tasks);
    let subject =
        TestInput { project, base: &base, store, pair, edits: &edits, whole, damage, tasks, prefaces: &prefaces };
    if arguments.update {
        // `--update` replaces `corrigenda.accepted`. The existing file may be damaged, so it is not read here.
        accept(context, project, TestRun::new(&subject, &Acceptances::default())?.acceptable())?;
    }
    let accepted = Acceptances::load(&project.config.root, project.config.model.name.as_deref(), &mut sources)?;
    let trial = TestRun::new(&subject, &accepted)?;
    let culprits = if arguments.bisect { bisected(context, &subject, store, &lock, &trial)? } else { Vec::new() };
    if let Some(file) = &arguments.texts {
        atomic::write(file, texts_file(&trial).as_bytes())?;
    }
    context.show(&of_the_set(&trial.findings), &sources);
    let side = ReportSide {
        name: WORKTREE.to_owned(),
        kind: SideKind::Worktree,
        commit: None,
        patch: Some(id.to_string()),
        size: Some(patch.to_bytes().len() as u64),
        facts: edits.len(),
    };
    let report = reported(context, arguments, &subject, side, trial, culprits, &sources);
    Ok(deliver(context, &report, |width, verbose| report::human::test(&report, width, verbose)))
}

/// Asks the expectations of a model in a folder, such as a fine-tuned or quantised export. Nothing is cached, because
/// the weights of such a model have no digest.
fn test_descendant(
    context: &Context,
    arguments: &Arguments,
    (project, base, store): (&Project, &Base, &Store),
    edits: &[&Edit],
    folder: &Path,
) -> Result<Outcome, Failure> {
    let name = folder.display().to_string();
    let model = Side::checkpoint(&name, DiffContext { project, base, store, progress: &context.ui })?.model;
    let prefaces = project.lock()?.map(|lock| lock.prefaces(&project.edits)).unwrap_or_default();
    let (after, cache) = (|| Ok(&model), MeasurementCache::disabled());
    let texts = arguments.texts(project);
    let subject = TestInput {
        project,
        base,
        store,
        pair: ModelPair { before: &base.model, after: &after, cache, texts, progress: &context.ui },
        edits,
        whole: arguments.only.is_empty(),
        damage: !arguments.no_damage,
        tasks: !arguments.no_tasks,
        prefaces: &prefaces,
    };
    // `corrigenda.accepted` is about the patch of the project, so no failure of another model is accepted.
    let trial = TestRun::new(&subject, &Acceptances::default())?;
    if let Some(file) = &arguments.texts {
        atomic::write(file, texts_file(&trial).as_bytes())?;
    }
    let sources = project.edits.sources.clone();
    context.show(&of_the_set(&trial.findings), &sources);
    let side =
        ReportSide { name, kind: SideKind::Checkpoint, commit: None, patch: None, size: None, facts: edits.len() };
    let report = reported(context, arguments, &subject, side, trial, Vec::new(), &sources);
    Ok(deliver(context, &report, |width, verbose| report::human::test(&report, width, verbose)))
}

/// Returns what decides whether the answers are right: the probabilities, the generated texts, or both.
fn decided_by(expectations: &[Expectation<'_>]) -> DecidedBy {
    let texts = expectations.iter().filter(|one| one.says.is_some()).count();
    match expectations.len() {
        _ if texts == 0 => DecidedBy::TeacherForcing,
        all if texts == all => DecidedBy::Generation,
        _ => DecidedBy::Both,
    }
}

/// Returns an error if the environment variable `CI` is set, because a person must decide which failures to accept.
fn refuse_under_ci() -> Result<(), Failure> {
    let set = std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    if !set {
        return Ok(());
    }
    let finding = Diagnostic::new(Code::UpdateRefused, "`--update` is not allowed if the variable CI is set")
        .help("run it on your machine, and commit corrigenda.accepted");
    Err(Failure::from(finding))
}

/// Writes the accepted failures to `corrigenda.accepted`, unless the file already has the same content. Prints a note
/// that says whether the file was written.
fn accept(context: &Context, project: &Project, shortfalls: &[Accepted]) -> Result<(), Failure> {
    let file = accepted_file(project.config.model.name.as_deref());
    let (path, text) = (project.config.root.join(&file), render(shortfalls));
    let before = regular_file::read(&path, MOST_BYTES).ok();
    let note = match before {
        None if shortfalls.is_empty() && !path.exists() => "nothing fails: there is nothing to accept".to_owned(),
        Some(before) if before == text.as_bytes() => {
            format!("{file} is unchanged: {} accepted", shortfalls.len())
        }
        _ => {
            atomic::write(&path, text.as_bytes())?;
            format!("{file} written: {} accepted", shortfalls.len())
        }
    };
    context.ui.note(&note);
    Ok(())
}

/// Returns the generated texts as JSON Lines, for those who judge them with another model.
fn texts_file(trial: &TestRun<'_>) -> String {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        id: &'a str,
        kind: PromptKind,
        prompt: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<&'a str>,
        base: &'a str,
        text: &'a str,
    }
    let line = |(one, pair): (&Expectation<'_>, &PredictionPair)| {
        let texts = pair.texts.as_ref()?;
        let (target, base, text) = (one.answers.first().copied(), &*texts.before, &*texts.after);
        let line = Line { id: one.id, kind: one.kind, prompt: &one.prompt, target, base, text };
        Some(serde_json::to_string(&line).expect("texts are JSON") + "\n")
    };
    trial.expectations.iter().zip(&trial.predictions).filter_map(line).collect()
}

/// Returns the findings that the tables of the report do not show: those about `corrigenda.accepted` and about rules of
/// the policy.
fn of_the_set(findings: &[Diagnostic]) -> Vec<Diagnostic> {
    let apart = |one: &&Diagnostic| one.code != Code::ExpectationFailed && one.primary().is_some();
    findings.iter().filter(apart).cloned().collect()
}

fn bisected(
    context: &Context,
    subject: &TestInput<'_, '_>,
    store: &Store,
    lock: &Lock,
    trial: &TestRun<'_>,
) -> Result<Vec<Culprit>, Failure> {
    let TestInput { project, base, .. } = *subject;
    let fails = trial.expectations.iter().zip(&trial.judgements).filter(|(_, one)| one.verdict == Some(Verdict::Fail));
    let failing: Vec<_> = fails.map(|(one, _)| one).collect();
    if failing.is_empty() {
        return Ok(Vec::new());
    }
    let setup = setup_for_lock(project, "the lock", Some(lock), base, store)?.with_imports_of(lock);
    let plan = plan(project, base, &setup, store)?;
    let build_context = BuildContext { project, base, setup: &setup, store, progress: &context.ui };
    let statistics = load_or_compute_changed(build_context)?;
    let prepared = prepare(build_context, &plan, &statistics)?;
    culprits(project, base, &prepared.linker, &failing, &context.ui)
}

fn reported(
    context: &Context,
    arguments: &Arguments,
    subject: &TestInput<'_, '_>,
    after: ReportSide,
    trial: TestRun<'_>,
    culprits: Vec<Culprit>,
    sources: &Sources,
) -> Report {
    let outcome = if trial.passes() { Outcome::Ok } else { Outcome::Findings };
    let before =
        ReportSide { name: BASE.to_owned(), kind: SideKind::Base, commit: None, patch: None, size: None, facts: 0 };
    let asked = trial.expectations.iter().zip(&trial.predictions).zip(&trial.judgements);
    let answers: Vec<_> = asked
        .map(|((one, both), judgement)| answer(&subject.base.tokens, sources, one, both, judgement.clone()))
        .collect();
    let only: Vec<String> = arguments.only.iter().map(|edit_id| format!(" --only {edit_id}")).collect();
    let flag = |set, flag| if set { flag } else { "" };
    let skipped = [flag(arguments.no_damage, " --no-damage"), flag(arguments.no_tasks, " --no-tasks")];
    let by = decided_by(&trial.expectations);
    let on = arguments.on.as_ref().map_or_else(String::new, |folder| format!(" --on {}", folder.display()));
    let flags =
        [&*skipped.concat(), &on, flag(arguments.bisect, " --bisect"), flag(arguments.said, " --said")].concat();
    Report {
        edits: Some(subject.edits.len()),
        base: Some(report::ReportBase { name: subject.base.name(), digest: subject.base.locked.digest.to_string() }),
        before: Some(before),
        after: Some(after),
        consequences: report::Consequences::of(&answers, trial.not_asked),
        answers,
        protocols: trial.gates.iter().map(|gate| (gate.name.as_str(), gate.name.protocol(by))).collect(),
        gates: trial.gates,
        damage: trial.damage,
        tasks: trial.tasks,
        culprits,
        notes: trial.notes,
        ..context.report(
            ReportVerb::Test,
            outcome,
            &format!("corrigenda test{}{flags}", only.concat()),
            &trial.findings,
            sources,
        )
    }
}
