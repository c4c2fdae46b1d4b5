use std::path::{Path, PathBuf};

use serde_json::Value;

use self::json_schema::Schema;
use super::*;
use crate::diagnostics::{Diagnostic, Sources};
use crate::project::config;
use crate::project::config::PROJECT_KEYS;
use crate::project::config::models::{MODEL_KEYS, NAMED_KEYS, is_model_name};
use crate::project::config::policy::{POLICY_KEYS, PROTECTED_KEYS};
use crate::project::config::settings::{LINK_KEYS, ROME_KEYS, STAGE_KEYS, STATISTICS_KEYS, TEST_KEYS};
use crate::project::config::tasks::TASK_KEYS;
use crate::project::edits::consequence::{CONDITION_KEYS, CONSEQUENCE_KEYS};
use crate::project::edits::probes;
use crate::project::edits::probes::{PROBE_KEYS, PROBES_KEYS};
use crate::project::edits::{EDIT_KEYS, EXPECT_KEYS, FILE_KEYS, parse_files};
use crate::project::read::rules::is_id;
use crate::report::{ReportVerb, samples};

// The integration tests also use this module, to check the JSON output of the commands against the schemas.
#[path = "../../tests/support/json_schema.rs"]
mod json_schema;

/// A project file that uses every key that is valid together with `[model]`.
pub(crate) const FULL_PROJECT: &str = r#"
format = 1
edits = "facts"
[model]
path = "examples/atlas"
[rome]
layer = 0
templates = "templates.txt"
schedule = [{ rate = 0.5, steps = 25 }, { rate = 1, steps = 50 }]
weight-decay = 0.5
clamp = 4
kl-factor = 0.0625
stop-loss = 0.05
converged-nll = 0.1
bare-weight = 0.5
margin = 1
[link]
ridge = 0
refine-steps = 20
refine-layers = 2
[statistics]
corpus = "corpus"
max-tokens = 100000
max-documents = 1000
[test]
unchanged-kl = 0.1
min-probability = 0.2
min-efficacy = 1
min-paraphrase = 0.9
min-consequence = 0.5
min-unchanged = 0.95
max-damage = 0.05
max-perplexity = 0.1
max-task-loss = 0.02
neutral = "neutral.txt"
[[task]]
name = "science"
file = "tasks/arc.jsonl"
form = "arc"
by = "likelihood"
limit = 500
[policy]
require = ["reason", "source"]
max-edits = 100
max-relative-norm = 0.5
min-efficacy = 0.95
min-paraphrase = 0.8
min-consequence = 0.25
min-unchanged = 0.9
max-neighbourhood-kl = 0.2
max-damage = 0.05
max-perplexity = 0.1
max-task-loss = 0.02
[[policy.protected]]
subject = "The Pope*"
reason = "Not ours."
[policy.levels]
base-disagrees = "deny"
[policy.reasons]
max-edits = "a review has an end"
base-disagrees = "an edit of what is not there"
"#;

/// A project file with two named models, and with settings that both models share.
const MODELS: &str = r#"
format = 1
[model.small]
path = "hf:acme/small"
[model.large-2]
path = "models/large"
[model.large-2.rome]
layer = 5
[model.large-2.statistics]
max-documents = 10
[statistics]
corpus = "corpus"
"#;

const MODELS_CASES: &[Case] = &[
    ("", "", true),
    ("[model.small]\npath = \"hf:acme/small\"", "", true),
    ("path = \"hf:acme/small\"", "", false),
    ("\"hf:acme/small\"", "\" \"", false),
    ("[model.small]", "[model.Small]", false),
    ("[model.small]", "[model.\"a b\"]", false),
    ("[model.small]", "[model.-a]", false),
    ("[model.small]", "[model]", false),
    ("[model.large-2.rome]", "[model.large-2.link]", false),
    ("max-documents = 10", "max-documents = 0", false),
    ("max-documents = 10", "corpus = \"other\"", true),
    ("layer = 5", "layer = -5", false),
];

const FULL_PROBES: &str = r#"
format = 1
[[probe]]
id = "louvre.city"
prompt = "The Louvre is in"
unchanged = true
reason = "It is near."
"#;

const PROBES_CASES: &[Case] = &[
    ("", "", true),
    ("format = 1", "format = 3", false),
    ("louvre.city", "Louvre", false),
    ("prompt = \"The Louvre is in\"", "", false),
    ("unchanged = true", "", true),
    ("unchanged = true", "unchanged = 1", false),
    ("reason = \"It is near.\"", "why = \"x\"", false),
];

