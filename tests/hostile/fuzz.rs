//! Runs parsers on random mutations of valid files. No parser may panic on any input.
//!
//! By default each target runs for a fraction of a second; with `CORRIGENDA_FUZZ_SECONDS=900` it runs for 900 seconds
//! of processor time. Inputs that once made a parser panic are in `tests/hostile/found/TARGET/` and run first.
//! `guided/` fuzzes the same readers with libFuzzer.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{corpus, figure, quick, readers};
use crate::support::project::Project;
use crate::support::tiny;

/// A fast random number generator (xorshift).
struct Dice(u64);

impl Dice {
    fn next(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }
}

/// Fragments that have a meaning in the parsed formats.
const WORDS: [&[u8]; 30] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b",",
    b"=",
    b"\n",
    b"\0",
    b"[[edit]]\n",
    b"[edit.expect]\n",
    b"\"\"\"",
    b"'''",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\xe2\x80\xae",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551615",
    b"nan",
    b"{}",
    b"sha256:",
    b"__metadata__",
    b"data_offsets",
    b"id = ",
    b"\x93NUMPY",
    b"PK\x03\x04",
];

/// Returns one valid input with up to six random changes.
fn mutated(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[dice.next(seeds.len())].clone();
    for _ in 0..1 + dice.next(6) {
        let (at, length) = (dice.next(bytes.len() + 1), 1 + dice.next(16));
        let end = (at + length).min(bytes.len());
        match dice.next(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.next(8),
            1 if at < bytes.len() => bytes[at] = dice.next(256) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            4 => bytes.truncate(at),
            5 => {
                let other = &seeds[dice.next(seeds.len())];
                let from = dice.next(other.len() + 1);
                let part = other[from..(from + length * 4).min(other.len())].to_vec();
                bytes.splice(at..end, part);
            }
            // Replaces a number by a random one.
            6 => {
                let digits = bytes[at..].iter().position(u8::is_ascii_digit).map(|first| at + first);
                if let Some(first) = digits {
                    let count = bytes[first..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                    bytes.splice(first..first + count, dice.next(usize::MAX).to_string().into_bytes());
                }
            }
            _ => {
                let word = WORDS[dice.next(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
    bytes.truncate(1 << 16);
    bytes
}

/// Measures the processor time of this thread, because other processes may use the processor; or the elapsed time if
/// the system does not report processor time.
struct Clock {
    start: Instant,
    before: Option<Duration>,
}

impl Clock {
    fn new() -> Self {
        Self { start: Instant::now(), before: Self::processor() }
    }

    fn processor() -> Option<Duration> {
        let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    }

    fn elapsed(&self) -> Duration {
        match (self.before, Self::processor()) {
            // On some systems the file exists, but its numbers do not change.
            (Some(before), Some(now)) if now > before => now.saturating_sub(before).max(self.start.elapsed() / 20),
            _ => self.start.elapsed(),
        }
    }
}

fn found(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/found").join(target)
}

/// Runs the target's reader on all stored inputs, and then on mutations of `seeds` for the requested time. `beside` is
/// a folder with the other files of the checkpoint.
fn fuzz(target: &str, seeds: &[Vec<u8>], beside: &Path) {
    if let Some(folder) = std::env::var_os("CORRIGENDA_FUZZ_SEEDS") {
        return hand_over(&Path::new(&folder).join(target), seeds, beside);
    }
    let mut read = readers::reader(target, beside);
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let least = variable("CORRIGENDA_FUZZ_SECONDS").map_or(Duration::from_millis(400), Duration::from_secs);
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15 ^ variable("CORRIGENDA_FUZZ_SEED").unwrap_or(1));
    let kept = fs::read_dir(found(target)).into_iter().flatten().flatten();
    let mut kept: Vec<Vec<u8>> = kept.map(|entry| fs::read(entry.path()).expect("a kept input")).collect();
    kept.sort();
    let (mut tried, clock) = (0_u64, Clock::new());
    // Reading the clock reads a file, so it is read only once per 64 inputs.
    while !kept.is_empty() || tried % 64 != 0 || clock.elapsed() < least {
        let bytes = kept.pop().unwrap_or_else(|| mutated(&mut dice, seeds));
        if catch_unwind(AssertUnwindSafe(|| read(&bytes))).is_err() {
            let path = std::env::temp_dir().join(format!("corrigenda-{target}-{tried}"));
            fs::write(&path, &bytes).expect("the input is kept");
            panic!("{target}: {} ends it: keep it in {}", path.display(), found(target).display());
        }
        tried += 1;
    }
    if variable("CORRIGENDA_FUZZ_SECONDS").is_some() {
        figure(&format!("{target}: {tried} inputs in {} s, 0 panics", clock.elapsed().as_secs()));
    }
}

/// Writes the seeds and the other files with which `guided/` starts.
fn hand_over(folder: &Path, seeds: &[Vec<u8>], beside: &Path) {
    let copied = |from: &Path, to: &Path| {
        for entry in fs::read_dir(from).into_iter().flatten().flatten() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("the file is copied");
        }
    };
    for part in ["seeds", "beside"] {
        fs::create_dir_all(folder.join(part)).expect("a folder");
    }
    for (index, seed) in seeds.iter().enumerate() {
        fs::write(folder.join("seeds").join(index.to_string()), seed).expect("the file is written");
    }
    copied(beside, &folder.join("beside"));
}

fn built() -> Project {
    let project = quick();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    corpus::prepare(&project);
    project
}

fn seeds(project: &Project, files: &[&str]) -> Vec<Vec<u8>> {
    files.iter().map(|file| fs::read(project.path(file)).expect("a seed")).collect()
}

/// Fuzzes the target with mutations of `files`, which are files of the project.
fn of_files(target: &str, project: &Project, files: &[&str]) {
    let beside = project.path("sharded");
    fuzz(target, &seeds(project, files), &beside);
}

#[test]
fn edits() {
    of_files("edits", &quick(), &["edits/people.toml", "edits/places.toml"]);
}

#[test]
fn projects() {
    of_files("corrigenda.toml", &quick(), &["corrigenda.toml"]);
}

#[test]
fn locks() {
    of_files("locks", &built(), &["corrigenda.lock"]);
}

#[test]
fn headers() {
    of_files("headers", &quick(), &["model/model.safetensors"]);
}

#[test]
fn patches() {
    of_files("patches", &built(), &["a.patch"]);
}

#[test]
fn objects() {
    let project = built();
    let files = Project::files(&project.cache().join("v1/objects"));
    let seeds: Vec<Vec<u8>> = files.into_iter().map(|(_, bytes)| bytes[..bytes.len() - 1].to_vec()).collect();
    fuzz("objects", &seeds, &project.path("sharded"));
}

#[test]
fn checkpoints() {
    let project = built();
    of_files("model.safetensors.index.json", &project, &["sharded/model.safetensors.index.json"]);
    of_files("config.json", &project, &["sharded/config.json"]);
}

#[test]
fn tokenizers() {
    of_files("tokenizer.json", &quick(), &["model/tokenizer.json"]);
}

#[test]
fn moments() {
    assert_eq!(readers::MOMENT, tiny::INNER);
    fuzz("moments", &[crate::stats_import::published()], Path::new(""));
}

#[test]
fn datasets() {
    let project = built();
    for file in ["counterfact.json", "zsre.json", "easyedit.json"] {
        of_files(file, &project, &[file]);
    }
}
