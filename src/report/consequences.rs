//! Counts the consequences that hold, by kind, and formats the counts for a terminal and for a pull request.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

use super::format::{percent, plural};
use super::markdown::{NAME, TEXT, section};
use super::markdown_page::{Section, row};
use super::markdown_text::{code, escape};
use super::{Answer, Report, Token};
use crate::diagnostics::{Place, escape_controls};
use crate::project::edits::consequence::ConsequenceKind;

/// The results of all consequences of the edits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Consequences {
    /// The counts for each kind of consequence that the edits have.
    pub kinds: Vec<ConsequenceCount>,
    /// The consequences that were not asked, because the base does not meet one of their conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_asked: Vec<NotAsked>,
}

/// The number of consequences of one kind that hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ConsequenceCount {
    /// The kind of the consequences.
    pub kind: ConsequenceKind,
    /// The number of consequences that hold in the earlier model.
    pub before: usize,
    /// The number of consequences that hold in the later model.
    pub after: usize,
    /// The number of consequences that were asked.
    pub asked: usize,
    /// The number of consequences that were not asked.
    pub not_asked: usize,
}

/// A consequence that was not asked, because the base does not meet a condition.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct NotAsked {
    /// The id of the edit that has the consequence.
    pub id: String,
    /// The kind of the consequence.
    pub kind: ConsequenceKind,
    /// The prompt of the consequence.
    pub prompt: String,
    /// The prompt of the first condition that the base does not meet.
    pub condition: String,
    /// The answer to the condition that the base does not give.
    pub answer: String,
    /// The likeliest next token of the base after the prompt of the condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub says: Option<Token>,
    /// The place in the project's files where the prompt is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl NotAsked {
    /// Returns the reason why the consequence was not asked, as a sentence without a full stop.
    pub(super) fn reason(&self) -> String {
        let said = self.says.as_ref().map_or_else(String::new, |token| format!(", but with {:?}", token.text));
        format!("the base does not continue {:?} with {:?}{said}", self.condition, self.answer)
    }
}

impl Consequences {
    /// Counts the consequences among `answers` by kind. Returns `None` if no consequence was asked or left out.
    pub fn of(answers: &[Answer], not_asked: Vec<NotAsked>) -> Option<Self> {
        let count = |kind| {
            let own = answers.iter().filter(|answer| answer.consequence == Some(kind));
            let holds = |holds: Option<bool>| usize::from(holds == Some(true));
            let unasked = not_asked.iter().filter(|one| one.kind == kind).count();
            let none = ConsequenceCount { kind, before: 0, after: 0, asked: 0, not_asked: unasked };
            own.fold(none, |sum, answer| ConsequenceCount {
                before: sum.before + holds(answer.before_holds()),
                after: sum.after + holds(answer.after_holds()),
                asked: sum.asked + 1,
                ..sum
            })
        };
        let counts = ConsequenceKind::ALL.into_iter().map(count);
        let kinds: Vec<ConsequenceCount> = counts.filter(|one| one.asked + one.not_asked > 0).collect();
        (!kinds.is_empty()).then_some(Self { kinds, not_asked })
    }

    /// Returns the number of consequences that hold in the later model, and the number that were asked.
    pub(super) fn total(&self) -> (usize, usize) {
        self.kinds.iter().fold((0, 0), |(after, asked), count| (after + count.after, asked + count.asked))
    }

    /// Formats the counts on one line, for example `3 of 5 hold (base: 1): alias 1 of 1, hop 2 of 4; 1 not asked`.
    fn line(&self) -> String {
        let (after, asked) = self.total();
        let before: usize = self.kinds.iter().map(|count| count.before).sum();
        let kind = |count: &ConsequenceCount| format!("{} {} of {}", count.kind.as_str(), count.after, count.asked);
        let kinds: Vec<String> = self.kinds.iter().filter(|count| count.asked > 0).map(kind).collect();
        let kinds = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
        let rest = match self.not_asked.len() {
            0 => String::new(),
            count => format!("; {count} not asked"),
        };
        format!("{after} of {asked} hold (before: {before}){kinds}{rest}")
    }
}

/// Formats the results of the consequences for a terminal. The consequences that were not asked are listed if `all` is
/// true. The text is empty if the report has no consequences.
pub(super) fn human(report: &Report, all: bool) -> String {
    let Some(consequences) = &report.consequences else { return String::new() };
    let mut out = format!("consequences: {}\n", consequences.line());
    // Writing to a `String` cannot fail.
    for one in consequences.not_asked.iter().filter(|_| all) {
        let (asked, reason) = (format!("{} ({}): {}", one.id, one.kind.as_str(), one.prompt), one.reason());
        let _ = writeln!(out, "  not asked: {}\n    {}", escape_controls(&asked), escape_controls(&reason));
    }
    out
}

/// Returns the section with the counts of each kind, and the section with the consequences that were not asked.
pub(super) fn markdown(report: &Report) -> [Option<Section<'_>>; 2] {
    let Some(consequences) = &report.consequences else { return [None, None] };
    let count = |one: &ConsequenceCount| {
        let share = if one.asked == 0 { String::new() } else { percent(one.after as f64 / one.asked as f64) };
        row(&[
            one.kind.as_str().to_owned(),
            format!("{}/{}", one.before, one.asked),
            format!("{}/{}", one.after, one.asked),
            escape(&share),
            one.not_asked.to_string(),
        ])
    };
    let unasked = |one: &NotAsked| {
        row(&[
            code(&one.id, NAME),
            one.kind.as_str().to_owned(),
            code(&one.prompt, TEXT),
            code(&one.reason(), 2 * TEXT),
        ])
    };
    let heads = &["kind", "before:", "after:", "share:", "not asked:"];
    let title = format!("Not asked: {}", plural(consequences.not_asked.len(), "consequence"));
    [
        section("Consequences".to_owned(), false, heads, consequences.kinds.iter().map(count)),
        section(title, true, &["edit", "kind", "prompt", "reason"], consequences.not_asked.iter().map(unasked)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn consequences_are_counted_by_kind() {
        let report = samples::test();
        let found = report.consequences.as_ref().expect("the sample has consequences");
        let counts: Vec<_> = found
            .kinds
            .iter()
            .map(|one| (one.kind.as_str(), one.before, one.after, one.asked, one.not_asked))
            .collect();
        assert_eq!(counts, [("alias", 0, 1, 1, 0), ("hop", 0, 0, 1, 1)]);
        assert_eq!(found.line(), "1 of 2 hold (before: 0): alias 1 of 1, hop 0 of 1; 1 not asked");
        assert_eq!(human(&report, false).lines().count(), 1);
        assert!(human(&report, true).contains("the base does not continue"), "{}", human(&report, true));
        assert_eq!(Consequences::of(&[], Vec::new()), None);
    }
}
