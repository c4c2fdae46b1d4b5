//! A page with all figures and the numbers behind them, in one file that needs no other.

use std::fmt::Write as _;

use crate::figure::Figure;
use crate::project::visible;
use crate::trace::effects::{Class, Effects};
use crate::trace::table::{Kind, Plan};

const STYLE: &str = include_str!("../../report/page.css");
/// Figures are drawn on white: on a dark page they stand on a sheet of their own.
const MORE: &str = "figure { margin: 1.25rem 0; } figure svg { max-width: 100%; height: auto; border: 1px solid var(--rule); \
                    border-radius: 6px; background: #fff; } figcaption { color: var(--soft); font-size: .85rem; }";

/// What the page says beside its figures.
pub struct Told<'t> {
    /// What was traced, in a few words.
    pub title: String,
    /// Names and values: model, noise, counts.
    pub lines: Vec<(String, String)>,
    /// The effects over all facts.
    pub effects: &'t Effects,
    /// What was restored.
    pub plan: &'t Plan,
}

/// The page.
pub fn render(told: &Told<'_>, averages: &[Figure], facts: &[Figure]) -> String {
    let mut out = String::new();
    let title = escaped(&told.title);
    // Writing to a `String` cannot fail, here and below.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>\n{STYLE}\n{MORE}\n</style>\n\
         </head>\n<body>\n<main>\n<header>\n<p class=\"verb\">corrigenda trace</p>\n<h1>{title}</h1>\n<dl class=\"sides\">\n"
    );
    for (name, value) in &told.lines {
        let _ = writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(name), escaped(value));
    }
    out.push_str("</dl>\n</header>\n");
    section(&mut out, "Over all facts", averages);
    numbers(&mut out, told);
    section(&mut out, "Fact by fact", facts);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn section(out: &mut String, title: &str, figures: &[Figure]) {
    if figures.is_empty() {
        return;
    }
    let _ = writeln!(out, "<h2>{title}</h2>");
    for figure in figures {
        out.push_str(&figure.element());
    }
}

/// The greatest effect of every class and kind, and where it is.
fn numbers(out: &mut String, told: &Told<'_>) {
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| told.plan.kinds.contains(kind)).collect();
    let _ = writeln!(
        out,
        "<h2>Greatest average indirect effects</h2>\n<div class=\"box\" tabindex=\"0\"><table>\n<thead><tr><th>token</th>"
    );
    for kind in &kinds {
        let _ = writeln!(out, "<th class=\"number\">{}</th>", escaped(&super::heat::restored(*kind, told.plan)));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for class in Class::ALL {
        let _ = write!(out, "<tr><th>{}</th>", class.words());
        for kind in &kinds {
            let cell = told.effects.peak(*kind, class).map_or_else(String::new, |(layer, mean)| {
                format!("{:.3} ± {:.3} <span class=\"soft\">layer {layer}</span>", mean.value, mean.half)
            });
            let _ = write!(out, "<td class=\"number\">{cell}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
}

fn escaped(text: &str) -> String {
    let text = visible(text).to_string();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
