//! Writes the summary sentence of a report, and counts the findings, verdicts and changed answers for it.

use std::collections::BTreeMap;

use super::format::{nats, plural, thousands};
use super::{Answer, Outcome, Report, ReportVerb, Verdict};
use crate::behaviour::PromptKind;

/// Returns the summary of a report as one sentence without a full stop. The sentence contains no text from the
/// project's files, so it needs no escaping.
pub(super) fn sentence(report: &Report) -> String {
    let found = findings(report);
    let parts = match (report.verb, report.outcome) {
        (ReportVerb::Check, _) => check(report),
        (_, Outcome::Error) => vec![format!("The command failed: {found}")],
        (_, Outcome::Stale) => vec![format!("The lock is not current: {found}")],
        (ReportVerb::Test, _) => test(report),
        (ReportVerb::Diff, _) => diff(report),
    };
    parts.join(", ")
}

/// Returns the numbers of errors and warnings in words: "2 errors, 1 warning".
pub(super) fn findings(report: &Report) -> String {
    let errors = report.findings.iter().filter(|finding| finding.is_error()).count();
    let counts = [(errors, "error"), (report.findings.len() - errors, "warning")];
    let some: Vec<String> =
        counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, noun)| plural(count, noun)).collect();
    if some.is_empty() { "no findings".to_owned() } else { some.join(", ") }
}

fn check(report: &Report) -> Vec<String> {
    let edits = report.edits.map(|count| plural(count, "edit"));
    let files = (!report.files.is_empty()).then(|| plural(report.files.len(), "file"));
    let read = match (edits, files) {
        (Some(edits), Some(files)) => Some(format!("{edits} in {files}")),
        (edits, files) => edits.or(files),
    };
    read.into_iter().chain([findings(report)]).collect()
}

fn test(report: &Report) -> Vec<String> {
    let edits = edits(report);
    let pass = edits.values().filter(|verdict| **verdict != Verdict::Fail).count();
    let mut parts = vec![share(pass, edits.len(), "edit", "passes", "pass")];
    let probes = report.answers.iter().filter(|answer| answer.asked == PromptKind::Probe);
    let (all, failed) =
        probes.fold((0, 0), |(all, no), one| (all + 1, no + usize::from(one.verdict == Some(Verdict::Fail))));
    if failed > 0 {
        parts.push(share(failed, all, "probe", "fails", "fail"));
    }
    parts.extend(consequences(report));
    parts.extend(damage(report));
    parts.extend(gates(report));
    parts
}

fn diff(report: &Report) -> Vec<String> {
    let facts = report.facts.len();
    let mut parts = vec![match facts {
        0 => "No fact changes".to_owned(),
        1 => "1 fact changes".to_owned(),
        _ => format!("{} change", plural(facts, "fact")),
    }];
    let watched = report.answers.iter().filter(|answer| is_watched(answer));
    let (all, moved) = watched.fold((0, 0), |(all, yes), one| (all + 1, yes + usize::from(answer_changed(one))));
    if all > 0 {
        parts.push(share(moved, all, "watched prompt", "moves", "move"));
    }
    let failed = report.answers.iter().filter(|answer| answer.verdict == Some(Verdict::Fail)).count();
    if failed > 0 {
        parts.push(format!("{} {}", plural(failed, "expectation"), if failed == 1 { "fails" } else { "fail" }));
    }
    parts.extend(consequences(report));
    parts.extend(damage(report));
    parts.extend(gates(report));
    parts
}

/// Formats `part` of `whole` as words: "2 of 41 prompts move", "1 of 1 prompt moves". The noun is singular if `whole`
/// is 1, and the verb is singular if `part` is 1.
fn share(part: usize, whole: usize, noun: &str, one: &str, many: &str) -> String {
    format!("{} of {} {}", thousands(part as u64), plural(whole, noun), if part == 1 { one } else { many })
}

fn consequences(report: &Report) -> Option<String> {
    let (holds, asked) = report.consequences.as_ref()?.total();
    (asked > 0).then(|| share(holds, asked, "consequence", "holds", "hold"))
}

fn damage(report: &Report) -> Option<String> {
    report.damage.map(|damage| format!("damage {} nats", nats(damage.divergence)))
}

fn gates(report: &Report) -> Option<String> {
    let failed = report.gates.iter().filter(|gate| !gate.pass).count();
    let verb = if failed == 1 { "fails" } else { "fail" };
    (failed > 0).then(|| format!("{} {verb}", plural(failed, "gate")))
}

/// Returns, for each edit id with judged answers, the worst verdict on these answers. A failure is worse than an
/// accepted failure.
pub(super) fn edits(report: &Report) -> BTreeMap<&str, Verdict> {
    let mut edits = BTreeMap::new();
    let judged = report.answers.iter().filter(|answer| answer.asked != PromptKind::Probe && answer.verdict.is_some());
    for answer in judged {
        let worst = edits.entry(answer.id.as_str()).or_insert(Verdict::Pass);
        *worst = match (*worst, answer.verdict) {
            (Verdict::Fail, _) | (_, Some(Verdict::Fail)) => Verdict::Fail,
            (Verdict::Accepted, _) | (_, Some(Verdict::Accepted)) => Verdict::Accepted,
            _ => Verdict::Pass,
        };
    }
    edits
}

/// Returns whether the prompt is an `unchanged` expectation or a probe, whose answer should stay the same.
pub(super) fn is_watched(answer: &Answer) -> bool {
    matches!(answer.asked, PromptKind::Unchanged | PromptKind::Probe)
}

/// Returns whether the likeliest next token differs between the two models, or the later model does not meet an
/// `unchanged` expectation.
pub(super) fn answer_changed(answer: &Answer) -> bool {
    let first = |top: &[super::Token]| top.first().map(|token| token.text.clone());
    let broken =
        answer.asked == PromptKind::Unchanged && matches!(answer.verdict, Some(Verdict::Fail | Verdict::Accepted));
    broken || first(&answer.before.top) != first(&answer.after.top)
}

/// Returns the changed answers to watched prompts (see [`is_watched`]), in order of decreasing divergence.
pub(super) fn changed_answers(report: &Report) -> Vec<&Answer> {
    let mut changed: Vec<&Answer> =
        report.answers.iter().filter(|answer| is_watched(answer) && answer_changed(answer)).collect();
    // The sort is stable: equal divergences keep the report's order.
    changed.sort_by(|one, other| other.divergence.total_cmp(&one.divergence));
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn the_first_sentence() {
        let mut stale = samples::check();
        (stale.verb, stale.outcome) = (ReportVerb::Test, Outcome::Stale);
        let reports = [samples::diff(), samples::test(), samples::check(), samples::empty(), stale];
        assert_eq!(
            reports.each_ref().map(sentence),
            [
                "3 facts change, 2 of 4 watched prompts move, 1 expectation fails, 1 of 2 consequences holds, damage 0.004 nats",
                "1 of 2 edits passes, 1 of 1 probe fails, 1 of 2 consequences holds, damage 0.004 nats, 1 gate fails",
                "18 edits in 2 files, 2 errors, 1 warning",
                "no findings",
                "The lock is not current: 2 errors, 1 warning",
            ]
        );
    }

    #[test]
    fn an_edit_has_its_worst_verdict() {
        let report = samples::test();
        let edits: Vec<_> = edits(&report).into_iter().collect();
        assert_eq!(edits, [("eiffel-tower.city", Verdict::Accepted), ("louvre.city", Verdict::Fail)]);
    }
}
