//! Formats a report as one HTML page without external resources: no network access, no external script, no external
//! font.
//!
//! All content of the page is text in its source; the script only searches, sorts and filters that text. The page's
//! content security policy allows only the script and the style of this module, by their digests, so no text of a
//! report can be executed.

use super::format::{gate, limit, nats, nearest, number, percent, plural, short, thousands};
use super::html_answers::answers;
use super::html_parts::{cell, figure, heading, place, section, table, tag};
use super::html_text::{allowed, escape, text};
use super::summary::sentence;
use super::{Continuation, Culprit, Finding, Gate, Report, ReportSide, Verdict, WeightDiff};
use crate::behaviour::word_diff::{WordChange, WordRun};
use crate::project::edits::diff::{ChangeKind, FactChange, FieldChange};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Returns the report as an HTML page.
pub fn render(report: &Report) -> String {
    let verb = report.verb.as_str();
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; base-uri 'none'; form-action 'none'",
        allowed(STYLE),
        allowed(SCRIPT)
    );
    let found = findings(report);
    // Errors come first, because a report with an error has no other result. Warnings come last.
    let (first, last) =
        if report.findings.iter().any(Finding::is_error) { (found, String::new()) } else { (String::new(), found) };
    let parts = [
        header(report),
        first,
        facts(report),
        gates(report),
        culprits(report),
        answers(report),
        continuations(report),
        report.weights.as_ref().map(weights).unwrap_or_default(),
        last,
        footer(report),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>corrigenda {verb}: {}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{}</main>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        escape(&sentence(report)),
        parts.concat()
    )
}

fn header(report: &Report) -> String {
    let base = report.base.as_ref().map(|base| (base.name.clone(), short(&base.digest).to_owned()));
    let summary = |side: &ReportSide| {
        let commit =
            side.commit.as_ref().map(|commit| format!("commit {}", commit.chars().take(12).collect::<String>()));
        let patch = side.patch.as_ref().map(|patch| format!("patch {}", short(patch)));
        let size = side.size.map(|size| format!("{} bytes", thousands(size)));
        let parts = [Some(plural(side.facts, "fact")), commit, patch, size];
        // Non-breaking spaces keep each part on one line.
        let parts: Vec<String> = parts.into_iter().flatten().map(|part| part.replace(' ', "\u{a0}")).collect();
        (side.name.clone(), parts.join(" · "))
    };
    let damage = report.damage.map(|damage| {
        let read = format!(
            "over {} and {}; perplexity {} → {}",
            plural(damage.documents, "document"),
            plural(damage.tokens, "token"),
            number(damage.perplexity_before),
            number(damage.perplexity_after)
        );
        (format!("{} nats", nats(damage.divergence)), read)
    });
    let shown = [
        ("Before", report.before.as_ref().map(summary)),
        ("After", report.after.as_ref().map(summary)),
        ("Base", base),
        ("Damage on neutral text", damage),
    ];
    let entry = |(name, what): (&str, Option<(String, String)>)| {
        let (what, about) = what.map(|(what, about)| (escape(&what), escape(&about)))?;
        Some(format!("<div><dt>{name}</dt><dd><strong>{what}</strong><span>{about}</span></dd></div>\n"))
    };
    let sides: String = shown.into_iter().filter_map(entry).collect();
    let sides = if sides.is_empty() { sides } else { format!("<dl class=\"sides\">\n{sides}</dl>\n") };
    format!(
        "<header>\n<p class=\"verb\">corrigenda {}</p>\n<h1>{}</h1>\n{sides}{}</header>\n",
        report.verb.as_str(),
        escape(&sentence(report)),
        list("notes", &report.notes),
    )
}

fn list(class: &str, texts: &[String]) -> String {
    let items: String = texts.iter().map(|text| format!("<li>{}</li>", escape(text))).collect();
    if items.is_empty() { items } else { format!("<ul class=\"{class}\">{items}</ul>\n") }
}

fn findings(report: &Report) -> String {
    let line = |finding: &Finding| {
        let level = finding.severity.as_str();
        let related = finding
            .related
            .iter()
            .map(|one| format!("<div class=\"soft\">{} {}</div>", place(Some(&one.place)), escape(&one.label)));
        let help = finding.help.iter().map(|help| format!("<div class=\"soft\">help: {}</div>", escape(help)));
        format!(
            "<tr>{}{}{}</tr>\n",
            cell("", &format!("<span class=\"tag {level}\">{level}</span><br><code>{}</code>", finding.code)),
            cell(
                "long",
                &format!("{}{}{}", escape(&finding.message), related.collect::<String>(), help.collect::<String>())
            ),
            cell("", &format!("{}<div class=\"soft\">{}</div>", place(finding.place.as_ref()), escape(&finding.label))),
        )
    };
    let rows: Vec<String> = report.findings.iter().map(line).collect();
    section("findings", "Findings", &["Finding", "What", "Place"], &rows)
}

fn gates(report: &Report) -> String {
    let line = |one: &Gate| {
        let verdict = if one.pass { one.limit.map(|_| Verdict::Pass) } else { Some(Verdict::Fail) };
        format!(
            "<tr>{}{}{}{}</tr>\n",
            cell("", one.name.as_str()),
            cell("number", &escape(&gate(one.name, one.value))),
            cell("number", &limit(one).map(|limit| escape(&limit)).unwrap_or_default()),
            cell("", &tag(verdict)),
        )
    };
    let rows: Vec<String> = report.gates.iter().map(line).collect();
    section("gates", "Gates", &["Figure", "Value:", "Limit:", "Verdict"], &rows)
}

