use std::collections::BTreeSet;
use std::io::Write;
use std::time::SystemTime;

use super::*;
use proptest::prelude::*;

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(directory.path().join("cache"));
    store.lock_timeout = Duration::from_millis(50);
    (directory, store)
}

fn key() -> Digest {
    Digest::of(b"key")
}

fn age(path: &Path, hours: u64) {
    let then = SystemTime::now() - Duration::from_secs(hours * 3600);
    File::options().write(true).open(path).and_then(|file| file.set_modified(then)).expect("touched");
}

#[test]
fn nothing_exists_before_the_first_write() {
    let (_directory, store) = store();
    for kind in EntryKind::ALL {
        assert_eq!(store.get(kind, &key()).expect("readable"), None);
        assert!(store.mmap(kind, &key()).expect("readable").is_none());
        assert_eq!(store.content_digest(kind, &key()).expect("readable"), None);
        assert!(!store.remove(kind, &key()).expect("nothing there"));
    }
    assert!(store.ls().expect("readable").is_empty());
    assert_eq!(store.verify(), StoreReport::default());
    assert_eq!(store.gc(&BTreeSet::new(), true).expect("nothing"), Collected::default());
    assert!(!store.root().exists());
}

#[test]
fn a_sealed_payload_is_read_back() {
    let (_directory, store) = store();
    store.put(EntryKind::Object, &key(), b"payload").expect("written");
    assert_eq!(store.get(EntryKind::Object, &key()).expect("good").expect("there"), b"payload");
    assert_eq!(store.content_digest(EntryKind::Object, &key()).expect("good"), Some(Digest::of(b"payload")));
    let id = store.put_patch(b"a patch").expect("written");
    assert_eq!(store.get(EntryKind::Patch, &id).expect("good").expect("there"), b"a patch");
    assert!(store.path(EntryKind::Patch, &id).ends_with(format!("{}.safetensors", &id.hex()[2..])));
    assert_eq!(store.verify(), StoreReport { checked: 2, problems: Vec::new() });
    let tag = fs::read_to_string(store.root().join("CACHEDIR.TAG")).expect("tagged");
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
}

#[test]
fn numbers_of_a_mapping_are_read_in_place() {
    let (_directory, store) = store();
    let numbers = [1.5_f64, -0.0, f64::MAX];
    let write = |writer: &mut dyn Write| numbers.iter().try_for_each(|x| writer.write_all(&x.to_le_bytes()));
    let digest = store.put_with(EntryKind::Factor, &key(), write).expect("written");
    let mapping = store.mmap(EntryKind::Factor, &key()).expect("good").expect("there");
    assert_eq!(mapping.as_f64().expect("aligned"), numbers);
    assert_eq!(Digest::of(&mapping), digest);
    store.put(EntryKind::Factor, &Digest::of(b"odd"), b"odd").expect("written");
    assert_eq!(store.mmap(EntryKind::Factor, &Digest::of(b"odd")).expect("good").expect("there").as_f64(), None);
}

#[test]
fn every_flipped_bit_of_a_patch_is_detected() {
    let (_directory, store) = store();
    let id = store.put_patch(b"a patch").expect("written");
    let path = store.path(EntryKind::Patch, &id);
    let good = fs::read(&path).expect("there");
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).expect("written");
        assert!(matches!(store.get(EntryKind::Patch, &id), Err(StoreError::Damaged { .. })), "bit {bit}");
    }
    fs::write(&path, b"").expect("written");
    assert!(store.get(EntryKind::Patch, &id).expect_err("damaged").to_string().contains("it is empty"));
    assert!(store.mmap(EntryKind::Patch, &id).is_err());
    store.put_patch(b"a patch").expect("the entry is replaced");
    assert!(store.get(EntryKind::Patch, &id).expect("good").is_some());
}

/// Extends the files of two entries, and their exported copies, to a terabyte each, and checks that they count as
/// damaged. The files are sparse, so they need little disk space, but reading one of them would take too long or too
/// much memory.
#[test]
fn an_enlarged_entry_is_damaged_and_not_read() {
    let (directory, store) = store();
    let id = store.put_patch(b"a patch").expect("written");
    store.put(EntryKind::Object, &key(), b"payload").expect("written");
    store.export(None, &directory.path().join("parcel")).expect("exported");
    let endless = |path: &Path| File::options().write(true).open(path).and_then(|file| file.set_len(1 << 40));
    for (kind, key) in [(EntryKind::Object, key()), (EntryKind::Patch, id)] {
        endless(&store.path(kind, &key)).expect("extended");
        endless(&directory.path().join("parcel").join(kind.folder()).join(format!("{}{}", key.hex(), kind.suffix())))
            .expect("extended");
        assert!(matches!(store.get(kind, &key), Err(StoreError::Damaged { .. })), "{kind}");
        assert!(matches!(store.check(kind, &key), Err(StoreError::Damaged { .. })), "{kind}");
        assert!(store.mmap(kind, &key).is_err() && store.read_prefix(kind, &key, 10).is_err(), "{kind}");
    }
    assert_eq!(store.verify().problems.len(), 2);
    let other = Store::open(directory.path().join("other"));
    assert_eq!(other.import(&directory.path().join("parcel")).expect("the operation continues").refused.len(), 2);
    store.put_patch(b"a patch").expect("the entry is replaced");
    store.put(EntryKind::Object, &key(), b"payload").expect("the entry is replaced");
    assert!(store.verify().problems.is_empty());
}

