//! Computes the consistency RS of generated text: the cosine between the TF-IDF vectors of the generated text and of
//! reference texts (Meng et al. 2022, section 3.4). The reference texts are about subjects for which the new answer is
//! true. TF-IDF vectors are computed as in scikit-learn's `TfidfVectorizer`, with the published vocabulary.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use fancy_regex::Regex;

use crate::digest::FieldHasher;

/// The published TF-IDF vocabulary: the vector index of each term, and the inverse document frequency at each index.
#[derive(Clone, Debug, Default)]
pub struct TfIdf {
    columns: BTreeMap<String, usize>,
    frequencies: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the vocabulary has column {column}, but there are frequencies for {columns} columns only")]
pub struct VocabularyMismatch {
    column: usize,
    columns: usize,
}

/// The pattern of a term: one or more letters, digits or `_`.
static RUN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]+").expect("a pattern"));

impl TfIdf {
    /// Creates the vocabulary from the vector index of each term (`columns`) and the inverse document frequency at each
    /// index.
    ///
    /// # Errors
    /// If the index of a term is not less than the number of frequencies.
    pub fn new(columns: BTreeMap<String, usize>, frequencies: Vec<f64>) -> Result<Self, VocabularyMismatch> {
        match columns.values().max().filter(|most| **most >= frequencies.len()) {
            Some(&column) => Err(VocabularyMismatch { column, columns: frequencies.len() }),
            None => Ok(Self { columns, frequencies }),
        }
    }

    /// Adds the vocabulary and the frequencies to the hash that identifies a benchmark, so that results with a
    /// different vocabulary are not reused.
    pub fn describe(&self, canon: &mut FieldHasher) {
        canon.number("terms", self.columns.len() as u64);
        for (term, column) in &self.columns {
            canon.text("term", term).number("column", *column as u64);
        }
        canon.number("frequencies", self.frequencies.len() as u64);
        for number in &self.frequencies {
            canon.float("frequency", *number);
        }
    }

    /// Returns the cosine between the TF-IDF vectors of two texts, from 0 to 1. The result is 0 if one of the texts
    /// contains no term of the vocabulary.
    pub fn cosine(&self, one: &str, other: &str) -> f64 {
        let (one, other) = (self.vector(one), self.vector(other));
        let mut total = 0.0;
        for (column, weight) in &one {
            total += weight * other.get(column).copied().unwrap_or(0.0);
        }
        let lengths = length(&one) * length(&other);
        if lengths > 0.0 { total / lengths } else { 0.0 }
    }

    /// Returns the TF-IDF vector of a text as a map from vector index to weight. The weight of a term is its count
    /// times its inverse document frequency. Terms are lower-cased, and terms of one character are ignored.
    fn vector(&self, text: &str) -> BTreeMap<usize, f64> {
        let text = text.to_lowercase();
        let mut counts: BTreeMap<usize, f64> = BTreeMap::new();
        for run in RUN.find_iter(&text).filter_map(Result::ok) {
            let column = self.columns.get(run.as_str()).filter(|_| run.as_str().chars().nth(1).is_some());
            if let Some(column) = column {
                *counts.entry(*column).or_default() += 1.0;
            }
        }
        counts.into_iter().map(|(column, count)| (column, count * self.frequencies[column])).collect()
    }
}

fn length(vector: &BTreeMap<usize, f64>) -> f64 {
    let mut total = 0.0;
    for weight in vector.values() {
        total += weight * weight;
    }
    total.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_count_known_terms_by_their_weights() {
        let columns = BTreeMap::from([("rome".to_owned(), 0), ("lies".to_owned(), 1), ("a".to_owned(), 2)]);
        let weights = TfIdf::new(columns.clone(), vec![2.0, 1.0, 9.0]).expect("every column has a frequency");
        // The vectors are (2·2, 1) and (2, 0), so the cosine is 8 / (√17 · 2); single letters are not terms.
        let want = 8.0 / (17.0_f64.sqrt() * 2.0);
        assert!((weights.cosine("Rome, ROME lies a", "in rome a") - want).abs() < 1e-12);
        assert_eq!(weights.cosine("Rome", "Oslo"), 0.0);
        assert_eq!(TfIdf::new(columns, vec![1.0]).expect_err("too few"), VocabularyMismatch { column: 2, columns: 1 });
    }
}
