//! Compares two sides in their facts, weights and behaviour. A side is the base model, a patch, a checkpoint, or a
//! project on disk or at a git revision.

use std::collections::{BTreeMap, BTreeSet};

use super::answers::{Judgement, answer};
use super::consequences;
use super::continuations::{SideTexts, side_texts};
use super::measure::ModelPair;
use super::side::{DiffContext, Identity, Side};
use crate::behaviour::PromptKind;
use crate::behaviour::ask::PredictionPair;
use crate::behaviour::cache::MeasurementCache;
use crate::behaviour::continuation::ContinuationOptions;
use crate::behaviour::damage::Damage;
use crate::behaviour::expectation::{Expectation, UnrunnablePrompt, expectations};
use crate::behaviour::task::EncodedTask;
use crate::diagnostics::{Failure, Sources};
use crate::digest::Digest;
use crate::model::Model;
use crate::patch::{edit_norms, norm};
use crate::pipeline::policy_limits::{NO_TOKENS, neutral_path, read_neutral, unrunnable_error};
use crate::pipeline::tasks::read_tasks;
use crate::project::edits::diff::{ChangeKind, FactChange, compare};
use crate::project::{Edit, EditSet, Prefaces, Probe, Project};
use crate::report::{self, Answer, Consequences, EditName, EditWeight, NotAsked, Report, TensorDiff, WeightDiff};

/// The options of a comparison: which texts are generated, and whether the damage on neutral text is measured.
#[derive(Clone, Copy, Debug)]
pub struct DiffOptions {
    /// The settings of the generated continuations; no text is generated if `generation.tokens` is 0.
    pub generation: ContinuationOptions,
    pub damage: bool,
    /// Whether the tasks of the project in the working directory are asked.
    pub tasks: bool,
}

/// Creates the report of a comparison: changed facts, changed tensors, and the answers of both models to the prompts.
///
/// # Errors
/// If a prompt of an edit or a probe cannot be run, or the neutral text cannot be read.
pub fn diff(before: &Side, after: &Side, context: DiffContext<'_>, options: DiffOptions) -> Result<Report, Failure> {
    let facts = facts(before, after, context);
    let Compared { answers, not_asked, texts: SideTexts { continuations, drawn } } =
        compare_answers(before, after, context, &facts, options)?;
    let (damage, note) = if options.damage { damage(before, after, context)? } else { (None, None) };
    let encoded = if options.tasks { read_tasks(context.project, context.base)? } else { Vec::new() };
    let tasks = pair(before, after, &|| Ok(&after.model), context).tasks(context.base, &encoded, None)?;
    let left_out = encoded.iter().filter_map(EncodedTask::note);
    let notes = [before.note.clone(), after.note.clone(), note].into_iter().flatten().chain(left_out).collect();
    Ok(Report {
        base: Some(report::ReportBase { name: context.base.name(), digest: context.base.locked.digest.to_string() }),
        before: Some(report_side(before)),
        after: Some(report_side(after)),
        weights: Some(weights(before, after, context)),
        facts,
        consequences: Consequences::of(&answers, not_asked),
        answers,
        damage,
        tasks,
        drawn,
        continuations,
        notes,
        ..Report::default()
    })
}

/// Returns whether the two sides of the comparison differ in their facts or in their weights.
pub fn differs(report: &Report) -> bool {
    !report.facts.is_empty() || report.weights.as_ref().is_some_and(|weights| !weights.tensors.is_empty())
}

fn report_side(side: &Side) -> report::ReportSide {
    let patch = side.patch.as_ref();
    let edits =
        patch.map_or(0, |(_, patch)| patch.targets().values().map(|target| target.edits.len()).max().unwrap_or(0));
    report::ReportSide {
        name: side.name.clone(),
        kind: side.kind,
        commit: side.commit.as_ref().map(|commit| commit.id.clone()),
        patch: patch.map(|(id, _)| id.to_string()),
        size: patch.map(|(_, patch)| patch.to_bytes().len() as u64),
        facts: side.project.as_ref().map_or(edits, |project| project.edits.edits.len()),
    }
}

