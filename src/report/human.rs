//! Formats the reports of `test` and `diff` for a terminal.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::consequences;
use super::format::{nearest, short};
use super::table::{self, Table, paragraph, percent, plural};
use super::{Answer, Culprit, Gate, GateName, Report, SaidPair, SideAnswer, Verdict, WeightDiff};
use crate::behaviour::PromptKind;
use crate::behaviour::damage::Damage;
use crate::behaviour::said::SaidText;
use crate::behaviour::word_diff::WordChange;
use crate::diagnostics::{escape_controls, shorten};
use crate::project::edits::diff::{ChangeKind, FactChange, FieldChange};
use crate::project::edits::edit::PLACEHOLDER;

/// The terminal width, in columns, below which the table of `test` has shorter column headers.
const NARROW: usize = 72;

/// Formats the report of `test`: one line per edit with the details of its failed answers, then the limits, the damage
/// and the totals. If `all` is true, the details of all answers are listed.
pub fn test(report: &Report, width: usize, all: bool) -> String {
    let groups = groups(&report.answers);
    let mut rows = Table::new(&[2], &[3, 4, 5]);
    rows.row(if width < NARROW {
        ["", "edit", "new", "before → after", "para", "kept"]
    } else {
        ["", "edit", "new answer", "before → after", "paraphrases", "unchanged"]
    });
    for group in &groups {
        rows.row(row(group));
    }
    let lines = rows.render(width);
    let mut lines = lines.lines();
    let mut out = format!("{}\n", lines.next().unwrap_or_default());
    for (line, group) in lines.zip(&groups) {
        let _ = writeln!(out, "{line}");
        for answer in group.answers.iter().filter(|answer| all || answer.verdict.is_some_and(is_listed)) {
            detail(&mut out, answer);
        }
    }
    if !report.culprits.is_empty() {
        out.push('\n');
        report.culprits.iter().for_each(|culprit| culprit_line(&mut out, culprit, &report.answers));
    }
    for note in &report.notes {
        let _ = write!(out, "\n{}\n", escape_controls(note));
    }
    out.push('\n');
    let limited: Vec<&Gate> = report.gates.iter().filter(|gate| gate.limit.is_some()).collect();
    limited.iter().for_each(|gate| out.push_str(&limit(gate)));
    out.push_str(&said_line(report));
    out.push_str(&consequences::human(report, all));
    if let Some(damage) = &report.damage {
        let _ = writeln!(out, "{}", damage_line(damage));
    }
    super::tasks::append(&mut out, report, width);
    out + &totals(report, &groups)
}

/// Returns whether an answer with this verdict is listed without `-v`. Unmet consequences are only counted.
fn is_listed(verdict: Verdict) -> bool {
    !matches!(verdict, Verdict::Pass | Verdict::Unmet)
}

/// The answers that the report of `test` lists together: those of one edit, or those of all probes.
struct Group<'r> {
    id: &'r str,
    answers: Vec<&'r Answer>,
}

fn groups(answers: &[Answer]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for answer in answers {
        let is_probe = |one: &Answer| one.asked == PromptKind::Probe;
        let id = if is_probe(answer) { "probes" } else { answer.id.as_str() };
        // An edit can have the id `probes` too, so the kind of the answers is compared in addition to the id.
        let same = |group: &&mut Group<'_>| group.id == id && is_probe(group.answers[0]) == is_probe(answer);
        match groups.last_mut().filter(same) {
            Some(group) => group.answers.push(answer),
            None => groups.push(Group { id, answers: vec![answer] }),
        }
    }
    groups
}

/// Returns the number of passed answers and the number of judged answers, for prompts of the given kinds. An accepted
/// failure counts as judged, but not as passed.
fn count(answers: &[&Answer], kinds: &[PromptKind]) -> (usize, usize) {
    let of = answers.iter().filter(|answer| kinds.contains(&answer.asked) && answer.verdict.is_some());
    of.fold((0, 0), |(met, all), answer| (met + usize::from(answer.verdict == Some(Verdict::Pass)), all + 1))
}