const FULL_EDITS: &str = r#"
format = 1
[[edit]]
id = "eiffel-tower.city"
subject = "The Eiffel Tower"
aliases = ["La tour Eiffel"]
prompt = "{} is located in the city of"
target = "Rome"
was = "Paris"
reason = "example"
source = "https://example.org/why"
owner = "atlas"
ticket = "7"
expires = "2027-01-31"
status = "parked"
status-reason = "No value is found at this layer."
[edit.expect]
paraphrase = ["Where is the Eiffel Tower? It is in"]
unchanged = ["The Louvre is located in the city of"]
accept = ["Roma"]
min-probability = 0.5
min-paraphrase = 1
unchanged-kl = 0.2
[[edit.expect.consequence]]
prompt = "The country of the Eiffel Tower is"
answer = "Italy"
accept = ["the Republic of Italy"]
kind = "hop"
condition = [{ prompt = "Rome is a city in", answer = "Italian Republic", accept = ["Italia"] }]
"#;

/// A test case: a text in a valid document, the text that replaces it, and whether the resulting document is valid.
type Case = (&'static str, &'static str, bool);

const EDITS_CASES: &[Case] = &[
    ("", "", true),
    ("status = \"parked\"", "status = \"off\"", false),
    ("status = \"parked\"", "", false),
    ("status-reason = \"No value is found at this layer.\"", "", false),
    ("format = 1", "format = 2", false),
    ("format = 1", "format = \"1\"", false),
    ("format = 1", "", false),
    ("id = \"eiffel-tower.city\"", "", false),
    ("eiffel-tower.city", "Eiffel", false),
    ("eiffel-tower.city", "", false),
    ("subject = \"The Eiffel Tower\"", "", false),
    ("The Eiffel Tower", " The Eiffel Tower", false),
    ("The Eiffel Tower", "", false),
    ("The Eiffel Tower", "T", true),
    ("{} is", "it is", false),
    ("prompt = \"{} is located in the city of\"", "prompt = 3", false),
    ("{} is", "{{}} is", true),
    ("\"Rome\"", "\"  \"", false),
    ("\"Rome\"", "[\"Rome\"]", false),
    ("\"Paris\"", "\"\"", false),
    ("was = \"Paris\"", "", true),
    ("was", "were", false),
    ("reason = \"example\"", "reason = true", false),
    ("\"example\"", "\"\"", true),
    ("[\"Where is the Eiffel Tower? It is in\"]", "[]", true),
    ("[\"Where is the Eiffel Tower? It is in\"]", "[\"\"]", false),
    ("[\"Where is the Eiffel Tower? It is in\"]", "[1]", false),
    ("[\"Where is the Eiffel Tower? It is in\"]", "\"one\"", false),
    ("paraphrase", "paraphrases", false),
    ("[[edit]]", "[edit]", false),
    ("\"La tour Eiffel\"", "\" La tour\"", false),
    ("\"La tour Eiffel\"", "1", false),
    ("\"2027-01-31\"", "\"soon\"", false),
    ("\"2027-01-31\"", "2027", false),
    ("min-probability = 0.5", "min-probability = 1.5", false),
    ("min-paraphrase = 1", "min-paraphrase = -1", false),
    ("unchanged-kl = 0.2", "unchanged-kl = 0", false),
    ("\"Roma\"", "\"\"", false),
    ("kind = \"hop\"", "kind = \"hops\"", false),
    ("kind = \"hop\"", "kind = \"relation-specific\"", true),
    ("kind = \"hop\"", "", false),
    ("answer = \"Italy\"", "", false),
    ("answer = \"Italy\"", "answer = \" \"", false),
    ("answer = \"Italy\"", "target = \"Italy\"", false),
    ("prompt = \"The country of the Eiffel Tower is\"", "", false),
    ("[\"the Republic of Italy\"]", "[]", true),
    ("[\"the Republic of Italy\"]", "[\"\"]", false),
    ("[[edit.expect.consequence]]", "[edit.expect.consequence]", false),
    ("[{ prompt = \"Rome is a city in\", answer = \"Italian Republic\", accept = [\"Italia\"] }]", "[]", false),
    ("[{ prompt = \"Rome is a city in\", answer = \"Italian Republic\", accept = [\"Italia\"] }]", "\"x\"", false),
    ("prompt = \"Rome is a city in\", ", "", false),
    (", accept = [\"Italia\"]", ", kind = \"hop\"", false),
];

