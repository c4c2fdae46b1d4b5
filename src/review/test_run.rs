//! Runs the checks of the command `test`: the expectations and the limits. An unmet expectation that
//! `corrigenda.accepted` lists is allowed.

use super::answers::Judgement;
use super::consequences;
use super::measure::ModelPair;
use crate::behaviour::PromptKind;
use crate::behaviour::ask::{Prediction, PredictionPair, TextPair};
use crate::behaviour::damage::Damage;
use crate::behaviour::expectation::{Expectation, SetFigures, Thresholds, expectations};
use crate::behaviour::said::first_sentence;
use crate::behaviour::task::{EncodedTask, TaskResult};
use crate::diagnostics::{Code, Diagnostic, Failure, shorten};
use crate::model::Tokens;
use crate::pipeline::Base;
use crate::pipeline::policy_limits::{
    NO_TOKENS, neutral_path, neutral_text_error, read_neutral, thresholds, unrunnable_error,
};
use crate::pipeline::tasks::{broken_tasks, read_tasks};
use crate::project::lock::accepted::{Acceptances, Accepted};
use crate::project::{Edit, Limit, Policy, Prefaces, Project, SaysRule};
use crate::report::{Gate, GateName, NotAsked, Verdict};
use crate::store::Store;

pub struct TestRun<'p> {
    /// The expectations that were run: those of the tested edits, then those of the probes.
    pub expectations: Vec<Expectation<'p>>,
    /// The consequences that were not asked, because the base does not meet one of their conditions.
    pub not_asked: Vec<NotAsked>,
    /// The predictions of both models, in the order of `expectations`.
    pub predictions: Vec<PredictionPair>,
    /// The judgements, in the order of `expectations`. The judgement of a probe with `unchanged = false` has no
    /// verdict.
    pub judgements: Vec<Judgement>,
    /// The measurements over all edits, for example efficacy and damage, each with its limit.
    pub gates: Vec<Gate>,
    pub damage: Option<Damage>,
    /// The results of the project's tasks, in the order of `corrigenda.toml`.
    pub tasks: Vec<TaskResult>,
    pub findings: Vec<Diagnostic>,
    /// Notes for the report, for example that damage was not measured.
    pub notes: Vec<String>,
    /// All unmet expectations, including the tolerated ones. An unmet expectation is tolerated if a minimum share of
    /// the expectations of its kind is met.
    shortfalls: Vec<Accepted>,
    /// The unmet expectations that are not tolerated. A reviewer can accept them in `corrigenda.accepted`; otherwise
    /// they can make the test fail.
    acceptable: Vec<Accepted>,
}

pub struct TestInput<'a, 'p> {
    pub project: &'p Project,
    pub base: &'a Base,
    pub store: &'a Store,
    /// The two models to run: the earlier model is the base model, and the later model is the patched model.
    pub pair: ModelPair<'a>,
    pub edits: &'a [&'p Edit],
    /// Whether `edits` are all edits of the project. If not, the limits on the whole set are not checked.
    pub whole: bool,
    pub damage: bool,
    /// Whether the project's tasks are asked.
    pub tasks: bool,
    /// The prefaces of the edits: texts that are put before prompts to keep the subjects away from attention sinks.
    pub prefaces: &'a Prefaces,
}

impl<'p> TestRun<'p> {
    /// Runs all expectations and checks the answers against the thresholds, the limits and `corrigenda.accepted`.
    ///
    /// # Errors
    /// If a prompt cannot be run, or the neutral text that a limit needs cannot be read.
    pub fn new(input: &TestInput<'_, 'p>, accepted: &Acceptances) -> Result<Self, Failure> {
        let TestInput { project, base, edits, whole, prefaces, .. } = *input;
        let probes = if whole { project.probes.as_slice() } else { &[] };
        let (expectations, not_asked) = asked(input, expectations(edits, probes, prefaces))?;
        let expectations: Vec<_> = expectations.into_iter().map(|one| one.judged_by(&project.config.test)).collect();
        let predictions = input.pair.ask(base, &expectations, |unrunnable| unrunnable_error(project, &unrunnable))?;
        let (damage, mut notes) = if whole { damage(input)? } else { (None, Vec::new()) };
        let tasks = if whole { tasks(input, &mut notes)? } else { Vec::new() };
        let mut trial = Self {
            judgements: Vec::new(),
            gates: Vec::new(),
            findings: Vec::new(),
            shortfalls: Vec::new(),
            acceptable: Vec::new(),
            expectations,
            not_asked,
            predictions,
            damage,
            tasks,
            notes,
        };
        trial.judge(input, accepted);
        Ok(trial)
    }

