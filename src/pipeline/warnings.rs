//! Collects the warnings after a build about its facts, its corpus and its size.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::disagrees;
use super::setup::REFINED_FROM;
use super::{Record, Setup};
use crate::diagnostics::{Code, Diagnostic};
use crate::project::{Edit, EditChange, Project};

/// Returns a warning for each edit whose `was` the base does not predict. Only new and changed edits are included,
/// unless the policy makes the warning an error.
pub(super) fn disagreements(project: &Project, record: &Record, changes: &[EditChange]) -> Vec<Diagnostic> {
    let denied =
        |finding: &Diagnostic| project.config.policy.apply(vec![finding.clone()]).iter().any(Diagnostic::is_error);
    let new: BTreeSet<&str> = changes.iter().map(|change| change.id.as_str()).collect();
    let is_new = |edit: &Edit| new.contains(edit.id.as_str());
    let records: BTreeMap<_, _> = record.edits.iter().map(|record| (record.meaning, record)).collect();
    let finding = |edit: &Edit| {
        let record = records.get(&edit.meaning())?;
        let (was, said, span) = (edit.was.as_ref()?, record.was?, edit.spans.was.as_ref()?);
        (!said.held)
            .then(|| disagrees(edit, was, span, "not what it says").help("run `corrigenda plan` to see what it says"))
    };
    let found = project.edits.edits.iter().filter_map(|edit| Some((edit, finding(edit)?)));
    found.filter(|(edit, finding)| is_new(edit) || denied(finding)).map(|(_, finding)| finding).collect()
}

/// The size of the largest benchmarked set, rounded up: refinement was measured with 244 facts (`bench`, S 96).
const MEASURED: usize = 250;

/// Warns about a set that is too large to link without refinement, or larger than the benchmarked maximum.
pub(super) fn large(setup: &Setup, names: usize) -> Option<Diagnostic> {
    let finding = |message: String| Some(Diagnostic::new(Code::SetLarge, message));
    if setup.refinement.is_none() && names >= REFINED_FROM {
        return finding(format!("{names} facts are linked without refinement: they disturb one another"))
            .map(|finding| finding.help("remove `refine-steps` from `[link]`, and run `corrigenda test`"));
    }
    if names > MEASURED {
        return finding(format!("{names} facts are linked; sets of more than {MEASURED} were not measured"))
            .map(|finding| finding.help("run `corrigenda test` to check each fact and the damage on neutral text"));
    }
    None
}

/// Warns about a corpus whose keys do not span the key space.
pub(super) fn thin(project: &Project, record: &Record) -> Option<Diagnostic> {
    let statistics = project.config.statistics.as_ref().filter(|_| record.statistics_ridge > 0.0)?;
    let message = "the keys of the corpus do not span all directions: a ridge was added to their second moment";
    let finding =
        Diagnostic::new(Code::StatisticsThin, message).at(project.config.file, &statistics.span, "the corpus");
    Some(finding.help("use a longer corpus: edits then disturb fewer other facts"))
}

/// Warns if the corpus has less than a quarter of the neutral sentences that refinement uses.
pub(super) fn unwatched(project: &Project, record: &Record) -> Option<Diagnostic> {
    let (there, wanted) = record.watched.filter(|(there, wanted)| there * 4 < *wanted)?;
    let statistics = project.config.statistics.as_ref()?;
    let message =
        format!("the corpus has {there} sentences that name no edited subject; refinement uses up to {wanted}");
    let finding =
        Diagnostic::new(Code::StatisticsThin, message).at(project.config.file, &statistics.span, "the corpus");
    Some(finding.help(
        "use a longer corpus, or a greater `max-documents`, with text about other subjects: less else then changes",
    ))
}
