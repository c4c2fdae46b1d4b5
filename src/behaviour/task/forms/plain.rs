//! Reads the records of our own form: `question`, `choices` and `answer`, or `prompt` and `answer`. Other keys of a
//! record are ignored.

use serde_json::{Map, Value};

use super::{choices, index_of_letter, text_of, texts_of};
use crate::behaviour::task::Item;
use crate::diagnostics::{quoted, shorten};

pub(super) fn read(record: &Map<String, Value>) -> Result<Item, String> {
    match (record.contains_key("question"), record.contains_key("prompt")) {
        (true, false) => question(record),
        (false, true) => prompt(record),
        (true, true) => Err("a record has either `question` or `prompt`, not both".to_owned()),
        (false, false) => Err("a record has `question`, `choices` and `answer`, or `prompt` and `answer`".to_owned()),
    }
}

fn question(record: &Map<String, Value>) -> Result<Item, String> {
    let (asked, list) = (text_of(record, "question")?, texts_of(record, "choices")?);
    let right = right(record.get("answer"), &list)?;
    choices(asked, list, right, true)
}

/// Returns the index of the right choice. `answer` is the index of the choice, counted from 0, the text of the choice,
/// or its letter. A text that is both the text of a choice and a letter is read as the text of the choice.
fn right(answer: Option<&Value>, list: &[String]) -> Result<usize, String> {
    let outside = |shown: &str| format!("the answer {shown} is not one of the choices");
    match answer {
        None => Err("`answer` is missing".to_owned()),
        Some(Value::Number(number)) => {
            let index = number.as_u64().and_then(|index| usize::try_from(index).ok());
            index.filter(|index| *index < list.len()).ok_or_else(|| outside(&number.to_string()))
        }
        Some(Value::String(text)) => {
            let named = list.iter().position(|choice| choice.trim() == text.trim());
            let lettered = index_of_letter(text.trim()).filter(|index| *index < list.len());
            named.or(lettered).ok_or_else(|| outside(&quoted(&shorten(text))))
        }
        Some(_) => Err("`answer` must be the index, the letter or the text of a choice".to_owned()),
    }
}

fn prompt(record: &Map<String, Value>) -> Result<Item, String> {
    let asked = text_of(record, "prompt")?;
    let accepted = match record.get("answer") {
        Some(Value::Array(_)) => texts_of(record, "answer")?,
        _ => vec![text_of(record, "answer")?.to_owned()],
    };
    if accepted.is_empty() || accepted.iter().any(|text| text.trim().is_empty()) {
        return Err("`answer` has no text, or a blank one".to_owned());
    }
    Ok(Item::Prompt { prompt: asked.to_owned(), accepted })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::read_json;
    use super::*;
    use crate::project::TaskForm;

    fn right_of(record: &Value) -> Result<usize, String> {
        match read_json(TaskForm::Plain, record)? {
            Item::Choices { right, .. } => Ok(right),
            Item::Prompt { .. } => Err("a prompt".to_owned()),
        }
    }

    #[test]
    fn an_answer_is_an_index_a_letter_or_a_text() {
        let record = |answer: Value| json!({ "question": "2 + 2 =", "choices": ["3", "4", "B"], "answer": answer });
        let found =
            [json!(1), json!("4"), json!("A"), json!("B"), json!(" 3 ")].map(|answer| right_of(&record(answer)));
        assert_eq!(found, [Ok(1), Ok(1), Ok(0), Ok(2), Ok(0)]);
        for answer in [json!(3), json!(-1), json!(0.5), json!("D"), json!("5"), json!("b"), json!(null), json!([1])] {
            assert!(right_of(&record(answer.clone())).is_err(), "{answer}");
        }
    }

    #[test]
    fn bad_records_name_what_is_wrong() {
        let cases = [
            (json!(["a"]), "must be a JSON object"),
            (json!({ "quesion": "a" }), "a record has `question`"),
            (json!({ "question": "a", "prompt": "b" }), "not both"),
            (json!({ "question": " ", "choices": ["a", "b"], "answer": 0 }), "`question` is blank"),
            (json!({ "question": "a", "answer": 0 }), "`choices` is missing"),
            (json!({ "question": "a", "choices": "ab", "answer": 0 }), "must be a list of texts"),
            (json!({ "question": "a", "choices": ["a", 1], "answer": 0 }), "must be a list of texts"),
            (json!({ "question": "a", "choices": ["a"], "answer": 0 }), "this one has 1"),
            (json!({ "question": "a", "choices": ["a", " "], "answer": 0 }), "choice B is blank"),
            (json!({ "question": "a", "choices": ["a", "b", "a "], "answer": 0 }), "choice C repeats \"a \""),
            (json!({ "question": "a", "choices": ["a", "b"] }), "`answer` is missing"),
            (json!({ "question": "a", "choices": ["a", "b"], "answer": 2 }), "the answer 2 is not one of the choices"),
            (json!({ "prompt": "a" }), "`answer` is missing"),
            (json!({ "prompt": "a", "answer": [] }), "has no text"),
            (json!({ "prompt": "a", "answer": ["b", ""] }), "a blank one"),
            (json!({ "prompt": 3, "answer": "b" }), "`prompt` must be a text"),
        ];
        for (record, why) in cases {
            let found = read_json(TaskForm::Plain, &record).expect_err("a bad record");
            assert!(found.contains(why), "{record}: {found}");
        }
    }

    #[test]
    fn a_prompt_accepts_one_or_several_texts() {
        let accepted =
            |answer: Value| read_json(TaskForm::Plain, &json!({ "prompt": "Paris is in", "answer": answer }));
        let prompt = |list: &[&str]| {
            let texts = list.iter().map(|text| (*text).to_owned()).collect();
            Ok(Item::Prompt { prompt: "Paris is in".to_owned(), accepted: texts })
        };
        assert_eq!(accepted(json!("France")), prompt(&["France"]));
        assert_eq!(accepted(json!(["France", "Europe"])), prompt(&["France", "Europe"]));
    }
}