    fn judge(&mut self, input: &TestInput<'_, 'p>, accepted: &Acceptances) {
        let TestInput { project, base, whole, .. } = *input;
        let (thresholds, policy) = (thresholds(&project.config), &project.config.policy);
        let figures = SetFigures::of(self.expectations.iter().zip(&self.predictions), thresholds);
        let judge = Judge {
            project,
            figures,
            whole,
            thresholds,
            expectations: &self.expectations,
            predictions: &self.predictions,
        };
        for (one, pair) in self.expectations.iter().zip(&self.predictions) {
            if one.report_only {
                self.judgements.push(Judgement::default());
                continue;
            }
            if one.is_met(pair, thresholds) {
                self.judgements.push(Judgement { verdict: Some(Verdict::Pass), requirement: None });
                continue;
            }
            if one.kind == PromptKind::Consequence {
                // Only the share of all consequences can fail the test.
                self.judgements.push(Judgement { verdict: Some(Verdict::Unmet), requirement: None });
                continue;
            }
            let says = says(&base.tokens, pair, one);
            let (id, asked) = (one.id.to_owned(), one.kind.as_str().to_owned());
            let shortfall = Accepted { id, asked, prompt: one.display_prompt(), says };
            let tolerated = judge.tolerates(one);
            if !tolerated {
                self.acceptable.push(shortfall.clone());
            }
            let tolerated = tolerated || accepted.has(&shortfall);
            let required = required(one, pair, thresholds);
            let found =
                if tolerated { Vec::new() } else { vec![failed(one, pair, &shortfall.says, required.as_deref())] };
            // The policy may turn the error into a warning, or drop it.
            let found = policy.apply(found);
            let fails = found.iter().any(Diagnostic::is_error);
            let verdict = if fails { Verdict::Fail } else { Verdict::Accepted };
            let requirement = required.filter(|_| !found.is_empty());
            self.judgements.push(Judgement { verdict: Some(verdict), requirement });
            self.findings.extend(found);
            self.shortfalls.push(shortfall);
        }
        if whole {
            self.findings.extend(policy.apply(accepted.orphans(&self.shortfalls)));
            self.gates = judge.gates(self.damage);
            self.gates.extend(task_gate(&self.tasks));
            for gate in self.gates.iter_mut().filter(|gate| !gate.pass) {
                let found = match gate.name {
                    GateName::TaskLoss => broken_tasks(project, &self.tasks),
                    _ => vec![broken(gate, policy)],
                };
                let found = policy.apply(found);
                gate.pass = !found.iter().any(Diagnostic::is_error);
                if gate.name == GateName::TaskLoss {
                    self.tasks.iter_mut().for_each(|task| task.pass |= gate.pass);
                }
                self.findings.extend(found);
            }
        }
    }

    /// Returns whether the test passes, that is, whether none of its findings is an error.
    pub fn passes(&self) -> bool {
        !self.findings.iter().any(Diagnostic::is_error)
    }

    /// Returns the unmet expectations that a reviewer can accept in `corrigenda.accepted`.
    pub fn acceptable(&self) -> &[Accepted] {
        &self.acceptable
    }
}

/// Removes the consequences whose conditions the base does not meet. Returns the other expectations and the removed
/// consequences.
fn asked<'p>(
    input: &TestInput<'_, 'p>,
    all: Vec<Expectation<'p>>,
) -> Result<(Vec<Expectation<'p>>, Vec<NotAsked>), Failure> {
    let TestInput { project, base, store, .. } = *input;
    let unmet = consequences::unmet(base, store, &all, input.pair.progress)
        .map_err(|unrunnable| unrunnable_error(project, &unrunnable))?;
    let (mut expectations, mut not_asked) = (Vec::new(), Vec::new());
    for (one, condition) in all.into_iter().zip(unmet) {
        match condition {
            Some(condition) => {
                not_asked.extend(consequences::not_asked(&base.tokens, &project.edits.sources, &one, &condition));
            }
            None => expectations.push(one),
        }
    }
    Ok((expectations, not_asked))
}

