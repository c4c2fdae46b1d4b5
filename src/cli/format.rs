//! Defines the formats of an answer.

use clap::ValueEnum;

/// The format of the answer on stdout (`--format`) or of a report file (`--report`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text for a terminal.
    #[default]
    Human,
    /// JSON, for programs.
    Json,
    /// A comment on a pull request, in Markdown.
    Markdown,
    /// A self-contained HTML page.
    Html,
    /// SARIF, for code scanning.
    Sarif,
    /// JUnit XML, for viewers of test results.
    Junit,
    /// Workflow commands, which GitHub shows as annotations.
    Github,
    /// A CSV table for a spreadsheet. Only `log` supports it.
    Csv,
}

impl Format {
    /// Returns the name of the format as the command line accepts it.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
