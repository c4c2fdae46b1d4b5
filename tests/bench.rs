//! The benchmark's metrics, held against NLTK and scikit-learn.

use std::collections::BTreeMap;
use std::path::Path;

use corrigenda::bench::metrics::consistency::Weights;
use corrigenda::bench::metrics::fluency::entropy;
use corrigenda::bench::metrics::words::words;
use serde::Deserialize;

/// golden/bench.json, written by tests/reference/bench.py.
#[derive(Deserialize)]
struct Golden {
    words: Vec<Text>,
    vocabulary: BTreeMap<String, usize>,
    frequencies: Vec<f64>,
    cosines: Vec<Pair>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    words: Vec<String>,
    entropy: Option<f64>,
}

#[derive(Deserialize)]
struct Pair {
    one: String,
    other: String,
    cosine: f64,
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/golden/bench.json");
    serde_json::from_slice(&std::fs::read(path).expect("the golden file")).expect("its schema")
}

#[test]
fn words_and_entropies_are_nltks() {
    for one in golden().words {
        assert_eq!(words(&one.text), one.words, "{:?}", one.text);
        match (entropy(&one.text), one.entropy) {
            (Some(found), Some(want)) => assert!((found - want).abs() < 1e-12, "{:?}: {found} {want}", one.text),
            (found, want) => assert_eq!(found, want, "{:?}", one.text),
        }
    }
}

#[test]
fn cosines_are_scikit_learns() {
    let golden = golden();
    let weights = Weights::new(golden.vocabulary, golden.frequencies).expect("they belong together");
    for Pair { one, other, cosine } in &golden.cosines {
        let found = weights.cosine(one, other);
        assert!((found - cosine).abs() < 1e-12, "{one:?} {other:?}: {found} {cosine}");
    }
}
