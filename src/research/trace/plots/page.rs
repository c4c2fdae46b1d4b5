//! Builds an HTML page with all figures of a trace and a table of the largest effects. The page loads no other files.

use std::fmt::Write as _;

use crate::research::figure::Figure;
use crate::research::figure::page::Page;
use crate::research::figure::svg::escaped;
use crate::research::trace::averages::{AverageEffects, TokenClass};
use crate::research::trace::plan::{RestoredKind, TracePlan};

/// The contents of the HTML page of a trace, except for the figures.
pub struct TracePage<'t> {
    /// The title as plain text, which [`Page`] escapes.
    pub title: String,
    /// Pairs of a name and a value for the top of the page, such as the model and the noise.
    pub lines: Vec<(String, String)>,
    /// The average effects over all facts, from which the table of the page is built.
    pub effects: &'t AverageEffects,
    /// The settings of the traces. They determine the columns of the table.
    pub plan: &'t TracePlan,
}

/// Returns the page as HTML: the figures of the average effects, the table, and the figures of single facts.
pub fn render(content: &TracePage<'_>, averages: &[Figure], facts: &[Figure]) -> String {
    let mut page = Page::new("trace", &content.title, &content.lines);
    section(&mut page, "Over all facts", averages);
    page.heading("Greatest average indirect effects");
    page.part(&numbers(content));
    section(&mut page, "Fact by fact", facts);
    page.finish()
}

fn section(page: &mut Page, title: &str, figures: &[Figure]) {
    if !figures.is_empty() {
        page.heading(title);
        page.figures(figures);
    }
}

/// Formats the table with one row per token class and one column per kind of restored state. Each cell has the largest
/// average effect and its layer.
fn numbers(content: &TracePage<'_>) -> String {
    let kinds: Vec<RestoredKind> =
        RestoredKind::ALL.into_iter().filter(|kind| content.plan.kinds.contains(kind)).collect();
    let mut out = "<div class=\"box\" tabindex=\"0\"><table>\n<thead><tr><th>token</th>\n".to_owned();
    for kind in &kinds {
        // Writing to a `String` cannot fail.
        let _ =
            writeln!(out, "<th class=\"number\">{}</th>", escaped(&super::heat::restored_words(*kind, content.plan)));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for class in TokenClass::ALL {
        let _ = write!(out, "<tr><th>{}</th>", class.words());
        for kind in &kinds {
            let cell = content.effects.peak(*kind, class).map_or_else(String::new, |(layer, mean)| {
                format!("{:.3} ± {:.3} <span class=\"soft\">layer {layer}</span>", mean.value, mean.ci95)
            });
            let _ = write!(out, "<td class=\"number\">{cell}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
    out
}
