use proptest::prelude::*;

use super::super::LockedFile;
use super::*;
use crate::diagnostics::{RenderStyle, render};

/// Returns a lock with values in all fields except `preface` and `imported`.
pub(in crate::project) fn sample() -> Lock {
    let digest = |text: &str| Digest::of(text.as_bytes());
    let edit = |id: &str| LockedEdit {
        id: id.into(),
        alias: (id == "louvre.city").then(|| "Le \"Louvre\"".into()),
        preface: None,
        meaning: digest("meaning"),
        expectation: digest("expectation"),
        record: digest("record"),
        tokens: vec!["The".into(), " Eiffel".into(), " \"Tower\"\\\n\u{1b}\u{202e}".into()],
        target_tokens: vec![" Rome".into()],
        position: 3,
        layers: vec![0],
        object: digest("object"),
    };
    let file = |path: &str| LockedFile { path: path.into(), size: 814, digest: digest(path) };
    Lock {
        numerics: "portable-1".into(),
        base: LockedBase { digest: digest("base"), files: vec![file("config.json"), file("model.safetensors")] },
        statistics: vec![LockedStatistics {
            layer: 0,
            digest: digest("s"),
            corpus: digest("c"),
            count: 123_456,
            imported: None,
        }],
        edits: vec![edit("eiffel-tower.city"), edit("louvre.city")],
        patch: LockedPatch { settings: digest("settings"), set: digest("set"), id: digest("patch") },
    }
}

/// Parses a lock file and returns the lock of the model without a name.
fn parse(text: &str) -> Result<Lock, Findings> {
    LockFile::parse(LOCK_FILE, text).map(|file| file.of(None).expect("one without a name").clone())
}

fn load(root: &Path) -> Result<Option<Lock>, Findings> {
    LockFile::load(root).map(|file| file.map(|file| file.of(None).expect("one without a name").clone()))
}

fn shown(text: &str) -> String {
    let findings = parse(text).expect_err("not a lock");
    let drawn = findings.diagnostics.iter().map(|finding| render(finding, &findings.sources, RenderStyle::default()));
    drawn.collect::<Vec<_>>().join("\n\n")
}

#[test]
fn a_lock_has_one_text() {
    let lock = sample();
    let text = lock.render();
    insta::assert_snapshot!(text);
    assert_eq!(parse(&text).expect("just written"), lock);
    assert!(text.parse::<toml::Table>().is_ok());
    let mut shuffled = lock;
    shuffled.edits.reverse();
    shuffled.base.files.reverse();
    assert_eq!(shuffled.render(), text);
    assert_eq!(parse(&text.replace('\n', "\r\n")).expect("CRLF"), sample());
}

#[test]
fn a_lock_with_merge_markers_is_refused() {
    let text = sample().render().replace("\n[patch]\n", "\n<<<<<<< ours\n[patch]\n=======\n[patch]\n>>>>>>> theirs\n");
    insta::assert_snapshot!(shown(&text));
}

#[test]
fn a_damaged_lock_is_refused_with_its_place() {
    let text = sample().render();
    for (from, to) in [
        ("meaning = \"sha256:", "meaning = \"sha512:"),
        ("position = 3\n", ""),
        ("numerics", "numeric"),
        ("layers = [0]", "layers = 0"),
        ("tokens = [", "tokens = [1, "),
        ("[patch]", "[[patch]]"),
    ] {
        let findings = parse(&text.replacen(from, to, 1)).expect_err(from).diagnostics;
        assert_eq!(findings.iter().map(|one| one.code).collect::<Vec<_>>(), [Code::LockDamaged], "{from}");
    }
    insta::assert_snapshot!(shown(&text.replace("size = 814", "size = -1")));
    insta::assert_snapshot!(shown(&text[..text.len() / 2]));
    insta::assert_snapshot!(shown("version = 7\nwhatever = true\n"));
    insta::assert_snapshot!(shown(""));
}

#[test]
fn a_merged_lock_with_repeated_entries_is_refused() {
    let text = sample().render().replace("louvre.city", "eiffel-tower.city").replace("model.safe", "config.json\" #");
    insta::assert_snapshot!(shown(&text));
}

