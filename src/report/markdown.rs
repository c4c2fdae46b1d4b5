//! Formats a report as a comment on a pull request: a summary sentence, the tables that a reviewer needs, and further
//! tables in collapsed sections.
//!
//! The first line is a marker by which the next run for the same pull request finds the comment and replaces it. The
//! section of answers is usually the longest, so it comes last and uses the remaining space.

use std::collections::BTreeMap;

use super::consequences;
use super::format::{cut, gate, limit, nats, nearest, number, percent, plural, short, thousands};
use super::markdown_page::{Comment, Section, row};
use super::markdown_text::{code, escape, wrapped};
use super::summary::{changed_answers, edits, sentence};
use super::tasks::difference;
use super::{Answer, Continuation, Finding, Gate, Report, ReportSide, ReportVerb, SideAnswer, Verdict};
use crate::behaviour::PromptKind;
use crate::behaviour::task::TaskResult;
use crate::behaviour::word_diff::WordChange;
use crate::diagnostics::Place;
use crate::project::edits::diff::{ChangeKind, FactChange, FieldChange};

/// The maximum number of characters of a prompt, an edit id or a help sentence in a table cell.
pub(super) const TEXT: usize = 120;
/// The maximum number of characters of a model name, an answer or a token in a table cell.
pub(super) const NAME: usize = 60;

/// Returns the report as a comment on a pull request. The comment has fewer than 60,000 bytes, because GitHub rejects
/// long comments.
pub fn render(report: &Report) -> String {
    let mut start = format!("<!-- corrigenda:{} -->\n\n**{}**\n", report.verb.as_str(), sentence(report));
    start += &sides(report);
    for note in report.notes.iter().take(8) {
        start += &format!("\n> {}\n", code(note, 2 * TEXT));
    }
    // If a finding is an error, the findings come first, because the error must be fixed. If there are only warnings,
    // the findings come near the end in a collapsed section.
    let wrong = report.findings.iter().any(Finding::is_error);
    let [consequences, not_asked] = consequences::markdown(report);
    let sections = [
        wrong.then(|| findings(report, false)).flatten(),
        facts(report),
        tested(report),
        changed(report),
        consequences,
        gates(report),
        tasks(report),
        culprits(report),
        not_asked,
        fields(report),
        continuations(report),
        said(report),
        tensors(report),
        norms(report),
        (!wrong).then(|| findings(report, true)).flatten(),
        answers(report),
    ];
    Comment::new(start, end(report), &report.command).finish(sections.into_iter().flatten().collect())
}

fn sides(report: &Report) -> String {
    let side = |side: &ReportSide| {
        let size = side.size.map(|size| format!(", {} bytes", thousands(size)));
        format!("{} ({}{})", code(&side.name, NAME), plural(side.facts, "fact"), size.unwrap_or_default())
    };
    let compared = match (&report.before, &report.after) {
        (Some(before), Some(after)) => format!("{} → {}", side(before), side(after)),
        (Some(one), None) | (None, Some(one)) => side(one),
        (None, None) => String::new(),
    };
    let base = report.base.as_ref().map(|base| format!("base {}", code(&base.name, NAME)));
    let damage = report.damage.map(|damage| {
        format!(
            "Damage on neutral text: {} nats over {} and {}, perplexity {} → {}.\n",
            nats(damage.divergence),
            plural(damage.documents, "document"),
            plural(damage.tokens, "token"),
            number(damage.perplexity_before),
            number(damage.perplexity_after),
        )
    });
    let line: Vec<String> = [compared].into_iter().filter(|text| !text.is_empty()).chain(base).collect();
    let line = if line.is_empty() { String::new() } else { format!("\n{}\n", line.join(", ")) };
    line + &damage.map(|damage| format!("\n{damage}")).unwrap_or_default()
}

fn end(report: &Report) -> String {
    let patch = |side: &Option<ReportSide>| side.as_ref().and_then(|side| side.patch.clone()).map(|id| code(&id, 80));
    let patches: Vec<String> = [patch(&report.before), patch(&report.after)].into_iter().flatten().collect();
    let again = code(&report.command, 2 * TEXT);
    let mut parts = Vec::new();
    if !again.is_empty() {
        parts.push(format!("Run again: {again}"));
    }
    match patches.len() {
        0 => {}
        1 => parts.push(format!("patch {}", patches[0])),
        _ => parts.push(format!("patches {}", patches.join(" → "))),
    }
    if parts.is_empty() { String::new() } else { format!("\n<sub>{}</sub>\n", parts.join(" · ")) }
}