/// Returns the facts that differ between the two sides of the comparison. A patch contains only the digests of its
/// facts. The ids and texts of these facts come from the project of the other side, or else from the project in the
/// working directory.
fn facts(before: &Side, after: &Side, context: DiffContext<'_>) -> Vec<FactChange> {
    let (was, is) = (NamedEdits::of(before, after, context), NamedEdits::of(after, before, context));
    let mut facts = compare(&was.edits, &is.edits);
    let nothing = EditSet::default();
    // `edits` and `only_in_worktree` are compared separately, because their byte ranges refer to files of different
    // projects.
    facts.extend(compare(&was.only_in_worktree, &nothing));
    facts.extend(compare(&nothing, &is.only_in_worktree));
    let in_patch = [meanings(before), meanings(after)];
    for (change, one, other) in [(ChangeKind::Removed, &was, &in_patch[1]), (ChangeKind::Added, &is, &in_patch[0])] {
        let unknown = one.unknown.iter().filter(|meaning| !other.contains(meaning));
        facts.extend(unknown.map(|meaning| FactChange {
            change,
            id: format!("meaning {}", meaning.short()),
            fields: Vec::new(),
            place: None,
        }));
    }
    facts
}

/// The facts of one side of a comparison. A patch contains only a digest of each fact. The id and the texts of the fact
/// are taken from a project that has an edit with this digest.
#[derive(Default)]
struct NamedEdits {
    /// The edits of the side's project. A patch has no project, so its edits are looked up in the project of the other
    /// side. If the other side has no project, they are looked up in the project in the working directory.
    edits: EditSet,
    /// For a patch that is compared with a project: the edits of the patch that this project lacks, but the project in
    /// the working directory has. Empty for any other side.
    only_in_worktree: EditSet,
    /// For a patch: the digests of its edits that are neither in the project of the other side nor in the project in
    /// the working directory. Empty for any other side.
    unknown: BTreeSet<Digest>,
}

impl NamedEdits {
    fn of(side: &Side, other: &Side, context: DiffContext<'_>) -> Self {
        if let Some(project) = &side.project {
            return Self { edits: project.edits.clone(), ..Self::default() };
        }
        let mut remaining = meanings(side);
        let worktree = &context.project.edits;
        match &other.project {
            None => Self {
                edits: edits_in_patch(worktree, &mut remaining),
                only_in_worktree: EditSet::default(),
                unknown: remaining,
            },
            Some(project) => {
                let (edits, only_in_worktree) =
                    (edits_in_patch(&project.edits, &mut remaining), edits_in_patch(worktree, &mut remaining));
                Self { edits, only_in_worktree, unknown: remaining }
            }
        }
    }
}

/// Returns the edits of `set` whose digests are in `remaining`, and removes these digests from `remaining`. The
/// returned edits have only the aliases whose digests are in `remaining` too.
fn edits_in_patch(set: &EditSet, remaining: &mut BTreeSet<Digest>) -> EditSet {
    let with_patched_names = |edit: &Edit| {
        if !remaining.remove(&edit.meaning()) {
            return None;
        }
        let mut edit = edit.clone();
        let names = std::mem::take(&mut edit.aliases).into_iter().zip(std::mem::take(&mut edit.spans.aliases));
        let (aliases, places) = names.filter(|(alias, _)| remaining.remove(&edit.meaning_of(alias))).unzip();
        (edit.aliases, edit.spans.aliases) = (aliases, places);
        Some(edit)
    };
    let edits = set.edits.iter().filter_map(with_patched_names).collect();
    EditSet { edits, parked: Vec::new(), sources: set.sources.clone() }
}

fn meanings(side: &Side) -> BTreeSet<Digest> {
    let targets = side.patch.iter().flat_map(|(_, patch)| patch.targets().values());
    targets.flat_map(|target| target.edits.iter().copied()).collect()
}

/// Returns the tensors whose values differ, and the norm of the weight change of each edit.
fn weights(before: &Side, after: &Side, context: DiffContext<'_>) -> WeightDiff {
    let all = [before, after].map(|side| side.model.checkpoint().tensors());
    let base_tensors = context.base.model.checkpoint().tensors();
    let mut tensors = Vec::new();
    for ((was, is), base) in all[0].iter().zip(&all[1]).zip(&base_tensors) {
        // A tensor that no patch changes shares its memory with the base model, and is not compared.
        if was.is_same_memory(is) {
            continue;
        }
        let (was_values, is_values) = (was.to_f32(), is.to_f32());
        if was_values == is_values {
            continue;
        }
        let difference: Vec<f32> = was_values.iter().zip(&*is_values).map(|(from, to)| to - from).collect();
        let length = norm(&difference);
        tensors.push(TensorDiff {
            name: base.name.clone(),
            before: was.digest().to_string(),
            after: is.digest().to_string(),
            norm: length,
            relative: if length > 0.0 { length / norm(&base.to_f32()) } else { 0.0 },
        });
    }
    WeightDiff { tensors, edits: edit_weights(before, after, context) }
}

