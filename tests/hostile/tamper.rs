//! Flips one bit in any file that a build reads back. The build must reject the file, compute the value again with a
//! warning, or give the same patch because the bit has no meaning.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{figure, patch, quick, rounds};
use crate::support::project::Project;

/// The reaction of the build to a flipped bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// The build failed and gave no patch.
    Refused,
    /// The build gave the same patch and warned that it computed a value again.
    Mended,
    /// The build gave the same patch without a warning: the bit is in a comment, or in an entry that this run does not
    /// need.
    Harmless,
}

/// A file to flip, and the store folders to remove first so that the build reads the file.
struct Target {
    name: &'static str,
    file: PathBuf,
    without: &'static [&'static str],
}

fn targets(project: &Project) -> Vec<Target> {
    let entries = |folder: &str| -> Vec<PathBuf> {
        let files = Project::files(&project.cache().join("v1").join(folder));
        files.into_iter().map(|(path, _)| path).collect()
    };
    let kinds: [(&str, &[&str]); 7] = [
        ("patches", &[]),
        ("objects", &["patches", "reports"]),
        ("statistics", &["patches", "reports", "factors"]),
        // The header of the statistics goes into the lock even if the build does not read the sum.
        ("statistics", &[]),
        ("factors", &["patches", "reports"]),
        ("reports", &[]),
        ("memo", &[]),
    ];
    let mut out = Vec::new();
    for (name, without) in kinds {
        let files = entries(name);
        assert!(!files.is_empty(), "the store has {name}");
        out.extend(files.into_iter().map(|file| Target { name, file, without }));
    }
    let lock = project.path("corrigenda.lock");
    // The lock is listed three times, so that it is chosen as often as the entries of one kind.
    out.extend((0..3).map(|_| Target { name: "lock", file: lock.clone(), without: &[] }));
    out
}

/// Builds after a bit of the target was flipped; for a patch, also runs `verify`.
fn fate(project: &Project, want: &str, target: &Target, what: &str) -> Fate {
    // `--locked` refuses a lock that would change; without it, the build could overwrite the lock and hide the flip.
    let words: &[&str] = match target.name {
        "lock" => &["build", "--locked", "--format", "json"],
        _ => &["build", "--format", "json"],
    };
    let verified = (target.name == "patches").then(|| project.run(&["verify"]));
    let run = project.run(words);
    assert!(!run.err().contains("panicked at"), "{what}: {}", run.whole());
    if let Some(verified) = verified {
        assert_ne!(verified.code(), Some(0), "{what}: {}", verified.whole());
    }
    match run.code() {
        Some(2 | 3) => Fate::Refused,
        Some(0) => {
            assert_eq!(patch(&run), want, "{what}: another patch");
            let warned = run.err().contains("store-damaged");
            if warned { Fate::Mended } else { Fate::Harmless }
        }
        _ => panic!("{what}: {}", run.whole()),
    }
}

/// Returns whether two texts are the same TOML, so that they differ only in comments and white space.
fn same_toml(one: &[u8], other: &[u8]) -> bool {
    let read = |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<toml::Table>().ok());
    read(one).is_some_and(|table| Some(table) == read(other))
}

#[test]
fn every_flipped_bit_is_found() {
    let project = quick();
    // The file must be large enough for its digest to be cached, and old enough to count as unchanged.
    let weights = project.path("model/model.safetensors");
    fs::write(&weights, padded(&fs::read(&weights).expect("weights"))).expect("written");
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let touched = fs::File::options().write(true).open(&weights).and_then(|file| file.set_modified(hour_ago));
    touched.expect("the model's time is set");
    let want = patch(&project.run(&["build", "--format", "json"]));
    let kept = Project::files(&project.cache());
    let lock = fs::read(project.path("corrigenda.lock")).expect("a lock");
    let targets = targets(&project);
    let (mut state, mut fates) = (11_u64, BTreeMap::new());
    let mut next = move |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for round in 0..rounds(90) {
        let target = &targets[round % targets.len()];
        let sound = fs::read(&target.file).expect("it is there");
        for folder in target.without {
            let _ = fs::remove_dir_all(project.cache().join("v1").join(folder));
        }
        let (byte, bit) = (next(sound.len()), next(8));
        let mut flipped = sound.clone();
        flipped[byte] ^= 1 << bit;
        fs::write(&target.file, &flipped).expect("flipped");
        let what = format!("bit {bit} of byte {byte} of {}", target.file.display());
        let fate = fate(&project, &want, target, &what);
        match (target.name, fate) {
            ("lock", Fate::Harmless) => assert!(same_toml(&sound, &flipped), "{what}: the lock was taken as it is"),
            (_, Fate::Harmless) => panic!("{what}: nothing was said"),
            _ => {}
        }
        *fates.entry((target.name, fate)).or_insert(0_usize) += 1;
        restore(&project.cache(), &kept);
        fs::write(project.path("corrigenda.lock"), &lock).expect("restored");
    }
    // At least one flip in every kind of entry that can be computed again led to a warning.
    let all_had_their_turn = rounds(90) >= targets.len();
    for name in ["objects", "statistics", "factors", "reports", "memo"] {
        assert!(!all_had_their_turn || fates.contains_key(&(name, Fate::Mended)), "{name}: {fates:?}");
    }
    figure(&format!("{} flipped bits, 0 escapes: {fates:?}", rounds(90)));
}

/// Returns the same tensors with a header of more than one mebibyte.
fn padded(weights: &[u8]) -> Vec<u8> {
    let (length, rest) = weights.split_first_chunk().expect("a length");
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header = [header, &vec![b' '; 1 << 20]].concat();
    [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
}

/// Restores the cache to its earlier state.
fn restore(cache: &Path, kept: &[(PathBuf, Vec<u8>)]) {
    for (path, bytes) in kept {
        if fs::read(path).ok().as_deref() != Some(bytes) {
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, bytes).expect("restored");
        }
    }
    for (path, _) in Project::files(cache) {
        if !kept.iter().any(|(other, _)| *other == path) {
            fs::remove_file(&path).expect("the file is removed");
        }
    }
}
