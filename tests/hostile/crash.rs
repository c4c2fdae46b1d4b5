//! Injects a kill, a full disk or an I/O error at every write, sync and rename of a build.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::{figure, own_files, patch, quick, rounds, skipped};
use crate::support::project::{Project, binary};

/// The system calls that change a file, a folder or a lock, and those that make a change durable.
const CALLS: &str = "write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,\
                     mkdirat,ftruncate,flock,utimensat,openat";

/// A fault that is injected at a system call.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The process is killed, as at a power failure.
    Killed,
    /// No space is left on the disk (`ENOSPC`).
    Full,
    /// The disk reports an I/O error (`EIO`).
    Broken,
    /// The user presses Ctrl-C (`SIGINT`).
    Interrupted,
    /// The quota of the user is exhausted (`EDQUOT`).
    Quota,
    /// The destination is on another file system (`EXDEV`).
    Elsewhere,
}

impl Fault {
    const ALL: [Self; 6] = [Self::Killed, Self::Full, Self::Broken, Self::Interrupted, Self::Quota, Self::Elsewhere];

    fn injected(self) -> &'static str {
        match self {
            Self::Killed => "signal=SIGKILL",
            Self::Full => "error=ENOSPC",
            Self::Broken => "error=EIO",
            Self::Interrupted => "signal=SIGINT",
            Self::Quota => "error=EDQUOT",
            Self::Elsewhere => "error=EXDEV",
        }
    }

    /// Returns the signal that ends the build, or `None` for an error code.
    fn signal(self) -> Option<i32> {
        match self {
            Self::Killed => Some(9),
            Self::Interrupted => Some(2),
            _ => None,
        }
    }

    /// Returns whether the fault is injected at `call`. A fault that resembles `Killed`, `Full` or `Broken` is injected
    /// only at calls after which the program may react differently.
    fn happens(self, call: &str) -> bool {
        match self {
            Self::Killed | Self::Full | Self::Broken => true,
            Self::Interrupted => ["write", "rename", "fsync", "unlink"].iter().any(|begin| call.starts_with(begin)),
            Self::Quota => ["write", "pwrite", "mkdir", "openat"].iter().any(|begin| call.starts_with(begin)),
            Self::Elsewhere => ["rename", "link"].iter().any(|begin| call.starts_with(begin)),
        }
    }
}

/// Returns the command of a build, run by the program `under` if it is not empty.
fn build(project: &Project, under: &[&str]) -> Command {
    let mut command = match under {
        [] => Command::new(binary()),
        [program, words @ ..] => {
            let mut command = Command::new(program);
            command.args(words).arg(binary());
            command
        }
    };
    command.current_dir(project.path("")).args(["build", "--threads", "1", "--format", "json"]);
    command.env("CORRIGENDA_CACHE_DIR", project.cache()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Returns the command of a build under strace, which injects `fault` at the `when`th `call` of a thread.
fn injured(project: &Project, call: &str, fault: Fault, when: usize, log: &Path) -> Command {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{}:when={when}", fault.injected()));
    // A process that was started in the background ignores SIGINT, and the build would inherit this.
    let log = log.to_string_lossy();
    let program = ["env", "--default-signal=INT", "strace", "-f", "-qq", "-o", &log, "-e", &trace, "-e", &inject];
    build(project, &program)
}

/// Returns, for each call, the largest number of times that one thread of a build makes it; `None` without strace.
fn counted(project: &Project) -> Option<Vec<(&'static str, usize)>> {
    let log = project.cache().with_file_name("calls");
    let (trace, file) = (format!("trace={CALLS}"), log.to_string_lossy());
    if !build(project, &["strace", "-f", "-qq", "-e", &trace, "-o", &file]).output().ok()?.status.success() {
        return None;
    }
    let text = fs::read_to_string(log).ok()?;
    let mut found = Vec::new();
    for call in CALLS.split(',') {
        let mut threads = std::collections::BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(thread), Some(rest)) = (words.next(), words.next()) else { continue };
            if rest.starts_with(&format!("{call}(")) {
                *threads.entry(thread).or_insert(0_usize) += 1;
            }
        }
        found.push((call, threads.into_values().max().unwrap_or(0)));
    }
    Some(found)
}