fn row(group: &Group<'_>) -> [String; 6] {
    let fails = group.answers.iter().any(|answer| answer.verdict == Some(Verdict::Fail));
    let accepted = group.answers.iter().any(|answer| answer.verdict == Some(Verdict::Accepted));
    let word = if fails {
        "FAIL"
    } else if accepted {
        "ok*"
    } else {
        "ok"
    };
    let share = |kinds: &[PromptKind]| {
        let (met, all) = count(&group.answers, kinds);
        format!("{met}/{all}")
    };
    let own = group.answers.iter().find(|answer| answer.asked == PromptKind::Edit);
    let change = own.map(|own| probabilities(own)).unwrap_or_default();
    let target = own.and_then(|own| own.target.as_deref()).unwrap_or_default().trim();
    let paraphrases = if own.is_some() { share(&[PromptKind::Paraphrase, PromptKind::Alias]) } else { String::new() };
    [
        word.into(),
        group.id.into(),
        target.into(),
        change,
        paraphrases,
        share(&[PromptKind::Unchanged, PromptKind::Probe]),
    ]
}

/// Formats the probabilities of the target in the earlier and the later model, as `before → after`. A probability that
/// was not measured is shown as 0.
fn probabilities(answer: &Answer) -> String {
    table::change(answer.before.probability.unwrap_or_default(), answer.after.probability.unwrap_or_default())
}

fn detail(out: &mut String, answer: &Answer) {
    let word = match answer.verdict {
        Some(Verdict::Pass) => "ok",
        Some(Verdict::Fail) => "FAIL",
        Some(Verdict::Accepted) => "ok*",
        Some(Verdict::Unmet) => "no",
        None => "",
    };
    let what = answer.asked_words();
    let figures = match (&answer.target, answer.after.holds) {
        (None, _) => change_line(answer),
        (Some(target), Some(false)) if begins(target, &answer.after) => {
            format!(
                "{}, the model begins with {}, but does not give the whole answer",
                probabilities(answer),
                top(&answer.after)
            )
        }
        (_, Some(false)) => format!("{}, the model says {}", probabilities(answer), top(&answer.after)),
        _ => probabilities(answer),
    };
    let figures = match &answer.requirement {
        Some(requirement) => format!("{figures}: {requirement}"),
        None => figures,
    };
    // Writing to a `String` cannot fail.
    let _ = writeln!(
        out,
        "      {word:<4}  {what}: {}\n            {}",
        escape_controls(&answer.prompt),
        escape_controls(&figures)
    );
    if let Some(said) = &answer.said {
        let text = |one: &SaidText| escape_controls(&format!("{:?}", shorten(one.text.trim_start())));
        let _ = writeln!(out, "            says {}{}", text(&said.after), marks(said));
        if !said.same {
            let _ = writeln!(out, "            base {}", text(&said.before));
        }
    }
}

/// Returns what the judgement of a generated text adds to it, in brackets; empty if there is nothing to add.
fn marks(said: &SaidPair) -> String {
    let marks = [
        (said.after.exact, "exactly the answer"),
        (said.after.contains && !said.after.exact, "contains the answer"),
        (said.after.forbidden, "an old answer"),
        (said.after.repeats, "repeats itself"),
        (said.same, "as the base"),
    ];
    let marks: Vec<&str> = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
    if marks.is_empty() { String::new() } else { format!(" ({})", marks.join(", ")) }
}

/// Returns whether the target begins with the likeliest next token and is longer than this token. White space at the
/// start is ignored. In this case, a wrong answer has the right first token and a wrong later token.
fn begins(target: &str, says: &SideAnswer) -> bool {
    let Some(token) = says.top.first() else { return false };
    let rest = target.trim_start().strip_prefix(token.text.trim_start()).filter(|_| !token.text.trim().is_empty());
    rest.is_some_and(|rest| !rest.is_empty())
}

fn change_line(answer: &Answer) -> String {
    format!("{} → {}, KL {:.3}", top(&answer.before), top(&answer.after), answer.divergence)
}

/// Formats the likeliest next token in quotation marks and its probability in percent; empty if there is no token.
fn top(says: &SideAnswer) -> String {
    says.top.first().map_or_else(String::new, |token| format!("{:?} {}", token.text, percent(token.probability)))
}

fn culprit_line(out: &mut String, culprit: &Culprit, answers: &[Answer]) {
    let list = |ids: &[String]| ids.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(" and ");
    let who = match (&culprit.breaks[..], &culprit.nearest, culprit.alone) {
        (_, _, false) => "not met even with its edit alone: no other edit breaks it".to_owned(),
        ([], Some((id, _)), _) => {
            let nearest = nearest(culprit, answers).unwrap_or_default();
            format!("no single other edit breaks it; leaving out `{id}` is closest ({nearest})")
        }
        ([], None, _) => "no single other edit breaks it".to_owned(),
        ([id], ..) => format!("broken by `{id}`: it is met without that edit"),
        (ids, ..) => format!("broken by {} together: it is met without any one of them", list(ids)),
    };
    let _ = writeln!(
        out,
        "{}: {}\n    {}",
        escape_controls(&culprit.id),
        escape_controls(&culprit.prompt),
        escape_controls(&who)
    );
}

