//! Provides functions that several test files use: tiny models, reference files, and comparisons of numbers.

pub mod answers;
pub mod families;
pub mod generated;
pub mod json_schema;
pub mod project;
pub mod tiny;

use std::path::{Path, PathBuf};

/// Returns the absolute path of a file in tests/reference.
pub fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

/// Reads a JSON file of expected numbers in tests/reference/golden.
pub fn golden(name: &str) -> serde_json::Value {
    let path = reference("golden").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the numbers of a JSON list, in order; nested lists are flattened.
pub fn numbers(value: &serde_json::Value) -> Vec<f64> {
    match value {
        serde_json::Value::Array(list) => list.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap_or_else(|| panic!("a number was expected, not {other}"))],
    }
}

/// Returns the integers of a JSON list as token ids; nested lists are flattened.
pub fn ids(value: &serde_json::Value) -> Vec<u32> {
    numbers(value).into_iter().map(|number| number as u32).collect()
}

/// Returns the largest absolute difference of two lists of equal length.
pub fn distance(ours: &[f32], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len(), "numbers to compare");
    ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

/// Returns the relative distance of two vectors, ‖a − b‖ / ‖b‖, where b is `theirs`.
pub fn relative(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len(), "numbers to compare");
    let norm = |xs: &mut dyn Iterator<Item = f64>| xs.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut ours.iter().zip(theirs).map(|(a, b)| a - b)) / norm(&mut theirs.iter().copied()).max(1e-300)
}

pub fn wide(xs: &[f32]) -> Vec<f64> {
    xs.iter().map(|&x| f64::from(x)).collect()
}

/// Returns the shared model that was trained on CounterFact records, or reports a skipped test and returns `None`.
pub fn counterfact_model() -> Option<PathBuf> {
    shared("models/counterfact-gpt2")
}

/// Returns the path of a shared file or folder, or reports a skipped test and returns `None`.
#[expect(clippy::print_stderr, reason = "a skipped test is reported")]
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED {}: {} is not here", std::thread::current().name().unwrap_or("a test"), path.display());
    None
}
