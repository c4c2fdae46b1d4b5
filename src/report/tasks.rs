//! Formats the results of tasks for people.

use super::Report;
use super::format::{percent, plural, thousands};
use super::table::Table;
use crate::behaviour::task::TaskResult;

/// Formats the difference of the accuracies in percentage points, with its 95 % interval: `-3.0 [-4.2, -1.8]`.
pub(super) fn difference(one: &TaskResult) -> String {
    let points = |share: f64| format!("{:+.1}", 100.0 * share);
    let [lower, upper] = one.interval.map(points);
    format!("{} [{lower}, {upper}]", points(one.difference))
}

/// Formats a result as one sentence without a full stop.
pub(super) fn sentence(one: &TaskResult) -> String {
    let limit = one.limit.map(|limit| format!("; a fall of at most {} is allowed", percent(limit)));
    format!(
        "accuracy {} → {} ({} points) over {}: {} became right, {} became wrong ({}, {}){}",
        percent(one.before),
        percent(one.after),
        difference(one),
        plural(one.questions, "question"),
        thousands(one.became_right as u64),
        thousands(one.became_wrong as u64),
        one.form.as_str(),
        one.protocol,
        limit.unwrap_or_default(),
    )
}

/// Appends a table of the results for a terminal, between blank lines. Appends nothing without a task.
pub(super) fn append(out: &mut String, report: &Report, width: usize) {
    if report.tasks.is_empty() {
        return;
    }
    let mut rows = Table::new(&[1], &[2, 3, 4, 5]);
    rows.row(["", "task", "questions", "accuracy", "points (95 %)", "right, wrong", "protocol"]);
    for one in &report.tasks {
        let kept = one.limit.map(|limit| one.loss() <= limit);
        rows.row([
            match (one.pass, kept) {
                (false, _) => "FAIL",
                (true, Some(false)) => "warn",
                (true, Some(true)) => "ok",
                (true, None) => "",
            },
            &one.name,
            &thousands(one.questions as u64),
            &format!("{} → {}", percent(one.before), percent(one.after)),
            &difference(one),
            &format!("+{} -{}", one.became_right, one.became_wrong),
            &format!("{}, {}", one.form.as_str(), one.protocol),
        ]);
    }
    if !out.ends_with("\n\n") {
        out.push('\n');
    }
    out.push_str(&rows.render(width));
    out.push('\n');
}