fn edit_weights(before: &Side, after: &Side, context: DiffContext<'_>) -> Vec<EditWeight> {
    let norms = |side: &Side| side.patch.as_ref().map_or_else(BTreeMap::new, |(_, patch)| edit_norms(patch));
    let (was, is) = (norms(before), norms(after));
    let names = names(before, after, context);
    // The keys are the names that the report shows for the edits, so the report lists the edits in the order of their
    // names.
    let mut found: BTreeMap<String, EditWeight> = BTreeMap::new();
    for meaning in was.keys().chain(is.keys()) {
        let unknown = || EditName { id: format!("meaning {}", meaning.short()), alias: None };
        let edit = names.get(meaning).cloned().unwrap_or_else(unknown);
        let weight = found.entry(edit.to_string()).or_insert(EditWeight { edit, before: None, after: None });
        weight.before = was.get(meaning).copied().or(weight.before);
        weight.after = is.get(meaning).copied().or(weight.after);
    }
    found.into_values().collect()
}

/// Returns a map from the digest of a fact to the id of its edit, with the alias if the fact uses an alias. An edit has
/// one fact for its subject, and one for each alias. The edits are those of both sides of the comparison and of the
/// project in the working directory.
fn names(before: &Side, after: &Side, context: DiffContext<'_>) -> BTreeMap<Digest, EditName> {
    let sets = [&context.project.edits.edits[..], before.edits(), after.edits()];
    let mut names = BTreeMap::new();
    for edit in sets.into_iter().flatten() {
        for (name, _) in edit.names() {
            let alias = (name != edit.subject).then(|| name.to_owned());
            names.insert(edit.meaning_of(name), EditName { id: edit.id.clone(), alias });
        }
    }
    names
}

/// A prompt to run, and the project that states it in its files.
struct SidePrompt<'s> {
    one: Expectation<'s>,
    project: &'s Project,
}

/// Returns the prompts of both sides of the comparison without duplicates. If both sides state the same prompt, the
/// later side's expectation is used. `stated` are the prefaces (texts that avoid attention sinks) of the project in the
/// working directory.
fn prompts<'s>(
    before: &'s Side,
    after: &'s Side,
    context: DiffContext<'s>,
    stated: &'s Prefaces,
) -> Vec<SidePrompt<'s>> {
    let mut seen: BTreeSet<(PromptKind, String, String, Option<String>)> = BTreeSet::new();
    let mut prompts = Vec::new();
    let states = [after, before].map(|side| side.project.as_ref().map(|project| (project, &side.prefaces)));
    // If neither side of the comparison has a project, the prompts of the project in the working directory are used.
    let fallback = if states.iter().all(Option::is_none) { Some((context.project, stated)) } else { None };
    let later: BTreeMap<Digest, &str> = after.edits().iter().map(|edit| (edit.meaning(), edit.id.as_str())).collect();
    let ids: BTreeSet<&str> = later.values().copied().collect();
    // The prompts of a renamed fact are run once, under the id in the later project.
    let known = |one: &Expectation<'s>| {
        let gone = one.edit.filter(|edit| !ids.contains(edit.id.as_str()));
        gone.and_then(|edit| later.get(&edit.meaning()).copied()).unwrap_or(one.id).to_owned()
    };
    for (project, prefaces) in states.into_iter().chain([fallback]).flatten() {
        let edits: Vec<&Edit> = project.edits.edits.iter().collect();
        let probes: &[Probe] = &project.probes;
        for one in expectations(&edits, probes, prefaces) {
            // Two consequences of one edit may have the same prompt with other answers or conditions.
            let own = one.consequence.map(|(consequence, _)| consequence.shown());
            if seen.insert((one.kind, known(&one), one.display_prompt(), own)) {
                let one = one.judged_by(&project.config.test);
                prompts.push(SidePrompt { one, project });
            }
        }
    }
    prompts
}

/// The answers of the two sides to all prompts.
struct Compared {
    answers: Vec<Answer>,
    /// The consequences that were not asked, because the base does not meet one of their conditions.
    not_asked: Vec<NotAsked>,
    texts: SideTexts,
}

/// Removes the prompts of consequences whose conditions the base does not meet. Returns the other prompts and the
/// removed consequences.
fn asked<'s>(
    prompts: Vec<SidePrompt<'s>>,
    context: DiffContext<'_>,
) -> Result<(Vec<SidePrompt<'s>>, Vec<NotAsked>), Failure> {
    let all: Vec<Expectation<'s>> = prompts.iter().map(|side_prompt| side_prompt.one.clone()).collect();
    let unmet = consequences::unmet(context.base, context.store, &all, context.progress)
        .map_err(|unrunnable| first_project_error(&prompts, unrunnable))?;
    let (mut kept, mut not_asked) = (Vec::new(), Vec::new());
    for (side_prompt, condition) in prompts.into_iter().zip(unmet) {
        let SidePrompt { one, project } = &side_prompt;
        match condition {
            Some(condition) => {
                let sources = &project.edits.sources;
                not_asked.extend(consequences::not_asked(&context.base.tokens, sources, one, &condition));
            }
            None => kept.push(side_prompt),
        }
    }
    Ok((kept, not_asked))
}

