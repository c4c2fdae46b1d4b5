//! Runs the program on hostile input: every file that it reads, truncated, with swapped values, and with oversized
//! content. Every run must end soon, with an exit code of the program, and within 64 MiB of memory in addition to the
//! file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::corpus::{self, Case};
use super::{figure, quick, rounds};
use crate::support::project::{Project, binary};

/// The data memory in bytes that a run may use in addition to the size of the file.
const ROOM: u64 = 64 << 20;

/// The maximum time of a refusal on an otherwise idle machine.
const SOON: Duration = Duration::from_millis(100);

/// The exit code and the time of a run on a hostile input.
struct Fate {
    code: i32,
    took: Duration,
}

/// Runs a case with a memory limit that the system enforces.
fn fate(project: &Project, case: &Case) -> Fate {
    let kilobytes = (ROOM + case.bytes.len() as u64) >> 10;
    let mut command = Command::new("sh");
    // A refusal normally takes less than a hundredth of this timeout, but other tests may slow it down.
    command.args(["-c", &format!("ulimit -d {kilobytes}; exec timeout 30 \"$@\""), "sh"]).arg(binary()).args(case.verb);
    command.args(["--threads", "1"]).current_dir(project.path("")).env("CORRIGENDA_CACHE_DIR", project.cache());
    let start = Instant::now();
    let output = command.output().expect("sh runs");
    let took = start.elapsed();
    let (name, told) = (&case.name, String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.signal(), None, "{name}: {told}");
    let code = output.status.code().unwrap_or(-1);
    assert!((0..=3).contains(&code) && !told.contains("panicked at"), "{name}: exit code {code}: {told}");
    let answered = !output.stdout.is_empty();
    assert!(code == 0 || answered || !told.trim().is_empty(), "{name}: it says nothing");
    let said = told + String::from_utf8_lossy(&output.stdout);
    assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{name}: control characters: {said:?}");
    Fate { code, took }
}

#[test]
fn malformed_files_are_refused_within_bounds() {
    let project = quick();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    corpus::prepare(&project);
    let cases = corpus::cases(&project);
    assert!(cases.len() >= 500, "{} cases", cases.len());
    let kept = Project::files(&project.cache());
    let (mut counts, mut slowest) = (BTreeMap::new(), (Duration::ZERO, String::new()));
    for case in &cases {
        let path = project.path(case.file);
        let before = fs::read(&path).expect("it is there");
        fs::write(&path, &case.bytes).expect("the file is written");
        let mut fate = fate(&project, case);
        // If figures are requested, a slow refusal is repeated twice, and the fastest run counts.
        for _ in 0..if rounds(0) > 0 && fate.code != 0 && fate.took > SOON { 2 } else { 0 } {
            fate.took = fate.took.min(self::fate(&project, case).took);
        }
        fs::write(&path, before).expect("restored");
        for made in ["never", "edits/imported"] {
            let _ = fs::remove_dir_all(project.path(made));
        }
        let class: &mut (usize, usize) = counts.entry(case.class).or_default();
        class.0 += 1;
        class.1 += usize::from(fate.code != 0);
        if fate.code != 0 && fate.took > slowest.0 {
            slowest = (fate.took, case.name.clone());
        }
    }
    // `memo` and `statistics` are not compared: memos of changed files are rewritten, and a valid npz is imported.
    let stays = |path: &Path| {
        ["memo", "statistics"].iter().all(|kind| !path.starts_with(project.cache().join("v1").join(kind)))
    };
    for (path, bytes) in kept.iter().filter(|(path, _)| stays(path)) {
        assert_eq!(fs::read(path).ok().as_ref(), Some(bytes), "nothing of the store is lost: {}", path.display());
    }
    for (class, (tried, refused)) in &counts {
        assert!(refused * 2 > *tried, "{class}: {refused} of {tried} are refused");
    }
    assert!(rounds(0) == 0 || slowest.0 < SOON, "{}: {:?}", slowest.1, slowest.0);
    let all: usize = counts.values().map(|(all, _)| all).sum();
    figure(&format!("{all} malformed inputs, 0 panics, within 64 MiB beside the file: (tried, refused) {counts:?}"));
    figure(&format!("the slowest refusal: {} ms ({})", slowest.0.as_millis(), slowest.1));
}

/// Every file that the program reads is replaced by a named pipe, a folder, a link to a device or a sparse file of a
/// terabyte.
#[test]
fn special_and_endless_files_are_refused() {
    let project = quick();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    corpus::prepare(&project);
    project.write("known.json", "[]");
    project.write("rows", "");
    let more: [(&str, &[&str]); 5] = [
        ("rows", &["bench", "counterfact", "counterfact.json", "--editors", "ft", "--resume", "rows"]),
        ("a.patch", &["patch", "show", "a.patch"]),
        ("known.json", &["trace", "--facts", "known.json"]),
        ("corpus.txt", &["stats", "build"]),
        ("counterfact.json", &["bench", "counterfact", "counterfact.json", "--editors", "ft"]),
    ];
    let read = corpus::readers().chain(more);
    let (mut tried, mut refused) = (0, 0);
    for (file, verb) in read {
        let (path, aside) = (project.path(file), project.path("aside"));
        fs::rename(&path, &aside).expect("laid aside");
        // A corpus may have any length: it is read to its end.
        let endless = file != "corpus.txt";
        for (what, make) in STRANGE.into_iter().filter(|(what, _)| endless || *what != "a terabyte") {
            make(&path);
            let name = format!("{file}: {what}");
            let fate = fate(&project, &Case { class: "strange", name, file, bytes: Vec::new(), verb });
            // The folder of edits may contain folders.
            assert!(fate.code != 0 || what == "a folder", "{file}: {what} is refused");
            (tried, refused) = (tried + 1, refused + usize::from(fate.code != 0));
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        }
        fs::rename(&aside, &path).expect("put back");
    }
    figure(&format!("{refused} of {tried} pipes, folders, devices and endless files are refused"));
}

/// The description of an unusual file, and the function that creates such a file at a path.
type Strange = (&'static str, fn(&Path));

const STRANGE: [Strange; 4] = [
    ("a pipe", |path| assert!(Command::new("mkfifo").arg(path).status().is_ok_and(|made| made.success()))),
    ("a folder", |path| fs::create_dir(path).expect("the folder is created")),
    ("a device", |path| std::os::unix::fs::symlink("/dev/zero", path).expect("the link is created")),
    ("a terabyte", |path| fs::File::create(path).and_then(|file| file.set_len(1 << 40)).expect("made")),
];
