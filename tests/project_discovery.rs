//! Tests how a verb finds its project, and how it resolves paths on the command line and in the project file.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::project::Project;

/// Runs the binary in a folder of the project.
fn run_in(project: &Project, folder: &str, arguments: &[&str], home: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corrigenda"));
    command.current_dir(project.path(folder)).args(arguments).env("CORRIGENDA_CACHE_DIR", project.cache());
    if let Some(home) = home {
        command.env("HOME", home);
    }
    command.output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_project_is_found_from_its_folders() {
    let project = Project::new();
    std::fs::create_dir_all(project.path("edits/deep/er")).expect("the folder is created");
    let here = run_in(&project, "", &["check"], None);
    assert!(!text(&here.stderr).contains("the project in"), "{}", text(&here.stderr));
    for (folder, up) in [("edits", ".."), ("edits/deep/er", "../../..")] {
        let run = run_in(&project, folder, &["check"], None);
        assert_eq!((run.status.code(), text(&run.stdout)), (here.status.code(), text(&here.stdout)));
        assert_eq!(text(&run.stderr), format!("the project in `{up}`\n{}", text(&here.stderr)));
        assert_eq!(text(&run_in(&project, folder, &["check", "-q"], None).stderr), "");
    }
    let build = run_in(&project, "edits", &["build", "-q"], None);
    assert_eq!(build.status.code(), Some(0), "{}", text(&build.stderr));
    assert!(project.path("corrigenda.lock").is_file() && !project.path("edits/corrigenda.lock").exists());
    // Paths on the command line are relative to the current directory.
    std::fs::create_dir_all(project.path("notes/deep")).expect("the folder is created");
    let report = run_in(&project, "notes/deep", &["test", "--report", "html=report.html"], None);
    assert_eq!(report.status.code(), Some(1), "{}", text(&report.stderr));
    assert!(project.path("notes/deep/report.html").is_file());
    // With `-C`, the parent folders are not searched.
    let named = run_in(&project, "edits", &["check", "-C", "."], None);
    assert_eq!(named.status.code(), Some(2));
    assert!(text(&named.stderr).contains("there is one in `..`: use `-C ..`"), "{}", text(&named.stderr));
}

#[test]
fn init_uses_the_current_folder() {
    let project = Project::new();
    std::fs::create_dir(project.path("inner")).expect("the folder is created");
    let run = run_in(&project, "inner", &["init", "--model", "../model"], None);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    assert!(project.path("inner/corrigenda.toml").is_file() && text(&run.stderr).is_empty());
    assert_eq!(run_in(&project, "inner", &["check"], None).status.code(), Some(0));
}

#[test]
fn paths_from_the_home_folder() {
    let project = Project::new();
    let home = project.path("home");
    std::fs::create_dir(&home).expect("the folder is created");
    for name in ["model", "corpus.txt", "templates.txt"] {
        std::fs::rename(project.path(name), home.join(name)).expect("the file is moved");
        project.replace("corrigenda.toml", &format!("\"{name}\""), &format!("\"~/{name}\""));
    }
    let run = |arguments: &[&str]| run_in(&project, "", arguments, Some(&home));
    let build = run(&["build", "-q"]);
    assert_eq!(build.status.code(), Some(0), "{}", text(&build.stderr));
    for arguments in [&["export", "checkpoint", "~/out"][..], &["verify", "~/out"], &["plan", "--base=~/model"]] {
        let found = run(arguments);
        assert_eq!(found.status.code(), Some(0), "{arguments:?}: {}", text(&found.stderr));
    }
    assert!(home.join("out/config.json").is_file() && !project.path("~").exists());
    // Input files are not overwritten through `~` either.
    let over = run(&["test", "--report=html=~/corpus.txt"]);
    assert_eq!(over.status.code(), Some(2), "{}", text(&over.stderr));
    let into = run(&["export", "checkpoint", "~/model/out"]);
    assert_eq!(into.status.code(), Some(2), "{}", text(&into.stderr));
}

#[test]
fn several_edit_ids_are_accepted() {
    let project = Project::new();
    let ids = |arguments: &[&str]| {
        let run = project.run(&[&["plan", "--format", "json"], arguments].concat());
        let edits = run.json()["edits"].as_array().cloned().unwrap_or_default();
        edits.iter().map(|edit| edit["id"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let both = ["ada.born", "rome.country"];
    assert_eq!(ids(&["--only", "ada.born,rome.country"]), both);
    assert_eq!(ids(&["--only", "rome.country", "--only", "ada.born"]), both);
    let unknown = project.run(&["plan", "--only", "ada.borm,nobody,rome.countri"]);
    assert_eq!(unknown.code(), Some(2));
    for part in ["`ada.borm`", "did you mean `ada.born`?", "`nobody`", "did you mean `rome.country`?"] {
        assert!(unknown.err().contains(part), "{part}: {}", unknown.err());
    }
}

#[test]
fn artefacts_are_verified_without_a_project() {
    let project = Project::new();
    assert_eq!(project.run(&["build", "-q"]).code(), Some(0));
    for (form, to) in [("checkpoint", "out"), ("peft", "adapter"), ("gguf", "adapter.gguf")] {
        let run = project.run(&["export", form, to]);
        assert_eq!(run.code(), Some(0), "{}", run.whole());
    }
    let id = project.read("corrigenda.lock").rsplit("sha256:").next().expect("an id")[..64].to_owned();
    let patch = project.cache().join("v1/patches").join(&id[..2]).join(format!("{}.safetensors", &id[2..]));
    std::fs::copy(patch, project.path("patch.safetensors")).expect("the file is copied");
    std::fs::create_dir(project.path("elsewhere")).expect("the folder is created");
    for name in ["out", "adapter", "adapter.gguf", "patch.safetensors", "model"] {
        std::fs::rename(project.path(name), project.path("elsewhere").join(name)).expect("the file is moved");
    }
    std::fs::remove_file(project.path("corrigenda.toml")).expect("the file is removed");
    let run = |arguments: &[&str]| run_in(&project, "elsewhere", arguments, None);
    for what in ["out", "adapter", "adapter.gguf", "patch.safetensors", &id] {
        let found = run(&["verify", what, "--base", "model"]);
        assert_eq!(found.status.code(), Some(0), "{what}: {}{}", text(&found.stdout), text(&found.stderr));
    }
    // With an empty store, `--patch` must name the patch file.
    let apart = ["--cache-dir", "empty"];
    for what in ["out", "adapter", "adapter.gguf"] {
        let unknown = run(&[&["verify", what, "--base", "model"][..], &apart].concat());
        assert_eq!(unknown.status.code(), Some(2), "{what}: {}", text(&unknown.stdout));
        let told = run(&[&["verify", what, "--base", "model", "--patch", "patch.safetensors"][..], &apart].concat());
        assert_eq!(told.status.code(), Some(0), "{what}: {}{}", text(&told.stdout), text(&told.stderr));
    }
    let wrong = run(&["verify", "patch.safetensors", "--base", "out"]);
    assert_eq!(wrong.status.code(), Some(1), "the export is another base: {}", text(&wrong.stdout));
    let nothing = run(&["verify", "out", "--base", "nowhere"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(text(&nothing.stderr).contains("[model-unusable]"), "{}", text(&nothing.stderr));
    for line in [&["verify", "--base", "model"][..], &["verify", "out", "--patch", "patch.safetensors"]] {
        assert_eq!(run(line).status.code(), Some(2), "{line:?}");
    }
    let without = run(&["verify", "out"]);
    assert_eq!(without.status.code(), Some(2));
    assert!(text(&without.stderr).contains("--base DIR"), "{}", text(&without.stderr));
}
