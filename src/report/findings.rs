//! Findings of a project as a report has them.

use super::{Finding, Place, Related};
use crate::project::{Diagnostic, Label, Sources};

impl Finding {
    /// A finding with its places as lines and columns.
    pub fn new(diagnostic: &Diagnostic, sources: &Sources) -> Self {
        let primary = diagnostic.primary();
        let others =
            diagnostic.labels.iter().filter(|label| primary.is_none_or(|primary| !std::ptr::eq(*label, primary)));
        Self {
            code: diagnostic.code.as_str().to_owned(),
            severity: diagnostic.severity.as_str().to_owned(),
            message: diagnostic.message.clone(),
            place: primary.map(|label| place(label, sources)),
            label: primary.map_or_else(String::new, |label| label.text.clone()),
            related: others.map(|label| Related { place: place(label, sources), label: label.text.clone() }).collect(),
            help: diagnostic.help.clone(),
        }
    }
}

fn place(label: &Label, sources: &Sources) -> Place {
    let (start, end) = (sources.position(label.file, label.span.start), sources.position(label.file, label.span.end));
    Place {
        file: sources.path(label.file).to_owned(),
        line: Some(start.line),
        column: Some(start.column),
        end_line: Some(end.line),
        end_column: Some(end.column),
    }
}
