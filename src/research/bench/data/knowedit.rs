//! Reads the records of KnowEdit (Zhang et al. 2024), published as `zjunlp/KnowEdit`. The items of `portability` and
//! `locality` become consequences. Their answers are a text, a list of texts, or a list of lists.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::texts::{LeftOutText, all_texts, consequence};
use super::{Case, RecordSchema, placed};
use crate::project::edits::consequence::{Consequence, ConsequenceKind};

#[derive(Deserialize)]
pub(crate) struct KnoweditRecord {
    #[serde(default)]
    case_id: Option<u64>,
    prompt: String,
    subject: String,
    target_new: String,
    #[serde(default)]
    ground_truth: Value,
    #[serde(default, alias = "rephrase_prompt")]
    rephrase: Value,
    #[serde(default)]
    portability: Value,
    #[serde(default)]
    locality: Value,
}

/// The criteria of KnowEdit, with the kinds of their consequences.
const CRITERIA: [(&str, ConsequenceKind); 5] = [
    ("Subject_Aliasing", ConsequenceKind::Alias),
    ("Reasoning", ConsequenceKind::Hop),
    ("Logical_Generalization", ConsequenceKind::Logic),
    ("Relation_Specificity", ConsequenceKind::RelationSpecific),
    ("Forgetfulness", ConsequenceKind::Forgetting),
];

impl RecordSchema for KnoweditRecord {
    fn cases(self, record: u64) -> Result<Vec<Case>, String> {
        let (mut left_out, mut consequences) = (Vec::new(), Vec::new());
        for (field, criteria) in [("portability", &self.portability), ("locality", &self.locality)] {
            consequences.extend(of_criteria(field, criteria, &mut left_out));
        }
        let mut texts = |field: &str, value: &Value| {
            all_texts(value).unwrap_or_else(|| {
                left_out.push(LeftOutText::new(field, value.to_string(), "it is not a text or a list of texts"));
                Vec::new()
            })
        };
        let (was, paraphrases) = (texts("ground_truth", &self.ground_truth), texts("rephrase", &self.rephrase));
        Ok(vec![Case {
            record,
            id: self.case_id.unwrap_or(record),
            prompt: placed(&self.prompt, &self.subject)?,
            subject: self.subject,
            target: self.target_new,
            was: was.into_iter().find(|text| !text.trim().is_empty()),
            paraphrases: paraphrases.into_iter().filter(|text| !text.trim().is_empty()).collect(),
            consequences,
            left_out,
            ..Case::default()
        }])
    }
}

/// Returns the consequences in `portability` or `locality`. `criteria` maps the name of a criterion to its items. An
/// empty list is used in the files for an empty map.
fn of_criteria(field: &str, criteria: &Value, left: &mut Vec<LeftOutText>) -> Vec<Consequence> {
    let map: &Map<String, Value> = match criteria {
        Value::Object(map) => map,
        Value::Null => return Vec::new(),
        Value::Array(items) if items.is_empty() => return Vec::new(),
        other => {
            left.push(LeftOutText::new(field, other.to_string(), "it is not a table of criteria"));
            return Vec::new();
        }
    };
    let mut consequences = Vec::new();
    for (name, items) in map {
        let path = format!("{field}.{name}");
        let Some((_, kind)) = CRITERIA.iter().find(|(known, _)| known == name) else {
            left.push(LeftOutText::new(&path, items.to_string(), "the criterion is unknown"));
            continue;
        };
        let items = match items {
            Value::Array(items) => items.as_slice(),
            Value::Null => &[],
            one => std::slice::from_ref(one),
        };
        consequences.extend(items.iter().filter_map(|item| of_item(&path, *kind, item, left)));
    }
    consequences
}

fn of_item(path: &str, kind: ConsequenceKind, item: &Value, left: &mut Vec<LeftOutText>) -> Option<Consequence> {
    let texts = item.get("ground_truth").and_then(all_texts);
    match (item.get("prompt").and_then(Value::as_str), texts) {
        (Some(prompt), Some(texts)) => consequence(path, kind, prompt.to_owned(), texts, left),
        _ => {
            left.push(LeftOutText::new(path, item.to_string(), "it has no prompt, or no answer in text form"));
            None
        }
    }
}