/// Asserts that after a fault no file of the user has changed, the lock is `old` or complete, the store is valid, and a
/// build gives the patch `want`.
fn recovers(project: &Project, before: &[(PathBuf, Vec<u8>)], want: &str, what: &str, old: Option<&[u8]>) {
    let after = own_files(project);
    let other = |file: &&(PathBuf, Vec<u8>)| !before.contains(file) || !after.contains(file);
    let changed: Vec<_> = after.iter().chain(before).filter(other).map(|(path, _)| path).collect();
    assert!(changed.is_empty(), "{what}: files of the project are others: {changed:?}");
    let checked = project.run(&["store", "verify"]);
    assert_eq!(checked.code(), Some(0), "{what}: {}", checked.whole());
    let lock = fs::read(project.path("corrigenda.lock")).ok();
    assert!(lock.is_some() || old.is_none(), "{what}: a lock that was there is there");
    if lock.is_some() && lock.as_deref() != old {
        let read = project.run(&["build", "--locked", "--format", "json"]);
        assert_eq!(read.code(), Some(0), "{what}: a lock that is there is whole: {}", read.whole());
    }
    let again = project.run(&["build", "--format", "json"]);
    assert_eq!(patch(&again), want, "{what}");
    let verified = project.run(&["verify"]);
    assert_eq!(verified.code(), Some(0), "{what}: {}", verified.whole());
}

/// Removes the temporary file of the lock that a killed build leaves in the project. A build removes it only on a later
/// day.
fn forget_what_was_being_written(project: &Project) {
    for entry in fs::read_dir(project.path("")).expect("readable").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(".corrigenda-") && name.ends_with(".tmp") {
            fs::remove_file(entry.path()).expect("the file is removed");
        }
    }
}

/// Returns the lock of a build with another target, and restores the edits.
fn old_lock(project: &Project) -> Vec<u8> {
    project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Berlin\"");
    assert_eq!(project.run(&["build"]).code(), Some(0));
    project.replace("edits/people.toml", "target = \"Berlin\"", "target = \"Paris\"");
    fs::read(project.path("corrigenda.lock")).expect("built")
}

/// Asserts that a build that reports success has written the new lock and named the expected patch.
fn done(project: &Project, output: &Output, want: &str, what: &str, old: Option<&[u8]>) {
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{what}: no answer"));
    assert_eq!(answer["patch"]["id"], want, "{what}");
    let lock = fs::read(project.path("corrigenda.lock")).unwrap_or_else(|_| panic!("{what}: no lock"));
    assert!(Some(&*lock) != old && String::from_utf8_lossy(&lock).contains(want), "{what}: another lock");
}

fn cleared(project: &Project) {
    let _ = fs::remove_dir_all(project.cache());
    let _ = fs::remove_file(project.path("corrigenda.lock"));
}

