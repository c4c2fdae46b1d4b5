//! Formats a report as one HTML page without external resources: no network access, no external script, no external
//! font.
//!
//! The template is `page.html`. All content is in the HTML source; the script of the page only searches, sorts and
//! filters this content. The content security policy of the page allows only the style `page.css` and the script
//! `page.js`, by their digests, so no text of a report can be executed. In addition, every printed value is escaped,
//! unless the template or a filter marks it as safe.

use std::borrow::Cow;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value, context};

use super::format::{gate, limit, nats, nearest, number, percent, plural, short, thousands};
use super::html_text::{allowed, escape, text};
use super::summary::sentence;
use super::tasks::difference;
use super::{ContinuationSettings, Report};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Returns the report as one HTML page. The style and the script are embedded, so the page loads no other file.
pub fn render(report: &Report) -> String {
    let gates = report.gates.iter().map(|one| context! { value => gate(one.name, one.value), limit => limit(one) });
    let nearest = report.culprits.iter().map(|one| nearest(one, &report.answers));
    let values = context! {
        report => Value::from(Serde(report)),
        sentence => sentence(report),
        gates => gates.collect::<Vec<_>>(),
        differences => report.tasks.iter().map(difference).collect::<Vec<_>>(),
        nearest => nearest.collect::<Vec<_>>(),
        drawn => report.drawn.as_ref().map(ContinuationSettings::words),
        policy => policy(),
        style => STYLE,
        script => SCRIPT,
    };
    let environment = environment();
    let template = environment.template_from_named_str("page.html", TEMPLATE).expect("the template is valid");
    template.render(values).expect("the template uses only values that every report has").trim_start().to_owned()
}

/// Returns the content security policy of the page, which allows only the embedded style and the embedded script.
fn policy() -> String {
    format!(
        "default-src 'none'; style-src {}; script-src {}; base-uri 'none'; form-action 'none'",
        allowed(STYLE),
        allowed(SCRIPT)
    )
}

/// Returns the template engine with the filters that `page.html` uses.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    environment.set_syntax(syntax.expect("the delimiters are the usual ones"));
    environment.set_formatter(print_escaped);
    environment.add_filter("bar_width", bar_width);
    environment.add_filter("line_ends", |text: Cow<'_, str>| {
        Value::from_safe_string(text.split('\n').map(escape).collect::<Vec<_>>().join("↵\n"))
    });
    environment.add_filter("nats", nats);
    environment.add_filter("number", number);
    environment.add_filter("percent", percent);
    environment.add_filter("plural", |count: usize, noun: Cow<'_, str>| plural(count, &noun));
    environment.add_filter("short", |digest: Cow<'_, str>| short(&digest).to_owned());
    environment.add_filter("sortable", |value: f64| value.to_string());
    environment.add_filter("text", |content: Cow<'_, str>| Value::from_safe_string(text(&content)));
    environment.add_filter("thousands", thousands);
    environment.add_filter("trim_start", |text: Cow<'_, str>| text.trim_start().to_owned());
    environment
}

/// Writes a value to the page. Escapes the value unless it is marked as safe, and writes nothing for `none`. An
/// undefined value is an error.
fn print_escaped(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    if !value.is_none() {
        let shown = value.to_string();
        out.write_str(&if value.is_safe() { shown } else { escape(&shown) })?;
    }
    Ok(())
}

/// Returns the width, from 0 to 100, of the bar that shows a probability. For an absent or non-finite value, the width
/// is 0.
fn bar_width(share: Option<f64>) -> String {
    format!("{:.2}", 100.0 * share.filter(|share| share.is_finite()).unwrap_or(0.0).clamp(0.0, 1.0))
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
