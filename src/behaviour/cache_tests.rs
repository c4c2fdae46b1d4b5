use std::fs;

use super::*;
use crate::behaviour::AnswerScore;
use crate::behaviour::ask::Prediction;

fn said(divergence: f64) -> PredictionPair {
    let prediction = |holds| Prediction {
        top: vec![(3, 0.5), (1, 0.25)],
        scores: vec![
            AnswerScore { holds, probability: 0.5, nll: 0.7 },
            AnswerScore { holds: false, probability: 0.1, nll: 2.0 },
        ],
    };
    PredictionPair { before: prediction(false), after: prediction(true), divergence, texts: None }
}

fn head() -> CacheHeader {
    CacheHeader { base: Digest::of(b"base"), before: None, after: Some(Digest::of(b"patch")) }
}

fn damage() -> Damage {
    Damage { documents: 2, tokens: 9, divergence: 0.25, perplexity_before: 3.0, perplexity_after: 4.0 }
}

/// A function that decodes bytes with the expected header, and returns whether the result equals the encoded value.
type Reads<'r> = &'r dyn Fn(&[u8], &CacheHeader) -> bool;

#[test]
fn cut_or_extended_entries_are_not_decoded() {
    let inquiries = [Inquiry::of_tokens(&[1, 2], &[&[3], &[4, 5]])];
    let answers = cache_bytes::encode_answers(&head(), &[said(0.125)]);
    let text = cache_bytes::encode_text(&head(), " in Rome");
    let states = cache_bytes::encode_states(&head(), &[1.0, -2.5]);
    let lost = cache_bytes::encode_damage(&head(), &damage());
    let reads: [(&[u8], Reads<'_>); 4] = [
        (&answers, &|bytes, header| cache_bytes::decode_answers(bytes, header, &inquiries) == Some(vec![said(0.125)])),
        (&text, &|bytes, header| cache_bytes::decode_text(bytes, header).as_deref() == Some(" in Rome")),
        (&states, &|bytes, header| cache_bytes::decode_states(bytes, header, 2) == Some(vec![1.0, -2.5])),
        (&lost, &|bytes, header| cache_bytes::decode_damage(bytes, header) == Some(damage())),
    ];
    for (bytes, is_read) in reads {
        assert!(is_read(bytes, &head()));
        for cut in 0..bytes.len() {
            assert!(!is_read(&bytes[..cut], &head()), "{cut}");
        }
        assert!(!is_read(&[bytes, &[0]].concat(), &head()));
        assert!(!is_read(bytes, &CacheHeader { after: None, ..head() }));
    }
    assert!(cache_bytes::decode_answers(&answers, &head(), &[Inquiry::of_tokens(&[1, 2], &[&[3]])]).is_none());
    let nan = cache_bytes::encode_answers(&head(), &[said(f64::NAN)]);
    assert!(cache_bytes::decode_answers(&nan, &head(), &inquiries).is_none());
}

#[test]
fn an_entry_serves_only_its_models_and_tokens() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path().join("store"));
    let patch = Some(Digest::of(b"patch"));
    let cache = MeasurementCache::new(&store, Digest::of(b"base"), None, patch);
    let inquiries = [Inquiry::of_tokens(&[1, 2], &[&[3], &[4, 5]])];
    assert_eq!(cache.answers(&inquiries), None);
    cache.store_answers(&inquiries, &[said(0.125)]);
    assert_eq!(cache.answers(&inquiries), Some(vec![said(0.125)]));
    let others = [
        MeasurementCache::new(&store, Digest::of(b"other"), None, patch),
        MeasurementCache::new(&store, Digest::of(b"base"), patch, patch),
        MeasurementCache::new(&store, Digest::of(b"base"), None, None),
        MeasurementCache::disabled(),
    ];
    assert!(others.iter().all(|other| other.answers(&inquiries).is_none()));
    for (prompt, answers) in [(&[1, 9][..], &[&[3][..], &[4, 5]][..]), (&[1, 2], &[&[3], &[4, 6]]), (&[1, 2], &[&[3]])]
    {
        assert_eq!(cache.answers(&[Inquiry::of_tokens(prompt, answers)]), None, "{prompt:?} {answers:?}");
    }
    let greedy = ContinuationOptions { tokens: 4, seed: None };
    cache.store_text(&[1], greedy, "text");
    assert_eq!(cache.text(&[1], greedy).as_deref(), Some("text"));
    assert_eq!(cache.text(&[1], ContinuationOptions { seed: Some(0), ..greedy }), None, "sampled text is not cached");
    assert_eq!((cache.text(&[1], ContinuationOptions { tokens: 5, ..greedy }), cache.text(&[2], greedy)), (None, None));
}

#[test]
fn a_damaged_entry_counts_as_missing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path().join("store"));
    let reading = store.clone().for_reading();
    let inquiries = [Inquiry::of_tokens(&[1], &[&[2], &[3]])];
    let read_only = MeasurementCache::new(&reading, Digest::of(b"base"), None, None);
    read_only.store_answers(&inquiries, &[said(0.5)]);
    assert!(!store.root().exists());
    let cache = MeasurementCache::new(&store, Digest::of(b"base"), None, None);
    cache.store_answers(&inquiries, &[said(f64::NAN)]);
    assert!(!store.root().exists(), "numbers that are not finite are not cached");
    cache.store_answers(&inquiries, &[said(0.5)]);
    let entry = store.ls().expect("the store can be listed").remove(0);
    assert_eq!(entry.kind, EntryKind::Measured);
    assert_eq!(
        CacheHeader::of_entry(&store, &entry.key).expect("the header can be read"),
        Some(CacheHeader { after: None, ..head() })
    );
    let path = store.path(EntryKind::Measured, &entry.key);
    let mut bytes = fs::read(&path).expect("the entry can be read");
    bytes[150] ^= 1;
    fs::write(&path, &bytes).expect("the entry can be written");
    assert_eq!(cache.answers(&inquiries), None);
    assert_eq!(store.skipped().len(), 1);
    cache.store_answers(&inquiries, &[said(0.5)]);
    assert_eq!(cache.answers(&inquiries), Some(vec![said(0.5)]), "the damaged entry is replaced");
}
