//! Converts the records of each form of task to [`Item`]s. Every function returns the reason why a record cannot be
//! used as a sentence for the user.

mod arc;
mod mmlu;
mod plain;

use serde_json::{Map, Value};

use super::Item;
use crate::diagnostics::{quoted, shorten};
use crate::project::TaskForm;

pub(super) use mmlu::read_csv;

/// The maximum number of choices of a question: one per letter from A to Z.
const MOST_CHOICES: usize = 26;

/// Converts a JSON record of a form to a question.
pub(super) fn read_json(form: TaskForm, record: &Value) -> Result<Item, String> {
    let Value::Object(record) = record else { return Err("a record must be a JSON object".to_owned()) };
    match form {
        TaskForm::Plain => plain::read(record),
        TaskForm::Mmlu => mmlu::read(record),
        TaskForm::Arc => arc::read(record),
    }
}

/// Returns the letter of a choice: A for the first one.
pub(super) fn letter(index: usize) -> char {
    char::from(b'A' + u8::try_from(index).unwrap_or(u8::MAX - b'A'))
}

/// Returns the index of the choice with a letter from A to Z; `None` if the text is not one such letter.
fn index_of_letter(text: &str) -> Option<usize> {
    match text.as_bytes() {
        [letter @ b'A'..=b'Z'] => Some(usize::from(letter - b'A')),
        _ => None,
    }
}

fn text_of<'r>(record: &'r Map<String, Value>, key: &str) -> Result<&'r str, String> {
    match record.get(key) {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text),
        Some(Value::String(_)) => Err(format!("`{key}` is blank")),
        Some(_) => Err(format!("`{key}` must be a text")),
        None => Err(format!("`{key}` is missing")),
    }
}

fn texts_of(record: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
    let Some(value) = record.get(key) else { return Err(format!("`{key}` is missing")) };
    let texts = value.as_array().map(|list| list.iter().map(|one| one.as_str().map(str::to_owned)));
    texts.and_then(Iterator::collect).ok_or_else(|| format!("`{key}` must be a list of texts"))
}

/// Makes a question with choices. Rejects a choice that is blank, fewer than two choices, and a right answer that is
/// not one of the choices. Two equal choices are rejected if `distinct` is true.
fn choices(question: &str, choices: Vec<String>, right: usize, distinct: bool) -> Result<Item, String> {
    let count = choices.len();
    if !(2..=MOST_CHOICES).contains(&count) {
        return Err(format!("a question needs from 2 to {MOST_CHOICES} choices, and this one has {count}"));
    }
    if let Some(blank) = choices.iter().position(|choice| choice.trim().is_empty()) {
        return Err(format!("choice {} is blank", letter(blank)));
    }
    let same = |at: &usize| choices[..*at].iter().any(|other| other.trim() == choices[*at].trim());
    if let Some(second) = (0..count).find(same).filter(|_| distinct) {
        return Err(format!("choice {} repeats {}", letter(second), quoted(&shorten(&choices[second]))));
    }
    if right >= count {
        return Err(format!("the answer is choice number {right}, counted from 0, of {count} choices"));
    }
    Ok(Item::Choices { question: question.to_owned(), choices, right })
}
