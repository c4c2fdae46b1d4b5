//! Tests the complete outputs of `store` and `schema`.
#![cfg(unix)] // The outputs contain names with control characters and error messages of the system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use corrigenda::digest::Digest;
use corrigenda::project::{LOCK_FILE, Lock, LockedBase, LockedEdit, LockedPatch, LockedStatistics};
use corrigenda::store::{EntryKind, Store};
use insta::assert_snapshot;

/// A folder with a project and a cache, and the transcript of the commands.
struct Scene {
    folder: tempfile::TempDir,
    store: Store,
    transcript: String,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path().join("cache"));
        Self { folder, store, transcript: String::new() }
    }

    /// Returns a scene with three objects, a patch and two statistics, all two hours old; the lock does not contain the
    /// first object.
    fn filled() -> Self {
        let scene = Self::new();
        for (kind, name, size) in CONTENT {
            scene.store.put(kind, &Digest::of(name.as_bytes()), &vec![7; size]).expect("written");
        }
        scene.store.put_patch(PATCH).expect("written");
        for entry in scene.store.ls().expect("the store is listed") {
            let then = SystemTime::now() - Duration::from_hours(2);
            let file = fs::File::options().write(true).open(scene.store.path(entry.kind, &entry.key));
            file.and_then(|file| file.set_modified(then)).expect("touched");
        }
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the file is written");
    }

    fn lock(&self) {
        self.write("corrigenda.toml", "format = 1\n\n[model]\npath = \"model\"\n");
        self.write(LOCK_FILE, &lock().render());
    }

    fn object(&self, name: &str) -> PathBuf {
        self.store.path(EntryKind::Object, &Digest::of(name.as_bytes()))
    }

    /// Runs the binary on the scene's cache, and adds the command, both outputs and the exit code to the transcript.
    fn run(&mut self, arguments: &[&str]) -> String {
        let mut whole = arguments.to_vec();
        whole.extend(["--cache-dir", "cache"]);
        self.run_as_is(&whole, &arguments.join(" "))
    }

    fn run_as_is(&mut self, arguments: &[&str], shown: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corrigenda"));
        command.current_dir(self.folder.path()).args(arguments);
        let run = command.env("COLUMNS", "80").env_remove("CORRIGENDA_CACHE_DIR").output().expect("the binary runs");
        let answer = String::from_utf8(run.stdout).expect("UTF-8");
        let beside = String::from_utf8(run.stderr).expect("UTF-8");
        let code = run.status.code().expect("an exit code");
        let beside: String = beside.lines().map(|line| format!("! {line}\n")).collect();
        let whole = format!("$ corrigenda {shown}\n{answer}{beside}= {code}\n\n");
        self.transcript += &whole.replace(&*self.folder.path().to_string_lossy(), "[ROOT]");
        answer
    }
}

const CONTENT: [(EntryKind, &str, usize); 5] = [
    (EntryKind::Object, "old", 1000),
    (EntryKind::Object, "a", 3000),
    (EntryKind::Object, "b", 3000),
    (EntryKind::Statistics, "locked", 2_000_000),
    (EntryKind::Statistics, "other", 100),
];
const PATCH: &[u8] = b"a patch";

/// Returns a lock that contains the objects a and b, the patch, and the large statistics.
fn lock() -> Lock {
    let digest = |text: &str| Digest::of(text.as_bytes());
    let edit = |id: &str| LockedEdit {
        id: id.into(),
        alias: None,
        preface: None,
        meaning: digest("meaning"),
        expectation: digest("expectation"),
        record: digest("record"),
        tokens: vec!["A".into()],
        target_tokens: vec![" b".into()],
        position: 0,
        layers: vec![0],
        object: digest(id),
    };
    let statistics = LockedStatistics {
        layer: 0,
        digest: Digest::of(&vec![7; 2_000_000]),
        corpus: digest("corpus"),
        count: 9,
        imported: None,
    };
    Lock {
        numerics: "portable-1".into(),
        base: LockedBase { digest: digest("base"), files: Vec::new() },
        statistics: vec![statistics],
        edits: vec![edit("a"), edit("b")],
        patch: LockedPatch { settings: digest("settings"), set: digest("set"), id: Digest::of(PATCH) },
    }
}

#[test]
fn help() {
    let mut scene = Scene::new();
    scene.run_as_is(&["store", "-h"], "store -h");
    scene.run_as_is(&["store", "gc", "--help"], "store gc --help");
    assert_snapshot!(scene.transcript);
}

#[test]
fn an_empty_store() {
    let mut scene = Scene::new();
    for verb in ["dir", "ls", "verify", "gc"] {
        scene.run(&["store", verb]);
        scene.run(&["store", verb, "--format", "json"]);
    }
    scene.run(&["store", "gc", "--all", "--quiet"]);
    scene.run(&["store", "export", "parcel"]);
    let absolute = scene.path("cache").to_string_lossy().into_owned();
    scene.run_as_is(&["store", "ls", "--cache-dir", &absolute], "store ls --cache-dir [ROOT]/cache");
    assert!(!scene.path("cache").exists() && !scene.path("parcel").exists());
    assert_snapshot!(scene.transcript);
}

#[test]
fn listings() {
    let mut scene = Scene::filled();
    for arguments in [&["store", "ls"][..], &["store", "ls", "--full"]] {
        scene.run(arguments);
    }
    let json = scene.run(&["store", "ls", "--format", "json"]);
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value["entries"].as_array().map(Vec::len), Some(6));
    assert_snapshot!(scene.transcript);
}