#[test]
fn a_valid_entry_is_never_replaced() {
    let (_directory, store) = store();
    store.put(EntryKind::Object, &key(), b"one").expect("written");
    age(&store.path(EntryKind::Object, &key()), 5);
    store.put(EntryKind::Object, &key(), b"one").expect("the same");
    assert!(store.gc(&BTreeSet::new(), false).expect("collected").entries.is_empty(), "it was marked as used");
    assert!(matches!(store.put(EntryKind::Object, &key(), b"two"), Err(StoreError::Conflict { .. })));
    assert_eq!(store.get(EntryKind::Object, &key()).expect("good").expect("there"), b"one");
    store.put(EntryKind::Partial, &key(), b"one").expect("written");
    store.put(EntryKind::Partial, &key(), b"two").expect("partial statistics are replaced");
    assert_eq!(store.get(EntryKind::Partial, &key()).expect("good").expect("there"), b"two");
    assert!(store.remove(EntryKind::Partial, &key()).expect("removed"));
    assert!(matches!(store.put(EntryKind::Patch, &key(), b"x"), Err(StoreError::WrongAddress { .. })));
}

#[test]
fn a_failed_write_leaves_nothing() {
    let (_directory, store) = store();
    let fails = |writer: &mut dyn Write| writer.write_all(b"half").and(Err(io::ErrorKind::StorageFull.into()));
    let error = store.put_with(EntryKind::Object, &key(), fails).expect_err("fails").to_string();
    assert!(error.contains("free some space"), "{error}");
    assert_eq!(store.get(EntryKind::Object, &key()).expect("readable"), None);
    assert_eq!(list::sorted(store.path(EntryKind::Object, &key()).parent().expect("a shard")).expect("listed"), []);
}

#[test]
fn verify_reports_every_problem() {
    let (_directory, store) = store();
    let keys: Vec<Digest> = (0..4_u8).map(|byte| Digest::of(&[byte])).collect();
    for key in &keys {
        store.put(EntryKind::Object, key, key.bytes()).expect("written");
    }
    let path = |index: usize| store.path(EntryKind::Object, &keys[index]);
    fs::write(path(0), b"").expect("emptied");
    let moved = store.versioned().join("objects/zz");
    fs::create_dir(&moved).expect("made");
    fs::rename(path(1), moved.join(path(1).file_name().expect("a name"))).expect("moved");
    let other = store.path(EntryKind::Object, &key());
    fs::create_dir_all(other.parent().expect("a shard")).expect("made");
    fs::rename(path(2), &other).expect("renamed");
    fs::create_dir(path(2)).expect("a directory in place of an entry");
    fs::write(store.versioned().join("stray"), b"x").expect("written");
    fs::write(path(3).with_file_name(".corrigenda-x.tmp"), b"x").expect("written");
    let report = store.verify();
    assert_eq!(report.checked, 4);
    assert_eq!(report.problems.len(), 5, "{report:?}");
    for why in
        ["it is empty", "its name is not", "it was sealed as", "it is not a regular file", "a store contains no entry"]
    {
        let times = report.problems.iter().filter(|problem| problem.why.starts_with(why)).count();
        assert_eq!(times, 1, "{why}: {report:?}");
    }
}

#[test]
fn gc_removes_empty_shards_and_no_other_folder() {
    let (_directory, store) = store();
    store.put(EntryKind::Object, &key(), b"x").expect("written");
    for name in ["zz", "mine"] {
        fs::create_dir(store.versioned().join("objects").join(name)).expect("made");
    }
    store.gc(&BTreeSet::new(), true).expect("collected");
    let left: Vec<_> = fs::read_dir(store.versioned().join("objects")).expect("listed").flatten().collect();
    assert_eq!(left.iter().map(|entry| entry.file_name()).collect::<Vec<_>>(), ["mine"]);
}

#[cfg(unix)]
#[test]
fn folders_that_are_links_are_not_filled_or_emptied() {
    let (directory, store) = store();
    store.put(EntryKind::Object, &key(), b"x").expect("written");
    let (objects, aside) = (store.versioned().join("objects"), directory.path().join("aside"));
    fs::rename(&objects, &aside).expect("moved");
    std::os::unix::fs::symlink(&aside, &objects).expect("linked");
    let other = Digest::of(b"other");
    let refused = |result: Result<(), StoreError>| matches!(result, Err(StoreError::Symlink { .. }));
    assert!(refused(store.put(EntryKind::Object, &other, b"y").map(drop)));
    assert!(refused(store.gc(&BTreeSet::new(), true).map(drop)));
    assert_eq!(fs::read_dir(&aside).expect("listed").count(), 1);
    assert_eq!(store.get(EntryKind::Object, &key()).expect("readable"), Some(b"x".to_vec()));
}

