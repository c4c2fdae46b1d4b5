//! Runs the commands in the README and compares their output; checks the lock of the bundled model.

use std::path::Path;
use std::process::{Command, Output};

fn run(folder: &Path, cache: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corrigenda"));
    command.current_dir(folder).args(arguments).env_remove("COLUMNS").env("CORRIGENDA_CACHE_DIR", cache);
    command.output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// Returns every block of the README that begins with `$ cargo run --release -- VERB …` or `$ corrigenda VERB …`: the
/// arguments and the output below them. A line `…` represents omitted lines.
fn shown(readme: &str) -> Vec<(Vec<String>, Vec<String>)> {
    let mut found: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    let mut open = false;
    for line in readme.lines() {
        let Some(line) = line.strip_prefix("    ") else {
            open &= line.is_empty();
            continue;
        };
        let verb = line.strip_prefix("$ cargo run --release -- ").or_else(|| line.strip_prefix("$ corrigenda "));
        match verb {
            Some(verb) => {
                found.push((verb.split(' ').map(str::to_owned).collect(), Vec::new()));
                open = true;
            }
            None if line.starts_with("$ ") => open = false,
            None if open => found.last_mut().expect("a command above").1.push(line.to_owned()),
            None => {}
        }
    }
    found
}

/// Returns whether `shown` equals `real`, except for omitted lines at every `…`.
fn agrees(shown: &[String], real: &str) -> bool {
    let mut real = real.lines().map(str::trim_end).filter(|line| !line.is_empty()).peekable();
    let mut skipping = false;
    for line in shown.iter().map(|line| line.trim_end()).filter(|line| !line.is_empty()) {
        if line == "…" {
            skipping = true;
            continue;
        }
        let matched = if skipping { real.any(|found| found == line) } else { real.next() == Some(line) };
        if !matched {
            return false;
        }
        skipping = false;
    }
    skipping || real.peek().is_none()
}

#[test]
fn readme_commands_give_the_shown_output() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cache = tempfile::tempdir().expect("a temporary folder");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let lock = std::fs::read(root.join("corrigenda.lock")).expect("the lock");
    let shown = shown(&readme);
    assert!(shown.iter().any(|(arguments, _)| arguments[0] == "build"), "the README shows a build");
    for (arguments, lines) in shown {
        let output = run(root, cache.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let real = text(&output.stdout);
        assert!(agrees(&lines, real), "{arguments:?} says\n{real}\nthe README shows\n{}", lines.join("\n"));
    }
    // A build on this machine gives the committed lock.
    let locked = run(root, cache.path(), &["build", "--locked"]);
    assert!(locked.status.success(), "{}", text(&locked.stderr));
    assert_eq!(std::fs::read(root.join("corrigenda.lock")).expect("the lock"), lock);
}

#[test]
fn pull_requests_of_documents_are_in_the_transcript() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).expect("the file");
    let transcript = read("examples/story/transcript.txt");
    for (name, least) in [("README.md", 10), ("docs/guide.md", 30)] {
        let document = read(name);
        let section = document.split("\n## ").find(|section| section.starts_with("One pull request"));
        let section = section.unwrap_or_else(|| panic!("{name} has no section `One pull request`"));
        let shown: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("    ")).collect();
        assert!(shown.len() > least, "{name} shows output of the story");
        for line in shown.into_iter().filter(|line| !matches!(line.trim(), "" | "…")) {
            assert!(transcript.lines().any(|told| told == line), "{name}: the transcript has no line: {line}");
        }
    }
}

#[test]
fn a_new_project_on_the_bundled_model_builds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (project, cache) = (folder.path().join("project"), folder.path().join("cache"));
    let project = project.to_str().expect("UTF-8");
    for arguments in [&["init", "-C", project][..], &["plan", "-C", project], &["build", "-C", project]] {
        let output = run(root, &cache, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    }
    let test = run(root, &cache, &["test", "-C", project]);
    assert!(test.status.success(), "{}", text(&test.stdout));
}
