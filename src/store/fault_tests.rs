//! Simulates a fault at every call that changes the disk during a typical use of the store.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::fault::{Call, Fault, disturbed};
use super::{EntryKind, Store, StoreError, atomic, memo};
use crate::digest::Digest;

/// The files of one test: two stores, a folder of exported entries, and a file `lock` in place of `corrigenda.lock`.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// Creates the files of a test: the file `lock` with the content `old`, and the store `own` with one damaged entry.
    fn new() -> Self {
        // If possible, the folder is in memory, because syncing to disk is slow and is not tested here.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let place = Self { folder: folder.expect("a directory") };
        fs::write(place.path("lock"), b"old").expect("written");
        let damaged = place.store("own").path(EntryKind::Object, &key(9));
        fs::create_dir_all(damaged.parent().expect("a folder")).expect("made");
        fs::write(damaged, b"not an entry").expect("written");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self, name: &str) -> Store {
        Store::open(self.path(name))
    }

    /// Runs all operations of a store that change the disk, in a typical order.
    fn live(&self) -> Result<(), StoreError> {
        let (store, other) = (self.store("own"), self.store("other"));
        for byte in [1, 9] {
            store.put(EntryKind::Object, &key(byte), &[byte; 10])?;
        }
        store.put_with(EntryKind::Statistics, &key(2), |writer| {
            (0..3).try_for_each(|_| writer.write_all(&[2; 1 << 16]))
        })?;
        store.put(EntryKind::Partial, &key(3), b"half")?;
        store.put(EntryKind::Partial, &key(3), b"more")?;
        store.remove(EntryKind::Partial, &key(3))?;
        store.put(EntryKind::Report, &key(4), b"of no format that is known")?;
        store.recall(EntryKind::Report, &key(4), |_| None::<()>)?;
        let patch = store.put_patch(b"a patch")?;
        atomic::write(&self.path("lock"), b"new")?;
        store.export(None, &self.path("carried"))?;
        other.import(&self.path("carried"))?;
        store.put(EntryKind::Factor, &key(5), b"in nobody's way")?;
        store.gc(
            &BTreeSet::from([(EntryKind::Object, key(1)), (EntryKind::Object, key(9)), (EntryKind::Patch, patch)]),
            true,
        )?;
        Ok(())
    }

    /// Returns the paths, relative to the test's folder, and the contents of all its files except temporary files.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("readable").map(|entry| entry.expect("readable")) {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path if atomic::is_temporary(&entry.file_name().to_string_lossy()) => drop(path),
                    path => found.push((
                        path.strip_prefix(self.folder.path()).expect("below").to_owned(),
                        fs::read(&path).expect("readable"),
                    )),
                }
            }
        }
        found.sort();
        found
    }

    /// Checks that `lock` has its old or its new content, and that no entry is damaged. If `mended` is false, the entry
    /// that [`Place::new`] damaged is not checked. `what` describes the simulated fault, for messages.
    fn is_sound(&self, mended: bool, what: &str) {
        let lock = fs::read(self.path("lock")).expect("there");
        assert!(lock == b"old" || lock == b"new", "{what}");
        for name in ["own", "other"] {
            let report = self.store(name).verify();
            let own = self.store(name).path(EntryKind::Object, &key(9));
            let found: Vec<_> = report.problems.iter().filter(|problem| mended || problem.path != own).collect();
            assert!(found.is_empty(), "{what}: {found:?}");
        }
        if self.path("carried").exists() {
            let refused = self.store("third").import(&self.path("carried")).map(|imported| imported.refused);
            assert_eq!(refused.expect("readable"), [], "{what}");
            fs::remove_dir_all(self.path("third")).unwrap_or(());
        }
    }
}

fn key(byte: u8) -> Digest {
    Digest::of(&[byte])
}

/// Runs `work` once for each fault and each [`Call`] (an operation that changes the disk), and simulates the fault at
/// this call. Every run has a new folder. Then calls `then` with the folder, the result of `work` and a description of
/// the fault. Returns the calls that `work` makes without a fault.
fn everywhere<T>(work: impl Fn(&Place) -> T, then: impl Fn(&Place, T, &str)) -> Vec<Call> {
    let (_, calls) = disturbed(Fault::None, 0, || work(&Place::new()));
    for fault in [Fault::Killed, Fault::Full, Fault::Broken] {
        for (at, call) in calls.iter().enumerate() {
            let what = format!("{fault:?} at call {at}, {call:?}");
            let place = Place::new();
            let (done, made) = disturbed(fault, at, || work(&place));
            assert!(made.len() > at && made[..=at] == calls[..=at], "{what}: the calls up to the fault are the same");
            then(&place, done, &what);
        }
    }
    calls
}

#[test]
fn a_store_survives_a_fault_at_any_call() {
    let whole = Place::new();
    whole.live().expect("the path is free");
    whole.is_sound(true, "undisturbed");
    let want = whole.files();
    let calls = everywhere(Place::live, |place, lived, what| {
        assert!(lived.is_err(), "{what}: the fault is returned as an error");
        place.is_sound(false, what);
        place.live().unwrap_or_else(|error| panic!("{what}: afterwards {error}"));
        place.is_sound(true, what);
        assert!(place.files() == want, "{what}: the files are the same as without a fault");
    });
    for call in [Call::Make, Call::Write, Call::Sync, Call::Rename, Call::Remove] {
        assert!(calls.contains(&call), "{call:?} is tested with faults");
    }
}

#[test]
fn a_failing_memo_does_not_change_a_digest() {
    let folder = tempfile::tempdir().expect("a directory");
    let model = folder.path().join("model");
    fs::write(&model, vec![7; (1 << 20) + 1]).expect("written");
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(&model).and_then(|file| file.set_modified(hour_ago)).expect("touched");
    let want = Digest::of(&[7; (1 << 20) + 1]);
    let calls = everywhere(
        |place| memo::digest_file(&place.store("own"), &model).expect("the digest is computed"),
        |place, digest, what| {
            assert_eq!(digest, want, "{what}");
            place.is_sound(false, what);
            let store = place.store("own");
            assert_eq!(memo::digest_file(&store, &model).expect("the digest is computed"), want, "{what}: afterwards");
            assert_eq!(store.skipped(), [""; 0], "{what}: no memo is incomplete");
            assert!(place.files().iter().any(|(path, _)| path.starts_with("own/v1/memo")), "{what}: has a memo");
        },
    );
    assert!(calls.contains(&Call::Rename));
}