#[test]
fn gc_keeps_what_is_named_young_or_being_written() {
    let (_directory, store) = store();
    let [kept, old, young] = [b"kept", b"old.", b"new."].map(|name| Digest::of(name));
    for key in [&kept, &old, &young] {
        store.put(EntryKind::Object, key, b"x").expect("written");
    }
    let temporary = store.path(EntryKind::Object, &kept).with_file_name(".corrigenda-x.tmp");
    fs::write(&temporary, b"half").expect("written");
    for key in [&kept, &old] {
        age(&store.path(EntryKind::Object, key), 2);
    }
    let keep = BTreeSet::from([(EntryKind::Object, kept)]);
    let collected = store.gc(&keep, false).expect("collected");
    assert_eq!(collected.entries.iter().map(|entry| entry.key).collect::<Vec<_>>(), [old]);
    assert_eq!(collected.bytes, 1 + TRAILER as u64);
    assert!(temporary.exists());
    age(&temporary, 25);
    assert_eq!(store.gc(&keep, true).expect("collected").entries.len(), 1);
    assert!(!temporary.exists());
    assert_eq!(store.ls().expect("listed").len(), 1);
    let _writing = lock::StoreLock::shared(&store.lock_path(), Duration::ZERO).expect("free");
    assert!(matches!(store.gc(&keep, true), Err(StoreError::Busy { .. })));
}

#[test]
fn entries_are_exported_and_imported() {
    let (directory, store) = store();
    let to = directory.path().join("parcel");
    store.put(EntryKind::Object, &key(), b"one").expect("written");
    store.put(EntryKind::Factor, &key(), b"large").expect("written");
    let id = store.put_patch(b"a patch").expect("written");
    assert_eq!(store.export(None, &to).expect("exported").len(), 2, "objects and patches only");
    assert_eq!(store.export(None, &to).expect("again").len(), 2);
    let missing = BTreeSet::from([(EntryKind::Object, id)]);
    assert!(matches!(store.export(Some(&missing), &to), Err(StoreError::Missing { .. })));
    for inside in [store.root().to_owned(), store.root().join("new/folder")] {
        assert!(matches!(store.export(None, &inside), Err(StoreError::InsideStore { .. })));
    }

    let other = Store::open(directory.path().join("other"));
    assert!(matches!(other.import(directory.path()), Err(StoreError::NotAnExport { .. })));
    let imported = other.import(&to).expect("imported");
    assert_eq!((imported.new.len(), imported.present.len(), imported.refused.len()), (2, 0, 0));
    assert_eq!(other.get(EntryKind::Patch, &id).expect("good").expect("there"), b"a patch");
    assert_eq!(other.import(&to).expect("imported").present.len(), 2);

    let third = Store::open(directory.path().join("third"));
    third.put(EntryKind::Object, &key(), b"two").expect("written");
    fs::write(to.join("patches").join(format!("{}.safetensors", id.hex())), b"b patch").expect("damaged");
    fs::write(to.join("objects/readme"), b"").expect("written");
    let third_import = third.import(&to).expect("the operation continues");
    assert!(third_import.new.is_empty() && third_import.present.is_empty());
    let whys: Vec<&str> = third_import.refused.iter().map(|refusal| &*refusal.why).collect();
    assert!(whys.len() == 3 && whys[0].contains("the store has"), "{whys:?}");
    assert_eq!(third.get(EntryKind::Object, &key()).expect("good").expect("there"), b"two");
    assert!(matches!(third.export(None, &to), Err(StoreError::Conflict { .. })));
}

#[test]
fn a_store_that_cannot_be_created_names_its_path() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("file"), b"").expect("written");
    let store = Store::open(directory.path().join("file/cache"));
    let error = store.put(EntryKind::Object, &key(), b"x").expect_err("below a file").to_string();
    assert!(error.starts_with("creating the store `") && error.contains("file/cache"), "{error}");
}

#[test]
fn many_writers_of_one_entry() {
    let (_directory, store) = store();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| store.put(EntryKind::Object, &key(), &[7; 1000]).expect("the same bytes"));
        }
    });
    assert_eq!(store.verify(), StoreReport { checked: 1, problems: Vec::new() });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_payload_comes_back(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (_directory, store) = store();
        store.put(EntryKind::Report, &key(), &payload).expect("written");
        prop_assert_eq!(store.get(EntryKind::Report, &key()).expect("good").expect("there"), payload.clone());
        prop_assert_eq!(&*store.mmap(EntryKind::Report, &key()).expect("good").expect("there"), &*payload);
    }
}