#[test]
fn a_build_survives_a_failure_of_any_call() {
    let project = quick();
    let old = old_lock(&project);
    let want = patch(&project.run(&["build", "--format", "json"]));
    cleared(&project);
    let before = own_files(&project);
    let Some(calls) = counted(&project) else {
        skipped("strace is not here, or may not trace");
        return;
    };
    // By default, faults are injected at every 23rd occurrence of a call, starting at a different one for each call.
    let step = if rounds(0) > 0 { 1 } else { 23 };
    let (mut tried, mut missed, mut refused) = (0, Vec::new(), 0);
    let log = project.cache().with_file_name("fault");
    for (nth, (call, count)) in calls.iter().enumerate() {
        for fault in Fault::ALL.into_iter().filter(|fault| fault.happens(call)) {
            for when in (1 + nth % step..=*count).step_by(step) {
                cleared(&project);
                // Every second round starts with an older lock.
                let old = (tried % 2 == 1).then_some(&*old);
                old.into_iter().for_each(|old| fs::write(project.path("corrigenda.lock"), old).expect("written"));
                let what = format!("{fault:?} at {call} {when} of {count}");
                let mut injured = injured(&project, call, fault, when, &log);
                let output = injured.stdout(Stdio::piped()).output().expect("strace runs");
                let told = String::from_utf8_lossy(&output.stderr);
                assert!(!told.contains("panicked at"), "{what}: {told}");
                if fault.signal().is_none() && !output.status.success() {
                    assert_eq!(output.status.code(), Some(2), "{what}: {told}");
                    refused += 1;
                }
                if output.status.success() {
                    done(&project, &output, &want, &what, old);
                }
                // The temporary file also remains if `unlink` fails.
                if fault.signal().is_some() || call.starts_with("unlink") {
                    forget_what_was_being_written(&project);
                }
                recovers(&project, &before, &want, &what, old);
                let injected = fs::read_to_string(&log).is_ok_and(|log| log.contains("(INJECTED)"));
                if !injected && (fault.signal().is_none() || output.status.signal() != fault.signal()) {
                    missed.push(what);
                }
                tried += 1;
            }
        }
    }
    // The distribution of calls over threads varies, so sometimes no thread reaches the chosen occurrence.
    let met = tried - missed.len();
    assert!(refused > 0 && met * 20 >= tried * 19, "of {tried} faults these do not reach the build: {missed:#?}");
    figure(&format!(
        "{tried} faults at calls of one build, of which {met} were met; {refused} that failed stopped it, with exit code 2"
    ));
}

#[test]
fn a_killed_build_can_be_repeated() {
    let project = quick();
    let start = Instant::now();
    let want = patch(&project.run(&["build", "--format", "json"]));
    let whole = start.elapsed();
    let before = own_files(&project);
    let (mut state, mut killed) = (7_u64, 0);
    let rounds = rounds(6);
    for round in 0..rounds {
        // Every second round continues with the existing store and lock.
        if round % 2 == 0 {
            cleared(&project);
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = (state >> 40) as f64 / f64::from(1_u32 << 24);
        let mut child = build(&project, &[]).spawn().expect("the binary runs");
        std::thread::sleep(Duration::from_secs_f64(share * whole.as_secs_f64()));
        let _ = child.kill();
        let status = child.wait().expect("it ends");
        killed += usize::from(status.signal() == Some(9));
        forget_what_was_being_written(&project);
        recovers(&project, &before, &want, &format!("round {round}"), None);
    }
    // Some builds end before the kill, but in 20 rounds or more at least one build is killed.
    assert!(rounds < 20 || killed > 0, "a kill meets a build");
    figure(&format!("{rounds} rounds of kill -9 at a random time: {killed} met a build at work"));
}

/// A mounted file system, unmounted on drop.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_damages_nothing() {
    let project = quick();
    let want = patch(&project.run(&["build", "--format", "json"]));
    cleared(&project);
    let before = own_files(&project);
    let mut stopped = 0;
    for kilobytes in [16, 64, 128, 256, 512, 1024] {
        let _ = fs::create_dir_all(project.cache());
        let mount = |words: &[&str]| Command::new(words[0]).args(&words[1..]).arg(project.cache()).status();
        let size = format!("size={kilobytes}k");
        if !mount(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs"]).is_ok_and(|status| status.success()) {
            skipped("a file system cannot be mounted");
            return;
        }
        let mounted = Mounted(project.cache());
        let run = project.run(&["build", "--format", "json"]);
        let checked = project.run(&["store", "verify"]);
        assert!(!run.err().contains("panicked at"), "{}", run.whole());
        if run.code() != Some(0) {
            assert_eq!(run.code(), Some(2), "{}", run.whole());
            stopped += 1;
        }
        assert_eq!(checked.code(), Some(0), "{kilobytes} KiB: {}", checked.whole());
        // A build with the same store succeeds after the file system is enlarged.
        assert!(mount(&["mount", "-o", "remount,size=64m"]).is_ok_and(|status| status.success()), "room is made");
        recovers(&project, &before, &want, &format!("{kilobytes} KiB"), None);
        drop(mounted);
        cleared(&project);
    }
    assert!(stopped > 0, "the smallest is too small");
    figure(&format!("6 sizes of a full file system: {stopped} stopped the build, with exit code 2"));
}