/// Returns the patched model's answer in the form that `corrigenda.accepted` records. If the answer is right but misses
/// a threshold, the measured value is added with one significant digit. A probability is rounded down, and a KL
/// divergence is rounded up. A later measurement that is worse than the recorded value must be accepted again.
fn says(tokens: &Tokens, pair: &PredictionPair, one: &Expectation<'_>) -> String {
    let first = |prediction: &Prediction| prediction.top.first().map(|(token, _)| *token);
    let by_text = one.says.zip(pair.texts.as_ref());
    let said = match by_text {
        Some((_, texts)) => first_sentence(&texts.after, &one.answers).to_owned(),
        None => first(&pair.after).map(|token| tokens.piece(token)).unwrap_or_default(),
    };
    if by_text.is_some_and(|(rule, texts)| !one.is_said(rule, texts)) {
        return said;
    }
    let holds = by_text.is_some() || pair.after.holds();
    let digit = |figure: f64, round: fn(f64) -> f64| {
        let unit = 10_f64.powf(figure.log10().floor());
        round(figure / unit) * unit
    };
    match pair.after.probability() {
        None if first(&pair.before) == first(&pair.after) => {
            format!("{said} (KL up to {:.0e})", digit(pair.divergence, f64::ceil))
        }
        Some(probability) if holds && one.kind == PromptKind::Edit => {
            format!("{said} (P from {:.0e})", digit(probability, f64::floor))
        }
        _ => said,
    }
}

fn damage(input: &TestInput<'_, '_>) -> Result<(Option<Damage>, Vec<String>), Failure> {
    let TestInput { project, base, .. } = *input;
    let (test, policy) = (&project.config.test, &project.config.policy);
    let limited = [test.max_damage, test.max_perplexity].iter().any(Option::is_some);
    let limited = limited || policy.max_damage.is_some() || policy.max_perplexity.is_some();
    let gated = limited || test.neutral.is_some();
    if !input.damage {
        let unchecked = if limited { ", and its limits were not checked" } else { "" };
        return Ok((None, vec![format!("damage was not measured because of `--no-damage`{unchecked}")]));
    }
    // The neutral text is the corpus by default, and a project may be shared without its corpus. A missing file is an
    // error only if the project sets `neutral` under `[test]`, or a limit on damage or perplexity.
    if !gated && !neutral_path(&project.config).is_some_and(|path| path.is_file()) {
        return Ok((None, vec!["damage was not measured: there is no neutral text here".to_owned()]));
    }
    let measured = input.pair.damage(&read_neutral(project, base)?)?;
    // If no token was predicted, nothing was measured, so no limit can be checked.
    if measured.tokens == 0 { Err(neutral_text_error(project, NO_TOKENS)) } else { Ok((Some(measured), Vec::new())) }
}

/// Asks both models the questions of the project's tasks. Adds a note if the tasks are skipped, and for each task with
/// questions that are longer than the context.
fn tasks(input: &TestInput<'_, '_>, notes: &mut Vec<String>) -> Result<Vec<TaskResult>, Failure> {
    let TestInput { project, base, .. } = *input;
    let (tested, policy) = (project.config.test.max_task_loss, &project.config.policy.max_task_loss);
    if project.config.tasks.is_empty() {
        return Ok(Vec::new());
    }
    let limit = smallest(tested, policy.as_ref());
    if !input.tasks {
        let unchecked = if limit.is_some() { ", and their limit was not checked" } else { "" };
        notes.push(format!("the tasks were not asked because of `--no-tasks`{unchecked}"));
        return Ok(Vec::new());
    }
    let tasks = read_tasks(project, base)?;
    notes.extend(tasks.iter().filter_map(EncodedTask::note));
    input.pair.tasks(base, &tasks, limit)
}

/// Returns the measurement over all tasks: the largest fall of the accuracy of a task. Returns `None` without a task.
fn task_gate(tasks: &[TaskResult]) -> Option<Gate> {
    let worst = tasks.iter().map(TaskResult::loss).max_by(f64::total_cmp)?;
    Some(at_most(GateName::TaskLoss, worst, tasks.first().and_then(|task| task.limit)))
}

/// Returns the smaller of two upper limits, one set by `[test]` and one by the policy.
fn smallest(tested: Option<f64>, allowed: Option<&Limit>) -> Option<f64> {
    tested.into_iter().chain(allowed.map(|limit| limit.value)).min_by(f64::total_cmp)
}

/// The inputs of two checks: whether an unmet expectation is tolerated, and whether each measurement over all edits
/// (for example efficacy) is within its limit.
struct Judge<'a, 'p> {
    project: &'p Project,
    figures: SetFigures,
    whole: bool,
    thresholds: Thresholds,
    expectations: &'a [Expectation<'p>],
    predictions: &'a [PredictionPair],
}

