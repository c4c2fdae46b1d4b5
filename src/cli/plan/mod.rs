//! Implements `plan`: shows what a build would do, and how the base answers the prompts of the edits. Writes nothing.

pub(crate) mod other_base;

use std::fmt::Write as _;

use crate::behaviour::expectation::UnrunnablePrompt;
use crate::behaviour::{AnswerScore, NextTokenDistribution, Question, next, scores};
use crate::cli::answers::plan::{PlanAlias, PlanAnswer, PlanEntry, PlannedStatistics};
use crate::cli::answers::{NamedBase, ScoredAnswer};
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Failure, escape_controls, quoted};
use crate::model::{ModelError, Prompt};
use crate::pipeline::plan::{base_disagrees, select_edits};
use crate::pipeline::policy_limits;
use crate::pipeline::setup::CorpusDigest;
use crate::pipeline::statistics::statistics_error;
use crate::pipeline::{Base, Plan, PlannedEdit, Setup, key_similarity, plan, refusal};
use crate::project::{ChangeKind, Difference, Edit, EditChange, Lock, LockField, LockItem, Project};
use crate::report::Outcome;
use crate::report::table::{Table, percent, plural};
use crate::stats;
use crate::store::Store;

/// Show what a build would do and how the base answers the prompts; writes nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Show only these edits (repeatable, or separated by commas)
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<String>,
    /// Exit with code 1 if a build would change corrigenda.lock; with `--base`, if that model does not give the target
    /// of a fact, or cannot process its prompt
    #[arg(long)]
    exit_code: bool,
    /// Plan for this model instead of the project's: show which facts it needs, which facts it already knows, and which
    /// prompts have other tokens than in corrigenda.lock
    #[arg(long, value_name = "DIR|hf:NAME")]
    base: Option<String>,
}

/// The base's likeliest next token after the prompt of one edit, and the scores of the edit's new and old answers.
struct BaseAnswer {
    top: (String, f64),
    target: AnswerScore,
    was: Option<AnswerScore>,
}

struct PlanView<'a> {
    base: &'a Base,
    plan: &'a Plan<'a>,
    setup: &'a Setup,
    project: &'a Project,
    lock: Option<&'a Lock>,
    changes: &'a [EditChange],
    /// The differences between the existing `corrigenda.lock` and the one that a build would write; empty if no
    /// `corrigenda.lock` exists.
    differences: &'a [Difference],
    built: bool,
    /// Whether the store records that one of the shown edits cannot be compiled, so that a build would reject it.
    refused: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let (project, store) = match context.open_project_and_store() {
        Ok((project, store)) => (project, store.for_reading()),
        Err(outcome) => return outcome,
    };
    show_plan(context, arguments, &project, &store).unwrap_or_else(|stop| context.stop(&stop))
}

