//! Tests the import of published second moments of ROME, which replace computed statistics.

use std::io::{Cursor, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::support::project::Project;
use crate::support::tiny::INNER;

/// Returns one array in the npy format.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes(), data].concat()
}

/// Returns an archive with a second moment that no corpus gives: `1000 (I + ⅒ 1 1ᵀ)` over a thousand keys.
pub fn published() -> Vec<u8> {
    let element = |place: usize| if place / INNER == place % INNER { 1100.0_f32 } else { 100.0 };
    let sum: Vec<u8> = (0..INNER * INNER).flat_map(|place| element(place).to_le_bytes()).collect();
    let members = vec![
        ("mom2.count.npy", npy("<i8", "()", &1000_i64.to_le_bytes())),
        ("mom2.mom2.npy", npy("<f4", &format!("({INNER}, {INNER})"), &sum)),
        ("sample_size.npy", npy("<i8", "()", &100_000_i64.to_le_bytes())),
    ];
    archive(members)
}

fn archive(members: Vec<(&str, Vec<u8>)>) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        archive.start_file(name, options).expect("a member");
        archive.write_all(&bytes).expect("the file is written");
    }
    archive.finish().expect("whole").into_inner()
}

/// Returns the archive with one field of all its headers rewritten: at offset `own` of each local header, and at
/// `listed` of each entry in the central directory.
fn rewritten(mut archive: Vec<u8>, own: usize, listed: usize, field: &[u8]) -> Vec<u8> {
    for (mark, place) in [(b"PK\x03\x04", own), (b"PK\x01\x02", listed)] {
        let starts: Vec<usize> =
            archive.windows(4).enumerate().filter(|(_, four)| four == mark).map(|(at, _)| at).collect();
        starts.into_iter().for_each(|at| archive[at + place..at + place + field.len()].copy_from_slice(field));
    }
    archive
}

/// Returns hostile archives, each with a description.
pub fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let count = || ("mom2.count.npy", npy("<i8", "()", &1000_i64.to_le_bytes()));
    let with = |sum: Vec<u8>| archive(vec![count(), ("mom2.mom2.npy", sum)]);
    let sound = || npy("<f4", &format!("({INNER}, {INNER})"), &vec![0; INNER * INNER * 4]);
    let names: Vec<String> = (0..40_000).map(|n| n.to_string()).collect();
    let many = names.iter().map(|name| (name.as_str(), Vec::new()));
    vec![
        ("objects, which are pickles", with(npy("|O", "(1,)", b"\x80\x02}q\x00."))),
        ("members that are packed", rewritten(with(sound()), 8, 10, &[8, 0])),
        ("members of other sizes than they say", rewritten(with(sound()), 18, 20, &[0xf0; 8])),
        ("members that are secret", rewritten(with(sound()), 6, 8, &[1, 0])),
        ("an array of 2^120 numbers", with(npy("<f4", "(1152921504606846976, 1152921504606846976)", &[0; 64]))),
        ("an array of negative length", with(npy("<f4", "(-1, -1)", &[0; 64]))),
        ("an array shorter than it says", with(npy("<f4", &format!("({INNER}, {INNER})"), &[0; 64]))),
        ("a header without end", with(npy("<f4", &"(".repeat(60_000), &[]))),
        ("no number", with(npy("<f4", &format!("({INNER}, {INNER})"), &[0xff].repeat(INNER * INNER * 4)))),
        ("a count of nothing", archive(vec![("mom2.mom2.npy", sound())])),
        ("a path for a name", archive(vec![("../../mom2.count.npy", Vec::new())])),
        ("forty thousand members", archive(many.collect())),
    ]
}

