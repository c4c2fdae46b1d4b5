//! Tests second moments over a corpus: interruption, resumption, caching, and the inputs that they depend on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use corrigenda::digest::Digest;
use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;
use corrigenda::progress::Progress;
use corrigenda::stats::{Provenance, StatisticsError, SumRun, build, build_all, factor, find};
use corrigenda::store::{EntryKind, Store};

use crate::support::{reference, tiny};

/// A progress receiver that panics at a document, and records the first reported position.
struct Mortal {
    dies_at: u64,
    first: AtomicU64,
}

impl Progress for Mortal {
    fn begin(&self, _: &str, _: u64) {}

    fn set_position(&self, position: u64) {
        let _ = self.first.compare_exchange(0, position, Ordering::Relaxed, Ordering::Relaxed);
        assert!(position < self.dies_at, "the power went out");
    }

    fn line(&self, _: &str) {}

    fn end(&self) {}
}

struct Ground {
    folder: tempfile::TempDir,
    model: Model,
    tokens: Tokens,
    provenance: Provenance,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        tiny::write_model(folder.path());
        let model = Model::open(folder.path(), Isa::detect()).expect("the model opens");
        let tokens = Tokens::open(folder.path(), model.spec().vocabulary).expect("its tokenizer opens");
        // Six copies of the corpus: 384 documents, twelve batches.
        let text = std::fs::read_to_string(reference("tiny_corpus.txt")).expect("the corpus").repeat(6);
        std::fs::write(folder.path().join("corpus.txt"), &text).expect("the file is written");
        let corpus = Digest::of(text.as_bytes());
        let provenance = Provenance::new(Digest::of(b"base"), 1, tiny::INNER, corpus, 40);
        Self { folder, model, tokens, provenance }
    }

    fn store(&self, name: &str) -> Store {
        Store::open(self.folder.path().join(name))
    }

    fn run<'a>(&'a self, corpus: &'a std::path::Path, store: &'a Store, progress: &'a dyn Progress) -> SumRun<'a> {
        SumRun {
            model: &self.model,
            tokens: &self.tokens,
            provenance: &self.provenance,
            corpus,
            store,
            progress,
            save_every: Duration::ZERO,
        }
    }

    fn build(&self, store: &Store, progress: &dyn Progress) -> Result<Digest, StatisticsError> {
        let corpus = self.folder.path().join("corpus.txt");
        build(&self.run(&corpus, store, progress)).map(|cached| cached.content)
    }

    /// Sums the statistics of several layers in one pass, and returns their addresses and digests.
    fn build_all(&self, store: &Store, layers: &[usize], progress: &dyn Progress) -> Vec<(Digest, Digest)> {
        let corpus = self.folder.path().join("corpus.txt");
        let cached = build_all(&self.run(&corpus, store, progress), layers).expect("built");
        cached.into_iter().map(|cached| (cached.address, cached.content)).collect()
    }
}

#[test]
fn one_pass_gives_the_bytes_of_single_layers() {
    let mut ground = Ground::new();
    // The last batch is not full.
    ground.provenance.max_documents = Some(200);
    let unseen = &corrigenda::progress::NoProgress;
    let alone_store = ground.store("alone");
    let alone: Vec<_> = (0..3).flat_map(|layer| ground.build_all(&alone_store, &[layer], unseen)).collect();
    assert_eq!(ground.build_all(&ground.store("together"), &[0, 1, 2], unseen), alone);
    let some = [alone[0], alone[2]];
    assert_eq!(ground.build_all(&ground.store("some"), &[0, 2], unseen), some);
    // A pass over two layers is interrupted once and a pass over all layers twice; every sum resumes where it stopped.
    let store = ground.store("interrupted");
    let partial = || store.ls().expect("listed").iter().filter(|entry| entry.kind == EntryKind::Partial).count();
    for (layers, dies_at, left) in [(&[0, 2][..], 100, 2), (&[0, 1, 2], 60, 3), (&[0, 1, 2], 130, 3)] {
        let mortal = Mortal { dies_at, first: AtomicU64::new(0) };
        assert!(catch_unwind(AssertUnwindSafe(|| ground.build_all(&store, layers, &mortal))).is_err());
        assert_eq!(partial(), left, "{layers:?}");
    }
    let again = Mortal { dies_at: u64::MAX, first: AtomicU64::new(0) };
    assert_eq!(ground.build_all(&store, &[0, 1, 2], &again), alone);
    assert_eq!(again.first.into_inner(), 160, "it went on behind the last saved batch");
    assert_eq!(partial(), 0, "nothing is left of the way");
}

