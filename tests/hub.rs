//! Tests models that are named by their Hub id, in a cache with symbolic links as `huggingface_hub` creates it.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::project::Project;
use crate::support::tiny;

const COMMIT: &str = "607a30d783dfa663caf39e06633721c8d4cfcd7e";

/// Creates a cache with the tiny model as `acme/tiny`: links into `blobs`.
fn cached(cache: &Path) {
    let model = cache.join("models--acme--tiny");
    let snapshot = model.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).expect("the folder is created");
    fs::create_dir_all(model.join("refs")).expect("the folder is created");
    fs::write(model.join("refs/main"), COMMIT).expect("the file is written");
    tiny::write_editable_model(&model.join("blobs"));
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        symlink(Path::new("../../blobs").join(name), snapshot.join(name)).expect("the link is created");
    }
}

/// Returns a project whose base is `name`, and the path of the cache of [`cached`].
fn project(name: &str) -> (Project, String) {
    let project = Project::new();
    project.replace("corrigenda.toml", "path = \"model\"", &format!("path = \"{name}\""));
    let home = project.path("hf");
    cached(&home.join("hub"));
    (project, home.display().to_string())
}

#[test]
fn a_snapshot_is_a_base_like_any_folder() {
    let (hub, home) = project("hf:acme/tiny");
    let plain = Project::new();
    let built = hub.run_with(&["build"], &[("HF_HOME", &home)]);
    assert_eq!(built.code(), Some(0), "{}", built.err());
    assert!(built.out().contains(&format!("hf:acme/tiny@{COMMIT}")), "{}", built.out());
    assert_eq!(plain.run(&["build"]).code(), Some(0));
    assert_eq!(hub.read("corrigenda.lock"), plain.read("corrigenda.lock"));
    for verb in [&["plan"][..], &["verify"], &["build", "--locked"], &["export", "checkpoint", "out"]] {
        let run = hub.run_with(verb, &[("HF_HOME", &home)]);
        assert_eq!(run.code(), Some(0), "{verb:?}: {}{}", run.out(), run.err());
    }
    let exported = fs::symlink_metadata(hub.path("out/config.json")).expect("exported");
    assert!(exported.is_file());
}

#[test]
fn missing_snapshots_name_the_download_command() {
    let said = |name: &str, change: &dyn Fn(&Path)| {
        let (project, home) = project(name);
        change(Path::new(&home));
        let run = project.run_with(&["plan"], &[("HF_HOME", &home)]);
        assert_eq!(run.code(), Some(2), "{}", run.out());
        run.err().replace(&home, "HOME")
    };
    let nothing = |_: &Path| ();
    insta::assert_snapshot!("hub_other_model", said("hf:acme/large@v2", &nothing));
    let other = said("hf:acme/tiny@v2", &nothing);
    assert!(other.contains("`hf download acme/tiny --revision v2`"), "{other}");
    let wrong = said("hf:../../etc", &nothing);
    assert!(wrong.contains("is not the name of a model"), "{wrong}");
    let part = said("hf:acme/tiny", &|home| {
        fs::remove_file(home.join(format!("hub/models--acme--tiny/snapshots/{COMMIT}/tokenizer.json"))).expect("gone");
    });
    assert!(part.contains(&format!("`hf download acme/tiny --revision {COMMIT}`")), "{part}");
}

#[test]
fn links_that_leave_the_model_are_refused() {
    let project = Project::new();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let (place, outside) = (project.path("model").join(name), project.path(name));
        fs::rename(&place, &outside).expect("the file is moved");
        symlink(&outside, &place).expect("the link is created");
        let run = project.run(&["plan"]);
        assert_eq!(run.code(), Some(2), "{name}");
        assert!(run.err().contains(&format!("{name} is a link that leaves the model's folder")), "{}", run.err());
        fs::remove_file(&place).expect("the file is removed");
        fs::rename(&outside, &place).expect("moved back");
    }
    // A link inside the folder is allowed.
    fs::rename(project.path("model/config.json"), project.path("model/c.json")).expect("the file is moved");
    symlink("c.json", project.path("model/config.json")).expect("the link is created");
    assert_eq!(project.run(&["plan"]).code(), Some(0));
}

#[test]
fn a_new_project_is_pinned_to_a_commit() {
    let (project, home) = project("hf:acme/tiny");
    let run = project.run_with(&["init", "-C", "new", "--model", "hf:acme/tiny"], &[("HF_HOME", &home)]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    assert!(project.read("new/corrigenda.toml").contains(&format!("path = \"hf:acme/tiny@{COMMIT}\"")));
    let built = project.run_with(&["build"], &[("HF_HOME", &home)]);
    assert_eq!(built.code(), Some(0), "{}", built.whole());
    let id = project.read("corrigenda.lock").lines().last().expect("a line").replace("id = ", "").replace('"', "");
    let apply = ["patch", "apply", &id, "--base", "hf:acme/tiny", "--out", "out"];
    let applied = project.run_with(&apply, &[("HF_HOME", &home)]);
    assert_eq!(applied.code(), Some(0), "{}", applied.whole());
    let planned = project.run_with(&["plan", "--base", "hf:acme/tiny"], &[("HF_HOME", &home)]);
    assert_eq!(planned.code(), Some(0), "{}", planned.whole());
}

/// Other programs accept the bare name. It is refused here, and the error shows how to write it.
#[test]
fn a_bare_hub_name_gets_a_hint() {
    let (project, _) = project("hf:org/tiny@main");
    project.replace("corrigenda.toml", "hf:org/tiny@main", "org/tiny");
    let said = project.run(&["plan"]);
    assert_eq!(said.code(), Some(2), "{}", said.whole());
    assert!(
        said.err().contains("write `hf:org/tiny`") && said.err().contains("the folder of corrigenda.toml"),
        "{}",
        said.whole()
    );
    fs::create_dir(project.path("new")).expect("the folder is created");
    for (name, want) in
        [("org/name", "write `hf:org/name`"), ("https://hub.example/org/name/tree/main", "write `hf:org/name`")]
    {
        let refused = project.run(&["-C", "new", "init", "--model", name]);
        assert!(refused.code() == Some(2) && refused.err().contains(want), "{}", refused.whole());
    }
}
