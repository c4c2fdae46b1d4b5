//! Formats a diagnostic for the terminal: the message, the lines that its labels mark, and the help.
//!
//! All texts are untrusted input. Control characters and Unicode bidirectional control characters are escaped or
//! replaced.

use std::ops::Range;

use super::{Diagnostic, FileId, Label, Severity, Sources, escape_controls, is_bidi, is_control};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// The colours and the line width of the text that [`render`] returns.
#[derive(Clone, Copy, Debug)]
pub struct RenderStyle {
    /// Whether to use ANSI colours; false by default.
    pub color: bool,
    /// The width of the terminal, in columns; 120 by default.
    pub width: usize,
}

impl Default for RenderStyle {
    fn default() -> Self {
        Self { color: false, width: 120 }
    }
}

/// Replaces control characters and Unicode bidirectional control characters by characters with the same number of
/// bytes, so that byte ranges stay valid. ASCII control characters are left to the renderer, which replaces them.
fn mask_controls(text: &str) -> String {
    let mask = |character: char| match character.len_utf8() {
        2 if is_control(character) || is_bidi(character) => '¤',
        3 if is_control(character) || is_bidi(character) => '\u{fffd}',
        _ => character,
    };
    text.chars().map(mask).collect()
}

/// Formats a diagnostic for a terminal, like an error message of rustc.
pub fn render(diagnostic: &Diagnostic, sources: &Sources, style: RenderStyle) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group =
        Group::with_title(level.primary_title(escape_controls(&diagnostic.message)).id(diagnostic.code.as_str()));
    for file in files(diagnostic) {
        group = if sources.text(file).is_empty() {
            group.element(Origin::path(escape_controls(sources.path(file))))
        } else {
            let groups = group_labels(diagnostic, file);
            groups.into_iter().fold(group, |group, labels| group.element(snippet(labels, file, sources)))
        };
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(escape_controls(help)));
    }
    let renderer = if style.color { Renderer::styled() } else { Renderer::plain() };
    renderer.term_width(style.width).render(&[group])
}

/// Returns the files in which the diagnostic has labels. The file of the primary label is first.
fn files(diagnostic: &Diagnostic) -> Vec<FileId> {
    let mut files: Vec<FileId> = diagnostic.primary().map(|label| label.file).into_iter().collect();
    for label in &diagnostic.labels {
        if !files.contains(&label.file) {
            files.push(label.file);
        }
    }
    files
}

/// The maximum number of bytes that a snippet shows after its last label. The rest of a longer line is cut off, because
/// it would not fit on a terminal.
const MAX_BYTES_AFTER_LABEL: usize = 1 << 12;

/// Groups the labels in a file into snippets of nearby labels. The snippet with the primary label is first.
fn group_labels(diagnostic: &Diagnostic, file: FileId) -> Vec<Vec<&Label>> {
    let mut labels: Vec<&Label> = diagnostic.labels.iter().filter(|label| label.file == file).collect();
    labels.sort_by_key(|label| label.span.start);
    let mut pieces: Vec<Vec<&Label>> = Vec::new();
    for label in labels {
        match pieces.last_mut() {
            Some(piece) if piece.last().is_some_and(|last| label.span.start < last.span.end + MAX_LABEL_DISTANCE) => {
                piece.push(label)
            }
            _ => pieces.push(vec![label]),
        }
    }
    pieces.sort_by_key(|piece| !piece.iter().any(|label| label.primary));
    pieces
}

/// Two labels that are at least this number of bytes apart are shown in separate snippets.
const MAX_LABEL_DISTANCE: usize = 1 << 13;

/// Returns a snippet that contains only the part of the file near its labels. If it contained the whole file, the
/// renderer would index all lines of the file for every finding.
fn snippet(
    labels: Vec<&Label>,
    file: FileId,
    sources: &Sources,
) -> Snippet<'static, annotate_snippets::Annotation<'static>> {
    let start = labels.iter().map(|label| label.span.start).min().unwrap_or(0);
    let end = labels.iter().map(|label| label.span.end).max().unwrap_or(0);
    let (window, first) = sources.lines(file, &(start..end));
    let text = clip(&sources.text(file)[window.clone()], end.saturating_sub(window.start));
    let annotations = labels.into_iter().map(|label| {
        let kind = if label.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
        let annotation = kind.span(to_window(text, &label.span, window.start));
        if label.text.is_empty() { annotation } else { annotation.label(escape_controls(&label.text)) }
    });
    Snippet::source(mask_controls(text))
        .line_start(first)
        .path(escape_controls(sources.path(file)))
        .annotations(annotations)
}

