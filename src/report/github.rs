//! Formats findings as workflow commands of GitHub Actions. GitHub shows each finding at its line in the pull request.

use super::{Finding, Report};
use crate::diagnostics::{Place, escape_controls};

/// Returns one workflow command per finding, each ended by a line break.
pub fn render(report: &Report) -> String {
    report.findings.iter().map(command).collect()
}

fn command(finding: &Finding) -> String {
    let mut properties = finding.place.as_ref().map(place).unwrap_or_default();
    properties.push(format!("title={}", finding.code));
    format!("::{} {}::{}\n", finding.severity.as_str(), properties.join(","), data(&message(finding)))
}

fn place(place: &Place) -> Vec<String> {
    let numbers = [
        ("line", place.line),
        ("col", place.column),
        ("endLine", place.end_line),
        // Like `Place::end_column`, the end column of an annotation is the column after the last character.
        ("endColumn", place.end_column),
    ];
    let numbers = numbers.into_iter().filter_map(|(name, number)| Some(format!("{name}={}", number?)));
    [format!("file={}", property(&place.file))].into_iter().chain(numbers).collect()
}

/// Returns the lines of a finding: the message, the label of the finding's place, and the help sentences.
fn message(finding: &Finding) -> String {
    let label = Some(&finding.label).filter(|label| !label.is_empty());
    let lines: Vec<String> =
        [&finding.message].into_iter().chain(label).chain(&finding.help).map(|text| escape_controls(text)).collect();
    lines.join("\n")
}

/// Escapes the message of a workflow command. GitHub's runner decodes `%25`, `%0D` and `%0A` in messages.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes the value of a property of a workflow command. In properties, GitHub's runner decodes `%3A` and `%2C` in
/// addition to the escapes that it decodes in messages (see [`data`]).
fn property(text: &str) -> String {
    data(&escape_controls(text)).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{ReportVerb, samples};

    #[test]
    fn a_command_for_each_finding() {
        insta::assert_snapshot!(render(&samples::check()));
        assert_eq!(render(&samples::empty()), "");
    }

    /// Decodes a workflow command as GitHub's runner does. Returns its name, its properties and its message.
    fn read(line: &str) -> (&str, Vec<(String, String)>, String) {
        let (head, data) = line.strip_prefix("::").and_then(|line| line.split_once("::")).expect("a command");
        let (command, properties) = head.split_once(' ').expect("properties");
        let plain = |text: &str| {
            let text = text.replace("%3A", ":").replace("%2C", ",");
            text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
        };
        let property = |text: &str| {
            let (name, value) = text.split_once('=').expect("a name and a value");
            (name.to_owned(), plain(value))
        };
        (command, properties.split(',').map(property).collect(), plain(data))
    }

    #[test]
    fn no_text_becomes_a_command() {
        for attack in ["x\n::error::y", "a::b,c=d%0A::set-env name=PATH::x\r", "100%\u{1b}[31m##[error]%25"] {
            let report = samples::hostile(ReportVerb::Check, attack);
            let text = render(&report);
            assert_eq!(text.lines().count(), report.findings.len());
            for line in text.lines() {
                let (command, properties, data) = read(line);
                assert!(matches!(command, "error" | "warning"));
                let names: Vec<&str> = properties.iter().map(|(name, _)| name.as_str()).collect();
                assert_eq!(names, ["file", "line", "col", "endLine", "endColumn", "title"]);
                assert_eq!(properties[0].1, escape_controls(attack));
                assert_eq!(data, [escape_controls(attack).as_str(); 3].join("\n"));
                assert!(!line.contains('\u{1b}') && !line.contains('\r'));
            }
        }
    }
}
