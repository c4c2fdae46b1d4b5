//! Input that was made to harm, as code: every file that is read, cut, swapped and stuffed. Whatever it is, a run ends
//! with an exit code of its own, soon, and within 64 MiB beside the file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::corpus::{self, Case};
use super::{figure, quick, rounds};
use crate::support::project::{Project, binary};

/// What a run may hold beside the file that it reads.
const ROOM: u64 = 64 << 20;

/// What became of a case.
struct Fate {
    code: i32,
    took: Duration,
}

/// Runs a case; the system itself refuses it more memory than it may have.
fn fate(project: &Project, case: &Case) -> Fate {
    let kilobytes = (ROOM + case.bytes.len() as u64) >> 10;
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -d {kilobytes}; exec \"$@\""), "sh"]).arg(binary()).args(case.verb);
    command.args(["--threads", "1"]).current_dir(project.path("")).env("CORRIGENDA_CACHE_DIR", project.cache());
    let start = Instant::now();
    let output = command.output().expect("sh runs");
    let took = start.elapsed();
    let (name, told) = (&case.name, String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.signal(), None, "{name}: {told}");
    let code = output.status.code().unwrap_or(-1);
    // A refusal takes a hundredth of that, but not beside other tests.
    assert!(took < Duration::from_secs(30), "{name}: it took {took:?}");
    assert!((0..=3).contains(&code) && !told.contains("panicked at"), "{name}: exit code {code}: {told}");
    let answered = !output.stdout.is_empty();
    assert!(code == 0 || answered || !told.trim().is_empty(), "{name}: it says nothing");
    assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "{name}: control characters: {told:?}");
    Fate { code, took }
}

#[test]
fn whatever_is_read_is_refused_soon_and_in_little_room() {
    let project = quick();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    corpus::prepare(&project);
    let cases = corpus::cases(&project);
    assert!(cases.len() >= 500, "{} cases", cases.len());
    let kept = Project::files(&project.cache());
    let (mut counts, mut slowest) = (BTreeMap::new(), (Duration::ZERO, String::new()));
    // A sample takes every third, another third every day would be as good.
    let step = if rounds(0) > 0 { 1 } else { 3 };
    for case in cases.iter().step_by(step) {
        let path = project.path(case.file);
        let before = fs::read(&path).expect("it is there");
        fs::write(&path, &case.bytes).expect("written");
        let fate = fate(&project, case);
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
    // What is remembered of files is of other files now, and an npz that is sound enough takes the place of a sum.
    let stays = |path: &Path| {
        ["memo", "statistics"].iter().all(|kind| !path.starts_with(project.cache().join("v1").join(kind)))
    };
    for (path, bytes) in kept.iter().filter(|(path, _)| stays(path)) {
        assert_eq!(fs::read(path).ok().as_ref(), Some(bytes), "nothing of the store is lost: {}", path.display());
    }
    let all: usize = counts.values().map(|(all, _)| all).sum();
    figure(&format!("{all} malformed inputs, 0 panics, within 64 MiB beside the file: (tried, refused) {counts:?}"));
    figure(&format!("the slowest refusal: {} ms ({})", slowest.0.as_millis(), slowest.1));
}