fn facts(report: &Report) -> String {
    if report.facts.is_empty() {
        return String::new();
    }
    let facts: String = report.facts.iter().map(fact).collect();
    format!("<section>\n{}<div class=\"box\">\n{facts}</div>\n</section>\n", heading("Facts", report.facts.len()))
}

fn fact(fact: &FactChange) -> String {
    let texts =
        |texts: &[String]| cell("", &texts.iter().map(|one| format!("<div>{}</div>", text(one))).collect::<String>());
    // An added fact exists only on the later side, a removed fact only on the earlier side.
    let (before, after) = (fact.change != ChangeKind::Added, fact.change != ChangeKind::Removed);
    let line = |field: &FieldChange| {
        let sides = [(before, &field.before), (after, &field.after)];
        let cells: String = sides.into_iter().filter(|(shown, _)| *shown).map(|(_, side)| texts(side)).collect();
        format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escape(&field.name))
    };
    let rows: String = fact.fields.iter().map(line).collect();
    let heads = if before && after { HEADS } else { "" };
    format!(
        "<article>\n<span class=\"where\">{}</span>\n<h3><span class=\"sign\" aria-hidden=\"true\">{}</span>{} \
         <small>{}</small></h3>\n<table>\n{heads}<tbody>\n{rows}</tbody>\n</table>\n</article>\n",
        place(fact.place.as_ref()),
        fact.change.sign(),
        escape(&fact.id),
        fact.change.as_str(),
    )
}

const HEADS: &str = "<thead><tr><td></td><th scope=\"col\">before</th><th scope=\"col\">after</th></tr></thead>\n";

fn culprits(report: &Report) -> String {
    let line = |one: &Culprit| {
        let breaks: Vec<String> = one.breaks.iter().map(|id| escape(id)).collect();
        let figure = nearest(one, &report.answers).unwrap_or_default();
        let nearest = one.nearest.as_ref().map(|(id, _)| format!("{} ({})", escape(id), escape(&figure)));
        format!(
            "<tr>{}{}{}{}{}</tr>\n",
            cell("id", &escape(&one.id)),
            cell("prompt", &text(&one.prompt)),
            cell("", if one.alone { "yes" } else { "no" }),
            cell("long", &breaks.join(", ")),
            cell("", &nearest.unwrap_or_default()),
        )
    };
    let rows: Vec<String> = report.culprits.iter().map(line).collect();
    section("culprits", "Which edit breaks it", &["Edit", "Prompt", "Met alone", "Met without", "Nearest"], &rows)
}

fn continuations(report: &Report) -> String {
    let line = |one: &Continuation| {
        let word = |word: &WordRun| {
            let shown = word.text.split('\n').map(escape).collect::<Vec<_>>().join("↵\n");
            match word.change {
                WordChange::Removed => format!("<del>{shown}</del>"),
                WordChange::Added => format!("<ins>{shown}</ins>"),
                WordChange::Unchanged => shown,
            }
        };
        let words: String = one.words.iter().map(word).collect();
        let note = one.note.iter().map(|note| format!("<br>{}", text(note))).collect::<String>();
        let words = format!("<span class=\"text\">{words}</span>{note}");
        format!(
            "<tr>{}{}{}</tr>\n",
            cell("id", &escape(&one.id)),
            cell("prompt", &text(&one.prompt)),
            cell("long", &words)
        )
    };
    let rows: Vec<String> = report.continuations.iter().map(line).collect();
    let table = table("continuations", "How both sides continue", &["Of", "Prompt", "Continuation"], &rows);
    if table.is_empty() {
        return table;
    }
    let how = report.drawn.iter().map(|drawn| format!("<p>{}.</p>\n", escape(&drawn.words()))).collect::<String>();
    format!("<section>\n{}{how}{table}</section>\n", heading("How both sides continue", rows.len()))
}

fn weights(weights: &WeightDiff) -> String {
    let bytes = |before: &str, after: &str| {
        format!("<code>{}</code> → <code>{}</code>", escape(short(before)), escape(short(after)))
    };
    let tensor = |one: &super::TensorDiff| {
        format!(
            "<tr>{}{}{}{}</tr>\n",
            cell("long", &format!("<code>{}</code>", escape(&one.name))),
            cell("says", &bytes(&one.before, &one.after)),
            figure(one.norm, &number(one.norm)),
            figure(one.relative, &percent(one.relative)),
        )
    };
    let norm = |norm: Option<f64>| cell("number", &norm.map(|norm| escape(&number(norm))).unwrap_or_default());
    let edit = |one: &super::EditWeight| {
        format!("<tr>{}{}{}</tr>\n", cell("long", &escape(&one.edit.to_string())), norm(one.before), norm(one.after))
    };
    let tensors: Vec<String> = weights.tensors.iter().map(tensor).collect();
    let edits: Vec<String> = weights.edits.iter().map(edit).collect();
    section("tensors", "Weights by tensor", &["Tensor", "Bytes", "Norm of the change:", "Of the base:"], &tensors)
        + &section("norms", "Weights by edit", &["Edit", "Norm before:", "Norm after:"], &edits)
}

fn footer(report: &Report) -> String {
    let patch = |side: &Option<ReportSide>| side.as_ref().and_then(|side| side.patch.clone());
    let patches = [("before", patch(&report.before)), ("after", patch(&report.after))];
    let patches: String = patches
        .into_iter()
        .filter_map(|(name, id)| Some(format!("<p>Patch {name}: <code>{}</code></p>\n", escape(&id?))))
        .collect();
    let again = if report.command.is_empty() {
        String::new()
    } else {
        format!("<p>Run again: <code>{}</code></p>\n", escape(&report.command))
    };
    if again.is_empty() && patches.is_empty() { again } else { format!("<footer>\n{again}{patches}</footer>\n") }
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
