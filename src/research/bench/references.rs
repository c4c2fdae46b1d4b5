//! Reads the reference texts and TF-IDF weights published with CounterFact: `attribute_snippets.json`,
//! `tfidf_vocab.json` and `idf.npy`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::data::{Case, each_value};
use super::metrics::consistency::TfIdf;
use super::run::References;
use crate::numeric::npy::NpyArray;
use crate::regular_file;

/// The maximum size of the `.npy` file and of the vocabulary file, in bytes (1 GiB).
const MOST: u64 = 1 << 30;

#[derive(Deserialize)]
struct SnippetEntry {
    relation_id: String,
    target_id: String,
    samples: Vec<Snippet>,
}

#[derive(Deserialize)]
struct Snippet {
    text: String,
}

/// Reads `attribute_snippets.json`, `tfidf_vocab.json` and `idf.npy` from a folder. Reference texts are returned only
/// for the pairs of relation and new answer in `cases`.
///
/// # Errors
/// If a file is missing or does not have the published format; the error text names the file and the problem.
pub fn read(folder: &Path, cases: &[Case]) -> Result<References, String> {
    let at = |name: &str| folder.join(name);
    let text =
        regular_file::read(&at("tfidf_vocab.json"), MOST).map_err(|error| format!("tfidf_vocab.json: {error}"))?;
    let columns: BTreeMap<String, usize> =
        serde_json::from_slice(&text).map_err(|error| format!("tfidf_vocab.json: {error}"))?;
    let frequencies = numbers(&at("idf.npy")).map_err(|problem| format!("idf.npy: {problem}"))?;
    let weights = TfIdf::new(columns, frequencies).map_err(|error| error.to_string())?;
    let wanted: BTreeSet<(&str, &str)> =
        cases.iter().filter_map(|case| Some((case.relation.as_deref()?, case.target_id.as_deref()?))).collect();
    let (mut texts, mut wrong) = (BTreeMap::<_, Vec<String>>::new(), None);
    let seen = each_value(&at("attribute_snippets.json"), |value: Value| match SnippetEntry::deserialize(value) {
        Ok(entry) if wanted.contains(&(entry.relation_id.as_str(), entry.target_id.as_str())) => {
            let joined: Vec<String> = entry.samples.into_iter().map(|sample| sample.text).collect();
            let key = (entry.relation_id, entry.target_id);
            texts.entry(key).or_insert_with(Vec::new).extend(joined);
        }
        Ok(_) => {}
        Err(error) => wrong = Some(error.to_string()),
    });
    seen.map_err(|error| error.to_string())?;
    match wrong {
        Some(problem) => Err(format!("attribute_snippets.json: {problem}")),
        None => Ok(References { weights, texts: texts.into_iter().map(|(key, some)| (key, some.join(" "))).collect() }),
    }
}

/// Reads a one-dimensional `.npy` file of `f64` numbers. A file with pickled Python objects is rejected, because
/// unpickling can execute code.
fn numbers(path: &Path) -> Result<Vec<f64>, String> {
    let bytes = regular_file::read(path, MOST).map_err(|error| error.to_string())?;
    let array = NpyArray::parse(&bytes)?;
    match array.shape.len() {
        1 => Ok(array.numbers().collect()),
        _ => Err(format!("its shape is {:?}, but one dimension is expected", array.shape)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_of_doubles_are_read_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("idf.npy");
        let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend([1.5_f64, -2.0].iter().flat_map(|x| x.to_le_bytes()));
        std::fs::write(&path, &bytes).expect("written");
        assert_eq!(numbers(&path), Ok(vec![1.5, -2.0]));
        for wrong in [&bytes[..bytes.len() - 1], &bytes[..9], b"PK\x03\x04", b"", &bytes[..40]] {
            std::fs::write(&path, wrong).expect("written");
            assert!(numbers(&path).is_err());
        }
        let objects = String::from_utf8_lossy(&bytes).replace("<f8", "|O ");
        std::fs::write(&path, objects.as_bytes()).expect("written");
        assert!(numbers(&path).is_err());
    }
}