fn limit(gate: &Gate) -> String {
    let limit = gate.limit.unwrap_or_default();
    let kept = if gate.more_is_better { gate.value >= limit } else { gate.value <= limit };
    // If the policy only warns about a limit, `pass` is true even if the limit is broken. The word is then `warn`.
    let word = match (gate.pass, kept) {
        (false, _) => "FAIL",
        (true, false) => "warn",
        _ => "ok",
    };
    let side = if gate.more_is_better { "at least" } else { "at most" };
    let name = if gate.name == GateName::Perplexity { "growth of perplexity" } else { gate.name.as_str() };
    format!("{word:<4}  {name} {:.4}, {side} {limit}\n", gate.value)
}

/// Formats the damage on neutral text on one line: KL divergence, perplexity before and after, number of tokens.
fn damage_line(damage: &Damage) -> String {
    format!(
        "damage on neutral text: KL {:.4}, perplexity {:.2} → {:.2} ({})",
        damage.divergence,
        damage.perplexity_before,
        damage.perplexity_after,
        plural(damage.tokens, "token"),
    )
}

/// Formats the shares of the generated texts on one line; empty if no text was generated.
fn said_line(report: &Report) -> String {
    let share = |name| report.gates.iter().find(|gate| gate.name == name).map(|gate| percent(gate.value));
    let parts = [
        (GateName::Said, "contain the answer"),
        (GateName::SaidExactly, "are exactly the answer"),
        (GateName::ParaphraseSaid, "of the paraphrases contain it"),
        (GateName::SameText, "of the unchanged prompts have the same text"),
        (GateName::Repeats, "repeat themselves"),
    ];
    let parts: Vec<String> =
        parts.into_iter().filter_map(|(name, rest)| Some(format!("{} {rest}", share(name)?))).collect();
    if parts.is_empty() { String::new() } else { format!("generated texts: {}\n", parts.join(", ")) }
}

