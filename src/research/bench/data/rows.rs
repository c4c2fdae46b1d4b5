//! Reads the rows of a CSV file as JSON objects, so that they are read with the same schemas as the records of JSON
//! files. The names of the columns are the keys.

use std::io::Read;

use serde_json::{Map, Value};

/// Calls `seen` with each row, or with the reason why the row cannot be used.
///
/// # Errors
/// If the text cannot be read, or is not UTF-8.
pub(super) fn each_row(text: impl Read, mut seen: impl FnMut(Result<Value, String>)) -> Result<(), csv::Error> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text);
    let columns = reader.headers()?.clone();
    for row in reader.records() {
        let row = row?;
        if row.len() == columns.len() {
            let cells = columns.iter().zip(&row).map(|(name, cell)| (name.to_owned(), Value::from(cell)));
            seen(Ok(Value::Object(cells.collect::<Map<String, Value>>())));
        } else {
            seen(Err(format!("its row has {} columns, but the header has {}", row.len(), columns.len())));
        }
    }
    Ok(())
}