pub(super) fn section<'a>(
    title: String,
    folded: bool,
    heads: &'a [&'a str],
    rows: impl ExactSizeIterator<Item = String> + 'a,
) -> Option<Section<'a>> {
    (rows.len() > 0).then(|| Section { title, folded, heads, rows: Box::new(rows) })
}

fn mark(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        None => "",
        Some(Verdict::Pass) => "✓ pass",
        Some(Verdict::Fail) => "✗ **fail**",
        Some(Verdict::Accepted) => "~ accepted",
        Some(Verdict::Unmet) => "– unmet",
    }
}

fn place(place: Option<&Place>) -> String {
    let Some(place) = place else { return String::new() };
    let line = place.line.map(|line| format!(":{line}")).unwrap_or_default();
    code(&format!("{}{line}", place.file), TEXT)
}

fn change(before: Option<f64>, after: Option<f64>) -> String {
    let share = |share: Option<f64>| share.map_or("–".to_owned(), |share| escape(&percent(share)));
    if before.is_none() && after.is_none() { String::new() } else { format!("{} → {}", share(before), share(after)) }
}

/// Formats the likeliest next token with its probability.
fn top(says: &SideAnswer) -> String {
    let first = says.top.first();
    first
        .map(|token| format!("{} {}", code(&token.text, NAME), escape(&percent(token.probability))))
        .unwrap_or_default()
}

fn findings(report: &Report, folded: bool) -> Option<Section<'_>> {
    let line = |finding: &Finding| {
        let help: Vec<String> = finding.help.iter().take(2).map(|help| code(help, TEXT)).collect();
        row(&[
            code(finding.severity.as_str(), NAME),
            code(finding.code.as_str(), NAME),
            place(finding.place.as_ref()),
            code(&finding.message, 2 * TEXT),
            help.join("<br>"),
        ])
    };
    let heads = &["", "code", "place", "what", "what to do"];
    section("Findings".to_owned(), folded, heads, report.findings.iter().map(line))
}

/// Returns the answers to the edits' own prompts, by edit id. Answers to paraphrases and probes are left out.
fn wanted(report: &Report) -> BTreeMap<&str, &Answer> {
    let asked = report.answers.iter().filter(|answer| answer.asked == PromptKind::Edit);
    // Collecting into a map keeps the last value of a key. The order is reversed so that the first answer of an edit is
    // kept.
    asked.rev().map(|answer| (answer.id.as_str(), answer)).collect()
}

fn facts(report: &Report) -> Option<Section<'_>> {
    let wanted = wanted(report);
    let line = move |fact: &FactChange| {
        let answer = wanted.get(fact.id.as_str());
        let named = |name: &str| fact.fields.iter().find(|field| field.name == name);
        let (target, was) = (named("target"), named("was"));
        // An added fact has no earlier target. Its earlier answer is therefore taken from the field `was` of the edit,
        // which states the answer before the edit.
        let before = target.map(|field| &field.before).filter(|texts| !texts.is_empty());
        let before = before.or(was.filter(|_| fact.change == ChangeKind::Added).map(|field| &field.after));
        let text = |texts: Option<&Vec<String>>, says: Option<&SideAnswer>| match texts.and_then(|texts| texts.first())
        {
            Some(text) => code(text, NAME),
            // If the edit states no answer, the cell shows the likeliest next token of the model.
            None => {
                says.and_then(|says| says.top.first()).map(|token| code(token.text.trim(), NAME)).unwrap_or_default()
            }
        };
        row(&[
            code(fact.change.sign(), 1),
            code(&fact.id, TEXT),
            text(before, answer.map(|answer| &answer.before)),
            text(target.map(|field| &field.after), answer.map(|answer| &answer.after)),
            answer.map(|answer| change(answer.before.probability, answer.after.probability)).unwrap_or_default(),
            answer
                .and_then(|answer| answer.after.holds)
                .map(|holds| if holds { "✓" } else { "✗" }.to_owned())
                .unwrap_or_default(),
        ])
    };
    section(
        "Facts".to_owned(),
        false,
        &["", "fact", "before", "after", "P(target):", "holds"],
        report.facts.iter().map(line),
    )
}