#[test]
fn a_lock_is_loaded_from_the_root() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(load(folder.path()).expect("no lock is fine").is_none());
    std::fs::write(folder.path().join(LOCK_FILE), sample().render()).expect("the file is written");
    assert_eq!(load(folder.path()).expect("valid"), Some(sample()));
    std::fs::write(folder.path().join(LOCK_FILE), b"\xff").expect("the file is written");
    assert_eq!(load(folder.path()).expect_err("not text").diagnostics[0].code, Code::InvalidUtf8);
}

#[test]
fn each_model_has_its_own_lock() {
    let two = ["b-2", "a"].map(|name| (Some(name.to_owned()), sample()));
    let file = LockFile { entries: BTreeMap::from(two) };
    let text = file.render();
    insta::assert_snapshot!(text);
    assert_eq!(LockFile::parse(LOCK_FILE, &text).expect("just written"), file);
    assert!(text.parse::<toml::Table>().is_ok());
    // Except for the table names, the lock of a named model has the same text as the lock of a model without a name.
    let single = sample().render();
    let body = text.split("[model.b-2]\n").nth(1).expect("the second").replace("model.b-2.", "");
    assert_eq!(body, single.split("version = 1\n").nth(1).expect("the locks"));
    for wrong in [
        text.replace("[model.a]", "[model.A]"),
        text.replace("version = 1", "version = 1\nnumerics = \"x\""),
        "version = 1\n[model]\n".to_owned(),
        "version = 1\nmodel.a = 3\n".to_owned(),
        format!("{text}\n[patch]\n"),
    ] {
        let findings = LockFile::parse(LOCK_FILE, &wrong).expect_err("not a lock");
        assert!(findings.diagnostics.iter().all(|one| one.code == Code::LockDamaged), "{wrong}");
    }
}

#[test]
fn replacing_one_lock_keeps_the_others() {
    let mut other = sample();
    other.numerics = "portable-2".into();
    let names = ["a", "b"];
    let file = LockFile::default().with(None, sample(), &[]);
    assert_eq!((file.of(None), file.of(Some("a")), file.nearest(Some("a"))), (Some(&sample()), None, Some(&sample())));
    // The project now has named models, so the lock without a name belongs to none of them and is removed.
    let file = file.with(Some("a"), sample(), &names).with(Some("b"), other.clone(), &names);
    assert_eq!((file.of(None), file.of(Some("a")), file.of(Some("b"))), (None, Some(&sample()), Some(&other)));
    assert_eq!(file.nearest(Some("c")), None);
    let before = file.render();
    let after = file.clone().with(Some("b"), sample(), &names).render();
    let block = |text: &str| text.split("[model.b]").next().map(str::to_owned);
    assert!(block(&before) == block(&after) && before != after);
    assert_eq!(file.with(Some("b"), other, &["b"]).entries.len(), 1);
}

fn digests() -> impl Strategy<Value = Digest> {
    any::<[u8; 8]>().prop_map(|bytes| Digest::of(&bytes))
}

fn locked_edits() -> impl Strategy<Value = Vec<LockedEdit>> {
    let texts = || prop::collection::vec(any::<String>(), 0..4);
    let edit = (digests(), texts(), texts(), 0..i64::MAX as u64, any::<u32>());
    prop::collection::btree_map("[a-z0-9][a-z0-9.-]{0,9}", edit, 0..4).prop_map(|edits| {
        let made = edits.into_iter().map(|(id, (digest, tokens, target_tokens, position, layer))| LockedEdit {
            id,
            alias: tokens.first().cloned(),
            preface: None,
            meaning: digest,
            expectation: digest,
            record: digest,
            tokens,
            target_tokens,
            position,
            layers: vec![layer.into()],
            object: digest,
        });
        made.collect()
    })
}

proptest! {
    #[test]
    fn round_trip(numerics in any::<String>(), edits in locked_edits(), id in digests(), statistics in any::<bool>()) {
        let mut lock = sample();
        lock.numerics = numerics;
        lock.edits = edits;
        lock.patch.id = id;
        if !statistics {
            lock.statistics = Vec::new();
        }
        let text = lock.render();
        prop_assert_eq!(parse(&text).expect("just written"), lock);
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let refused = parse(&text).expect_err("no random text is a lock");
        prop_assert!(!refused.diagnostics.is_empty());
    }
}
