//! Formats a report as JUnit XML, for build servers that show tests.
//!
//! The report of `check` becomes one test suite with a test case per file. The report of `test` becomes one suite per
//! edit, one for the probes, one for the measurements of the whole edit set, and one for the
//! tasks. Each judged answer and each
//! measurement is a test case.

use super::format::{gate, limit, nats, percent};
use super::tasks;
use super::xml::{attribute, text};
use super::{Answer, Finding, Gate, NotAsked, Report, ReportVerb, SideAnswer, Verdict};
use crate::behaviour::PromptKind;
use crate::behaviour::task::TaskResult;
use crate::diagnostics::Code;
use crate::project::PROJECT_FILE;

/// The result of a JUnit test case.
enum Ending {
    Passed,
    /// The expectation is not met or was not checked, and the test does not fail. The text is the reason.
    Skipped(String),
    /// The test case failed. The first text is the message in one line. The second text contains all details of the
    /// failure.
    Failed(String, String),
}

struct TestCase {
    class: String,
    name: String,
    ending: Ending,
    /// The text of the `<system-out>` element of the test case, such as warnings; empty if the element is omitted.
    said: String,
}

struct TestSuite {
    name: String,
    cases: Vec<TestCase>,
}

impl TestSuite {
    fn count(&self, what: impl Fn(&Ending) -> bool) -> usize {
        self.cases.iter().filter(|case| what(&case.ending)).count()
    }

    fn failures(&self) -> usize {
        self.count(|ending| matches!(ending, Ending::Failed(..)))
    }

    fn skipped(&self) -> usize {
        self.count(|ending| matches!(ending, Ending::Skipped(_)))
    }
}

pub fn render(report: &Report) -> String {
    let mut suites = Vec::new();
    if report.verb == ReportVerb::Check || report.findings.iter().any(|finding| !has_case(report, finding)) {
        suites.push(files(report));
    }
    suites.extend(edits(report));
    suites.extend(gates(report));
    suites.extend(tasks(report));
    let sum = |count: fn(&TestSuite) -> usize| suites.iter().map(count).sum::<usize>();
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"corrigenda {}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">\n",
        report.verb.as_str(),
        sum(|suite| suite.cases.len()),
        sum(TestSuite::failures),
        sum(TestSuite::skipped),
    );
    suites.iter().for_each(|suite| write(&mut out, suite));
    out + "</testsuites>\n"
}

fn write(out: &mut String, suite: &TestSuite) {
    *out += &format!(
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">\n",
        attribute(&suite.name),
        suite.cases.len(),
        suite.failures(),
        suite.skipped(),
    );
    for case in &suite.cases {
        *out += &format!("    <testcase classname=\"{}\" name=\"{}\">", attribute(&case.class), attribute(&case.name));
        *out += &match &case.ending {
            Ending::Passed => String::new(),
            Ending::Skipped(why) => format!("<skipped message=\"{}\"/>", attribute(why)),
            Ending::Failed(line, whole) => {
                format!("<failure message=\"{}\">{}</failure>", attribute(line), text(whole))
            }
        };
        if !case.said.is_empty() {
            *out += &format!("<system-out>{}</system-out>", text(&case.said));
        }
        *out += "</testcase>\n";
    }
    *out += "  </testsuite>\n";
}

/// Returns whether the test case of an answer or a measurement shows the finding. The suite with one test case per file
/// then leaves the finding out. In a report of `test`, this applies to failed expectations and broken limits.
fn has_case(report: &Report, finding: &Finding) -> bool {
    report.verb == ReportVerb::Test
        && (finding.code == Code::ExpectationFailed || (is_limit(finding.code) && !report.gates.is_empty()))
}

/// Returns whether the code is that of a broken limit, such as a minimum efficacy.
fn is_limit(code: Code) -> bool {
    use Code::{MaxDamage, MaxNeighbourhoodKl, MaxPerplexity, MaxRepeats, MaxTaskLoss};
    use Code::{MinConsequence, MinEfficacy, MinParaphrase, MinUnchanged};
    let least = matches!(code, MinConsequence | MinEfficacy | MinParaphrase | MinUnchanged);
    least || matches!(code, MaxDamage | MaxNeighbourhoodKl | MaxPerplexity | MaxRepeats | MaxTaskLoss)
}

