//! Runs the script in examples/story and compares its output with the transcript.

use std::path::Path;
use std::process::Command;

/// Returns whether a program can be started.
fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn the_story_matches_its_transcript() {
    if let Some(absent) = ["bash", "git", "sed", "dd"].into_iter().find(|program| !is_there(program)) {
        eprintln!("SKIPPED the_story_matches_its_transcript: {absent} is not here");
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/story");
    let binaries = Path::new(env!("CARGO_BIN_EXE_corrigenda")).parent().expect("a folder of binaries");
    let path = std::env::var("PATH").unwrap_or_default();
    let work = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new("bash");
    command.arg(folder.join("story")).arg(work.path().join("story"));
    command.env("PATH", format!("{}:{path}", binaries.display()));
    for set in ["CI", "GITHUB_ACTIONS", "NO_COLOR", "CLICOLOR_FORCE"] {
        command.env_remove(set);
    }
    let output = command.output().expect("bash runs");
    let told = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    let transcript = folder.join("transcript.txt");
    if std::env::var_os("UPDATE_TRANSCRIPT").is_some() {
        std::fs::write(&transcript, &told).expect("the transcript");
    }
    let expected = std::fs::read_to_string(&transcript).expect("the transcript");
    let differs = told.lines().zip(expected.lines()).position(|(told, expected)| told != expected);
    assert!(
        told == expected,
        "line {} of the transcript is told otherwise (UPDATE_TRANSCRIPT=1 writes it anew):\n{told}",
        differs.map_or(expected.lines().count(), |line| line) + 1
    );
}
