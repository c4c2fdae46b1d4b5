//! Checks the limits of the project's policy that need the patched model. A build runs this check before it stores the
//! patch.

use super::tasks::{broken_tasks, describe_tasks, measure_tasks, read_tasks};
use super::{Base, BuildContext, BuildRecord, Plan};
use crate::behaviour::PromptKind;
use crate::behaviour::UNCHANGED_KL;
use crate::behaviour::ask::PredictionPair;
use crate::behaviour::cache::MeasurementCache;
use crate::behaviour::condition::unmet_conditions;
use crate::behaviour::damage::Damage;
use crate::behaviour::damage::{Neutral, damage};
use crate::behaviour::expectation::{
    Expectation, SetFigures, Share, Thresholds, UnrunnablePrompt, ask_expectations, expectations,
};
use crate::behaviour::task::compare::TaskModel;
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::{Digest, FieldHasher};
use crate::model::{Model, ModelError};
use crate::patch::Patch;
use crate::progress::NoProgress;
use crate::project::{Config, Edit, JudgedBy, Limit, Policy, Prefaces, Project, SaysRule};
use crate::store::{EntryKind, Store, memo};

/// The maximum number of unmet expectations in the error for one broken limit.
const MAX_PLACES: usize = 8;

/// Returns the thresholds of the project; a threshold that is not set has its default. The thresholds are the KL
/// divergence at or above which a prompt counts as changed, and the minimum probability of a target.
pub fn thresholds(config: &Config) -> Thresholds {
    let unchanged_kl = config.test.unchanged_kl.unwrap_or(UNCHANGED_KL);
    Thresholds { unchanged_kl, min_probability: config.test.min_probability.unwrap_or(0.0) }
}

/// Checks a patch against every limit of the policy, and returns a finding for each broken limit. If no limit is
/// broken, the store records this result, and the next call with the same inputs skips the measurement.
///
/// # Errors
/// If the patched weights are not finite, a prompt cannot be evaluated, or the neutral text cannot be read.
pub fn check(
    context: BuildContext<'_>,
    plan: &Plan<'_>,
    record: &BuildRecord,
    patch: &Patch,
) -> Result<Vec<Diagnostic>, Failure> {
    let BuildContext { project, base, store, .. } = context;
    let mut found = check_norms(&project.config.policy, record);
    let address = address(project, base, plan, record, store)?;
    if store.recall(EntryKind::Report, &address, |bytes| (bytes == PASSED).then_some(()))?.is_none() {
        let patched = base.patched(patch).map_err(|error| {
            Failure::from(Diagnostic::new(Code::NotFinite, error.to_string())).with_sources(&project.edits.sources)
        })?;
        let measured = [
            check_answers(project, base, &patched, &plan.prefaces())?,
            check_damage(project, base, &patched)?,
            check_tasks(context, record, &patched)?,
        ]
        .concat();
        if measured.is_empty() {
            store.put(EntryKind::Report, &address, PASSED)?;
        }
        found.extend(measured);
    }
    Ok(found)
}

const PASSED: &[u8] = b"passed";

