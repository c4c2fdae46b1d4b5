//! Formats findings as SARIF 2.1.0, for code scanners.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Finding, Report, json};
use crate::diagnostics::{Code, Place, escape_controls};
use crate::digest::FieldHasher;
use crate::project::PROJECT_FILE;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// Returns the findings as one line of SARIF.
pub fn render(report: &Report) -> String {
    let codes = codes(report);
    let mut seen = BTreeMap::new();
    let results: Vec<Value> = report.findings.iter().map(|finding| result(finding, &codes, &mut seen)).collect();
    let rules: Vec<Value> = codes.iter().map(|code| rule(*code)).collect();
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "corrigenda", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    json::inert(&log.to_string())
}

/// Returns the distinct codes of the findings, in alphabetical order.
fn codes(report: &Report) -> Vec<Code> {
    let mut codes: Vec<Code> = report.findings.iter().map(|finding| finding.code).collect();
    codes.sort_unstable_by_key(|code| code.as_str());
    codes.dedup();
    codes
}

fn rule(code: Code) -> Value {
    json!({
        "id": code,
        "shortDescription": { "text": code.description() },
        "defaultConfiguration": { "level": code.severity() },
    })
}

/// Formats a finding as a SARIF result. Code scanners reject a result without a location, so a finding about the whole
/// project refers to the project file.
fn result(finding: &Finding, codes: &[Code], seen: &mut BTreeMap<String, usize>) -> Value {
    let whole = Place { file: PROJECT_FILE.to_owned(), line: None, column: None, end_line: None, end_column: None };
    let place = finding.place.as_ref().unwrap_or(&whole);
    let lines: Vec<String> =
        [&finding.message].into_iter().chain(&finding.help).map(|text| escape_controls(text)).collect();
    let mut result = json!({
        "ruleId": finding.code,
        "ruleIndex": codes.iter().position(|code| *code == finding.code),
        "level": finding.severity,
        "message": { "text": lines.join("\n") },
        "locations": [location(place, &finding.label)],
        "partialFingerprints": { "corrigenda/v1": fingerprint(finding, place, seen) },
    });
    let related = finding.related.iter().enumerate().map(|(id, related)| {
        let mut location = location(&related.place, &related.label);
        location["id"] = json!(id + 1);
        location
    });
    let related: Vec<Value> = related.collect();
    if !related.is_empty() {
        result["relatedLocations"] = json!(related);
    }
    result
}

fn location(place: &Place, label: &str) -> Value {
    let mut physical = json!({ "artifactLocation": { "uri": uri(&place.file) } });
    let numbers = [
        ("startLine", place.line),
        ("startColumn", place.column),
        ("endLine", place.end_line),
        ("endColumn", place.end_column),
    ];
    if place.line.is_some() {
        physical["region"] = numbers.into_iter().filter_map(|(name, number)| Some((name, json!(number?)))).collect();
    }
    let mut location = json!({ "physicalLocation": physical });
    if !label.is_empty() {
        location["message"] = json!({ "text": escape_controls(label) });
    }
    location
}

/// Encodes a relative path as a relative URI reference: all bytes except letters, digits and `-._~/` are
/// percent-encoded.
fn uri(path: &str) -> String {
    let path = path.replace('\\', "/");
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    // A URI reference that starts with `//` would name a host, so a dot is put before it.
    if out.starts_with("//") { format!(".{out}") } else { out }
}

/// Returns an identifier by which code scanners recognise a finding even if its line number changes. It consists of a
/// digest of the code, the file and the texts, and a counter that distinguishes findings with the same digest.
fn fingerprint(finding: &Finding, place: &Place, seen: &mut BTreeMap<String, usize>) -> String {
    let mut canon = FieldHasher::new("finding/1");
    canon.text("code", finding.code.as_str()).text("file", &place.file).text("label", &finding.label);
    let digest = canon.text("message", &finding.message).finish().short();
    let count = seen.entry(digest.clone()).and_modify(|count| *count += 1).or_insert(1);
    format!("{digest}:{count}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{ReportVerb, samples};

    fn read(report: &Report) -> Value {
        serde_json::from_str(&render(report)).expect("JSON")
    }

    #[test]
    fn findings_for_code_scanners() {
        let check = format!("{:#}", read(&samples::check()));
        insta::assert_snapshot!(check.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
        let empty = read(&samples::empty());
        assert_eq!(empty["runs"][0]["results"], json!([]));
        assert_eq!(empty["runs"][0]["tool"]["driver"]["rules"], json!([]));
    }

    #[test]
    fn rules_are_indexed() {
        let log = read(&samples::check());
        let run = &log["runs"][0];
        for result in run["results"].as_array().expect("results") {
            let index = usize::try_from(result["ruleIndex"].as_u64().expect("an index")).expect("small");
            assert_eq!(run["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
        }
    }

    #[test]
    fn fingerprints_are_stable_and_distinct() {
        let mut report = samples::check();
        report.findings.push(report.findings[0].clone());
        let prints = |checked: &Report| {
            let log = read(checked);
            let results = log["runs"][0]["results"].as_array().expect("results").clone();
            results.iter().map(|one| one["partialFingerprints"]["corrigenda/v1"].to_string()).collect::<Vec<_>>()
        };
        let before = prints(&report);
        let distinct: std::collections::BTreeSet<&String> = before.iter().collect();
        assert_eq!(distinct.len(), report.findings.len());
        for finding in &mut report.findings {
            if let Some(place) = &mut finding.place {
                (place.line, place.end_line) = (Some(99), Some(99));
            }
        }
        assert_eq!(prints(&report), before);
        report.findings[0].label = "elsewhere".to_owned();
        assert_ne!(prints(&report)[0], before[0]);
    }

    #[test]
    fn paths_are_relative_references() {
        assert_eq!(uri("edits/a b,é.toml"), "edits/a%20b%2C%C3%A9.toml");
        assert_eq!(uri("javascript:alert(1)"), "javascript%3Aalert%281%29");
        assert_eq!([uri("//host/x"), uri("edits\\a.toml")], [".//host/x", "edits/a.toml"]);
    }

    #[test]
    fn texts_of_findings_are_inert() {
        let attack = "\"}],##[error] ::error::x\u{1b}[31m\u{202e}\n<b>";
        let report = samples::hostile(ReportVerb::Check, attack);
        let text = render(&report);
        assert!(!text.contains("##[") && !text.contains('\u{1b}') && !text.contains('\n'));
        let log: Value = serde_json::from_str(&text).expect("JSON");
        let results = log["runs"][0]["results"].as_array().expect("results");
        assert_eq!(results.len(), 3);
        assert_eq!(results[0]["message"]["text"], [escape_controls(attack).as_str(); 2].join("\n"));
        let path = results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().expect("a path");
        assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/%".contains(&byte)), "{path}");
    }
}
