//! Collects the warnings that a build reports after it has measured the patch.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::base_disagrees;
use super::setup::REFINED_FROM;
use super::{BuildRecord, Plan, PlannedEdit, Setup};
use crate::diagnostics::{Code, Diagnostic};
use crate::project::{EditChange, Project};

/// Returns the warnings about the edits, the corpus and the number of edits. `changes` lists the edits that differ from
/// the previous `corrigenda.lock`.
pub(super) fn after_build(
    project: &Project,
    setup: &Setup,
    plan: &Plan<'_>,
    record: &BuildRecord,
    changes: &[EditChange],
) -> Vec<Diagnostic> {
    let mut warnings = plan.warnings.clone();
    warnings.extend(warn_rank_deficient(project, record));
    warnings.extend(warn_few_neutral(project, record));
    warnings.extend(warn_large_set(setup, plan.edits.len()));
    warnings.extend(warn_base_disagrees(project, plan, record, changes));
    warnings
}

/// Warns about each edit whose old answer (`was`) the base model does not predict. Edits that are unchanged since the
/// last build are left out, unless the policy treats the warning as an error.
fn warn_base_disagrees(
    project: &Project,
    plan: &Plan<'_>,
    record: &BuildRecord,
    changes: &[EditChange],
) -> Vec<Diagnostic> {
    let changed: BTreeSet<&str> = changes.iter().map(|change| change.id.as_str()).collect();
    let records: BTreeMap<_, _> = record.edits.iter().map(|record| (record.meaning, record)).collect();
    let mut warnings = Vec::new();
    // The aliases of a subject have the same `was`, so one warning per edit is enough.
    for PlannedEdit { edit, meaning, .. } in plan.edits.iter().filter(|planned| planned.alias().is_none()) {
        let answer = records.get(meaning).and_then(|measured| measured.was);
        let (Some(was), Some(span), Some(answer)) = (&edit.was, &edit.spans.was, answer) else { continue };
        if answer.held {
            continue;
        }
        let warning =
            base_disagrees(edit, was, span, "not what it says").help("run `corrigenda plan` to see what it says");
        let denied = project.config.policy.apply(vec![warning.clone()]).iter().any(Diagnostic::is_error);
        if denied || changed.contains(edit.id.as_str()) {
            warnings.push(warning);
        }
    }
    warnings
}

/// The size of the largest set for which refinement was benchmarked (244 facts), rounded up.
const LARGEST_MEASURED: usize = 250;

/// Warns about a set that is too large to link without refinement, or larger than every benchmarked set.
fn warn_large_set(setup: &Setup, names: usize) -> Option<Diagnostic> {
    let (message, help) = if setup.refinement.is_none() && names >= REFINED_FROM {
        (
            format!("{names} facts are linked without refinement: they disturb one another"),
            "remove `refine-steps` from `[link]`, and run `corrigenda test`",
        )
    } else if names > LARGEST_MEASURED {
        (
            format!("{names} facts are linked; sets of more than {LARGEST_MEASURED} were not measured"),
            "run `corrigenda test` to check each fact and the damage on neutral text",
        )
    } else {
        return None;
    };
    Some(Diagnostic::new(Code::SetLarge, message).help(help))
}

/// Warns if a ridge was added to the second moment of the MLP keys. The ridge is needed if the matrix does not have
/// full rank, because the corpus has too few different MLP keys.
fn warn_rank_deficient(project: &Project, record: &BuildRecord) -> Option<Diagnostic> {
    let statistics = project.config.statistics.as_ref().filter(|_| record.statistics_ridge > 0.0)?;
    let message = "the keys of the corpus do not span all directions: a ridge was added to their second moment";
    let finding =
        Diagnostic::new(Code::StatisticsThin, message).at(project.config.file, &statistics.span, "the corpus");
    Some(finding.help("use a longer corpus: edits then disturb fewer other facts"))
}

/// Warns if the corpus has fewer than a quarter of the neutral sentences that the refinement requests.
fn warn_few_neutral(project: &Project, record: &BuildRecord) -> Option<Diagnostic> {
    let (found, requested) = record.neutral_sentences.filter(|(found, requested)| found * 4 < *requested)?;
    let statistics = project.config.statistics.as_ref()?;
    let message =
        format!("the corpus has {found} sentences that name no edited subject; refinement uses up to {requested}");
    let finding =
        Diagnostic::new(Code::StatisticsThin, message).at(project.config.file, &statistics.span, "the corpus");
    Some(finding.help(
        "use a longer corpus, or a greater `max-documents`, with text about other subjects: less else then changes",
    ))
}