/// Returns the store address at which [`check`] stores the result that no limit is broken. The address is a digest of
/// all inputs of the check.
fn address(
    project: &Project,
    base: &Base,
    plan: &Plan<'_>,
    record: &BuildRecord,
    store: &Store,
) -> Result<Digest, Failure> {
    let (config, mut hasher) = (&project.config, FieldHasher::new("policy-passed/1"));
    hasher.digest("base", &base.locked.digest).digest("patch", &record.patch);
    let Policy { min_efficacy, min_paraphrase, min_unchanged, max_neighbourhood_kl, .. } = &config.policy;
    let Policy { max_damage, max_perplexity, .. } = &config.policy;
    let limits = [min_efficacy, min_paraphrase, min_unchanged, max_neighbourhood_kl, max_damage, max_perplexity];
    for limit in limits {
        let text = limit.as_ref().map(|limit| limit.value.to_string());
        hasher.texts("limit", text.as_deref().into_iter());
    }
    // Without this limit, the address is the same as in versions of the program that did not have it.
    if let Some(limit) = &config.policy.min_consequence {
        hasher.text("min-consequence", &limit.value.to_string());
    }
    // Only hashed if generated text decides.
    if config.test.by == Some(JudgedBy::Generation) {
        hasher.text("says", config.test.says.unwrap_or(SaysRule::Contains).as_str());
    }
    let Thresholds { unchanged_kl, min_probability } = thresholds(config);
    hasher.float("unchanged-kl", unchanged_kl).float("min-probability", min_probability);
    hasher.number("edits", project.edits.edits.len() as u64);
    for planned in &plan.edits {
        // The expectations belong to the edit, so they are hashed once, with its subject, and not again with its
        // aliases.
        if planned.alias().is_none() {
            hasher.digest("expectation", &planned.edit.expectation());
        }
        hasher.digest("meaning", &planned.meaning);
    }
    let probes = |chat: bool| {
        let neighbours = project.probes.iter().filter(move |probe| probe.unchanged && probe.chat == chat);
        neighbours.map(|probe| probe.prompt.as_str()).collect::<Vec<_>>()
    };
    hasher.texts("probes", probes(false).into_iter());
    // Without chat probes, nothing is added to the hash. The address is then the same as in versions of the program
    // that had no chat probes.
    if !probes(true).is_empty() {
        hasher.texts("chats", probes(true).into_iter());
    }
    if !probes(true).is_empty() || project.edits.edits.iter().any(|edit| edit.chat) {
        let chat = base.tokens.chat().map_err(|error| {
            let finding = Diagnostic::new(Code::ChatUnusable, error.to_string());
            Failure::from(finding).with_sources(&project.edits.sources)
        })?;
        hasher.digest("chat", chat.digest());
    }
    if max_damage.is_some() || max_perplexity.is_some() {
        let path = neutral_path(config).ok_or_else(|| no_neutral(project))?;
        hasher.digest(
            "neutral",
            &memo::digest_text(store, &path).map_err(|error| unusable(project, &error.to_string()))?,
        );
    }
    if let Some(limit) = &config.policy.max_task_loss {
        describe_tasks(project, limit, store, &mut hasher)?;
    }
    Ok(hasher.finish())
}

fn check_norms(policy: &Policy, record: &BuildRecord) -> Vec<Diagnostic> {
    let Some(limit) = &policy.max_relative_norm else { return Vec::new() };
    let mut findings = Vec::new();
    for tensor in record.tensors.iter().filter(|tensor| !limit.allows(tensor.relative)) {
        let message = format!(
            "tensor `{}` changes by {:.4} of its norm; the policy allows {}",
            tensor.name, tensor.relative, limit.value
        );
        let finding = policy.broken(Code::MaxRelativeNorm, message, limit);
        findings.push(finding.help("remove edits, or reduce their change: see ‖Δ‖ per edit"));
    }
    findings
}

/// Runs all prompts on the base model and the patched model. Returns a finding for each limit that the answers break.
fn check_answers(
    project: &Project,
    base: &Base,
    patched: &Model,
    prefaces: &Prefaces,
) -> Result<Vec<Diagnostic>, Failure> {
    let policy = &project.config.policy;
    let limits = [&policy.min_efficacy, &policy.min_paraphrase, &policy.min_consequence, &policy.min_unchanged];
    if limits.iter().all(|limit| limit.is_none()) && policy.max_neighbourhood_kl.is_none() {
        return Ok(Vec::new());
    }
    let all = asked_expectations(project, base, prefaces)?;
    let all: Vec<_> = all.into_iter().map(|one| one.judged_by(&project.config.test)).collect();
    let pairs = ask_expectations(&base.model, patched, &base.tokens, &all)
        .map_err(|unrunnable| unrunnable_error(project, &unrunnable))?;
    let thresholds = thresholds(&project.config);
    let figures = SetFigures::of(all.iter().zip(&pairs), thresholds);
    let unmet: Vec<&Expectation<'_>> = all
        .iter()
        .zip(&pairs)
        .filter(|(one, pair)| !one.report_only && !one.is_met(pair, thresholds))
        .map(|(one, _)| one)
        .collect();
    let of = |kinds: &[PromptKind]| unmet.iter().copied().filter(|one| kinds.contains(&one.kind)).collect::<Vec<_>>();
    let shares = [
        (
            Code::MinEfficacy,
            &policy.min_efficacy,
            figures.efficacy,
            of(&[PromptKind::Edit, PromptKind::Alias]),
            "edits hold",
        ),
        (
            Code::MinParaphrase,
            &policy.min_paraphrase,
            figures.paraphrase,
            of(&[PromptKind::Paraphrase]),
            "paraphrases hold",
        ),
        (
            Code::MinConsequence,
            &policy.min_consequence,
            figures.consequence,
            of(&[PromptKind::Consequence]),
            "consequences hold",
        ),
        (
            Code::MinUnchanged,
            &policy.min_unchanged,
            figures.unchanged,
            of(&[PromptKind::Unchanged, PromptKind::Probe]),
            "prompts stay unchanged",
        ),
    ];
    let mut found: Vec<Diagnostic> = shares
        .into_iter()
        .filter_map(|(code, limit, share, failing, what)| {
            share_below_limit(policy, code, limit.as_ref()?, share, &failing, what)
        })
        .collect();
    found.extend(
        policy.max_neighbourhood_kl.iter().flat_map(|limit| divergences_above_limit(policy, limit, &all, &pairs)),
    );
    Ok(found)
}