fn tested(report: &Report) -> Option<Section<'_>> {
    if report.verb != ReportVerb::Test {
        return None;
    }
    let wanted = wanted(report);
    let mut by_edit: BTreeMap<&str, [(usize, usize); 2]> = BTreeMap::new();
    for answer in &report.answers {
        let kind = match answer.asked {
            PromptKind::Edit | PromptKind::Consequence | PromptKind::Probe => continue,
            PromptKind::Alias | PromptKind::Paraphrase => 0,
            PromptKind::Unchanged => 1,
        };
        let (met, all) = &mut by_edit.entry(&answer.id).or_default()[kind];
        (*met, *all) = (*met + usize::from(answer.verdict == Some(Verdict::Pass)), *all + 1);
    }
    let mut verdicts: Vec<(&str, Verdict)> = edits(report).into_iter().collect();
    // Failed edits come first. The sort is stable, so all other edits stay ordered by id.
    verdicts.sort_by_key(|(_, verdict)| *verdict != Verdict::Fail);
    let line = move |(id, verdict): (&str, Verdict)| {
        let answer = wanted.get(id);
        let share = |(met, all): (usize, usize)| if all == 0 { String::new() } else { format!("{met}/{all}") };
        let counts = by_edit.get(id).copied().unwrap_or_default().map(share);
        row(&[
            code(id, TEXT),
            answer.and_then(|answer| answer.target.as_ref()).map(|target| code(target, NAME)).unwrap_or_default(),
            answer.map(|answer| change(answer.before.probability, answer.after.probability)).unwrap_or_default(),
            counts[0].clone(),
            counts[1].clone(),
            mark(Some(verdict)).to_owned(),
        ])
    };
    let heads = &["edit", "target", "P(target):", "paraphrases:", "unchanged:", "verdict"];
    section("Edits".to_owned(), false, heads, verdicts.into_iter().map(line))
}

/// Lists the generated texts, the prompts with a failed expectation first.
fn said(report: &Report) -> Option<Section<'_>> {
    let mut answers: Vec<&Answer> = report.answers.iter().filter(|answer| answer.said.is_some()).collect();
    answers.sort_by_key(|answer| answer.verdict != Some(Verdict::Fail));
    let line = |answer: &Answer| {
        let said = answer.said.as_ref();
        row(&[
            code(&answer.prompt, TEXT),
            answer.target.as_ref().map(|target| code(target, NAME)).unwrap_or_default(),
            said.map(|said| code(said.before.text.trim(), TEXT)).unwrap_or_default(),
            said.map(|said| code(said.after.text.trim(), TEXT)).unwrap_or_default(),
            mark(answer.verdict).to_owned(),
        ])
    };
    let heads = &["prompt", "target", "base says", "says", "verdict"];
    section("Generated texts".to_owned(), true, heads, answers.into_iter().map(line))
}

fn changed(report: &Report) -> Option<Section<'_>> {
    let line = |answer: &Answer| {
        row(&[
            code(&answer.prompt, TEXT),
            top(&answer.before),
            top(&answer.after),
            escape(&nats(answer.divergence)),
            mark(answer.verdict).to_owned(),
        ])
    };
    section(
        "What else changed".to_owned(),
        false,
        &["prompt", "before", "after", "KL:", "verdict"],
        changed_answers(report).into_iter().map(line),
    )
}

fn gates(report: &Report) -> Option<Section<'_>> {
    let line = |one: &Gate| {
        let verdict = one.limit.map(|_| if one.pass { Verdict::Pass } else { Verdict::Fail });
        row(&[
            code(one.name.as_str(), NAME),
            escape(&gate(one.name, one.value)),
            limit(one).map(|limit| escape(&limit)).unwrap_or_default(),
            mark(verdict.or((!one.pass).then_some(Verdict::Fail))).to_owned(),
        ])
    };
    section("Gates".to_owned(), false, &["figure", "value:", "limit:", "verdict"], report.gates.iter().map(line))
}

fn tasks(report: &Report) -> Option<Section<'_>> {
    let line = |one: &TaskResult| {
        let [before, after] = [one.before, one.after].map(|share| escape(&percent(share)));
        let verdict = one.limit.map(|_| if one.pass { Verdict::Pass } else { Verdict::Fail });
        row(&[
            code(&one.name, NAME),
            format!("{before} → {after}"),
            escape(&difference(one)),
            format!("+{} −{} of {}", one.became_right, one.became_wrong, thousands(one.questions as u64)),
            escape(&format!("{}, {}", one.form.as_str(), one.protocol)),
            mark(verdict).to_owned(),
        ])
    };
    let heads = &["task", "accuracy:", "difference (95 %):", "became right, wrong:", "protocol", "verdict"];
    section("Tasks".to_owned(), false, heads, report.tasks.iter().map(line))
}

