//! Builds the parts of which an HTML page consists: tables, cells, headings and tags.

use super::Verdict;
use super::format::thousands;
use super::html_text::escape;
use crate::diagnostics::Place;

/// Returns a table with headers, in a box that scrolls on narrow pages; empty if there are no rows.
///
/// A header that ends in a colon marks a column of numbers.
pub(super) fn table(id: &str, title: &str, heads: &[&str], rows: &[String]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head = |head: &&str| match head.strip_suffix(':') {
        Some(name) => format!("<th scope=\"col\" class=\"number\">{name}</th>"),
        None => format!("<th scope=\"col\">{head}</th>"),
    };
    let heads: String = heads.iter().map(head).collect();
    format!(
        "<div class=\"box\" role=\"region\" aria-label=\"{title}\" tabindex=\"0\">\n<table id=\"{id}\">\n\
         <thead><tr>{heads}</tr></thead>\n<tbody>\n{}</tbody>\n</table>\n</div>\n",
        rows.concat()
    )
}

pub(super) fn section(id: &str, title: &str, heads: &[&str], rows: &[String]) -> String {
    let table = table(id, title, heads, rows);
    if table.is_empty() { table } else { format!("<section>\n{}{table}</section>\n", heading(title, rows.len())) }
}

pub(super) fn heading(title: &str, count: usize) -> String {
    format!("<h2>{title}<small>{}</small></h2>\n", thousands(count as u64))
}

pub(super) fn cell(class: &str, content: &str) -> String {
    if class.is_empty() { format!("<td>{content}</td>") } else { format!("<td class=\"{class}\">{content}</td>") }
}

/// Returns a table cell with the text `shown`. The page's script sorts the column by `value`, not by the text.
pub(super) fn figure(value: f64, shown: &str) -> String {
    format!("<td class=\"number\" data-sort=\"{value}\">{}</td>", escape(shown))
}

pub(super) fn place(place: Option<&Place>) -> String {
    let Some(place) = place else { return String::new() };
    let line = place.line.map(|line| format!(":{line}")).unwrap_or_default();
    escape(&format!("{}{line}", place.file))
}

pub(super) fn tag(verdict: Option<Verdict>) -> String {
    let sign = match verdict {
        None => return String::new(),
        Some(Verdict::Pass) => "✓",
        Some(Verdict::Fail) => "✗",
        Some(Verdict::Accepted) => "~",
    };
    let word = verdict.map_or("", Verdict::as_str);
    format!("<span class=\"tag {word}\">{sign} {word}</span>")
}
