//! Reads MMLU (Hendrycks et al., 2021). The published CSV files have no header and the columns question, A, B, C, D and
//! the letter of the answer. The records of the Hugging Face Hub have `question`, `subject`, `choices` and `answer`,
//! the index of the right choice. `subject` is ignored.
//!
//! Two equal choices are allowed: the letters of the choices are scored, and the published files have such questions.

use serde_json::{Map, Value};

use super::{choices, index_of_letter, text_of, texts_of};
use crate::behaviour::task::Item;
use crate::behaviour::task::records::{Located, line_end};
use crate::diagnostics::{quoted, shorten};

/// The columns of the published CSV files: the question, four choices and the letter of the answer.
const COLUMNS: usize = 6;

pub(super) fn read(record: &Map<String, Value>) -> Result<Item, String> {
    let (question, list) = (text_of(record, "question")?, texts_of(record, "choices")?);
    let right = match record.get("answer") {
        Some(Value::Number(index)) => index.as_u64().and_then(|index| usize::try_from(index).ok()),
        Some(Value::String(letter)) => index_of_letter(letter.trim()),
        None => return Err("`answer` is missing".to_owned()),
        Some(_) => None,
    };
    let right = right.ok_or("`answer` must be the index of a choice, counted from 0, or its letter")?;
    choices(question, list, right, false)
}

/// Reads the records of a CSV text, at most `most`.
pub(in crate::behaviour::task) fn read_csv(text: &str, most: usize) -> Vec<Located<Item>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut out = Vec::new();
    for record in reader.records().take(most) {
        let from = |position: Option<&csv::Position>| position.map_or(0, |at| usize::try_from(at.byte()).unwrap_or(0));
        match record {
            Ok(record) => {
                let start = from(record.position());
                let start = text.len() - text[start..].trim_start_matches(['\r', '\n']).len();
                out.push(Located { span: start..line_end(text, start), value: row(&record) });
            }
            Err(error) => {
                let start = from(error.position());
                let value = Err(format!("it is not valid CSV: {error}"));
                out.push(Located { span: start..line_end(text, start), value });
            }
        }
    }
    out
}

fn row(record: &csv::StringRecord) -> Result<Item, String> {
    if record.len() != COLUMNS {
        let found = record.len();
        return Err(format!("MMLU has {COLUMNS} columns (question, A, B, C, D, answer), and this record has {found}"));
    }
    if record[0].trim().is_empty() {
        return Err("the question is blank".to_owned());
    }
    let letter = record[COLUMNS - 1].trim();
    let right = index_of_letter(letter).filter(|index| *index < COLUMNS - 2);
    let right = right.ok_or_else(|| format!("the answer {} is not A, B, C or D", quoted(&shorten(letter))))?;
    let list = record.iter().skip(1).take(COLUMNS - 2).map(str::to_owned).collect();
    choices(&record[0], list, right, false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::read_json;
    use super::*;
    use crate::project::TaskForm;

    fn item(question: &str, list: [&str; 4], right: usize) -> Item {
        Item::Choices { question: question.to_owned(), choices: list.map(str::to_owned).to_vec(), right }
    }

    #[test]
    fn both_published_forms_give_the_same_question() {
        let text = "\"Find the degree for the given field extension Q(sqrt(2), sqrt(3)) over Q.\",0,4,2,6,B\r\n\
                    \"Two lines,\n\"\"quoted\"\"\",a,b,c,d,D\n";
        let found: Vec<_> = read_csv(text, 9).into_iter().map(|one| one.value).collect();
        let question = "Find the degree for the given field extension Q(sqrt(2), sqrt(3)) over Q.";
        let first = item(question, ["0", "4", "2", "6"], 1);
        assert_eq!(found, [Ok(first.clone()), Ok(item("Two lines,\n\"quoted\"", ["a", "b", "c", "d"], 3))]);
        let record = json!({
            "question": question, "subject": "abstract_algebra", "choices": ["0", "4", "2", "6"], "answer": 1
        });
        assert_eq!(read_json(TaskForm::Mmlu, &record), Ok(first.clone()));
        let lettered = json!({ "question": question, "choices": ["0", "4", "2", "6"], "answer": "B" });
        assert_eq!(read_json(TaskForm::Mmlu, &lettered), Ok(first));
    }

    #[test]
    fn equal_choices_are_allowed() {
        let record = json!({ "question": "a", "choices": ["x", "x", "y", "z"], "answer": 3 });
        assert_eq!(read_json(TaskForm::Mmlu, &record), Ok(item("a", ["x", "x", "y", "z"], 3)));
    }

    #[test]
    fn bad_rows_name_what_is_wrong() {
        let text = "question,A,B,C,D,answer\nq,a,b,c,A\n,a,b,c,d,A\nq,a,b,,d,A\nq,a,b,c,d,E\nq,a,b,c,d,\nq,a,b,c,d,A\n";
        let found = read_csv(text, 99);
        let lines: Vec<&str> = found.iter().map(|one| &text[one.span.clone()]).collect();
        assert_eq!(lines, text.lines().collect::<Vec<_>>());
        let why: Vec<String> = found.into_iter().map(|one| one.value.err().unwrap_or_default()).collect();
        let wanted = [
            "the answer \"answer\" is not A, B, C or D",
            "MMLU has 6 columns (question, A, B, C, D, answer), and this record has 5",
            "the question is blank",
            "choice C is blank",
            "the answer \"E\" is not A, B, C or D",
            "the answer \"\" is not A, B, C or D",
            "",
        ];
        assert_eq!(why, wanted);
        let record = |answer: Value| json!({ "question": "a", "choices": ["x", "y"], "answer": answer });
        for answer in [json!(2), json!("C"), json!("x"), json!(null), json!(-1)] {
            assert!(read_json(TaskForm::Mmlu, &record(answer.clone())).is_err(), "{answer}");
        }
    }
}
