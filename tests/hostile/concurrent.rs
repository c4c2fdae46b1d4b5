//! Tests processes that use one store at the same time.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{figure, patch, quick, rounds, skipped};
use crate::support::project::{Project, binary};

const BUILD: [&str; 3] = ["build", "--format", "json"];

/// Starts a verb on `project` with the store in `cache`.
fn started(project: &Project, cache: &Path, words: &[&str]) -> Child {
    let mut command = Command::new(binary());
    command.current_dir(project.path("")).args(words).env("CORRIGENDA_CACHE_DIR", cache);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs")
}

/// Waits for the process, which must succeed, and returns its JSON output.
fn answered(child: Child) -> serde_json::Value {
    let output = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"))
}

fn id(answer: &serde_json::Value) -> String {
    answer["patch"]["id"].as_str().expect("a patch").to_owned()
}

/// Returns eight projects, each with a different set of edits.
fn different() -> Vec<Project> {
    let targets = [["Paris", "Vienna", "Berlin", "Lisbon"], ["Paris", "Rome", "Berlin", "Lisbon"]];
    let project = |number: usize| {
        let project = quick();
        let file = if number < 4 { "edits/people.toml" } else { "edits/places.toml" };
        let from = if number < 4 { "target = \"Paris\"" } else { "target = \"Vienna\"" };
        project.replace(file, from, &format!("target = \"{}\"", targets[number / 4][number % 4]));
        project.replace("edits/people.toml", "was = \"Rome\"\n", "");
        project
    };
    (0..8).map(project).collect()
}

#[test]
fn eight_builds_of_one_set_give_one_patch() {
    let all: Vec<Project> = (0..8).map(|_| quick()).collect();
    let want = patch(&all[0].run(&BUILD));
    let cache = all[0].cache().with_file_name("one store");
    for round in 0..1 + rounds(0) / 20 {
        let _ = std::fs::remove_dir_all(&cache);
        let running: Vec<Child> = all.iter().map(|project| started(project, &cache, &BUILD)).collect();
        running.into_iter().for_each(|child| assert_eq!(id(&answered(child)), want, "round {round}"));
    }
    answered(started(&all[0], &cache, &["store", "verify", "--format", "json"]));
    figure(&format!("{} times 8 builds of one set at once, from an empty store: one patch", 1 + rounds(0) / 20));
}

/// Four builds in one project folder at the same time write one lock.
#[test]
fn builds_in_one_folder_give_one_lock() {
    let project = quick();
    let want = patch(&project.run(&BUILD));
    let lock = std::fs::read(project.path("corrigenda.lock")).expect("built");
    let rounds = 1 + rounds(0) / 20;
    for round in 0..rounds {
        let _ = std::fs::remove_dir_all(project.cache());
        std::fs::remove_file(project.path("corrigenda.lock")).expect("there");
        let running: Vec<Child> = (0..4).map(|_| started(&project, &project.cache(), &BUILD)).collect();
        running.into_iter().for_each(|child| assert_eq!(id(&answered(child)), want, "round {round}"));
        assert_eq!(std::fs::read(project.path("corrigenda.lock")).expect("there"), lock, "round {round}");
        let left = std::fs::read_dir(project.path("")).expect("listed").flatten().map(|entry| entry.file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with(".corrigenda-")).collect();
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
    figure(&format!("{rounds} times 4 builds at once in one folder: one lock"));
}

#[test]
fn parallel_builds_of_different_sets_agree() {
    let all = different();
    let want: Vec<String> = all.iter().map(|project| patch(&project.run(&BUILD))).collect();
    let distinct: BTreeSet<&String> = want.iter().collect();
    assert_eq!(distinct.len(), all.len(), "every one is another");
    let (cache, rounds) = (all[0].cache().with_file_name("one store"), 1 + rounds(0) / 20);
    for round in 0..rounds {
        let _ = std::fs::remove_dir_all(&cache);
        let running: Vec<Child> = all.iter().map(|project| started(project, &cache, &BUILD)).collect();
        let found: Vec<String> = running.into_iter().map(|child| id(&answered(child))).collect();
        assert_eq!(found, want, "round {round}");
    }
    answered(started(&all[0], &cache, &["store", "verify", "--format", "json"]));
    figure(&format!("{rounds} times 8 builds of different sets at once, from an empty store: every one its own patch"));
}

#[test]
fn gc_during_a_build_changes_no_bit() {
    let project = quick();
    let want = patch(&project.run(&BUILD));
    let (rounds, mut collected, mut stopped) = (1 + rounds(0) / 20, 0, 0);
    for all in [&["store", "gc"][..], &["store", "gc", "--all"]] {
        for _ in 0..rounds {
            let _ = std::fs::remove_dir_all(project.cache());
            let mut building = started(&project, &project.cache(), &BUILD);
            while building.try_wait().expect("it can be asked").is_none() {
                let gc = project.run(all);
                assert!(gc.code() == Some(0), "{}", gc.whole());
                collected += 1;
            }
            // `gc` keeps young entries, but `gc --all` may remove entries that the build has just written.
            let output = building.wait_with_output().expect("it ends");
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() || all.len() == 3 && output.status.code() == Some(2), "{told}");
            stopped += usize::from(!output.status.success());
            assert!(!told.contains("panicked at"), "{told}");
            assert_eq!(patch(&project.run(&BUILD)), want);
            assert_eq!(project.run(&["store", "verify"]).code(), Some(0));
        }
    }
    figure(&format!(
        "{} builds during which garbage was collected {collected} times: one patch; {stopped} under --all were stopped",
        2 * rounds
    ));
}