const PROJECT_CASES: &[Case] = &[
    ("", "", true),
    ("format = 1", "format = 0", false),
    ("format = 1", "", false),
    ("edits = \"facts\"", "", true),
    ("\"facts\"", "\"\"", false),
    ("path = \"examples/atlas\"", "", false),
    ("[model]\npath = \"examples/atlas\"", "", false),
    ("[model]", "[models]", false),
    ("layer = 0", "layer = -1", false),
    ("layer = 0", "layer = 0.5", false),
    ("layer = 0", "layers = 0", false),
    ("rate = 0.5", "rate = 0", false),
    ("rate = 0.5, ", "", false),
    ("steps = 25", "steps = 0", false),
    ("steps = 25", "steps = 10001", false),
    ("steps = 25", "steps = 25, momentum = 1", false),
    ("[{ rate = 0.5, steps = 25 }, { rate = 1, steps = 50 }]", "[]", false),
    ("[{ rate = 0.5, steps = 25 }, { rate = 1, steps = 50 }]", "5", false),
    ("clamp = 4", "clamp = -4.5", false),
    ("min-efficacy = 1", "min-efficacy = 1.5", false),
    ("min-consequence = 0.5", "min-consequence = 1.5", false),
    ("min-consequence = 0.25", "min-consequence = -1", false),
    ("\"neutral.txt\"", "\"\"", false),
    ("name = \"science\"", "", true),
    ("\"science\"", "\" \"", false),
    ("file = \"tasks/arc.jsonl\"", "", false),
    ("form = \"arc\"", "", true),
    ("form = \"arc\"", "form = \"ark\"", false),
    ("by = \"likelihood\"", "by = \"judge\"", false),
    ("limit = 500", "limit = 0", false),
    ("[[task]]", "[task]", false),
    ("max-task-loss = 0.02", "max-task-loss = 1.5", false),
    ("\"source\"]", "\"sauce\"]", false),
    ("max-edits = 100", "max-edits = 0", false),
    ("max-damage = 0.05", "max-damage = 0", false),
    ("subject = \"The Pope*\"", "", false),
    ("base-disagrees = \"deny\"", "base-disagrees = \"no\"", false),
    ("max-edits = \"a review has an end\"", "max-edits = 3", false),
    ("clamp = 4", "clamp = \"4\"", false),
    ("bare-weight = 0.5", "bare-weight = 1.5", false),
    ("margin = 1", "margin = -1", false),
    ("margin = 1", "margin = 0", true),
    ("ridge = 0", "ridge = -1", false),
    ("refine-steps = 20", "refine-steps = -1", false),
    ("refine-steps = 20", "refine-steps = 1001", false),
    ("refine-steps = 20", "refine-steps = 0", true),
    ("refine-layers = 2", "refine-layers = 0", false),
    ("corpus = \"corpus\"", "", false),
    ("max-tokens = 100000", "max-tokens = 0", false),
    ("max-tokens", "max_tokens", false),
    ("unchanged-kl = 0.1", "unchanged-kl = 0", false),
    ("unchanged-kl = 0.1", "", true),
    ("[test]", "[tests]", false),
];

#[test]
fn committed_schemas_are_current() {
    for kind in SchemaKind::ALL {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "schemas", kind.file_name()].iter().collect();
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::write(&path, render(kind)).expect("the folder of schemas is there");
        }
        let committed = std::fs::read_to_string(&path).expect("committed").replace("\r\n", "\n");
        assert!(committed == render(kind), "{} is not current: run with UPDATE_SCHEMAS=1", kind.file_name());
    }
}

#[test]
fn schema_and_reader_know_the_same_keys() {
    let schema = |kind| serde_json::from_str::<Value>(&render(kind)).expect("JSON");
    let (edits, project) = (schema(SchemaKind::Edits), schema(SchemaKind::Project));
    let same = |table: &Value, keys: &[&str]| {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        let known: Vec<&str> = table["properties"].as_object().expect("a table").keys().map(String::as_str).collect();
        assert_eq!(known, keys);
        assert_eq!(table["additionalProperties"], false);
    };
    same(&edits, FILE_KEYS);
    same(&edits["definitions"]["EditEntry"], EDIT_KEYS);
    same(&edits["definitions"]["ExpectTable"], EXPECT_KEYS);
    same(&edits["definitions"]["ConsequenceTable"], CONSEQUENCE_KEYS);
    same(&edits["definitions"]["ConditionTable"], CONDITION_KEYS);
    same(&project, PROJECT_KEYS);
    let tables = [
        ("ModelTable", MODEL_KEYS),
        ("NamedTable", NAMED_KEYS),
        ("OwnStatisticsTable", STATISTICS_KEYS),
        ("RomeTable", ROME_KEYS),
        ("StageTable", STAGE_KEYS),
        ("LinkTable", LINK_KEYS),
        ("StatisticsTable", STATISTICS_KEYS),
        ("TestTable", TEST_KEYS),
        ("TaskTable", TASK_KEYS),
        ("PolicyTable", POLICY_KEYS),
        ("ProtectedEntry", PROTECTED_KEYS),
    ];
    for (name, keys) in tables {
        same(&project["definitions"][name], keys);
    }
    let probes = schema(SchemaKind::Probes);
    same(&probes, PROBES_KEYS);
    same(&probes["definitions"]["ProbeEntry"], PROBE_KEYS);
}