/// Returns the suite with one test case per file that contains edits. Any other file, such as the project file, has a
/// test case only if this suite shows a finding about it.
fn files(report: &Report) -> TestSuite {
    let file = |finding: &Finding| finding.place.as_ref().map_or(PROJECT_FILE.to_owned(), |place| place.file.clone());
    let shown: Vec<&Finding> = report.findings.iter().filter(|finding| !has_case(report, finding)).collect();
    let mut names: Vec<String> = report.files.iter().cloned().chain(shown.iter().copied().map(file)).collect();
    names.sort();
    names.dedup();
    let case = |name: String| {
        let here = |error: bool| {
            shown.iter().copied().filter(|finding| finding.is_error() == error && file(finding) == name).collect()
        };
        let (errors, warnings): (Vec<&Finding>, Vec<&Finding>) = (here(true), here(false));
        let lines = |findings: &[&Finding]| findings.iter().map(|one| line(one)).collect::<Vec<_>>().join("\n");
        let ending = match errors.first() {
            None => Ending::Passed,
            Some(first) => Ending::Failed(first.message.clone(), lines(&errors)),
        };
        TestCase { class: "corrigenda.check".to_owned(), name: name.clone(), ending, said: lines(&warnings) }
    };
    TestSuite { name: "check".to_owned(), cases: names.into_iter().map(case).collect() }
}

fn line(finding: &Finding) -> String {
    let place = finding.place.as_ref();
    let numbers = place.and_then(|place| Some(format!("{}:{}:{}: ", place.file, place.line?, place.column?)));
    let help: String = finding.help.iter().map(|help| format!("\n  help: {help}")).collect();
    format!("{}{}[{}]: {}{help}", numbers.unwrap_or_default(), finding.severity.as_str(), finding.code, finding.message)
}

/// Returns one test suite per edit and one for the probes, in the order of the report. A consequence that was not asked
/// is a skipped test case at the end of the suite of its edit.
fn edits(report: &Report) -> Vec<TestSuite> {
    let mut suites: Vec<TestSuite> = Vec::new();
    let mut known = std::collections::BTreeMap::new();
    let judged = report.answers.iter().filter_map(|answer| {
        let is_probe = answer.asked == PromptKind::Probe;
        let name = if is_probe { "probes" } else { answer.id.as_str() };
        Some((is_probe, name, asked(answer, answer.verdict?)))
    });
    let not_asked = report.consequences.iter().flat_map(|consequences| &consequences.not_asked);
    let skipped = not_asked.map(|one| (false, one.id.as_str(), unasked(one)));
    for (is_probe, name, case) in judged.chain(skipped.filter(|_| report.verb == ReportVerb::Test)) {
        let at = *known.entry((is_probe, name)).or_insert_with(|| {
            suites.push(TestSuite { name: name.to_owned(), cases: Vec::new() });
            suites.len() - 1
        });
        suites[at].cases.push(case);
    }
    suites
}

fn unasked(one: &NotAsked) -> TestCase {
    TestCase {
        class: format!("corrigenda.{}", one.id),
        name: format!("{} ({}): {}", PromptKind::Consequence.as_str(), one.kind.as_str(), one.prompt),
        ending: Ending::Skipped(format!("not asked: {}", one.reason())),
        said: String::new(),
    }
}

fn asked(answer: &Answer, verdict: Verdict) -> TestCase {
    let line = match &answer.target {
        Some(target) => format!("expected `{target}`, found {}", first(&answer.after)),
        None => format!("expected {}, found {}", first(&answer.before), first(&answer.after)),
    };
    let place = answer.place.as_ref().map(|place| match place.line {
        Some(number) => format!("\n{}:{number}", place.file),
        None => format!("\n{}", place.file),
    });
    let share = |says: &SideAnswer| says.probability.map_or("–".to_owned(), percent);
    let shares = answer
        .target
        .as_ref()
        .map(|_| format!("\nP of the wanted answer: {} → {}", share(&answer.before), share(&answer.after)));
    let said = answer.said.as_ref();
    let texts = said.map(|said| format!("\nsays {:?}\nbase {:?}", said.after.text, said.before.text));
    let whole = format!(
        "{line}{}{}\nKL {} nats{}",
        shares.unwrap_or_default(),
        texts.unwrap_or_default(),
        nats(answer.divergence),
        place.unwrap_or_default()
    );
    let ending = match verdict {
        Verdict::Pass => Ending::Passed,
        Verdict::Fail => Ending::Failed(line, whole),
        Verdict::Accepted => Ending::Skipped(format!("accepted: {line}")),
        Verdict::Unmet => Ending::Skipped(format!("the consequence does not hold: {line}")),
    };
    TestCase {
        class: format!("corrigenda.{}", answer.id),
        name: format!("{}: {}", answer.asked_words(), answer.prompt),
        ending,
        said: String::new(),
    }
}