impl Judge<'_, '_> {
    /// Returns whether an unmet expectation is tolerated because the share of met expectations of its kind is large
    /// enough. `[test]` sets a minimum share per kind, which counts only if all edits are tested. An edit can set a
    /// minimum share for its own paraphrases.
    fn tolerates(&self, one: &Expectation<'_>) -> bool {
        let test = &self.project.config.test;
        let suffices = |least: Option<f64>, share: f64| self.whole && least.is_some_and(|least| share >= least);
        match one.kind {
            PromptKind::Edit | PromptKind::Alias => suffices(test.min_efficacy, self.figures.efficacy.value()),
            PromptKind::Paraphrase => {
                let own = one.edit.and_then(|edit| edit.expect.min_paraphrase);
                own.is_some_and(|least| self.own_share(one) >= least)
                    || suffices(test.min_paraphrase, self.figures.paraphrase.value())
            }
            PromptKind::Consequence => true,
            PromptKind::Unchanged | PromptKind::Probe => suffices(test.min_unchanged, self.figures.unchanged.value()),
        }
    }

    /// Returns the share of met expectations among the paraphrases of one edit, the edit that states `one`.
    fn own_share(&self, one: &Expectation<'_>) -> f64 {
        let all = self.expectations.iter().zip(self.predictions);
        let own = all.filter(|(other, _)| other.id == one.id && other.kind == PromptKind::Paraphrase);
        SetFigures::of(own, self.thresholds).paraphrase.value()
    }

    fn gates(&self, damage: Option<Damage>) -> Vec<Gate> {
        let (test, policy, figures) = (&self.project.config.test, &self.project.config.policy, &self.figures);
        // If both `[test]` and the policy set a limit, the stricter one applies.
        let least = |tested: Option<f64>, allowed: &Option<Limit>| {
            tested.into_iter().chain(allowed.iter().map(|limit| limit.value)).max_by(f64::total_cmp)
        };
        let most = |tested: Option<f64>, allowed: &Option<Limit>| smallest(tested, allowed.as_ref());
        let mut gates = vec![
            at_least(GateName::Efficacy, figures.efficacy.value(), least(test.min_efficacy, &policy.min_efficacy)),
            at_least(
                GateName::Paraphrase,
                figures.paraphrase.value(),
                least(test.min_paraphrase, &policy.min_paraphrase),
            ),
            at_least(GateName::Unchanged, figures.unchanged.value(), least(test.min_unchanged, &policy.min_unchanged)),
            at_most(GateName::NeighbourhoodKl, figures.neighbourhood_kl, most(None, &policy.max_neighbourhood_kl)),
        ];
        let least_consequence = least(test.min_consequence, &policy.min_consequence);
        if figures.consequence.all > 0 || least_consequence.is_some() {
            gates.push(at_least(GateName::Consequence, figures.consequence.value(), least_consequence));
        }
        if let Some(said) = figures.said {
            let shares = [
                (GateName::SaidExactly, said.exact),
                (GateName::Said, said.contains),
                (GateName::ParaphraseSaid, said.paraphrase),
                (GateName::SameText, said.same),
            ];
            // There is no share of nothing.
            let some = shares.into_iter().filter(|(_, share)| share.all > 0);
            gates.extend(some.map(|(name, share)| at_least(name, share.value(), None)));
            if said.repeats.all > 0 || test.max_repeats.is_some() {
                gates.push(at_most(GateName::Repeats, said.repeats.value(), test.max_repeats));
            }
        }
        if let Some(damage) = damage {
            gates.push(at_most(GateName::Damage, damage.divergence, most(test.max_damage, &policy.max_damage)));
            gates.push(at_most(
                GateName::Perplexity,
                damage.growth(),
                most(test.max_perplexity, &policy.max_perplexity),
            ));
        }
        gates
    }
}

fn at_least(name: GateName, value: f64, limit: Option<f64>) -> Gate {
    let pass = limit.is_none_or(|limit| value >= limit);
    Gate { name, value, limit, more_is_better: true, pass }
}

fn at_most(name: GateName, value: f64, limit: Option<f64>) -> Gate {
    let pass = limit.is_none_or(|limit| value <= limit);
    Gate { name, value, limit, more_is_better: false, pass }
}

