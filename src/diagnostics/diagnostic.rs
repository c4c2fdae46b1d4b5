//! Defines a diagnostic: a code, a message, labels that mark texts in files, and help.
//!
//! A diagnostic does not stop the run. All diagnostics are collected, and the caller decides whether the command fails.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Code, FileId, Severity, Sources, truncate_middle};

/// A mark in a file: a byte range, with a text to show below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub file: FileId,
    pub span: Range<usize>,
    /// The explanation that is shown below the byte range; may be empty.
    pub text: String,
    /// Whether the label marks the cause of the finding. Other labels give context.
    pub primary: bool,
}

/// One finding: an error or a warning about the project, the model or the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub code: Code,
    /// The default severity of `code`, unless `Policy::apply` has replaced it.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    pub labels: Vec<Label>,
    /// Advice for the user, one sentence per entry.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// Creates a finding with the default severity of its code and without labels.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            message: truncate_middle(&message.into()),
            labels: Vec::new(),
            help: Vec::new(),
        }
    }

    /// Adds a primary label, which marks the cause of the finding.
    #[must_use]
    pub fn at(self, file: FileId, span: &Range<usize>, text: impl Into<String>) -> Self {
        self.label(file, span, text, true)
    }

    /// Adds a secondary label, which marks a text that gives context, for example the earlier of two equal ids.
    #[must_use]
    pub fn with(self, file: FileId, span: &Range<usize>, text: impl Into<String>) -> Self {
        self.label(file, span, text, false)
    }

    fn label(mut self, file: FileId, span: &Range<usize>, text: impl Into<String>, primary: bool) -> Self {
        self.labels.push(Label { file, span: span.clone(), text: truncate_middle(&text.into()), primary });
        self
    }

    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(truncate_middle(&text.into()));
        self
    }

    /// Returns whether the finding prevents a build.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Returns the first primary label, or the first label if no label is primary.
    pub fn primary(&self) -> Option<&Label> {
        self.labels.iter().find(|label| label.primary).or(self.labels.first())
    }
}

/// A list of findings with at most 1,000 of each code, so that an untrusted project cannot exhaust memory.
#[derive(Debug, Default)]
pub struct CappedFindings {
    shown: Vec<Diagnostic>,
    /// The number of findings per code, including those that were dropped because of the limit of 1,000.
    counts: BTreeMap<Code, usize>,
}

impl CappedFindings {
    /// Adds a finding, or drops it if there are already 1,000 findings with its code.
    pub fn push(&mut self, finding: Diagnostic) {
        const MOST: usize = 1000;
        let count = self.counts.entry(finding.code).or_default();
        *count += 1;
        if *count <= MOST {
            self.shown.push(finding);
        } else if *count == MOST + 1 {
            let more = "there are more findings of this kind; they are reported after these are fixed";
            self.shown.push(Diagnostic::new(finding.code, more));
        }
    }

    /// Returns the findings in the order in which they were added. If findings of a code were dropped, an additional
    /// finding with this code reports that there are more.
    pub fn finish(self) -> Vec<Diagnostic> {
        self.shown
    }
}

/// Sorts diagnostics by the file and the byte range of the primary label, then by code and message.
pub fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by_cached_key(|finding| {
        let place = finding.primary().map(|label| (label.file, label.span.start, label.span.end));
        (place, finding.code, finding.message.clone())
    });
}

/// All errors and warnings that were found in the files of a project, as one error. The texts of these files are
/// included, because a message shows the lines that it is about.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", summary(.diagnostics))]
pub struct Findings {
    /// The errors and warnings; at least one of them is an error.
    pub diagnostics: Vec<Diagnostic>,
    pub sources: Sources,
}

/// Returns the numbers of errors and warnings in words, for example "2 errors, 1 warning".
pub fn summary(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|finding| finding.is_error()).count();
    let warnings = diagnostics.len() - errors;
    let count = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    match (errors, warnings) {
        (_, 0) => count(errors, "error"),
        (0, _) => count(warnings, "warning"),
        _ => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn codes_are_unique_and_the_list_is_known() {
        let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        let mut list = String::new();
        for code in Code::ALL {
            assert!(code.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            writeln!(list, "{:<8} {:<21} {}", code.severity().as_str(), code, code.description()).expect("a string");
        }
        insta::assert_snapshot!(list);
    }

    #[test]
    fn long_texts_in_messages_are_cut() {
        let name = "ß".repeat(1 << 20);
        let file = Sources::default().add("a", "b");
        let finding = Diagnostic::new(Code::BadId, format!("`{name}` is wrong")).at(file, &(0..1), &name).help(&name);
        for text in [&finding.message, &finding.labels[0].text, &finding.help[0]] {
            assert!((4096..4200).contains(&text.len()), "{}", text.len());
        }
        assert!(finding.message.starts_with("`ß") && finding.message.ends_with("ß` is wrong"));
        assert_eq!(Diagnostic::new(Code::BadId, "x".repeat(4096)).message.len(), 4096);
    }

    #[test]
    fn a_summary_counts() {
        let error = Diagnostic::new(Code::BadId, "x");
        let warning = Diagnostic::new(Code::NotNormalised, "y");
        assert_eq!(summary(&[]), "0 errors");
        assert_eq!(summary(&[error.clone(), error.clone(), warning.clone()]), "2 errors, 1 warning");
        assert_eq!(summary(&[warning]), "1 warning");
    }
}
