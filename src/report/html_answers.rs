//! Builds the table of answers of an HTML page, with bars for probabilities and with search tools.

use super::format::{nats, percent};
use super::html_parts::{cell, figure, heading, table, tag};
use super::html_text::{escape, text};
use super::{Answer, Report, SideAnswer, Token, Verdict};

/// Returns the table of answers, one row per prompt, with the search tools; empty if there are no answers.
pub(super) fn answers(report: &Report) -> String {
    let rows: Vec<String> = report.answers.iter().map(answer).collect();
    let heads = ["Asked", "Of", "Prompt", "Before", "After", "P of the wanted answer:", "KL:", "Verdict"];
    let table = table("answers", "Answers", &heads, &rows);
    if table.is_empty() {
        table
    } else {
        format!("<section>\n{}{TOOLS}{table}</section>\n", heading("Answers", rows.len()))
    }
}

/// The search tools of the table of answers. They do nothing without the page's script, so they are hidden until the
/// script shows them.
const TOOLS: &str = "\
<div class=\"tools\" id=\"tools\" hidden>
<label>Search<input type=\"search\" id=\"search\" autocomplete=\"off\"></label>
<label>Asked<select id=\"asked\"><option value=\"\">all</option><option>edit</option><option>alias</option>\
<option>paraphrase</option><option>unchanged</option><option>probe</option></select></label>
<label>Verdict<select id=\"verdict\"><option value=\"\">all</option><option>pass</option><option>fail</option>\
<option>accepted</option></select></label>
<output id=\"count\" for=\"search asked verdict\"></output>
</div>
";

fn answer(answer: &Answer) -> String {
    let wanted = answer.target.as_ref().map(|target| format!("<span class=\"wanted\">wanted: {}</span>", text(target)));
    let verdict = answer.verdict.map_or("", Verdict::as_str);
    format!(
        "<tr class=\"{verdict}\" data-asked=\"{asked}\" data-verdict=\"{verdict}\">{}{}{}{}{}{}{}{}</tr>\n",
        cell("", answer.asked.as_str()),
        cell("id", &escape(&answer.id)),
        cell("prompt", &format!("{}{}", text(&answer.prompt), wanted.unwrap_or_default())),
        says(&answer.before),
        says(&answer.after),
        bars(answer.before.probability, answer.after.probability),
        figure(answer.divergence, &nats(answer.divergence)),
        cell("", &tag(answer.verdict)),
        asked = answer.asked.as_str(),
    )
}

/// Returns a table cell with the likeliest next token of one side. The cell's tooltip lists all tokens of `says.top`.
fn says(says: &SideAnswer) -> String {
    let shown = |token: &Token| format!("{} {}", token.text, percent(token.probability));
    let Some(first) = says.top.first() else { return cell("says", "") };
    let all: Vec<String> = says.top.iter().map(shown).collect();
    format!(
        "<td class=\"says\" title=\"{}\">{}<span class=\"share\">{}</span></td>",
        escape(&all.join(", ")),
        text(first.text.trim_start()),
        escape(&percent(first.probability))
    )
}

/// Returns a table cell with two bars for the probability of the wanted answer: the upper bar for the earlier side, the
/// lower bar for the later side.
fn bars(before: Option<f64>, after: Option<f64>) -> String {
    if before.is_none() && after.is_none() {
        return "<td class=\"number\" data-sort=\"-1\"></td>".to_owned();
    }
    let width = |share: Option<f64>| 100.0 * share.filter(|share| share.is_finite()).unwrap_or(0.0).clamp(0.0, 1.0);
    let shown = |share: Option<f64>| share.map_or("–".to_owned(), |share| escape(&percent(share)));
    let bar = |class: &str, top: u8, length: f64| {
        format!("<rect class=\"{class}\" y=\"{top}\" width=\"{length:.2}\" height=\"5\"/>")
    };
    format!(
        "<td class=\"number\" data-sort=\"{}\">{} → {}<svg class=\"bars\" viewBox=\"0 0 100 11\" \
         preserveAspectRatio=\"none\" aria-hidden=\"true\">{}{}{}{}</svg></td>",
        after.unwrap_or(-1.0),
        shown(before),
        shown(after),
        bar("track", 0, 100.0),
        bar("was", 0, width(before)),
        bar("track", 6, 100.0),
        bar("now", 6, width(after)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stay_in_their_frame() {
        for share in [f64::NAN, f64::INFINITY, -1.0, 2.0] {
            let cell = bars(Some(share), None);
            let widths = cell.split(" width=\"").skip(1).filter_map(|rest| rest.split('"').next()?.parse::<f64>().ok());
            assert!(
                widths.clone().count() == 4 && widths.into_iter().all(|width| (0.0..=100.0).contains(&width)),
                "{cell}"
            );
        }
    }
}