fn compare_answers(
    before: &Side,
    after: &Side,
    context: DiffContext<'_>,
    facts: &[FactChange],
    options: DiffOptions,
) -> Result<Compared, Failure> {
    let tokens = &context.base.tokens;
    let lock = context.project.lock()?;
    let stated = lock.map(|lock| lock.prefaces(&context.project.edits)).unwrap_or_default();
    let (prompts, not_asked) = asked(prompts(before, after, context, &stated), context)?;
    let list: Vec<Expectation<'_>> = prompts.iter().map(|side_prompt| side_prompt.one.clone()).collect();
    let later = || Ok(&after.model);
    let pairs = pair(before, after, &later, context)
        .ask(context.base, &list, |unrunnable| first_project_error(&prompts, unrunnable))?;
    let row = |(side_prompt, pair): (&SidePrompt<'_>, &PredictionPair)| {
        answer(tokens, &side_prompt.project.edits.sources, &side_prompt.one, pair, Judgement::default())
    };
    let mut answers: Vec<Answer> = prompts.iter().zip(&pairs).map(row).collect();
    answers.sort_by(|a, b| {
        let key = |one: &Answer| (one.asked, one.id.clone(), one.prompt.clone());
        b.divergence.total_cmp(&a.divergence).then_with(|| key(a).cmp(&key(b)))
    });
    let changed: BTreeSet<&str> = facts.iter().map(|fact| fact.id.as_str()).collect();
    let own = |one: &Expectation<'_>| {
        one.kind == PromptKind::Probe || one.kind == PromptKind::Edit && changed.contains(one.id)
    };
    let continued: Vec<_> = list.iter().zip(&pairs).filter(|(one, _)| own(one)).collect();
    let texts = side_texts(before, after, context, &continued, options.generation)?;
    Ok(Compared { answers, not_asked, texts })
}

/// Combines the two models of the comparison with the cache of their measurements. The cache is disabled if one of the
/// models is a checkpoint, whose weights have no digest.
fn pair<'s>(
    before: &'s Side,
    after: &Side,
    later: &'s dyn Fn() -> Result<&'s Model, Failure>,
    context: DiffContext<'s>,
) -> ModelPair<'s> {
    let cache = match (before.identity(), after.identity()) {
        (Identity::Patch(was), Identity::Patch(is)) => {
            MeasurementCache::new(context.store, context.base.locked.digest, was, is)
        }
        _ => MeasurementCache::disabled(),
    };
    ModelPair { before: &before.model, after: later, cache, texts: false, progress: context.progress }
}

/// Returns the error for prompts that cannot be run. An error can point into the files of only one project. For this
/// reason, only prompts from the same project as the first prompt are reported.
fn first_project_error(prompts: &[SidePrompt<'_>], unrunnable: Vec<UnrunnablePrompt>) -> Failure {
    let side_prompt = |one: &UnrunnablePrompt| {
        let is = |side_prompt: &&SidePrompt<'_>| {
            let Expectation { id, file, span, consequence, .. } = &side_prompt.one;
            let mut conditions = consequence.iter().flat_map(|(_, spans)| &spans.conditions);
            (*id, *file) == (one.id.as_str(), one.file)
                && (*span == one.span || conditions.any(|condition| *condition == one.span))
        };
        prompts.iter().find(is)
    };
    let Some(project) = unrunnable.first().and_then(side_prompt).map(|side_prompt| side_prompt.project) else {
        return Failure::invalid(Vec::new(), &Sources::default());
    };
    let here =
        |one: &UnrunnablePrompt| side_prompt(one).is_some_and(|side_prompt| std::ptr::eq(side_prompt.project, project));
    unrunnable_error(project, &unrunnable.into_iter().filter(here).collect::<Vec<_>>())
}

fn damage(before: &Side, after: &Side, context: DiffContext<'_>) -> Result<(Option<Damage>, Option<String>), Failure> {
    if !neutral_path(&context.project.config).is_some_and(|path| path.is_file()) {
        return Ok((None, Some("damage was not measured: there is no neutral text here".to_owned())));
    }
    let neutral = read_neutral(context.project, context.base)?;
    let measured = pair(before, after, &|| Ok(&after.model), context).damage(&neutral)?;
    match measured.tokens {
        0 => Ok((None, Some(format!("damage was not measured: {NO_TOKENS}")))),
        _ => Ok((Some(measured), None)),
    }
}