#[test]
fn a_resumed_sum_gives_the_same_bytes() {
    let ground = Ground::new();
    let whole = ground.build(&ground.store("whole"), &corrigenda::progress::NoProgress).expect("built");
    let store = ground.store("interrupted");
    let mortal = Mortal { dies_at: 200, first: AtomicU64::new(0) };
    let died = catch_unwind(AssertUnwindSafe(|| ground.build(&store, &mortal)));
    assert!(died.is_err() && find(&store, &ground.provenance).expect("readable").is_none());
    assert_eq!(store.ls().expect("listed").iter().filter(|entry| entry.kind == EntryKind::Partial).count(), 1);
    let again = Mortal { dies_at: u64::MAX, first: AtomicU64::new(0) };
    assert_eq!(ground.build(&store, &again).expect("built"), whole);
    assert_eq!(again.first.into_inner(), 224, "it went on behind the last saved batch");
    let kinds: Vec<EntryKind> = store.ls().expect("the store is listed").iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::Statistics], "nothing is left of the way");
    // A damaged partial sum is ignored.
    let other = ground.store("damaged");
    let _ = catch_unwind(AssertUnwindSafe(|| ground.build(&other, &mortal)));
    let partial = other.path(EntryKind::Partial, &ground.provenance.address());
    std::fs::write(&partial, b"rubbish").expect("the file is written");
    assert_eq!(ground.build(&other, &corrigenda::progress::NoProgress).expect("built"), whole);
}

#[test]
fn a_corpus_that_changes_meanwhile_is_refused() {
    /// Appends to the corpus after the sum has started.
    struct Meddler(std::path::PathBuf);
    impl Progress for Meddler {
        fn begin(&self, _: &str, _: u64) {
            let mut text = std::fs::read_to_string(&self.0).expect("the corpus");
            text.push_str("One more line.\n");
            std::fs::write(&self.0, text).expect("the file is written");
        }
        fn set_position(&self, _: u64) {}
        fn line(&self, _: &str) {}
        fn end(&self) {}
    }
    let ground = Ground::new();
    let store = ground.store("store");
    let error = ground.build(&store, &Meddler(ground.folder.path().join("corpus.txt"))).expect_err("it changed");
    assert!(error.to_string().contains("changed while it was read"), "{error}");
    let mismatch = ground.build(&store, &corrigenda::progress::NoProgress).expect_err("it is another corpus now");
    assert!(mismatch.to_string().contains("changed while it was read"), "{mismatch}");
    assert!(!store.ls().expect("the store is listed").iter().any(|entry| entry.kind == EntryKind::Statistics));
}

#[test]
fn a_stored_factor_has_the_same_bits() {
    let ground = Ground::new();
    let store = ground.store("store");
    ground.build(&store, &corrigenda::progress::NoProgress).expect("built");
    let cached = find(&store, &ground.provenance).expect("readable").expect("built");
    assert_eq!(cached.documents, 384);
    let (fresh, ridge) = factor(&store, &ground.provenance, &cached).expect("full rank");
    let (stored, again) = factor(&store, &ground.provenance, &cached).expect("full rank");
    assert!(fresh == stored && ridge == again && ridge == 0.0);
}

#[test]
fn too_few_keys_get_a_recorded_ridge() {
    let mut ground = Ground::new();
    ground.provenance.max_documents = Some(3);
    let store = ground.store("store");
    ground.build(&store, &corrigenda::progress::NoProgress).expect("built");
    let cached = find(&store, &ground.provenance).expect("readable").expect("built");
    assert!(cached.documents == 3 && cached.keys < tiny::INNER as u64);
    let (_, ridge) = factor(&store, &ground.provenance, &cached).expect("with a ridge");
    let (_, again) = factor(&store, &ground.provenance, &cached).expect("from the store");
    assert!(ridge > 0.0 && ridge == again);
}

#[test]
fn statistics_of_another_layer_are_refused() {
    let ground = Ground::new();
    let store = ground.store("store");
    ground.build(&store, &corrigenda::progress::NoProgress).expect("built");
    let bytes = store.get(EntryKind::Statistics, &ground.provenance.address()).expect("sound").expect("there");
    let other = Provenance { layer: 2, ..ground.provenance.clone() };
    store.put(EntryKind::Statistics, &other.address(), &bytes).expect("stored");
    let error = find(&store, &other).expect_err("refused").to_string();
    assert_eq!(error, "these statistics are of another layer: expected 2, found 1");
}