fn show_plan(context: &Context, arguments: &Arguments, project: &Project, store: &Store) -> Result<Outcome, Failure> {
    let chosen = select_edits(project, &arguments.only)?;
    if let Some(name) = &arguments.base {
        return other_base::show_plan(context, project, store, &chosen, name, arguments.exit_code);
    }
    let lock = project.lock()?;
    let base = context.base(project, store, false)?;
    let setup = Setup::new(project, &base, store, CorpusDigest::Remembered)?;
    let mut plan = plan(project, &base, &setup, store)?;
    plan.check_reach(&base, &setup, &project.edits.sources)?;
    let said = ask(project, &base, &plan, &chosen)?;
    plan.warnings.extend(chosen.iter().zip(&said).filter_map(|(edit, said)| disagreement(edit, said)));
    plan.warnings.extend(key_similarity::foreseen(project, &base, &setup, &plan, store)?);
    crate::diagnostics::sort(&mut plan.warnings);
    plan.warnings = project.config.policy.apply(plan.warnings);
    if plan.warnings.iter().any(Diagnostic::is_error) {
        return Err(Failure::from_findings(plan.warnings, &project.edits.sources));
    }
    // An edit that cannot be compiled is reported, but does not stop the plan.
    let refused = refusal::refused_edits(&plan, store)?.into_iter();
    let refused = refused
        .filter(|(one, _)| chosen.iter().any(|edit| edit.id == one.edit.id))
        .map(|(one, refusal)| refusal.finding(one.edit, &setup));
    let refused: Vec<Diagnostic> = refused.collect();
    let changes = Lock::changes(lock.as_ref(), &project.edits);
    let built = stats::find(store, &setup.provenance).map_err(|error| statistics_error(project, &error))?.is_some();
    let differences = lock.as_ref().map_or_else(Vec::new, |lock| plan.differences(lock, &base, &setup));
    let view = PlanView {
        differences: &differences,
        base: &base,
        plan: &plan,
        setup: &setup,
        project,
        lock: lock.as_ref(),
        changes: &changes,
        built,
        refused: !refused.is_empty(),
    };
    let planned = |edit: &&Edit| plan.edits.iter().find(|planned| planned.edit.id == edit.id);
    let edits: Vec<(&PlannedEdit<'_>, &BaseAnswer)> = chosen.iter().filter_map(planned).zip(&said).collect();
    match context.format {
        Format::Json => {
            let findings = [plan.warnings.as_slice(), &refused].concat();
            context.answer_json(outcome(&refused), &findings, &project.edits.sources, view.answer(&edits));
        }
        _ => {
            context.ui.findings(&plan.warnings, &project.edits.sources);
            context.ui.findings(&refused, &project.edits.sources);
            context.ui.answer(&view.human(&edits, arguments.only.is_empty()));
        }
    }
    let changed = !changes.is_empty() || lock.is_none() || !differences.is_empty();
    Ok(if arguments.exit_code && changed && refused.is_empty() { Outcome::Findings } else { outcome(&refused) })
}

/// Returns `Error` if there are findings about edits that cannot be compiled, otherwise `Ok`.
fn outcome(refused: &[Diagnostic]) -> Outcome {
    if refused.is_empty() { Outcome::Ok } else { Outcome::Error }
}

/// Runs the prompts of the chosen edits on the base. Returns the base's answer to each edit, in the order of `chosen`.
fn ask(project: &Project, base: &Base, plan: &Plan<'_>, chosen: &[&Edit]) -> Result<Vec<BaseAnswer>, Failure> {
    let (mut questions, mut rows) = (Vec::new(), Vec::new());
    let limit = base.model.spec().max_positions;
    for edit in chosen {
        let planned = plan.edits.iter().find(|planned| planned.edit.id == edit.id);
        rows.extend(planned.map(|planned| planned.resolved.rows[0].ids.clone()));
        for answer in [Some(&edit.target), edit.was.as_ref()].into_iter().flatten() {
            let filled = planned.map_or_else(|| edit.filled_prompt(), PlannedEdit::filled);
            let question = Question::new(&base.tokens, Prompt { text: &filled, chat: edit.chat }, answer, limit);
            questions.push(question.map_err(|error| unrunnable_error(edit, &error.to_string()))?);
        }
    }
    let mut scores = scores(&base.model, &questions).into_iter();
    let mut score = || scores.next().expect("a score per question");
    let mut said = Vec::new();
    for (edit, next) in chosen.iter().zip(rows.chunks(64).flat_map(|some| next(&base.model, some))) {
        let NextTokenDistribution { top, probability, .. } = next;
        let top = (base.tokens.piece(top), probability);
        let one = BaseAnswer { top, target: score(), was: edit.was.as_ref().map(|_| score()) };
        if !one.target.is_finite() {
            let (id, file, span) = (edit.id.clone(), edit.spans.file, edit.spans.prompt.clone());
            return Err(policy_limits::unrunnable_error(
                project,
                &[UnrunnablePrompt { id, file, span, error: ModelError::Overflow }],
            ));
        }
        said.push(one);
    }
    Ok(said)
}

fn unrunnable_error(edit: &Edit, error: &str) -> Failure {
    let finding = Diagnostic::new(Code::PromptTooLong, format!("edit `{}`: {error}", edit.id));
    Failure::from(finding)
}

/// Returns a warning if the base already gives the target of the edit, or if it does not give the old answer `was`.
fn disagreement(edit: &Edit, said: &BaseAnswer) -> Option<Diagnostic> {
    let spans = &edit.spans;
    let top = format!("the base says {:?} with {}", said.top.0, percent(said.top.1));
    if said.target.holds {
        let message = format!("edit `{}`: the base already gives the target", edit.id);
        let finding = Diagnostic::new(Code::AlreadyTrue, message).at(spans.file, &spans.target, top);
        return Some(
            finding.help("the fact may need no edit on this base: check its paraphrases, then remove it or park it"),
        );
    }
    let (was, span) = (edit.was.as_ref()?, spans.was.as_ref()?);
    (!said.was?.holds).then(|| base_disagrees(edit, was, span, top))
}

/// Describes the refinement of the linked edits, such as `refined in 20 steps over layers 4, 5`; `None` if `setup` has
/// no refinement.
fn refined(setup: &Setup, layers: &[usize]) -> Option<String> {
    let refinement = setup.refinement.as_ref()?;
    let layers: Vec<String> = layers.iter().map(ToString::to_string).collect();
    let word = if layers.len() == 1 { "layer" } else { "layers" };
    Some(format!("refined in {} over {word} {}", plural(refinement.steps, "step"), layers.join(", ")))
}

impl PlanView<'_> {
    fn human(&self, edits: &[(&PlannedEdit<'_>, &BaseAnswer)], whole: bool) -> String {
        let mut head = Table::new(&[1], &[]);
        let digest = self.base.locked.digest;
        let locked = match self.lock {
            None => "not locked yet",
            Some(lock) if lock.base.digest == digest => "as locked",
            Some(_) => "NOT the base that the lock names",
        };
        head.row(["base", &format!("{}  {}  {locked}", self.base.name(), digest.short())]);
        let corpus = self.setup.corpus.file_name().unwrap_or_default().to_string_lossy();
        let built = if self.built { "in the store" } else { "not built yet" };
        head.row(["stats", &format!("layer {} over {corpus}, {built}", self.setup.layer)]);
        if let Some(refined) = refined(self.setup, &self.setup.layers(self.base)) {
            head.row(["link", &refined]);
        }
        let mut out = head.render(usize::MAX) + "\n";
        for (planned, said) in edits {
            self.edit(&mut out, planned, said);
        }
        if whole {
            // Differences in an edit are not listed here, because the lines about that edit show them. A new digest of
            // the edit set is not listed either, because it only says that some edit differs.
            let is_listed =
                |one: &&Difference| !matches!(one.item, LockItem::Edit(_)) && !one.is(&LockItem::Patch, LockField::Set);
            for difference in self.differences.iter().filter(is_listed) {
                let _ = writeln!(out, "~ {}: {}", difference.item, difference.field);
                if difference.is(&LockItem::Patch, LockField::Settings) {
                    out.push_str(
                        "    other settings for values or link: results that are not in the store are computed\n",
                    );
                }
            }
            let written = self.project.edits.written();
            for change in self.changes.iter().filter(|change| change.kind == ChangeKind::Removed) {
                let parked = written.get(change.id.as_str()).and_then(|edit| edit.parked.clone());
                let why = parked.map_or_else(String::new, |why| format!("  parked: {why}"));
                let _ = writeln!(out, "- {}{}", escape_controls(&change.id), escape_controls(&why));
            }
            let count = |kind| self.changes.iter().filter(|change| change.kind == kind).count();
            let [added, changed, removed] = [ChangeKind::Added, ChangeKind::Changed, ChangeKind::Removed].map(count);
            let last = match added + changed + removed {
                0 if self.lock.is_some() && !self.differences.is_empty() => {
                    "No fact changed, but the lock is not what `corrigenda build` would write now.".to_owned()
                }
                0 => "Nothing to add, change or remove.".to_owned(),
                _ if self.refused => {
                    format!(
                        "{added} to add, {changed} to change, {removed} to remove: `corrigenda build` refuses edits that are named above."
                    )
                }
                _ => format!("{added} to add, {changed} to change, {removed} to remove: `corrigenda build` does it."),
            };
            let _ = write!(out, "\n{last}");
        }
        out
    }

    /// Appends the lines about one edit to `out`. Results of `write!` are ignored, because writing to a `String` cannot
    /// fail.
    fn edit(&self, out: &mut String, planned: &PlannedEdit<'_>, said: &BaseAnswer) {
        let edit = planned.edit;
        let change = self.changes.iter().find(|change| change.id == edit.id);
        let sign = change.map_or("=", |change| change.kind.sign());
        let parts: Vec<&str> = change.into_iter().flat_map(|change| &change.parts).map(|part| part.as_str()).collect();
        let parts = if parts.is_empty() { String::new() } else { format!("  changed: {}", parts.join(", ")) };
        let place = self.project.edits.sources.place(edit.spans.file, edit.spans.id.start);
        let _ = writeln!(out, "{sign} {}  {}{parts}", escape_controls(&edit.id), escape_controls(&place));
        let row = &planned.resolved.rows[0];
        let pieces = self.base.tokens.shown(&row.ids);
        let cut: Vec<String> = pieces
            .iter()
            .enumerate()
            .map(|(at, piece)| if at == row.position { format!("[{piece}]") } else { piece.clone() })
            .collect();
        let target = self.base.tokens.shown(&planned.resolved.target).join("|");
        let _ = writeln!(out, "    {} → {}", escape_controls(&cut.join("|")), escape_controls(&target));
        let key = &pieces[row.position];
        let _ = writeln!(out, "    key at token {} {}, layer {}", row.position, quoted(key), self.setup.layer);
        let _ = writeln!(out, "    the base says {}", self.says(edit, said));
        for alias in self.aliases(edit) {
            let alias_row = &alias.resolved.rows[0];
            let alias_key = &self.base.tokens.shown(&alias_row.ids)[alias_row.position];
            let _ = writeln!(
                out,
                "    as {}: key at token {} {}",
                quoted(alias.name),
                alias_row.position,
                quoted(alias_key)
            );
        }
    }

    /// Returns the planned edits for the aliases of an edit's subject, without the one for the subject's own name.
    fn aliases(&self, edit: &Edit) -> impl Iterator<Item = &PlannedEdit<'_>> {
        // The planned edits are sorted by edit id. For each edit, the subject's own name comes before its aliases.
        let own = self.plan.edits.partition_point(|one| one.edit.id < edit.id);
        self.plan.edits[own..].iter().take_while(|one| one.edit.id == edit.id).filter(|one| one.alias().is_some())
    }

    fn says(&self, edit: &Edit, said: &BaseAnswer) -> String {
        let target = format!("{} {}", quoted(&edit.target), percent(said.target.probability));
        let top = format!("{} {}", quoted(&said.top.0), percent(said.top.1));
        match (&edit.was, &said.was) {
            (Some(was), Some(score)) if score.holds => {
                format!("{} {}, as in `was`; {target}", quoted(was), percent(score.probability))
            }
            (Some(was), Some(score)) => {
                format!("{top}, not {} {} as in `was`; {target}", quoted(was), percent(score.probability))
            }
            _ => format!("{top}; {target}"),
        }
    }

    fn answer<'v>(&'v self, edits: &'v [(&'v PlannedEdit<'v>, &'v BaseAnswer)]) -> PlanAnswer<'v> {
        let removed = self.changes.iter().filter(|change| change.kind == ChangeKind::Removed);
        PlanAnswer {
            base: NamedBase { name: self.base.name(), digest: self.base.locked.digest.to_string() },
            locked: self.lock.map(|lock| lock.base.digest == self.base.locked.digest),
            statistics: PlannedStatistics { layer: self.setup.layer, built: self.built },
            edits: edits.iter().map(|(planned, said)| self.planned_edit(planned, said)).collect(),
            removed: removed.map(|change| change.id.as_str()).collect(),
        }
    }

    fn planned_edit<'v>(&'v self, planned: &'v PlannedEdit<'v>, said: &'v BaseAnswer) -> PlanEntry<'v> {
        let (edit, sources) = (planned.edit, &self.project.edits.sources);
        let change = self.changes.iter().find(|change| change.id == edit.id);
        let locked = planned.lock_entry(self.base, &self.setup.layers(self.base));
        let alias = |alias: &PlannedEdit<'_>| {
            let entry = alias.lock_entry(self.base, &self.setup.layers(self.base));
            PlanAlias {
                alias: entry.alias,
                tokens: entry.tokens,
                preface: entry.preface,
                position: entry.position,
                object: entry.object,
            }
        };
        PlanEntry {
            id: &edit.id,
            change: change.into(),
            changed: change.into_iter().flat_map(|change| &change.parts).map(|part| part.as_str()).collect(),
            file: sources.path(edit.spans.file),
            line: sources.position(edit.spans.file, edit.spans.id.start).line,
            tokens: locked.tokens,
            target_tokens: locked.target_tokens,
            preface: locked.preface,
            position: locked.position,
            layers: locked.layers,
            object: locked.object,
            says: (&said.top).into(),
            target: said.target.into(),
            was: said.was.map(ScoredAnswer::from),
            aliases: self.aliases(edit).map(alias).collect(),
        }
    }
}
