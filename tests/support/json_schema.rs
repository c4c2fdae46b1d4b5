//! Checks JSON values against schemas. Supports only the keywords that our schemas use; an unknown keyword fails the test.

use serde_json::Value;

/// A schema with its definitions, and the test of its patterns.
pub(crate) struct Schema<'a> {
    /// The whole schema, which contains `definitions`.
    pub(crate) root: &'a Value,
    /// Returns whether a text (the second argument) matches a pattern (the first).
    pub(crate) matches: fn(&str, &str) -> bool,
}

impl Schema<'_> {
    /// Checks a value against a part of the schema. The error names the keys down to the first mismatch.
    pub(crate) fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let Some(keywords) = schema.as_object() else {
            return if schema == &Value::Bool(true) {
                Ok(())
            } else {
                Err(format!("nothing is allowed, found {value}"))
            };
        };
        keywords.iter().try_for_each(|(keyword, rule)| self.keyword_holds(schema, keyword, rule, value))
    }

    fn keyword_holds(&self, schema: &Value, keyword: &str, rule: &Value, value: &Value) -> Result<(), String> {
        let list = || rule.as_array().expect("a list");
        let texts = || list().iter().map(|text| text.as_str().expect("a key"));
        let bound = || rule.as_f64().expect("a number");
        let length = value.as_str().map(|text| text.chars().count()).or(value.as_array().map(Vec::len));
        let length = length.map(|count| count as f64);
        let holds = match keyword {
            "$schema" | "title" | "description" | "definitions" | "default" => true,
            "$ref" => {
                let name = rule.as_str().and_then(|path| path.strip_prefix("#/definitions/")).expect("a definition");
                return self.check(&self.root["definitions"][name], value);
            }
            "allOf" => return list().iter().try_for_each(|part| self.check(part, value)),
            "anyOf" | "oneOf" => list().iter().any(|option| self.check(option, value).is_ok()),
            "const" => rule == value,
            "enum" => list().contains(value),
            "type" if rule.is_array() => list().iter().any(|name| is_type(name, value)),
            "type" => is_type(rule, value),
            "required" => texts().all(|key| value.get(key).is_some()),
            "properties" => {
                let own = rule.as_object().expect("a table").iter();
                return fields(own.filter_map(|(key, part)| Some((key, part, value.get(key)?))), self);
            }
            "additionalProperties" => {
                let fields_of = value.as_object().into_iter().flatten();
                let others = fields_of.filter(|(key, _)| schema["properties"].get(key).is_none());
                return fields(others.map(|(key, field)| (key, rule, field)), self);
            }
            "propertyNames" => {
                let mut keys = value.as_object().into_iter().flatten().map(|(key, _)| Value::String(key.clone()));
                return keys.try_for_each(|key| self.check(rule, &key));
            }
            "dependencies" => rule.as_object().expect("a table").iter().all(|(key, others)| {
                let mut others = others.as_array().expect("a list").iter().map(|other| other.as_str().expect("a key"));
                value.get(key).is_none() || others.all(|other| value.get(other).is_some())
            }),
            "minProperties" => value.as_object().is_none_or(|table| table.len() as f64 >= bound()),
            // An array under `items` describes a tuple, with one schema per element.
            "items" if rule.is_array() => {
                return list().iter().zip(elements(value)).try_for_each(|(part, element)| self.check(part, element));
            }
            "items" => return elements(value).try_for_each(|element| self.check(rule, element)),
            "minLength" | "minItems" => length.is_none_or(|count| count >= bound()),
            "maxLength" | "maxItems" => length.is_none_or(|count| count <= bound()),
            "minimum" => value.as_f64().is_none_or(|number| number >= bound()),
            "maximum" => value.as_f64().is_none_or(|number| number <= bound()),
            "exclusiveMinimum" => value.as_f64().is_none_or(|number| number > bound()),
            "pattern" => value.as_str().is_none_or(|text| (self.matches)(rule.as_str().expect("a pattern"), text)),
            other => panic!("the keyword {other} is not known here"),
        };
        if holds { Ok(()) } else { Err(format!("{keyword} {rule} is not met by {value}")) }
    }
}

/// Checks fields, each with its key and its schema.
fn fields<'v>(
    mut all: impl Iterator<Item = (&'v String, &'v Value, &'v Value)>,
    schema: &Schema<'_>,
) -> Result<(), String> {
    all.try_for_each(|(key, part, field)| schema.check(part, field).map_err(|why| format!("{key}: {why}")))
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
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
