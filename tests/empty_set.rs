//! Tests every verb on a project whose last fact was removed.

use crate::support::project::{Project, commit};

/// Returns a built and committed project whose facts were then all removed. git does not store the empty folder.
fn withdrawn() -> Project {
    let project = Project::new();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    commit(&project, "facts");
    std::fs::remove_dir_all(project.path("edits")).expect("the folder is removed");
    commit(&project, "no facts");
    project
}

#[test]
fn the_last_edit_can_be_removed() {
    let project = withdrawn();
    let base = std::fs::read(project.path("model/model.safetensors")).expect("weights");
    let checked = project.run(&["check"]);
    assert!(checked.code() == Some(0) && checked.err().contains("facts-withdrawn"), "{}", checked.whole());
    let planned = project.run(&["plan"]);
    let minus = planned.out().lines().filter(|line| line.starts_with("- ")).count();
    assert!(planned.code() == Some(0) && minus > 0, "{}", planned.whole());
    let locked = project.run(&["build", "--locked"]);
    assert_eq!(locked.code(), Some(3), "{}", locked.whole());
    let diff = project.run(&["diff", "HEAD~1", "HEAD", "--tokens", "0"]);
    assert!(diff.code() == Some(0) && diff.out().contains(&format!("{minus} removed")), "{}", diff.whole());
    let built = project.run(&["build", "--format", "json"]);
    assert_eq!(built.code(), Some(0), "{}", built.whole());
    assert_eq!(built.json()["removed"].as_array().map(Vec::len), Some(minus));
    let lock = project.read("corrigenda.lock");
    assert!(!lock.contains("[[edit]]") && !lock.contains("[[statistics]]"), "{lock}");
    commit(&project, "built");
    // No warning is left, and nothing changes.
    for verb in [&["check"][..], &["plan", "--exit-code"], &["build"], &["build", "--locked"], &["test"], &["verify"]] {
        let run = project.run(verb);
        assert!(run.code() == Some(0) && !run.err().contains("warning"), "{verb:?}: {}", run.whole());
    }
    assert_eq!(project.read("corrigenda.lock"), lock);
    let rebuilt = project.run(&["verify", "--rebuild"]);
    assert_eq!(rebuilt.code(), Some(0), "{}", rebuilt.whole());
    let elsewhere = project.run(&["build", "--locked", "--cache-dir", "../elsewhere"]);
    assert_eq!(elsewhere.code(), Some(0), "{}", elsewhere.whole());
    for sides in [["HEAD~2", "HEAD"], ["HEAD", "HEAD~2"], ["base", "worktree"], ["HEAD~2", "worktree"]] {
        let run = project.run(&["diff", sides[0], sides[1], "--tokens", "0"]);
        assert_eq!(run.code(), Some(0), "{sides:?}: {}", run.whole());
    }
    let log = project.run(&["log"]);
    assert_eq!(log.code(), Some(0), "{}", log.whole());
    // The checkpoint equals the base; an empty set has no adapter.
    assert_eq!(project.run(&["export", "checkpoint", "../out"]).code(), Some(0));
    assert!(std::fs::read(project.path("../out/model.safetensors")).expect("weights") == base);
    let verified = project.run(&["verify", "../out"]);
    assert_eq!(verified.code(), Some(0), "{}", verified.whole());
    for form in ["peft", "gguf"] {
        let run = project.run(&["export", form, "../adapter"]);
        assert!(run.code() == Some(2) && run.err().contains("the patch has no edits"), "{}", run.whole());
    }
    // A new fact can be added and built.
    std::fs::create_dir(project.path("edits")).expect("the folder is created");
    project.write(
        "edits/again.toml",
        "format = 1\n[[edit]]\nid = \"a\"\nsubject = \"Lisbon\"\nprompt = \"We saw the city of {}\"\ntarget = \"Rome\"\n",
    );
    let again = project.run(&["build"]);
    assert!(again.code() == Some(0) && again.out().contains("1 added"), "{}", again.whole());
}

#[test]
fn a_mistyped_folder_removes_no_edits() {
    let project = Project::new();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    let lock = project.read("corrigenda.lock");
    let before = project.read("corrigenda.toml");
    project.write("corrigenda.toml", &format!("edits = \"facts\"\n{before}"));
    for verb in ["check", "plan", "build"] {
        let run = project.run(&[verb]);
        assert!(run.code() == Some(2) && run.err().contains("`edits` contains facts"), "{verb}: {}", run.whole());
    }
    assert_eq!(project.read("corrigenda.lock"), lock);
    // In a project without a lock, an empty set is an error that says where facts go.
    project.write("corrigenda.toml", &before);
    std::fs::remove_file(project.path("corrigenda.lock")).expect("the file is removed");
    std::fs::remove_dir_all(project.path("edits")).expect("the folder is removed");
    for verb in ["check", "plan", "build", "test"] {
        let run = project.run(&[verb]);
        assert!(run.code() == Some(2) && run.err().contains("no-edits"), "{verb}: {}", run.whole());
    }
}