#[test]
fn a_published_moment_replaces_the_corpus() {
    let project = Project::new();
    std::fs::write(project.path("rome.npz"), published()).expect("the file is written");
    let imported = project.run(&["stats", "import", "rome.npz", "--format", "json"]);
    assert_eq!(imported.code(), Some(0), "{}", imported.whole());
    assert_eq!((&imported.json()["keys"], imported.json()["imported"].is_string()), (&1000.into(), true));
    assert_eq!(project.run(&["stats", "import", "rome.npz"]).code(), Some(0), "the same again is no conflict");
    insta::assert_snapshot!("published_show", project.run(&["stats", "show"]).out());
    let built = project.run(&["build"]);
    assert!(built.code() == Some(0) && !built.err().contains("keys of layer"), "nothing is summed: {}", built.whole());
    let rebuilt = project.run(&["verify", "--rebuild"]);
    assert!(rebuilt.code() == Some(0) && rebuilt.out().contains("imported from"), "{}", rebuilt.whole());
    // With another store, the build fails until the statistics that the lock requires are imported into that store.
    let elsewhere = ["--cache-dir", "../elsewhere"];
    let locked = project.run(&[&["build", "--locked"], &elsewhere[..]].concat());
    assert!(locked.code() == Some(3) && locked.err().contains("were imported from"), "{}", locked.whole());
    let plain = project.run(&[&["build"], &elsewhere[..]].concat());
    assert_eq!(plain.code(), Some(3), "they are not quietly summed: {}", plain.whole());
    assert_eq!(
        project.run(&[&["stats", "build"], &elsewhere[..]].concat()).code(),
        Some(0),
        "but where it is asked for"
    );
    let refused = project.run(&[&["stats", "import", "rome.npz"], &elsewhere[..]].concat());
    assert!(refused.code() == Some(2) && refused.err().contains("--replace"), "{}", refused.whole());
    let replaced = project.run(&[&["stats", "import", "rome.npz", "--replace"], &elsewhere[..]].concat());
    assert_eq!(replaced.code(), Some(0), "{}", replaced.whole());
    assert_eq!(project.run(&[&["build", "--locked"], &elsewhere[..]].concat()).code(), Some(0));
}

#[test]
fn imports_do_not_affect_other_projects() {
    let project = Project::new();
    std::fs::write(project.path("rome.npz"), published()).expect("the file is written");
    assert_eq!(project.run(&["build"]).code(), Some(0));
    let lock = project.read("corrigenda.lock");
    for folder in ["other", "other/edits"] {
        std::fs::create_dir(project.path(folder)).expect("the folder is created");
    }
    for (path, bytes) in Project::files(&project.path("edits")) {
        std::fs::write(project.path("other/edits").join(path.file_name().expect("a file")), bytes).expect("written");
    }
    for name in ["corpus.txt", "templates.txt"] {
        std::fs::copy(project.path(name), project.path("other").join(name)).expect("the file is copied");
    }
    let own = project.read("corrigenda.toml").replace("\"model\"", "\"../model\"");
    project.write("other/corrigenda.toml", &own);
    let imported = project.run(&["-C", "other", "stats", "import", "rome.npz", "--replace"]);
    assert_eq!(imported.code(), Some(0), "{}", imported.whole());
    // The patch of the first project does not change, with and without its lock.
    assert_eq!(project.run(&["build", "--locked"]).code(), Some(0));
    std::fs::remove_file(project.path("corrigenda.lock")).expect("the file is removed");
    assert_eq!(project.run(&["build"]).code(), Some(0));
    assert_eq!(project.read("corrigenda.lock"), lock);
    assert!(!project.run(&["stats", "show"]).out().contains("imported"));
    // The second project uses the imported statistics, and its lock requires them.
    assert_eq!(project.run(&["-C", "other", "build"]).code(), Some(0));
    let other = project.read("other/corrigenda.lock");
    assert!(other.contains("imported = ") && other != lock, "{other}");
    for verb in [&["build"][..], &["build", "--locked"], &["verify"], &["verify", "--rebuild"]] {
        let run = project.run(&[&["-C", "other"], verb].concat());
        assert_eq!(run.code(), Some(0), "{verb:?}: {}", run.whole());
    }
    assert!(project.run(&["-C", "other", "stats", "show"]).out().contains("imported"));
    assert_eq!(project.read("other/corrigenda.lock"), other);
    // Computed statistics are used after an explicit `stats build`.
    assert_eq!(project.run(&["-C", "other", "stats", "build"]).code(), Some(0));
    assert_eq!(project.run(&["-C", "other", "build", "--locked"]).code(), Some(0), "the lock stands until a build");
    assert_eq!(project.run(&["-C", "other", "build"]).code(), Some(0));
    assert!(!project.read("other/corrigenda.lock").contains("imported = "));
}

#[test]
fn a_moment_of_another_model_is_refused() {
    let project = Project::new();
    std::fs::write(project.path("rome.npz"), published()).expect("the file is written");
    for (name, bytes) in [("cut.npz", published()[..5000].to_vec()), ("pickle.npz", b"\x80\x02}q\0.".to_vec())] {
        std::fs::write(project.path(name), bytes).expect("the file is written");
        let run = project.run(&["stats", "import", name]);
        assert!(run.code() == Some(2) && run.err().contains("not an npz file"), "{}", run.whole());
    }
    let run = project.run(&["stats", "import", "nowhere.npz"]);
    assert!(run.code() == Some(2) && run.err().contains("nowhere.npz"), "{}", run.whole());
    let wrong_layer = project.run(&["stats", "import", "rome.npz", "--layer", "7"]);
    assert_eq!(wrong_layer.code(), Some(2), "{}", wrong_layer.whole());
}