fn first(says: &SideAnswer) -> String {
    let first = says.top.first();
    first.map_or("nothing".to_owned(), |token| format!("`{}` ({})", token.text.trim(), percent(token.probability)))
}

fn gates(report: &Report) -> Option<TestSuite> {
    let case = |one: &Gate| {
        let value = gate(one.name, one.value);
        let line = match limit(one) {
            Some(limit) => format!("{} is {value}, {limit} is required", one.name.as_str()),
            None => format!("{} is {value}", one.name.as_str()),
        };
        let (ending, said) =
            if one.pass { (Ending::Passed, line) } else { (Ending::Failed(line.clone(), line), String::new()) };
        TestCase { class: "corrigenda.gates".to_owned(), name: one.name.as_str().to_owned(), ending, said }
    };
    let cases: Vec<TestCase> = report.gates.iter().map(case).collect();
    (!cases.is_empty()).then(|| TestSuite { name: "gates".to_owned(), cases })
}

/// Returns the suite with one test case per task.
fn tasks(report: &Report) -> Option<TestSuite> {
    let case = |one: &TaskResult| {
        let line = tasks::sentence(one);
        let (ending, said) =
            if one.pass { (Ending::Passed, line) } else { (Ending::Failed(line.clone(), line), String::new()) };
        TestCase { class: "corrigenda.tasks".to_owned(), name: one.name.clone(), ending, said }
    };
    let cases: Vec<TestCase> = report.tasks.iter().map(case).collect();
    (!cases.is_empty()).then(|| TestSuite { name: "tasks".to_owned(), cases })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;
    use crate::report::xml::tests::{Element, read};

    /// Parses the XML of a report and checks the counts in its `tests`, `failures` and `skipped` attributes.
    fn counted(report: &Report) -> Element {
        let root = read(&render(report)).expect("valid XML");
        let count = |element: &Element, name: &str| element.attributes[name].parse::<usize>().expect("a number");
        let inside = |suite: &Element, name: &str| {
            suite.elements.iter().filter(|case| case.elements.iter().any(|element| element.name == name)).count()
        };
        let mut sums = [0; 3];
        for suite in &root.elements {
            let counts = [suite.elements.len(), inside(suite, "failure"), inside(suite, "skipped")];
            assert_eq!(["tests", "failures", "skipped"].map(|name| count(suite, name)), counts);
            sums = std::array::from_fn(|index| sums[index] + counts[index]);
        }
        assert_eq!(["tests", "failures", "skipped"].map(|name| count(&root, name)), sums);
        root
    }

    #[test]
    fn suites_and_cases() {
        for report in [samples::test(), samples::check(), samples::empty()] {
            counted(&report);
            insta::assert_snapshot!(format!("junit_{}", samples::name(&report)), render(&report));
        }
    }

    #[test]
    fn a_limit_without_a_gate_has_a_case() {
        let mut report = samples::test();
        let mut finding = samples::hostile(ReportVerb::Test, "too many").findings.remove(0);
        finding.code = Code::MaxEdits;
        report.findings.push(finding);
        assert!(render(&report).contains("too many"));
    }

    #[test]
    fn any_text_is_valid_xml() {
        let attack = "]]></failure><failure message='x' \" & &#0; \u{0}\u{1b}[31m\u{202e}\u{fffe}\n<!-- x";
        for verb in [ReportVerb::Check, ReportVerb::Test] {
            let report = samples::hostile(verb, attack);
            let root = counted(&report);
            let names: Vec<usize> = root.elements.iter().map(|suite| suite.elements.len()).collect();
            assert_eq!(names[2..], [1, 1, 1], "probes, gates, tasks");
            assert_eq!(names[..2], [1, if verb == ReportVerb::Test { 6 } else { 5 }], "files, an edit");
            let gate = &root.elements[3].elements[0];
            assert_eq!(gate.attributes["name"], "damage");
        }
    }
}
