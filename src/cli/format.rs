use clap::ValueEnum;

/// The format of the output on stdout (`--format`) or of a report file (`--report`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text for a terminal.
    #[default]
    Human,
    /// A JSON object. `corrigenda schema` prints its JSON Schema.
    Json,
    /// A comment on a pull request, in Markdown.
    Markdown,
    /// A self-contained HTML page.
    Html,
    /// SARIF, which code-scanning services read.
    Sarif,
    /// JUnit XML, which viewers of test results read.
    Junit,
    /// Workflow commands of GitHub Actions, which GitHub shows as annotations.
    Github,
    /// A CSV table for a spreadsheet; only `log` supports this format.
    Csv,
}

impl Format {
    /// Returns the name that the command line accepts, such as `markdown`.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
