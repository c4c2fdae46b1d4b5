//! Checks JSON answers against the schemas in `schemas/`.

use std::path::Path;

use serde_json::Value;

use super::json_schema::Schema;

/// Checks that the answer of the command with these arguments matches the schema of this command; panics otherwise.
///
/// An answer with only the keys that all answers have is not checked, because it is from a run that failed.
pub fn assert_schema(arguments: &[String], answer: &Value) {
    let Some(name) = schema_name(arguments) else { return };
    let keys = answer.as_object().expect("an answer is an object").keys();
    if keys.eq(["findings", "outcome", "version"]) {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(format!("{name}.schema.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let schema: Value = serde_json::from_str(&text).expect("a schema is JSON");
    // The only pattern in the schemas of answers matches digests.
    let schema = Schema { root: &schema, matches: |_, found| is_digest(found) };
    if let Err(why) = schema.check(schema.root, answer) {
        panic!("{arguments:?}: the answer does not match {name}: {why}");
    }
}

/// Returns the name of the schema of a command's answer, from the words on the command line that are not options.
fn schema_name(arguments: &[String]) -> Option<String> {
    const VERBS: [&str; 15] = [
        "init", "import", "check", "plan", "build", "test", "diff", "ask", "log", "export", "verify", "patch", "stats",
        "trace", "bench",
    ];
    let has = |option: &str| arguments.iter().any(|word| word == option || word.starts_with(&format!("{option}=")));
    let verb = arguments.iter().position(|word| VERBS.contains(&word.as_str()) || word == "store")?;
    let action = arguments[verb + 1..].iter().map(String::as_str).find(|word| !word.starts_with('-'));
    let answer = match (arguments[verb].as_str(), action) {
        ("check" | "test" | "diff", _) => return Some("report".to_owned()),
        ("plan", _) if has("--base") => "plan-base",
        ("trace", _) if has("--suggest-layer") => "suggest-layer",
        ("export", Some("checkpoint")) | ("patch", Some("apply")) => "export-checkpoint",
        ("export", Some("peft")) => "export-peft",
        ("export", Some("gguf")) => "export-gguf",
        ("patch", Some("show")) => "patch-show",
        ("store", Some("ls" | "export")) => "store-ls",
        ("bench", Some("train")) => "bench-train",
        ("bench", Some("trained")) => "bench-trained",
        ("store", Some(action)) => return Some(format!("answers/store-{action}")),
        ("export" | "patch" | "store", _) => return None,
        (verb, _) => verb,
    };
    Some(format!("answers/{answer}"))
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