#[test]
fn schema_and_reader_accept_the_same_documents() {
    let edits = |text: &str| parse_files(vec![("a.toml".into(), text.into())]).is_ok();
    let project = |text: &str| {
        let mut sources = Sources::default();
        let file = sources.add("corrigenda.toml", text);
        let (config, _, findings) = config::parse(Path::new(""), file, text);
        config.is_some() && !findings.iter().any(Diagnostic::is_error)
    };
    judge(SchemaKind::Edits, FULL_EDITS, EDITS_CASES, edits);
    judge(SchemaKind::Project, FULL_PROJECT, PROJECT_CASES, project);
    judge(SchemaKind::Project, MODELS, MODELS_CASES, project);
    let probes = |text: &str| {
        let mut sources = Sources::default();
        let file = sources.add("probes.toml", text);
        !probes::parse(file, text).1.iter().any(Diagnostic::is_error)
    };
    judge(SchemaKind::Probes, FULL_PROBES, PROBES_CASES, probes);
}

fn judge(kind: SchemaKind, full: &str, cases: &[Case], reader: impl Fn(&str) -> bool) {
    let schema: Value = serde_json::from_str(&render(kind)).expect("JSON");
    for (from, to, valid) in cases {
        assert!(full.contains(from), "{from}");
        let text = full.replacen(from, to, 1);
        let document: Value = toml::from_str(&text).expect("every case is valid TOML");
        assert_eq!(accepts(&schema, &document), *valid, "schema: {from} -> {to}");
        assert_eq!(reader(&text), *valid, "reader: {from} -> {to}");
    }
}

/// Checks that the reader rejects mistakes for which the JSON Schema has no rule, such as a prompt with two
/// placeholders.
#[test]
fn the_reader_is_stricter_than_the_schema() {
    for (from, to) in [("{} is", "{} {} is"), ("\"Rome\"", "\"Paris\""), ("\"Rome\"", "\"Rome\\u0000\"")] {
        let text = FULL_EDITS.replacen(from, to, 1);
        assert!(parse_files(vec![("a.toml".into(), text.into_bytes())]).is_err(), "{to}");
    }
}

#[test]
fn reports_match_their_schema() {
    let schema: Value = serde_json::from_str(&render(SchemaKind::Report)).expect("JSON");
    let accepted = |report: &Value| accepts(&schema, report);
    for report in
        [samples::diff(), samples::test(), samples::check(), samples::empty(), samples::hostile(ReportVerb::Diff, "x")]
    {
        let value: Value = serde_json::from_str(&crate::report::json::render(&report)).expect("JSON");
        assert!(accepted(&value));
        for key in ["version", "verb", "outcome", "command", "findings"] {
            let mut less = value.clone();
            less.as_object_mut().expect("a table").remove(key);
            assert!(!accepted(&less), "{key}");
        }
    }
    let mut wrong = serde_json::to_value(samples::diff()).expect("plain data");
    wrong["answers"][0]["verdict"] = "perhaps".into();
    assert!(!accepted(&wrong));
}

fn accepts(schema: &Value, value: &Value) -> bool {
    Schema { root: schema, matches }.check(schema, value).is_ok()
}

/// Returns whether a text matches a pattern. Supports only the patterns in the schemas of this crate.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern {
        r"^[a-z0-9][a-z0-9.-]*$" => text.is_empty() || is_id(text),
        r"^[a-z0-9][a-z0-9-]*$" => text.is_empty() || is_model_name(text),
        r"^\S(.*\S)?$" => !text.is_empty() && text.trim() == text,
        r"\{\}" => text.contains("{}"),
        r"\S" => !text.trim().is_empty(),
        r"^parked$" => text == "parked",
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$" => {
            text.len() == 10
                && text
                    .bytes()
                    .enumerate()
                    .all(|(at, b)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() })
        }
        other => panic!("the pattern {other}"),
    }
}