/// Shortens the text of a snippet: returns the beginning of `window`, up to [`MAX_BYTES_AFTER_LABEL`] bytes after
/// `end`. `end` is the byte offset in `window` at which the last label ends.
fn clip(window: &str, end: usize) -> &str {
    &window[..window.ceil_char_boundary(end.saturating_add(MAX_BYTES_AFTER_LABEL))]
}

/// Converts a byte range of the file to one relative to `window`, the part of the file that starts at byte `offset`.
/// The range is limited to the window and extended to whole characters.
fn to_window(window: &str, span: &Range<usize>, offset: usize) -> Range<usize> {
    let start = window.floor_char_boundary(span.start.saturating_sub(offset));
    let end = window.ceil_char_boundary(span.end.saturating_sub(offset).min(window.len()));
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::super::Code;
    use super::*;

    fn two_files() -> (Diagnostic, Sources) {
        let mut sources = Sources::default();
        let one = sources.add("edits/one.toml", "format = 1\n\n[[edit]]\nid = \"a.b\"\n");
        let two = sources.add("edits/two.toml", "[[edit]]\nid = \"a.b\"\n");
        let diagnostic = Diagnostic::new(Code::DuplicateId, "two edits have the id `a.b`")
            .at(two, &(14..19), "second here")
            .with(one, &(26..31), "first here")
            .help("give one of them another id");
        (diagnostic, sources)
    }

    #[test]
    fn looks_like_rustc() {
        let (diagnostic, sources) = two_files();
        insta::assert_snapshot!(render(&diagnostic, &sources, RenderStyle::default()));
        assert!(render(&diagnostic, &sources, RenderStyle { color: true, width: 80 }).contains("\u{1b}["));
    }

    #[test]
    fn control_characters_are_escaped_for_a_terminal() {
        let text = "s = \"\u{1b}]0;title\u{7}\u{9b}31m\u{202e}abc\u{200f}\u{61c}\u{2028}\"\n";
        let mut sources = Sources::default();
        let file = sources.add("edits/\u{1b}[31m.toml", text);
        let diagnostic = Diagnostic::new(Code::ControlCharacter, format!("hm {text}"))
            .at(file, &(4..text.len() - 1), text)
            .help(text);
        let shown = render(&diagnostic, &sources, RenderStyle::default());
        assert!(!shown.chars().any(|c| c != '\n' && (is_control(c) || is_bidi(c))), "{shown:?}");
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn a_long_line_is_cut() {
        let mut sources = Sources::default();
        let text = format!("s = 1 {}\n", "é".repeat(1 << 20));
        assert_eq!(clip(&text, 5).len(), 5 + MAX_BYTES_AFTER_LABEL + 1, "the cut is at a character boundary");
        assert_eq!(clip("s = 1\n", 5), "s = 1\n");
        let file = sources.add("a.toml", &text);
        let diagnostic = Diagnostic::new(Code::Syntax, "x").at(file, &(4..5), "y");
        let shown = render(&diagnostic, &sources, RenderStyle::default());
        assert!(shown.contains("s = 1 éé") && shown.contains("...") && shown.len() < 4096, "{shown}");
    }

    #[test]
    fn any_span_can_be_rendered() {
        let mut sources = Sources::default();
        let file = sources.add("a.toml", "é = 1\r\n\nb");
        let empty = sources.add("b.toml", "");
        for start in 0..14 {
            for end in 0..14 {
                let diagnostic =
                    Diagnostic::new(Code::Syntax, "x").at(file, &(start..end), "y").with(empty, &(start..end), "z");
                assert!(render(&diagnostic, &sources, RenderStyle::default()).contains("a.toml"));
            }
        }
    }
}