/// Returns the expectations of the project. Consequences are left out if the policy does not limit their share, or if
/// the base does not meet their conditions.
fn asked_expectations<'p>(
    project: &'p Project,
    base: &Base,
    prefaces: &Prefaces,
) -> Result<Vec<Expectation<'p>>, Failure> {
    let edits: Vec<&Edit> = project.edits.edits.iter().collect();
    let mut all = expectations(&edits, &project.probes, prefaces);
    if project.config.policy.min_consequence.is_none() {
        all.retain(|one| one.kind != PromptKind::Consequence);
    }
    let unmet = unmet_conditions(&base.model, &base.tokens, &MeasurementCache::disabled(), &all, &NoProgress)
        .map_err(|unrunnable| unrunnable_error(project, &unrunnable))?;
    Ok(all.into_iter().zip(unmet).filter(|(_, unmet)| unmet.is_none()).map(|(one, _)| one).collect())
}

fn share_below_limit(
    policy: &Policy,
    code: Code,
    limit: &Limit,
    share: Share,
    unmet: &[&Expectation<'_>],
    what: &str,
) -> Option<Diagnostic> {
    if share.value() >= limit.value {
        return None;
    }
    let message =
        format!("{} of {} {what}: {:.3}; the policy requires {}", share.met, share.all, share.value(), limit.value);
    // The error points first to the unmet expectations, and last to the policy's limit in `corrigenda.toml`.
    let mut finding = Diagnostic::new(code, message);
    for (index, one) in unmet.iter().take(MAX_PLACES).enumerate() {
        let label = format!("`{}` does not", one.id);
        finding = match index {
            0 => finding.at(one.file, &one.span, label),
            _ => finding.with(one.file, &one.span, label),
        };
    }
    if unmet.len() > MAX_PLACES {
        finding = finding.help(format!("{} more do not", unmet.len() - MAX_PLACES));
    }
    Some(policy.point(finding, limit))
}

fn divergences_above_limit(
    policy: &Policy,
    limit: &Limit,
    all: &[Expectation<'_>],
    pairs: &[PredictionPair],
) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for (one, pair) in all.iter().zip(pairs) {
        let is_neighbour = match one.kind {
            PromptKind::Unchanged => true,
            PromptKind::Probe => !one.report_only,
            PromptKind::Edit | PromptKind::Alias | PromptKind::Paraphrase | PromptKind::Consequence => false,
        };
        if !is_neighbour || limit.allows(pair.divergence) {
            continue;
        }
        let message = format!(
            "a neighbour of `{}` diverges by {:.3} nats; the policy allows {}",
            one.id, pair.divergence, limit.value
        );
        let finding = Diagnostic::new(Code::MaxNeighbourhoodKl, message).at(one.file, &one.span, "this prompt");
        findings.push(policy.point(finding, limit));
    }
    findings
}

/// Measures the KL divergence and the perplexity on neutral text, and returns a finding for each broken limit.
fn check_damage(project: &Project, base: &Base, patched: &Model) -> Result<Vec<Diagnostic>, Failure> {
    let policy = &project.config.policy;
    if policy.max_damage.is_none() && policy.max_perplexity.is_none() {
        return Ok(Vec::new());
    }
    let measured = measure_damage(project, base, patched)?;
    let mut found = Vec::new();
    if let Some(limit) = policy.max_damage.as_ref().filter(|limit| !limit.allows(measured.divergence)) {
        let message = format!(
            "neutral text diverges by {:.4} nats on average; the policy allows {}",
            measured.divergence, limit.value
        );
        found.push(policy.broken(Code::MaxDamage, message, limit));
    }
    if let Some(limit) = policy.max_perplexity.as_ref().filter(|limit| !limit.allows(measured.growth())) {
        let message = format!(
            "the perplexity of neutral text grows from {:.2} to {:.2}; the policy allows a share of {}",
            measured.perplexity_before, measured.perplexity_after, limit.value
        );
        found.push(policy.broken(Code::MaxPerplexity, message, limit));
    }
    Ok(found)
}

/// Compares both models on the project's tasks, and returns a finding for each task whose accuracy falls too much.
fn check_tasks(context: BuildContext<'_>, record: &BuildRecord, patched: &Model) -> Result<Vec<Diagnostic>, Failure> {
    let BuildContext { project, base, store, progress, .. } = context;
    let Some(limit) = &project.config.policy.max_task_loss else { return Ok(Vec::new()) };
    let tasks = read_tasks(project, base)?;
    let cache = MeasurementCache::new(store, base.locked.digest, None, Some(record.patch));
    let (before, after) = (|| Ok(&base.model), || Ok(patched));
    let models =
        [TaskModel { cache: cache.of_before(), model: &before }, TaskModel { cache: cache.of_after(), model: &after }];
    let results = measure_tasks(&tasks, base, models, Some(limit.value), progress)?;
    Ok(broken_tasks(project, &results))
}

/// Compares the base model and a patched model on the project's neutral text, by KL divergence and perplexity.
///
/// # Errors
/// If no neutral text is set, if the text cannot be read or has no token to predict, or if the output of a model is not
/// finite.
pub fn measure_damage(project: &Project, base: &Base, patched: &Model) -> Result<Damage, Failure> {
    let measured =
        damage(&base.model, patched, &read_neutral(project, base)?).map_err(|error| not_finite_error(&error))?;
    // If no token was predicted, nothing was measured, so no limit can be checked.
    if measured.tokens == 0 { Err(neutral_text_error(project, NO_TOKENS)) } else { Ok(measured) }
}

/// Reads and tokenizes the project's neutral text.
///
/// # Errors
/// If no neutral text is set, or the text cannot be read.
pub fn read_neutral(project: &Project, base: &Base) -> Result<Neutral, Failure> {
    let path = neutral_path(&project.config).ok_or_else(|| no_neutral(project))?;
    let limit = base.model.spec().max_positions;
    let is_json = path
        .extension()
        .is_some_and(|extension| ["json", "jsonl"].iter().any(|json| extension.eq_ignore_ascii_case(json)));
    // The corpus of the statistics is always read as lines, so it is not read as records here either.
    let neutral = if project.config.test.neutral.is_some() && is_json {
        Neutral::read_records(&path, &base.tokens, limit)
    } else {
        Neutral::read(&path, &base.tokens, limit)
    };
    neutral.map_err(|error| unusable(project, &error.to_string()))
}

/// Returns the path of the neutral text: `neutral` under `[test]`, or by default `corpus` under `[statistics]`.
pub fn neutral_path(config: &Config) -> Option<std::path::PathBuf> {
    let corpus = config.statistics.as_ref().map(|statistics| &statistics.corpus);
    config.test.neutral.as_ref().or(corpus).map(|path| config.resolve(path))
}

pub const NO_TOKENS: &str = "no document of the neutral text has a second token to predict";

fn no_neutral(project: &Project) -> Failure {
    neutral_text_error(project, "no neutral text is set to measure damage on")
}

fn unusable(project: &Project, error: &str) -> Failure {
    neutral_text_error(project, &format!("the neutral text cannot be used: {error}"))
}

/// Returns an error with the message `why`, and with help on how to set the neutral text in `corrigenda.toml`.
pub fn neutral_text_error(project: &Project, why: &str) -> Failure {
    let finding = Diagnostic::new(Code::CorpusUnusable, why).help(
        "set `neutral` under `[test]` to a text, one document per line; by default it is the corpus of the statistics",
    );
    Failure::from(finding).with_sources(&project.edits.sources)
}

pub fn not_finite_error(error: &ModelError) -> Failure {
    let finding = Diagnostic::new(Code::NotFinite, error.to_string());
    Failure::from(error.hint().into_iter().fold(finding, Diagnostic::help))
}

/// Returns the error for prompts that cannot be evaluated. It lists each prompt with its location in the project's
/// files.
pub fn unrunnable_error(project: &Project, unrunnable: &[UnrunnablePrompt]) -> Failure {
    let finding = |one: &UnrunnablePrompt| {
        let message = format!("`{}`: {}", one.id, one.error);
        let code = match one.error {
            ModelError::Chat { .. } => Code::ChatUnusable,
            ModelError::Overflow => Code::NotFinite,
            _ => Code::PromptTooLong,
        };
        let finding = Diagnostic::new(code, message).at(one.file, &one.span, "cannot be evaluated");
        one.error.hint().into_iter().fold(finding, Diagnostic::help)
    };
    Failure::invalid(unrunnable.iter().map(finding).collect(), &project.edits.sources)
}
