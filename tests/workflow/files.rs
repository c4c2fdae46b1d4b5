//! Tests that the workflow files that users copy are valid and agree with the scripts of the action.

use std::path::Path;

use super::{action, text};
use crate::support::project::Project;

#[test]
fn workflows_are_well_formed() {
    let files = ["action.yml", "pull-request.yml", "merge-queue.yml"].map(|name| (name, text(&action(name))));
    for (name, yaml) in &files {
        assert!(!yaml.contains('\t') && yaml.is_ascii() && yaml.ends_with('\n'), "{name}");
        for line in yaml.lines() {
            let indent = line.len() - line.trim_start().len();
            assert!(line.contains("run: ") || indent % 2 == 0, "{name}: {line}");
            if let Some(used) = line.split_once("uses: ").map(|(_, used)| used) {
                let known = [
                    "actions/checkout@v5",
                    "actions/upload-artifact@v6",
                    "OWNER/corrigenda/examples/github-action@REF",
                ];
                assert!(used.starts_with("actions/cache") && used.ends_with("@v5") || known.contains(&used), "{used}");
            }
        }
        // Untrusted values must be passed to a script as environment variables, not as part of its text.
        let mut deepest = None;
        for line in yaml.lines().filter(|line| !line.trim().is_empty()) {
            let indent = line.len() - line.trim_start().trim_start_matches("- ").len();
            deepest = deepest.filter(|run| indent > *run).or_else(|| line.contains("run: ").then_some(indent));
            assert!(deepest.is_none() || !line.contains("${{"), "{name}: {line}");
        }
    }
    let (_, action_file) = &files[0];
    assert!(action_file.contains("\nruns:\n  using: composite\n"));
    let count = |what: &str| action_file.lines().filter(|line| line.trim_start().starts_with(what)).count();
    assert_eq!((count("run: "), count("shell: bash")), (3, 3), "a script in an action names its shell");
    for input in ["project", "against", "locked", "comment", "sarif", "cache-dir", "corrigenda", "token"] {
        assert!(action_file.contains(&format!("\n  {input}:\n")), "{input} is declared");
        assert!(action_file.contains(&format!("inputs.{input}")), "{input} is used");
    }
    for script in ["review", "comment"] {
        assert!(
            action_file.contains(&format!("$GITHUB_ACTION_PATH/{script}\"")) && text(&action(script)).starts_with("#!")
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(action(script)).expect("a file").permissions().mode();
            assert_eq!(mode & 0o111, 0o111, "{script} can be run");
        }
    }
}

#[test]
fn hooks_are_commands_that_run() {
    let yaml = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".pre-commit-hooks.yaml"));
    let values = |key: &str| -> Vec<&str> {
        yaml.lines()
            .filter_map(|line| line.trim_start_matches(['-', ' ']).strip_prefix(key)?.strip_prefix(": "))
            .collect()
    };
    assert_eq!(values("id"), ["corrigenda-check", "corrigenda-check-rust", "corrigenda-locked"]);
    assert_eq!(values("language"), ["system", "rust", "system"]);
    assert_eq!(values("stages"), ["[pre-push]"]);
    assert!(values("pass_filenames").iter().all(|value| *value == "false"));
    let project = Project::new();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    for entry in values("entry") {
        let words: Vec<&str> = entry.strip_prefix("corrigenda ").expect("the program").split(' ').collect();
        let run = project.run(&words);
        assert_eq!(run.code(), Some(0), "{entry}: {}", run.whole());
        let elsewhere = project.run(&[&words[..], &["-C", "edits"]].concat());
        assert_eq!(elsewhere.code(), Some(2), "{entry}: its arguments may name another folder");
    }
}