/// Starts a verb under strace, which delays every `call` by 20 s, waits until the verb holds the store's lock, and
/// kills it. Returns whether the verb held the lock.
fn killed_with_the_lock(project: &Project, call: &str, words: &[&str]) -> bool {
    let (trace, slow) = (format!("trace={call}"), format!("inject={call}:delay_enter=20000000"));
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &slow]).arg(binary()).args(words);
    command.current_dir(project.path("")).env("CORRIGENDA_CACHE_DIR", project.cache()).process_group(0);
    let Ok(mut holder) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else { return false };
    let lock = project.cache().join("v1/lock");
    let held = || File::open(&lock).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)));
    let met = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        held() || holder.try_wait().is_ok_and(|ended| ended.is_some())
    }) && held();
    // Kills strace and the traced process.
    let group = format!("kill -KILL -{}", holder.id());
    assert!(Command::new("sh").args(["-c", &group]).status().is_ok_and(|status| status.success()));
    let _ = holder.wait();
    met
}

#[test]
fn a_killed_process_holds_no_lock() {
    if !Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        skipped("strace is not here");
        return;
    }
    let project = quick();
    let want = patch(&project.run(&BUILD));
    // Keeps CACHEDIR.TAG: it is written only once and without the lock, so its `fsync` would be delayed first.
    let _ = std::fs::remove_dir_all(project.cache().join("v1"));
    assert!(killed_with_the_lock(&project, "fsync", &["build"]), "a build that writes holds the lock");
    assert_eq!(project.run(&["store", "gc"]).code(), Some(0));
    assert_eq!(patch(&project.run(&BUILD)), want);
    assert!(killed_with_the_lock(&project, "unlink", &["store", "gc", "--all"]), "who collects holds it alone");
    assert_eq!(project.run(&["store", "verify"]).code(), Some(0));
    assert_eq!(patch(&project.run(&BUILD)), want);
    figure("a build and a `store gc` killed while they held the lock: the next goes on");
}

#[test]
fn a_read_only_store_can_be_read() {
    let project = quick();
    let want = patch(&project.run(&BUILD));
    let cache = project.cache();
    let mount = |words: &[&str]| {
        let status = Command::new(words[0]).args(&words[1..]).arg(&cache).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    // File permissions do not restrict root, so the file system itself must be read-only.
    if !mount(&["mount", "--bind", &cache.to_string_lossy()]) {
        skipped("a file system cannot be mounted");
        return;
    }
    let sealed = mount(&["mount", "-o", "remount,bind,ro"]);
    let there = project.run(&BUILD);
    let verified = project.run(&["store", "verify"]);
    project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Lisbon\"");
    let missing = project.run(&["build"]);
    assert!(mount(&["umount"]) && sealed, "what was mounted is unmounted");
    assert_eq!(patch(&there), want, "{}", there.whole());
    assert_eq!(verified.code(), Some(0), "{}", verified.whole());
    assert_eq!(missing.code(), Some(2), "{}", missing.whole());
    assert!(missing.err().contains("ead-only"), "{}", missing.whole());
    assert_eq!(project.run(&BUILD).code(), Some(0), "and when it can be written to, it is");
}

#[test]
fn permissions_follow_the_umask() {
    let project = quick();
    let want = patch(&project.run(&BUILD));
    for (mask, mode) in [("077", 0o600), ("022", 0o644), ("002", 0o664)] {
        let _ = std::fs::remove_dir_all(project.cache());
        let _ = std::fs::remove_file(project.path("corrigenda.lock"));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {mask}; exec \"$0\" build --format json")]).arg(binary());
        command.current_dir(project.path("")).env("CORRIGENDA_CACHE_DIR", project.cache());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sh runs");
        assert_eq!(id(&answered(child)), want);
        let lock = std::fs::metadata(project.path("corrigenda.lock")).expect("a lock");
        assert_eq!(lock.permissions().mode() & 0o777, mode, "umask {mask}");
        assert_eq!(project.run(&["verify"]).code(), Some(0));
    }
}

/// A store that only another user can read is reported.
#[test]
fn a_store_of_another_user_is_reported() {
    let project = quick();
    let as_nobody = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(binary()).args(words);
        command.current_dir(project.path("")).env("CORRIGENDA_CACHE_DIR", project.cache()).output()
    };
    let open = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("opened");
    open(project.path("").parent().expect("a folder"));
    if !as_nobody(&["--version"]).is_ok_and(|output| output.status.success()) {
        skipped("setpriv is not here, or may not take another account, or the program is where others may not read");
        return;
    }
    let mut own = Command::new("sh");
    own.args(["-c", "umask 077; exec \"$0\" build --format json"]).arg(binary());
    own.current_dir(project.path("")).env("CORRIGENDA_CACHE_DIR", project.cache());
    answered(own.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sh runs"));
    let before = Project::files(&project.cache());
    std::fs::set_permissions(project.path("corrigenda.lock"), std::fs::Permissions::from_mode(0o644)).expect("opened");
    let output = as_nobody(&["build"]).expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("ermission denied"), "{told}");
    assert!(Project::files(&project.cache()) == before, "nothing of the store is another");
}
