//! Checks JSON answers against the schemas in `schemas/`.

use std::path::Path;

use serde_json::Value;

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
    if let Err(why) = check(&schema, &schema, answer) {
        panic!("{arguments:?}: the answer does not match {name}: {why}");
    }
}

/// Returns the name of the schema of a command's answer, from the words on the command line that are not options.
fn schema_name(arguments: &[String]) -> Option<String> {
    const VERBS: [&str; 14] = [
        "init", "import", "check", "plan", "build", "test", "diff", "log", "export", "verify", "patch", "stats",
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
        ("store", Some(action)) => return Some(format!("answers/store-{action}")),
        ("export" | "patch" | "store", _) => return None,
        (verb, _) => verb,
    };
    Some(format!("answers/{answer}"))
}

/// Checks a value against a schema. Supports only the keywords that the schemas of answers contain.
fn check(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let Some(keywords) = schema.as_object() else {
        return if schema == &Value::Bool(true) { Ok(()) } else { Err(format!("nothing is allowed, found {value}")) };
    };
    for (keyword, rule) in keywords {
        keyword_holds(root, schema, keyword, rule, value)?;
    }
    Ok(())
}

fn keyword_holds(root: &Value, schema: &Value, keyword: &str, rule: &Value, value: &Value) -> Result<(), String> {
    let list = || rule.as_array().expect("a list");
    let holds = match keyword {
        "$schema" | "title" | "description" | "definitions" | "default" => true,
        "$ref" => {
            let name = rule.as_str().and_then(|path| path.strip_prefix("#/definitions/")).expect("a definition");
            return check(root, &root["definitions"][name], value);
        }
        "allOf" => return list().iter().try_for_each(|part| check(root, part, value)),
        "anyOf" | "oneOf" => list().iter().any(|option| check(root, option, value).is_ok()),
        "const" => rule == value,
        "enum" => list().contains(value),
        "type" if rule.is_array() => list().iter().any(|name| is_type(name, value)),
        "type" => is_type(rule, value),
        "required" => list().iter().all(|key| value.get(key.as_str().expect("a key")).is_some()),
        "properties" => {
            return rule.as_object().expect("a table").iter().try_for_each(|(key, property)| match value.get(key) {
                Some(value) => check(root, property, value).map_err(|why| format!("{key}: {why}")),
                None => Ok(()),
            });
        }
        "additionalProperties" => {
            let own = |key: &str| schema["properties"].get(key).is_some();
            let others = value.as_object().into_iter().flatten().filter(|(key, _)| !own(key));
            return others
                .into_iter()
                .try_for_each(|(key, field)| check(root, rule, field).map_err(|why| format!("{key}: {why}")));
        }
        // An array under `items` describes a tuple, with one schema per element.
        "items" if rule.is_array() => {
            return list().iter().zip(elements(value)).try_for_each(|(part, element)| check(root, part, element));
        }
        "items" => return elements(value).try_for_each(|value| check(root, rule, value)),
        "minItems" => value.is_null() || elements(value).count() as u64 >= rule.as_u64().expect("a number"),
        "maxItems" => elements(value).count() as u64 <= rule.as_u64().expect("a number"),
        "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().expect("a number")),
        "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().expect("a number")),
        // The only pattern in the schemas matches digests.
        "pattern" => value.as_str().is_none_or(is_digest),
        other => panic!("the keyword {other} is not known here"),
    };
    if holds { Ok(()) } else { Err(format!("{keyword} {rule} is not met by {value}")) }
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_type(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("a name") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the type {other}"),
    }
}
