//! Reads ARC (Clark et al., 2018). A published record has `question` with `stem` and `choices`, a list of `text` and
//! `label`, and `answerKey`, the label of the right choice. A record of the Hugging Face Hub has the text `question` and
//! `choices` with the lists `text` and `label`. A label is a letter or a digit.

use serde_json::{Map, Value};

use super::{choices, text_of, texts_of};
use crate::behaviour::task::Item;
use crate::diagnostics::{quoted, shorten};

pub(super) fn read(record: &Map<String, Value>) -> Result<Item, String> {
    let (question, list, labels) = match record.get("question") {
        Some(Value::Object(inner)) => {
            let (list, labels) = pairs(inner)?;
            (text_of(inner, "stem")?, list, labels)
        }
        _ => {
            let question = text_of(record, "question")?;
            let Some(Value::Object(columns)) = record.get("choices") else {
                return Err("`choices` must have the lists `text` and `label`".to_owned());
            };
            (question, texts_of(columns, "text")?, texts_of(columns, "label")?)
        }
    };
    if list.len() != labels.len() {
        return Err(format!("there are {} choices and {} labels", list.len(), labels.len()));
    }
    if let Some(second) = (0..labels.len()).find(|at| labels[..*at].contains(&labels[*at])) {
        return Err(format!("two choices have the label {}", quoted(&shorten(&labels[second]))));
    }
    let key = text_of(record, "answerKey")?;
    let right = labels.iter().position(|label| label == key);
    let right = right.ok_or_else(|| format!("`answerKey` is {}, which is not a label", quoted(&shorten(key))))?;
    choices(question, list, right, true)
}

/// Returns the texts and the labels of the choices of a published record.
fn pairs(question: &Map<String, Value>) -> Result<(Vec<String>, Vec<String>), String> {
    let Some(Value::Array(list)) = question.get("choices") else {
        return Err("`question.choices` must be a list of `text` and `label`".to_owned());
    };
    let mut out = (Vec::new(), Vec::new());
    for choice in list {
        let text = |key: &str| choice[key].as_str().map(str::to_owned);
        let (Some(shown), Some(label)) = (text("text"), text("label")) else {
            return Err("every choice must have the texts `text` and `label`".to_owned());
        };
        out.0.push(shown);
        out.1.push(label);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::read_json;
    use super::*;
    use crate::project::TaskForm;

    fn published() -> Value {
        json!({
            "id": "Mercury_7175875",
            "question": {
                "stem": "An astronomer observes that a planet rotates faster. Which is the most likely effect?",
                "choices": [
                    { "text": "Planetary density will decrease.", "label": "A" },
                    { "text": "Planetary years will become longer.", "label": "B" },
                    { "text": "Planetary days will become shorter.", "label": "C" },
                    { "text": "Planetary gravity will become stronger.", "label": "D" }
                ]
            },
            "answerKey": "C"
        })
    }

    #[test]
    fn both_published_forms_give_the_same_question() {
        let texts = |value: &Value, key: &str| -> Vec<Value> {
            value["question"]["choices"].as_array().expect("a list").iter().map(|one| one[key].clone()).collect()
        };
        let one = published();
        let hub = json!({
            "id": one["id"],
            "question": one["question"]["stem"],
            "choices": { "text": texts(&one, "text"), "label": texts(&one, "label") },
            "answerKey": "C"
        });
        let found = read_json(TaskForm::Arc, &one).expect("a question");
        assert!(matches!(&found, Item::Choices { choices, right: 2, .. } if choices.len() == 4));
        assert_eq!(read_json(TaskForm::Arc, &hub), Ok(found));
    }

    #[test]
    fn labels_may_be_digits() {
        let record = json!({
            "question": "q", "choices": { "text": ["a", "b", "c"], "label": ["1", "2", "3"] }, "answerKey": "3"
        });
        assert!(matches!(read_json(TaskForm::Arc, &record), Ok(Item::Choices { right: 2, .. })));
    }

    #[test]
    fn bad_records_name_what_is_wrong() {
        let changed = |change: fn(&mut Value)| {
            let mut record = published();
            change(&mut record);
            read_json(TaskForm::Arc, &record).expect_err("a bad record")
        };
        let found = [
            changed(|one| one["answerKey"] = json!("E")),
            changed(|one| drop(one.as_object_mut().expect("an object").remove("answerKey"))),
            changed(|one| one["question"]["choices"][1]["label"] = json!("A")),
            changed(|one| one["question"]["choices"][1]["text"] = json!("")),
            changed(|one| one["question"]["choices"] = json!([{ "text": "a" }])),
            changed(|one| one["question"]["choices"] = json!([{ "text": "a", "label": "C" }])),
            changed(|one| one["question"]["stem"] = json!(1)),
            changed(|one| *one = json!({ "question": "q", "choices": ["a", "b"], "answerKey": "A" })),
            changed(|one| {
                *one = json!({ "question": "q", "choices": { "text": ["a"], "label": [] }, "answerKey": "A" });
            }),
        ];
        let wanted = [
            "`answerKey` is \"E\", which is not a label",
            "`answerKey` is missing",
            "two choices have the label \"A\"",
            "choice B is blank",
            "every choice must have the texts `text` and `label`",
            "a question needs from 2 to 26 choices, and this one has 1",
            "`stem` must be a text",
            "`choices` must have the lists `text` and `label`",
            "there are 1 choices and 0 labels",
        ];
        assert_eq!(found, wanted);
    }
}
