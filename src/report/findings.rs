//! Converts diagnostics to findings of a report. Spans in source texts become paths, lines and columns.

use super::{Finding, Related};
use crate::diagnostics::{Diagnostic, Label, Place, Severity, Sources};

impl Finding {
    /// Converts a diagnostic to a finding. Spans become lines and columns, because a report does not contain the source
    /// texts.
    pub fn new(diagnostic: &Diagnostic, sources: &Sources) -> Self {
        let primary = diagnostic.primary();
        let is_primary = |label: &Label| primary.is_some_and(|primary| std::ptr::eq(primary, label));
        let related = diagnostic.labels.iter().filter(|label| !is_primary(label));
        Self {
            code: diagnostic.code,
            severity: diagnostic.severity,
            message: diagnostic.message.clone(),
            place: primary.map(|label| Place::new(label.file, &label.span, sources)),
            label: primary.map(|label| label.text.clone()).unwrap_or_default(),
            related: related
                .map(|label| Related { place: Place::new(label.file, &label.span, sources), label: label.text.clone() })
                .collect(),
            help: diagnostic.help.clone(),
        }
    }

    /// Returns whether the finding is an error, which stops a build.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::Code;

    #[test]
    fn places_are_lines_and_columns() {
        let mut sources = Sources::default();
        let one = sources.add("edits/one.toml", "format = 1\n\n[[edit]]\nid = \"é.b\"\n");
        let two = sources.add("edits/two.toml", "");
        let diagnostic = Diagnostic::new(Code::DuplicateId, "two edits have the id")
            .with(two, &(0..0), "first here")
            .at(one, &(26..32), "second here")
            .help("give one of them another id");
        let finding = Finding::new(&diagnostic, &sources);
        assert!(finding.is_error());
        assert_eq!((finding.code, finding.label.as_str()), (Code::DuplicateId, "second here"));
        let place = finding.place.expect("the primary label");
        assert_eq!((place.line, place.column, place.end_line, place.end_column), (Some(4), Some(6), Some(4), Some(11)));
        let [related] = finding.related.as_slice() else { panic!("one other place") };
        assert_eq!((related.place.file.as_str(), related.place.line), ("edits/two.toml", None));
        assert_eq!(Finding::new(&Diagnostic::new(Code::NoEdits, "none"), &sources).place, None);
    }
}