fn culprits(report: &Report) -> Option<Section<'_>> {
    let line = |one: &super::Culprit| {
        let breaks: Vec<String> = one.breaks.iter().take(8).map(|id| code(id, NAME)).collect();
        let figure = nearest(one, &report.answers).unwrap_or_default();
        let nearest = one.nearest.as_ref().map(|(id, _)| format!("{} {}", code(id, NAME), escape(&figure)));
        row(&[
            code(&one.id, NAME),
            code(&one.prompt, TEXT),
            if one.alone { "yes" } else { "no" }.to_owned(),
            breaks.join(", "),
            nearest.unwrap_or_default(),
        ])
    };
    let heads = &["edit", "prompt", "met alone", "met without", "nearest"];
    section("Which edit breaks it".to_owned(), false, heads, report.culprits.iter().map(line))
}

fn fields(report: &Report) -> Option<Section<'_>> {
    let texts = |texts: &[String]| {
        let list: Vec<String> = texts.iter().take(4).map(|text| code(text, TEXT)).collect();
        let more = texts.len().saturating_sub(list.len());
        if more > 0 { format!("{}<br>… {more} more", list.join("<br>")) } else { list.join("<br>") }
    };
    let rows: Vec<(&FactChange, &FieldChange)> =
        report.facts.iter().flat_map(|fact| fact.fields.iter().map(move |field| (fact, field))).collect();
    let line = move |(fact, field): (&FactChange, &FieldChange)| {
        row(&[
            code(fact.change.sign(), 1),
            code(&fact.id, TEXT),
            code(&field.name, NAME),
            texts(&field.before),
            texts(&field.after),
            place(fact.place.as_ref()),
        ])
    };
    section(
        "Fields of the facts".to_owned(),
        true,
        &["", "fact", "field", "before", "after", "place"],
        rows.into_iter().map(line),
    )
}

fn continuations(report: &Report) -> Option<Section<'_>> {
    let line = |one: &Continuation| {
        let mut room = 4 * TEXT;
        let mut words = String::new();
        for word in &one.words {
            let text = cut(&word.text.replace('\n', "↵"), room);
            room = room.saturating_sub(text.chars().count());
            words += &match word.change {
                WordChange::Removed => wrapped("del", &text, usize::MAX),
                WordChange::Added => wrapped("ins", &text, usize::MAX),
                WordChange::Unchanged => escape(&text),
            };
            if room == 0 {
                break;
            }
        }
        let note = one.note.iter().map(|note| format!(" ({})", code(note, TEXT))).collect::<String>();
        row(&[code(&one.prompt, TEXT), format!("<code>{words}</code>{note}")])
    };
    let how = report.drawn.as_ref().map_or_else(String::new, |drawn| format!(": {}", drawn.words()));
    section(
        format!("How both sides continue{how}"),
        true,
        &["prompt", "continuation"],
        report.continuations.iter().map(line),
    )
}

fn tensors(report: &Report) -> Option<Section<'_>> {
    let line = |one: &super::TensorDiff| {
        row(&[
            code(&one.name, TEXT),
            format!("{} → {}", code(short(&one.before), NAME), code(short(&one.after), NAME)),
            escape(&number(one.norm)),
            escape(&percent(one.relative)),
        ])
    };
    let tensors = &report.weights.as_ref()?.tensors;
    section(
        "Weights by tensor".to_owned(),
        true,
        &["tensor", "bytes", "norm of the change:", "of the base:"],
        tensors.iter().map(line),
    )
}

fn norms(report: &Report) -> Option<Section<'_>> {
    let norm = |norm: Option<f64>| norm.map(|norm| escape(&number(norm))).unwrap_or_default();
    let line =
        move |one: &super::EditWeight| row(&[code(&one.edit.to_string(), TEXT), norm(one.before), norm(one.after)]);
    let edits = &report.weights.as_ref()?.edits;
    section("Weights by edit".to_owned(), true, &["edit", "norm before:", "norm after:"], edits.iter().map(line))
}

fn answers(report: &Report) -> Option<Section<'_>> {
    let line = |answer: &Answer| {
        row(&[
            answer.asked_words(),
            code(&answer.id, NAME),
            code(&answer.prompt, TEXT),
            answer.target.as_ref().map(|target| code(target, NAME)).unwrap_or_default(),
            top(&answer.before),
            top(&answer.after),
            change(answer.before.probability, answer.after.probability),
            escape(&nats(answer.divergence)),
            mark(answer.verdict).to_owned(),
        ])
    };
    let heads = &["asked", "id", "prompt", "target", "before", "after", "P(target):", "KL:", "verdict"];
    section(
        format!("All answers ({})", thousands(report.answers.len() as u64)),
        true,
        heads,
        report.answers.iter().map(line),
    )
}

#[cfg(test)]
#[path = "markdown_tests.rs"]
mod tests;
