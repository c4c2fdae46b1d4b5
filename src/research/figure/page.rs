//! Builds an HTML page with figures and tables, as one file without external resources.

use std::fmt::Write as _;

use super::Figure;
use super::svg::escaped;
use crate::diagnostics::escape_controls;

const STYLE: &str = include_str!("../../report/page.css");
/// CSS rules for figures and for failed values, added after the style sheet of reports. Figures have a white background
/// on dark pages too, because their texts are dark.
const MORE: &str = "figure { margin: 1.25rem 0; } figure svg { max-width: 100%; height: auto; border: 1px solid var(--rule); \
                    border-radius: 6px; background: #fff; } figcaption { color: var(--soft); font-size: .85rem; } \
                    .fails { color: #c0392b; }";

/// Escapes an untrusted text for HTML, and replaces invisible characters by visible escapes.
fn text(text: &str) -> String {
    escaped(&escape_controls(text).to_string())
}

pub struct Page {
    out: String,
}

impl Page {
    /// Begins the page of the command `verb`. `lines` are pairs of a name and a value, listed below the title. All
    /// texts are escaped.
    pub fn new(verb: &str, title: &str, lines: &[(String, String)]) -> Self {
        let title = text(title);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>\n{STYLE}\n{MORE}\n\
             </style>\n</head>\n<body>\n<main>\n<header>\n<p class=\"verb\">corrigenda {verb}</p>\n<h1>{title}</h1>\n\
             <dl class=\"sides\">\n"
        );
        for (name, value) in lines {
            // Writing to a `String` cannot fail.
            let _ = writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", text(name), text(value));
        }
        out.push_str("</dl>\n</header>\n");
        Self { out }
    }

    /// Appends a heading. The title is escaped.
    pub fn heading(&mut self, title: &str) {
        let _ = writeln!(self.out, "<h2>{}</h2>", text(title));
    }

    /// Appends HTML without escaping. The caller must escape the texts in `html`.
    pub fn part(&mut self, html: &str) {
        self.out.push_str(html);
    }

    pub fn figures(&mut self, figures: &[Figure]) {
        figures.iter().for_each(|figure| self.out.push_str(&figure.element()));
    }

    /// Closes all open elements and returns the page.
    pub fn finish(mut self) -> String {
        self.out.push_str("</main>\n</body>\n</html>\n");
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_texts_are_escaped() {
        let mut page = Page::new("bench", "<b>\u{202e}title\u{1b}", &[("file".to_owned(), "a\u{7}&b".to_owned())]);
        page.heading("1 < 2");
        let page = page.finish();
        assert!(page.contains("&lt;b&gt;") && page.contains("1 &lt; 2") && page.contains("&amp;b"), "{page}");
        assert!(!page.contains(['\u{202e}', '\u{1b}', '\u{7}']), "{page}");
    }
}