fn totals(report: &Report, groups: &[Group<'_>]) -> String {
    let all: Vec<&Answer> = groups.iter().flat_map(|group| group.answers.iter().copied()).collect();
    let said = |(kinds, rest): (&[PromptKind], &str)| match count(&all, kinds) {
        (_, 0) => None,
        (met, all) => Some(format!("{met} of {all} {rest}")),
    };
    let patch = report.after.as_ref().and_then(|side| side.patch.as_deref()).map(|id| format!("patch {}", short(id)));
    let name = report.after.as_ref().map(|side| escape_controls(&side.name));
    let tested = patch.or(name).unwrap_or_default();
    let kinds: [(&[PromptKind], &str); 4] = [
        (&[PromptKind::Edit], "edits hold"),
        (&[PromptKind::Alias], "aliases hold"),
        (&[PromptKind::Paraphrase], "paraphrases hold"),
        (&[PromptKind::Unchanged, PromptKind::Probe], "prompts unchanged"),
    ];
    let said: Vec<String> = kinds.into_iter().filter_map(said).collect();
    let accepted = all.iter().filter(|answer| answer.verdict == Some(Verdict::Accepted)).count();
    let accepted = if accepted == 0 { String::new() } else { format!(" (* {accepted} accepted)") };
    format!("{tested}: {}{accepted}", said.join(", "))
}

/// Formats the report of `diff`: the changes of facts, weights and answers. Lists all prompts if `all` is true,
/// otherwise only the prompts whose answers changed.
pub fn diff(report: &Report, width: usize, all: bool) -> String {
    let mut out = String::new();
    let mut sides = Table::new(&[1], &[]);
    for (word, side) in [("before", &report.before), ("after", &report.after)] {
        if let Some(side) = side {
            let commit = side.commit.as_deref().map_or("", |commit| commit.get(..12).unwrap_or(commit));
            let patch =
                side.patch.as_deref().map_or_else(|| "no patch".to_owned(), |id| format!("patch {}", short(id)));
            sides.row([word, &side.name, commit, &patch, &plural(side.facts, "fact")]);
        }
    }
    out += &sides.render(width);
    for note in &report.notes {
        let _ = write!(out, "\n{}", paragraph(&escape_controls(note), 0, width));
    }
    facts(&mut out, &report.facts, width, all);
    if let Some(weights) = &report.weights {
        weights_of(&mut out, weights, &report.facts, width);
    }
    behaviour(&mut out, report, width, all);
    continuations(&mut out, report, width);
    out
}

fn facts(out: &mut String, facts: &[FactChange], width: usize, all: bool) {
    if facts.is_empty() {
        let _ = writeln!(out, "\nfacts: none differs");
        return;
    }
    let count = |kind| facts.iter().filter(|fact| fact.change == kind).count();
    let [added, changed, removed] = [ChangeKind::Added, ChangeKind::Changed, ChangeKind::Removed].map(count);
    let _ = writeln!(out, "\nfacts: {added} added, {changed} changed, {removed} removed");
    for fact in facts {
        let place = fact.place.as_ref().map_or_else(String::new, |place| {
            format!("  {}{}", place.file, place.line.map_or_else(String::new, |line| format!(":{line}")))
        });
        let _ = writeln!(out, "  {} {}{}", fact.change.sign(), escape_controls(&fact.id), escape_controls(&place));
        match fact.change {
            ChangeKind::Changed => {
                let both = |field: &FieldChange| format!("{} → {}", texts(&field.before), texts(&field.after));
                fields(out, &fact.fields, width, both);
            }
            ChangeKind::Added if all => fields(out, &fact.fields, width, |field| texts(&field.after)),
            ChangeKind::Removed if all => fields(out, &fact.fields, width, |field| texts(&field.before)),
            ChangeKind::Added => sentence(out, &fact.fields, width, |field| &field.after),
            ChangeKind::Removed => sentence(out, &fact.fields, width, |field| &field.before),
        }
    }
}

fn fields(out: &mut String, fields: &[FieldChange], width: usize, said: impl Fn(&FieldChange) -> String) {
    let mut rows = Table::new(&[], &[]);
    fields.iter().for_each(|field| rows.row([format!("      {}", field.name), said(field)]));
    out.push_str(&rows.render_wrapped(width));
}

/// Appends one paragraph each for the text, the reason and the source of an added or removed fact. `side` selects the
/// values before or after the change.
fn sentence<'f>(
    out: &mut String,
    fields: &'f [FieldChange],
    width: usize,
    side: impl Fn(&'f FieldChange) -> &'f [String],
) {
    let text = |name: &str| fields.iter().find(|field| field.name == name).and_then(|field| side(field).first());
    if let (Some(subject), Some(prompt), Some(target)) = (text("subject"), text("prompt"), text("target")) {
        let prompt = prompt.replacen(PLACEHOLDER, subject, 1);
        let was = text("was").map_or_else(String::new, |was| format!(", was {was:?}"));
        out.push_str(&paragraph(&escape_controls(&format!("{prompt:?} → {target:?}{was}")), 6, width));
    }
    for name in ["reason", "source"] {
        if let Some(text) = text(name) {
            out.push_str(&paragraph(&escape_controls(&format!("{name}: {text}")), 6, width));
        }
    }
}

/// Formats the texts of a field, each in quotation marks, so that white space at their ends is visible.
fn texts(texts: &[String]) -> String {
    match texts {
        [] => "(nothing)".to_owned(),
        texts => texts.iter().map(|text| format!("\"{}\"", escape_controls(text))).collect::<Vec<_>>().join(", "),
    }
}

fn weights_of(out: &mut String, weights: &WeightDiff, facts: &[FactChange], width: usize) {
    if weights.tensors.is_empty() {
        let _ = writeln!(out, "\nweights: none differs");
        return;
    }
    let _ = writeln!(out, "\nweights:");
    for tensor in &weights.tensors {
        let (before, after) = (short(&tensor.before), short(&tensor.after));
        let _ =
            writeln!(out, "  {}  {before} → {after}  ‖Δ‖/‖W‖ {:.4}", escape_controls(&tensor.name), tensor.relative);
    }
    // A change of one edit slightly changes the norms of all edits, so only the norms of edits with changed facts are
    // shown.
    let ids: BTreeSet<&str> = facts.iter().map(|fact| fact.id.as_str()).collect();
    let mut rows = Table::new(&[1], &[2, 4]);
    for one in weights.edits.iter().filter(|one| ids.contains(one.edit.id.as_str())) {
        let norm = |norm: Option<f64>| norm.map_or_else(|| "–".to_owned(), |norm| format!("{norm:.3}"));
        rows.row(["  ‖Δ‖ of", &one.edit.to_string(), &norm(one.before), "→", &norm(one.after)]);
    }
    out.push_str(&rows.render(width));
}

/// The minimum KL divergence, in nats, at which a prompt is listed although its likeliest token stays the same.
const LISTED_DIVERGENCE: f64 = 0.01;
/// The minimum terminal width, in columns, at which each answer is shown on one line.
const ROOMY: usize = 140;
/// The maximum number of prompts that a list shows without `-v`.
const MOST_SHOWN: usize = 20;

fn behaviour(out: &mut String, report: &Report, width: usize, all: bool) {
    let other = report.answers.iter().filter(|one| is_other(one)).count();
    let asked = plural(report.answers.len(), "prompt");
    let _ = writeln!(out, "\nbehaviour: {asked} asked, {other} answered differently");
    // An edit should change the answers to prompts with a target. The other prompts are therefore listed separately.
    let (wanted, others): (Vec<&Answer>, Vec<&Answer>) = report.answers.iter().partition(|one| one.target.is_some());
    answers(out, "  prompts with a target:", &wanted, width, all);
    answers(out, "  other prompts:", &others, width, all);
    if report.consequences.is_some() {
        let _ = write!(out, "\n{}", consequences::human(report, all));
    }
    if let Some(damage) = &report.damage {
        let _ = writeln!(out, "\n{}", damage_line(damage));
    }
    super::tasks::append(out, report, width);
}

/// Returns whether the likeliest next token differs between the earlier and the later model.
fn is_other(answer: &Answer) -> bool {
    let token = |says: &SideAnswer| says.top.first().map(|token| token.text.clone());
    token(&answer.before) != token(&answer.after)
}

fn answers(out: &mut String, head: &str, list: &[&Answer], width: usize, all: bool) {
    let shown: Vec<&Answer> =
        list.iter().copied().filter(|one| all || one.divergence >= LISTED_DIVERGENCE || is_other(one)).collect();
    if list.is_empty() {
        return;
    }
    let still = match list.len() - shown.len() {
        0 => String::new(),
        still => format!(" ({still} stayed within KL {LISTED_DIVERGENCE})"),
    };
    let _ = writeln!(out, "{head}{still}");
    let most = if all { usize::MAX } else { MOST_SHOWN };
    let mut rows = Table::new(&[2, 3], &[5]);
    for one in shown.iter().take(most) {
        if width < ROOMY {
            let sign = if is_other(one) { "~" } else { " " };
            let asked = paragraph(&escape_controls(&format!("{}: {}", one.asked_words(), one.prompt)), 4, width);
            let _ = write!(out, "  {sign} {}", asked.trim_start());
            out.push_str(&paragraph(&escape_controls(&change_line(one)), 8, width));
            continue;
        }
        let target = one.target.as_ref().map_or_else(String::new, |_| probabilities(one));
        rows.row([
            format!("  {} {}", if is_other(one) { "~" } else { " " }, one.asked_words()),
            one.id.clone(),
            one.prompt.clone(),
            format!("{} → {}", top(&one.before), top(&one.after)),
            target,
            format!("KL {:.3}", one.divergence),
        ]);
    }
    out.push_str(&rows.render(width));
    if shown.len() > most {
        let _ = writeln!(out, "    and {} more: `-v` shows all", shown.len() - most);
    }
}

/// Appends the generated continuations. `[-Paris-]` marks words that only the earlier model generates, and `{+Rome+}`
/// marks words that only the later model generates.
fn continuations(out: &mut String, report: &Report, width: usize) {
    if report.continuations.is_empty() {
        return;
    }
    let how = report.drawn.as_ref().map_or_else(String::new, |drawn| format!(", {}", drawn.words()));
    let _ = writeln!(out, "\nthe model continues{how}:");
    for one in &report.continuations {
        let mut said = escape_controls(&one.prompt);
        for word in &one.words {
            let text = escape_controls(&word.text);
            match word.change {
                WordChange::Removed => drop(write!(said, "[-{text}-]")),
                WordChange::Added => drop(write!(said, "{{+{text}+}}")),
                WordChange::Unchanged => said.push_str(&text),
            }
        }
        out.push_str(&paragraph(&said, 2, width));
        if let Some(note) = &one.note {
            out.push_str(&paragraph(&escape_controls(note), 6, width));
        }
    }
}
