//! Tests builds and exports with 16-bit and sharded models, and the share of an edit that survives rounding.

use std::fs;

use corrigenda::digest::Digest;
use corrigenda::safetensors::Dtype;

use crate::support::families::write_editable_llama;
use crate::support::project::Project;

/// Returns the test project with a tiny Llama as its base.
fn project(dtype: Dtype, sharded: bool) -> Project {
    let project = Project::new();
    fs::remove_dir_all(project.path("model")).expect("the folder is removed");
    write_editable_llama(&project.path("model"), dtype, sharded);
    project
}

fn patch(project: &Project) -> String {
    let run = project.run(&["build", "--format", "json"]);
    assert_eq!(run.code(), Some(0), "{}{}", run.out(), run.err());
    run.json()["patch"]["id"].as_str().unwrap_or_else(|| panic!("{}", run.out())).to_owned()
}

/// The edits, keys and values are the same for every dtype, but the patch ids differ, because the bases differ.
#[test]
fn the_patch_of_a_llama_in_every_type() {
    for (dtype, id) in [
        (Dtype::F32, "sha256:ba6f80f037407640edb5ee4c0782b080dfb0f8002be3bb79fc4979e568f98b8f"),
        (Dtype::F16, "sha256:8fc71993c2b734584edf7e307d00aba5f4c85e734e72b9b91e2ba01f5b1c7ea0"),
        (Dtype::BF16, "sha256:0890f490e0e5a33af98a9b68bc58ad3be1cf106bdd75a87ec01a3f4965714e2a"),
    ] {
        let whole = project(dtype, false);
        let made = patch(&whole);
        assert_eq!(made, id, "{dtype}");
        let shards = project(dtype, true);
        assert_eq!(patch(&shards), made, "{dtype} in shards");
        for threads in ["1", "5"] {
            let run = shards.run(&["build", "--threads", threads, "--isa", "plain", "--cache-dir", "elsewhere"]);
            assert_eq!(run.code(), Some(0), "{}", run.err());
            fs::remove_dir_all(shards.path("elsewhere")).expect("the folder is removed");
            assert!(shards.read("corrigenda.lock").contains(&made));
        }
    }
}

/// The export differs from the base only in the edited bytes of one shard; the index and the headers are unchanged.
#[test]
fn an_export_of_shards_in_bf16() {
    let project = project(Dtype::BF16, true);
    patch(&project);
    let before = Project::files(&project.path("model"));
    let run = project.run(&["export", "checkpoint", "out"]);
    assert_eq!(run.code(), Some(0), "{}", run.err());
    assert_eq!(before, Project::files(&project.path("model")));
    let mut changed = Vec::new();
    for (path, bytes) in &before {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let after = fs::read(project.path("out").join(&name)).expect("exported");
        assert_eq!(after.len(), bytes.len(), "{name}");
        let differ: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != after[*at]).collect();
        if let (Some(first), Some(last)) = (differ.first(), differ.last()) {
            assert!(last - first < 2 * 48 * 32, "{name}: {first} to {last}");
            changed.push(name);
        }
    }
    assert_eq!(changed.len(), 1, "{changed:?}");
    for verb in [&["verify", "out"][..], &["verify", "--rebuild"], &["diff", "base", "worktree"]] {
        let checked = project.run(verb);
        assert_eq!(checked.code(), Some(0), "{verb:?}: {}{}", checked.out(), checked.err());
    }
}

/// A base with another dtype is not the base of the lock, so a build and an export are refused.
#[test]
fn another_type_is_another_base() {
    let project = project(Dtype::BF16, false);
    patch(&project);
    write_editable_llama(&project.path("model"), Dtype::F32, false);
    let run = project.run(&["build"]);
    assert_eq!(run.code(), Some(3), "{}", run.out());
    let before = Digest::of(&fs::read(project.path("model/model.safetensors")).expect("the weights"));
    let refused = project.run(&["export", "checkpoint", "out"]);
    assert_eq!(refused.code(), Some(3), "{}", refused.err());
    assert!(!project.path("out").exists());
    assert_eq!(before, Digest::of(&fs::read(project.path("model/model.safetensors")).expect("the weights")));
}

/// A change below the precision of the dtype is lost in rounding, and the build reports the share that survives.
#[test]
fn an_edit_lost_to_rounding_is_reported() {
    let surviving = |dtype| {
        let project = project(dtype, false);
        let run = project.run(&["build", "--format", "json"]);
        run.json()["tensors"][0]["surviving"].as_f64().unwrap_or_else(|| panic!("{}", run.out()))
    };
    let (narrow, wide) = (surviving(Dtype::BF16), surviving(Dtype::F32));
    assert!((wide - 1.0).abs() < 1e-4 && (narrow - 1.0).abs() > 1e-6 && narrow > 0.9, "{narrow} {wide}");
}