/// Returns the threshold that a failed expectation misses, as a text for messages. Returns `None` if the answer itself
/// is wrong.
fn required(one: &Expectation<'_>, pair: &PredictionPair, thresholds: Thresholds) -> Option<String> {
    let own = one.edit.map(|edit| &edit.expect);
    if let (Some(rule), Some(texts)) = (one.says, &pair.texts)
        && !one.is_said(rule, texts)
    {
        return None;
    }
    let first = |top: &[(u32, f64)]| top.first().map(|(token, _)| *token);
    match pair.after.probability() {
        Some(_) => (one.says.is_some() || pair.after.holds()).then(|| {
            let least = own.and_then(|own| own.min_probability).unwrap_or(thresholds.min_probability);
            format!("at least {least} is required")
        }),
        None => (first(&pair.before.top) == first(&pair.after.top)).then(|| {
            let most = own.and_then(|own| own.unchanged_kl).unwrap_or(thresholds.unchanged_kl);
            format!("less than {most} is required")
        }),
    }
}

/// Returns the error for a failed expectation. Its label in the file states the measured value, followed by `required`,
/// the threshold that is not met. If `required` is `None`, the measured value is followed by `says`, the answer of the
/// patched model.
fn failed(one: &Expectation<'_>, pair: &PredictionPair, says: &str, required: Option<&str>) -> Diagnostic {
    let holds = pair.after.holds();
    let measured = match pair.after.probability() {
        Some(probability) => format!("P {probability:.3}"),
        None => format!("KL {:.3}", pair.divergence),
    };
    let found = match (required, one.says.zip(pair.texts.as_ref())) {
        (Some(required), _) => format!("{measured}; {required}"),
        (None, Some((rule, texts))) => unsaid(one, rule, texts),
        (None, None) => format!("{measured}; the model continues with {says:?}"),
    };
    let what = match one.kind {
        PromptKind::Edit if required.is_some() => "the edit holds, but its probability is too low",
        PromptKind::Edit if holds && one.says.is_some() => "the generated text does not meet the rule `says`",
        PromptKind::Edit => "the edit does not hold",
        PromptKind::Alias => "an alias does not hold",
        PromptKind::Paraphrase => "a paraphrase does not hold",
        PromptKind::Consequence => "a consequence does not hold",
        PromptKind::Unchanged => "a prompt does not stay unchanged",
        PromptKind::Probe => "a probe does not stay unchanged",
    };
    Diagnostic::new(Code::ExpectationFailed, format!("`{}`: {what}", one.id)).at(one.file, &one.span, found)
}

/// Describes a generated text that does not meet the rule of the expectation.
fn unsaid(one: &Expectation<'_>, rule: SaysRule, texts: &TextPair) -> String {
    let (text, said) = (shorten(&texts.after), one.said(&texts.after));
    match rule {
        _ if one.answers.is_empty() => format!("the model says {text:?}, the base {:?}", shorten(&texts.before)),
        _ if said.forbidden => format!("the model says {text:?}, with an answer that it should not give any more"),
        SaysRule::Exact if said.contains => format!("the model says {text:?}, which is not exactly the answer"),
        _ => format!("the model says {text:?}"),
    }
}

fn broken(gate: &Gate, policy: &Policy) -> Diagnostic {
    let (code, rule) = match gate.name {
        GateName::Efficacy => (Code::MinEfficacy, &policy.min_efficacy),
        GateName::Paraphrase => (Code::MinParaphrase, &policy.min_paraphrase),
        GateName::Consequence => (Code::MinConsequence, &policy.min_consequence),
        GateName::Unchanged => (Code::MinUnchanged, &policy.min_unchanged),
        GateName::Damage => (Code::MaxDamage, &policy.max_damage),
        GateName::Perplexity => (Code::MaxPerplexity, &policy.max_perplexity),
        GateName::TaskLoss => (Code::MaxTaskLoss, &policy.max_task_loss),
        GateName::NeighbourhoodKl => (Code::MaxNeighbourhoodKl, &policy.max_neighbourhood_kl),
        GateName::Repeats => (Code::MaxRepeats, &None),
        GateName::SaidExactly | GateName::Said | GateName::ParaphraseSaid | GateName::SameText => {
            unreachable!("the project cannot set a limit for {}", gate.name.as_str())
        }
    };
    let (side, limit) = (if gate.more_is_better { "at least" } else { "at most" }, gate.limit.unwrap_or_default());
    let finding =
        Diagnostic::new(code, format!("{} is {:.4}; {side} {limit} is required", gate.name.as_str(), gate.value));
    // The error points to the policy's limit only if this limit was applied. `[test]` may set a stricter limit.
    match rule.as_ref().filter(|rule| Some(rule.value) == gate.limit) {
        Some(rule) => policy.point(finding, rule),
        None => finding,
    }
}