#[test]
fn damage_is_found() {
    let mut scene = Scene::filled();
    scene.run(&["store", "verify"]);
    fs::write(scene.object("a"), "").expect("emptied");
    let mut bytes = fs::read(scene.object("b")).expect("there");
    bytes[5] ^= 1;
    fs::write(scene.object("b"), bytes).expect("damaged");
    scene.write("cache/v1/\u{1b}[31mstray", "");
    scene.run(&["store", "verify"]);
    scene.run(&["store", "verify", "--format", "json"]);
    assert_snapshot!(scene.transcript);
}

#[test]
fn gc_keeps_what_the_lock_names() {
    let mut scene = Scene::filled();
    scene.lock();
    scene.store.put(EntryKind::Object, &Digest::of(b"young"), b"young").expect("written");
    scene.run(&["store", "gc", "--verbose"]);
    scene.run(&["store", "ls"]);
    scene.run(&["store", "gc"]);
    scene.run(&["store", "gc", "--all", "--format", "json"]);
    scene.run(&["store", "gc", "--all"]);
    assert_snapshot!(scene.transcript);
}

#[test]
fn gc_without_a_lock_keeps_nothing() {
    let mut scene = Scene::filled();
    scene.lock();
    fs::remove_file(scene.path(LOCK_FILE)).expect("the file is removed");
    scene.run(&["store", "gc"]);
    fs::remove_file(scene.path("corrigenda.toml")).expect("the file is removed");
    scene.write(LOCK_FILE, &lock().render());
    scene.run(&["store", "gc", "--all", "--format", "json"]);
    assert_snapshot!(scene.transcript);
}

#[test]
fn a_damaged_lock_or_a_wrong_folder_removes_nothing() {
    let mut scene = Scene::filled();
    scene.lock();
    scene.write(LOCK_FILE, &lock().render().replace("position = 0", "position = -1"));
    scene.run(&["store", "gc", "--all"]);
    scene.run(&["store", "gc", "--all", "--format", "json"]);
    scene.run(&["store", "export", "parcel"]);
    scene.run(&["store", "gc", "--all", "-C", "nowhere"]);
    assert_eq!(scene.store.ls().expect("the store is listed").len(), 6);
    assert!(!scene.path("parcel").exists());
    assert_snapshot!(scene.transcript);
}

#[test]
fn entries_are_exported_and_imported() {
    let mut scene = Scene::filled();
    scene.lock();
    let there = ["--cache-dir", "there"];
    scene.run(&["store", "export", "parcel"]);
    scene.run_as_is(&["store", "import", "parcel", there[0], there[1]], "store import parcel");
    scene.run(&["store", "export", "parcel", "--all", "--format", "json"]);
    scene.run_as_is(&["store", "import", "parcel", there[0], there[1]], "store import parcel");
    let other = Store::open(scene.path("there"));
    assert_eq!(other.ls().expect("the store is listed").len(), 4);
    assert!(other.verify().problems.is_empty());

    fs::remove_file(scene.path(LOCK_FILE)).expect("the file is removed");
    scene.run(&["store", "export", "everything"]);
    scene.lock();
    fs::remove_file(scene.object("a")).expect("the file is removed");
    scene.run(&["store", "export", "more"]);
    scene.run(&["store", "export", "cache/parcel"]);
    assert_snapshot!(scene.transcript);
}

#[test]
fn invalid_store_exports_are_refused() {
    let mut scene = Scene::filled();
    scene.run(&["store", "import", "nowhere"]);
    scene.run(&["store", "import", "."]);
    fs::create_dir_all(scene.path("parcel/objects")).expect("the folder is created");
    scene.write("parcel/objects/\u{1b}]0;readme", "");
    scene.write(&format!("parcel/objects/{}", Digest::of(b"a").hex()), "no object");
    scene.run(&["store", "import", "parcel"]);
    scene.run(&["store", "import", "parcel", "--format", "json"]);
    assert_snapshot!(scene.transcript);
}

#[test]
fn a_cache_below_a_file_is_one_message() {
    let mut scene = Scene::filled();
    scene.run(&["store", "export", "parcel", "--all", "--quiet"]);
    scene.transcript.clear();
    scene.write("file", "");
    for arguments in [&["ls"][..], &["verify"], &["gc", "-q"], &["export", "out", "-q"], &["import", "parcel"]] {
        let whole = [&["store"], arguments, &["--cache-dir", "file/cache"]].concat();
        scene.run_as_is(&whole, &whole.join(" "));
    }
    scene.run_as_is(&["store", "ls", "--format", "json", "--cache-dir", "file/cache"], "store ls --format json");
    assert_eq!(fs::read(scene.path("file")).expect("untouched"), b"");
    assert_snapshot!(scene.transcript);
}

#[test]
fn a_missing_cache_folder_is_reported() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corrigenda"));
    let run = command.args(["store", "dir"]).env_clear().output().expect("the binary runs");
    assert_eq!(run.status.code(), Some(2));
    assert_snapshot!(String::from_utf8_lossy(&run.stderr));
}

#[test]
fn committed_schemas_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for which in ["edits", "project"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corrigenda"));
        let run = command.args(["schema", which]).output().expect("the binary runs");
        assert!(run.status.success() && run.stderr.is_empty());
        let file = root.join(format!("schemas/{which}.schema.json"));
        assert_eq!(run.stdout, fs::read(file).expect("a schema"));
    }
}
