//! What the tests share: a tiny model made from a formula, and the files beside the tests.

pub mod families;
pub mod project;
pub mod tiny;

use std::path::{Path, PathBuf};

/// A file under tests/reference.
pub fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

/// A committed golden file.
pub fn golden(name: &str) -> serde_json::Value {
    let path = reference("golden").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Numbers of a JSON list, nested lists flattened.
pub fn numbers(value: &serde_json::Value) -> Vec<f64> {
    match value {
        serde_json::Value::Array(list) => list.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap_or_else(|| panic!("a number was expected, not {other}"))],
    }
}

/// Whole numbers of a JSON list.
pub fn ids(value: &serde_json::Value) -> Vec<u32> {
    numbers(value).into_iter().map(|number| number as u32).collect()
}

/// The greatest absolute difference.
pub fn distance(ours: &[f32], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len(), "numbers to compare");
    ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

/// ‖a − b‖ / ‖b‖.
pub fn relative(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len(), "numbers to compare");
    let norm = |xs: &mut dyn Iterator<Item = f64>| xs.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut ours.iter().zip(theirs).map(|(a, b)| a - b)) / norm(&mut theirs.iter().copied()).max(1e-300)
}

/// f32 as f64.
pub fn wide(xs: &[f32]) -> Vec<f64> {
    xs.iter().map(|&x| f64::from(x)).collect()
}

/// The shared model that knows real CounterFact records, or `None` (said loudly) where it is absent.
pub fn counterfact_model() -> Option<PathBuf> {
    shared("models/counterfact-gpt2")
}

/// A file or folder of the shared data, or `None` (said loudly) where it is absent.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED {}: {} is not here", std::thread::current().name().unwrap_or("a test"), path.display());
    None
}
