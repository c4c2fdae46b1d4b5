//! Tests adapters, and patches that are applied without a project: the written files, and the refused destinations and
//! bases.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corrigenda::digest::Digest;
use corrigenda::export::peft::BaseName;
use corrigenda::export::{AdapterBase, ExportRequest, checkpoint, llama_cpp, peft};
use corrigenda::patch::{Patch, Target};
use corrigenda::project::{LockedBase, LockedFile};
use corrigenda::safetensors::{Dtype, Header};

use crate::support::families::{cases, write_weights};
use crate::support::project::{Project, Run};
use crate::support::{generated, tiny};

const EDITED: &str = "transformer.h.1.mlp.c_proj.weight";

fn built() -> Project {
    let project = Project::new();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    project
}

/// Returns the weight files of a model as a lock lists them.
fn locked_weights(folder: &Path) -> Vec<LockedFile> {
    let files = Project::files(folder).into_iter();
    let weights = files.filter(|(path, _)| path.extension().is_some_and(|extension| extension == "safetensors"));
    let name = |path: &Path| path.file_name().expect("a file").to_string_lossy().into_owned();
    let file = |(path, bytes): (PathBuf, Vec<u8>)| LockedFile {
        path: name(&path),
        size: bytes.len() as u64,
        digest: Digest::of(&bytes),
    };
    weights.map(file).collect()
}

#[test]
fn folders_above_an_export_are_made_with_it() {
    let project = built();
    let run = project.run(&["export", "checkpoint", "exports/one/checkpoint"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    assert!(project.path("exports/one/checkpoint/config.json").exists());
    let adapter = project.run(&["export", "gguf", "exports/adapters/one.gguf"]);
    assert_eq!(adapter.code(), Some(0), "{}", adapter.whole());
    // A path below a file is refused, and a failed export leaves no folder.
    let refused = project.run(&["export", "peft", "corrigenda.lock/a/b"]);
    assert!(refused.code() == Some(2) && refused.err().contains("export-refused"), "{}", refused.whole());
    std::fs::write(project.path("model/model.safetensors"), b"damaged").expect("the file is written");
    assert_eq!(project.run(&["export", "checkpoint", "other/folder/checkpoint"]).code(), Some(2));
    assert!(!project.path("other").exists());
}

#[test]
fn weights_in_other_forms_are_left_out_and_named() {
    let project = Project::new();
    let weights = std::fs::read(project.path("model/model.safetensors")).expect("weights");
    std::fs::write(project.path("model/consolidated.safetensors"), &weights).expect("the file is written");
    // Adds shards of the same model next to its single file, with an index that the reader does not use.
    std::fs::write(project.path("model/model-00001-of-00001.safetensors"), &weights).expect("the file is written");
    std::fs::write(project.path("model/model.safetensors.index.json"), "{}").expect("the file is written");
    std::fs::write(project.path("model/anything"), b"GGUF\x03\0\0\0").expect("the file is written");
    std::fs::write(project.path("model/tf_model.h5"), b"x").expect("the file is written");
    std::fs::write(project.path("model/LICENSE"), b"x").expect("the file is written");
    assert_eq!(project.run(&["build"]).code(), Some(0));
    let run = project.run(&["export", "checkpoint", "../out"]);
    let left = [
        "anything",
        "consolidated.safetensors",
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
        "tf_model.h5",
    ];
    assert!(run.code() == Some(0) && run.out().contains(&left.join(", ")), "{}", run.whole());
    assert!(left.iter().all(|name| !project.path("../out").join(name).exists()));
    assert!(project.path("../out/LICENSE").exists());
    let manifest: serde_json::Value =
        serde_json::from_str(&project.read("../out/corrigenda-manifest.json")).expect("JSON");
    assert_eq!(manifest["omitted"], serde_json::json!(left));
    let verified = project.run(&["verify", "../out"]);
    assert_eq!(verified.code(), Some(0), "{}", verified.whole());
    // `verify` reports weights that are added to the export later, whether they are copies of the base or not.
    for (name, bytes, said) in [
        ("consolidated.safetensors", &weights[..], "the unedited file of the base"),
        ("other.gguf", b"GGUF", "whatever the other weights are"),
        ("pytorch_model.bin", b"x", "a pickle"),
    ] {
        std::fs::write(project.path("../out").join(name), bytes).expect("the file is written");
        let altered = project.run(&["verify", "../out"]);
        assert!(altered.code() == Some(1) && altered.out().contains(said), "{name}: {}", altered.whole());
        std::fs::remove_file(project.path("../out").join(name)).expect("the file is removed");
    }
    assert_eq!(project.run(&["verify", "../out"]).code(), Some(0));
}

#[test]
fn the_base_of_an_adapter_can_be_named() {
    let project = built();
    let named = |to: &str, arguments: &[&str]| {
        let run = project.run(&[&["export", "peft", to], arguments].concat());
        assert_eq!(run.code(), Some(0), "{}", run.whole());
        let config: serde_json::Value =
            serde_json::from_str(&project.read(&format!("{to}/adapter_config.json"))).expect("JSON");
        let verified = project.run(&["verify", to]);
        assert_eq!(verified.code(), Some(0), "{}", verified.whole());
        let card = project.read(&format!("{to}/README.md"));
        (config["base_model_name_or_path"].as_str().expect("a name").to_owned(), card, run.out())
    };
    let (name, card, said) = named("../plain", &[]);
    assert!(name == "model" && !card.contains("base_model:") && said.contains("--base-name ORG/NAME"), "{said}");
    let (hub_name, hub_card, hub_said) = named("../hub", &["--base-name", "org/tiny"]);
    assert!(hub_name == "org/tiny" && hub_card.starts_with("---\nbase_model: \"org/tiny\"\n"), "{hub_card}");
    assert!(!hub_said.contains("--base-name"), "{hub_said}");
    let (path_name, path_card, _) = named("../path", &["--base-name", "/models/tiny"]);
    assert!(path_name == "/models/tiny" && !path_card.contains("base_model:"), "{path_card}");
    for wrong in ["", " ", "a\nb"] {
        let run = project.run(&["export", "peft", "../no", "--base-name", wrong]);
        assert!(run.code() == Some(2) && run.err().contains("--base-name"), "{}", run.whole());
    }
}

#[test]
fn an_adapter_for_transformers() {
    let project = built();
    let before = Project::files(&project.path("model"));
    let run = project.run(&["export", "peft", "../out"]);
    insta::assert_snapshot!("peft", run.whole());
    let names: Vec<_> = Project::files(&project.path("../out")).into_iter().map(|(path, _)| path).collect();
    let names: Vec<_> = names.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    let expected = ["README.md", "adapter_config.json", "adapter_model.safetensors", "corrigenda-manifest.json"];
    assert_eq!(names, expected);
    insta::assert_snapshot!("peft_config", project.read("../out/adapter_config.json"));
    insta::assert_snapshot!("peft_readme", project.read("../out/README.md"));
    insta::assert_snapshot!("peft_manifest", project.read("../out/corrigenda-manifest.json"));
    assert!(Project::files(&project.path("model")) == before);
    // Exporting the same adapter twice gives the same bytes, independent of the folder name.
    let again = project.run(&["export", "peft", "../again", "--format", "json"]).json();
    assert_eq!((&again["rank"], &again["outcome"]), (&3.into(), &"ok".into()));
    let bytes = |name: &str| Project::files(&project.path(name)).into_iter().map(|one| one.1).collect::<Vec<_>>();
    assert!(bytes("../out") == bytes("../again"));
}

#[test]
fn an_adapter_for_llama_cpp() {
    let project = built();
    let before = Project::files(&project.path("model"));
    let run = project.run(&["export", "gguf", "../lora.gguf"]);
    insta::assert_snapshot!("gguf", run.whole());
    assert!(Project::files(&project.path("model")) == before);
    let bytes = std::fs::read(project.path("../lora.gguf")).expect("a file");
    assert!(bytes.starts_with(b"GGUF\x03\0\0\0"));
    let again = project.run(&["export", "gguf", "../again.gguf", "--format", "json"]).json();
    assert_eq!(again["digest"], Digest::of(&bytes).to_string());
    assert_eq!((&again["architecture"], &again["rank"]), (&"gpt2".into(), &3.into()));
    assert!(std::fs::read(project.path("../again.gguf")).expect("a file") == bytes);
}

#[test]
fn an_adapter_names_its_base_as_the_hub_does() {
    let project = Project::new();
    let snapshot = "models--acme--tiny/snapshots/607a30d783dfa663caf39e06633721c8d4cfcd7e";
    tiny::write_editable_model(&project.path(snapshot));
    project.replace("corrigenda.toml", "path = \"model\"", &format!("path = \"{snapshot}\""));
    assert_eq!(project.run(&["build"]).code(), Some(0));
    assert_eq!(project.run(&["export", "peft", "../out"]).code(), Some(0));
    let config: serde_json::Value = serde_json::from_str(&project.read("../out/adapter_config.json")).expect("JSON");
    assert_eq!(config["base_model_name_or_path"], "acme/tiny");
    assert!(project.read("../out/README.md").starts_with("---\nbase_model: \"acme/tiny\"\n"));
    assert_eq!(project.run(&["verify", "../out"]).code(), Some(0));
    // The whole model folder in the Hub cache is protected, not only the snapshot.
    let run = project.run(&["export", "peft", "models--acme--tiny/out"]);
    assert!(run.code() == Some(2) && run.err().contains("base model"), "{}", run.whole());
}

/// Returns the arguments of every command that writes an export, without the destination.
fn forms(project: &Project) -> [Vec<String>; 4] {
    let apply = ["patch", "apply", &id(project), "--base", "model", "--out"].map(str::to_owned);
    let export = |form: &str| vec!["export".to_owned(), form.to_owned()];
    [export("checkpoint"), export("peft"), export("gguf"), apply.to_vec()]
}

/// Returns the id of the project's only patch.
fn id(project: &Project) -> String {
    Digest::of(&patch(project).1).to_string()
}

/// Returns the path and the bytes of the project's only patch.
fn patch(project: &Project) -> (PathBuf, Vec<u8>) {
    Project::files(&project.cache().join("v1/patches")).remove(0)
}

fn export(project: &Project, form: &[String], to: &str) -> Run {
    let arguments: Vec<&str> = form.iter().map(String::as_str).chain([to]).collect();
    project.run(&arguments)
}

/// Returns the names of the entries next to the project's folder, and the files of the project and the store.
fn world(project: &Project) -> (Vec<PathBuf>, Vec<(PathBuf, Vec<u8>)>) {
    let entries = std::fs::read_dir(project.path("..")).expect("a folder").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.path()).collect();
    names.sort();
    (names, [Project::files(&project.path("")), Project::files(&project.cache())].concat())
}

/// Asserts that every command in [`forms`] refuses the destination with exit code 2 and changes nothing.
fn refused(project: &Project, to: &str, code: &str, part: &str) {
    for form in forms(project) {
        let before = world(project);
        let run = export(project, &form, to);
        assert_eq!(run.code(), Some(2), "{form:?} {to}: {}", run.whole());
        assert!(run.err().contains(code) && run.err().contains(part), "{form:?} {to}: {}", run.err());
        assert!(world(project) == before, "{form:?} {to}: something was written");
    }
}

#[test]
fn destinations_that_are_refused() {
    let project = built();
    std::fs::write(project.path("../file"), "x").expect("the file is written");
    std::fs::create_dir_all(project.path("../full/x")).expect("the folder is created");
    std::fs::create_dir(project.path("../empty")).expect("the folder is created");
    for (to, part) in [
        ("model", "base model"),
        ("model/sub", "base model"),
        ("../project/./model/../model/x", "base model"),
        ("../cache", "the store"),
        ("../cache/out", "the store"),
        ("../file", "is a file"),
        ("../full", "a folder"),
        ("../file/where", "is not a folder and cannot be created"),
    ] {
        refused(&project, to, "[export-refused]", part);
    }
    let [_, _, gguf, _] = forms(&project);
    let run = export(&project, &gguf, "../empty");
    assert!(run.code() == Some(2) && run.err().contains("is a folder"), "{}", run.whole());
}

#[cfg(unix)]
#[test]
fn a_link_is_not_a_destination() {
    let project = built();
    std::fs::write(project.path("../file"), "x").expect("the file is written");
    for (link, target) in [("../dangling", "../elsewhere"), ("../filed", "../file"), ("../based", "model")] {
        std::os::unix::fs::symlink(project.path(target), project.path(link)).expect("the link is created");
    }
    refused(&project, "../dangling", "[export-refused]", "a symbolic link");
    refused(&project, "../filed", "[export-refused]", "a symbolic link");
    // A destination that is a symbolic link to the base is refused too.
    refused(&project, "../based", "[export-refused]", "base model");
    refused(&project, "../based/x", "[export-refused]", "base model");
}

/// Makes a folder read-only. Returns false if the user can still write to the folder, as root can.
#[cfg(unix)]
fn closed(folder: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o555)).expect("closed");
    tempfile::tempdir_in(folder).is_err()
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_written_to() {
    let project = built();
    // No user can create a folder in `/proc`.
    refused(&project, "/proc/corrigenda", "[store-failed]", "creating a folder in");
    std::fs::create_dir(project.path("../closed")).expect("the folder is created");
    if closed(&project.path("../closed")) {
        refused(&project, "../closed/x", "[store-failed]", "creating a folder in");
    }
}

#[cfg(target_os = "linux")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
#[test]
fn a_disk_that_is_full() {
    use std::process::Command;
    let project = built();
    let disk = project.path("../disk");
    std::fs::create_dir(&disk).expect("the folder is created");
    let mount = || Command::new("mount").args(["-t", "tmpfs", "-o", "size=4k", "tmpfs"]).arg(&disk).output();
    if !mount().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED a_disk_that_is_full: no disk can be mounted here");
        return;
    }
    let runs = forms(&project).map(|form| {
        // One free page is enough for the folder, but not for a file of more than one page.
        std::fs::write(disk.join("taken"), [0; 4096]).expect("the file is written");
        let run = export(&project, &form, "../disk/out");
        (run, std::fs::read_dir(&disk).expect("a folder").count())
    });
    Command::new("umount").arg(&disk).output().expect("unmounted");
    for (run, left) in runs {
        assert!(run.code() == Some(2) && run.err().contains("free some"), "{}", run.whole());
        assert_eq!(left, 1, "something was left");
    }
}

/// Flips one bit in every 53rd byte of a file, one at a time, and expects `verify` to detect each flip.
fn every_byte_counts(project: &Project, file: &Path, what: &str) {
    let bytes = std::fs::read(file).expect("a file");
    for at in (0..bytes.len()).step_by(53).chain([bytes.len() - 1]) {
        let mut other = bytes.clone();
        other[at] ^= 1;
        std::fs::write(file, other).expect("the file is written");
        let run = project.run(&["verify", what]);
        assert!(run.code() == Some(1) && run.out().contains("WRONG"), "{file:?}, byte {at}: {}", run.whole());
    }
    std::fs::write(file, bytes).expect("the file is written");
    assert_eq!(project.run(&["verify", what]).code(), Some(0));
}

#[test]
fn every_byte_of_an_adapter_counts() {
    let project = built();
    project.run(&["export", "peft", "../out"]);
    project.run(&["export", "gguf", "../lora.gguf"]);
    let before = Project::files(&project.cache());
    insta::assert_snapshot!("verify_peft", project.run(&["verify", "../out"]).whole());
    insta::assert_snapshot!("verify_gguf", project.run(&["verify", "../lora.gguf"]).whole());
    for (file, _) in Project::files(&project.path("../out")) {
        every_byte_counts(&project, &file, "../out");
    }
    every_byte_counts(&project, &project.path("../lora.gguf"), "../lora.gguf");
    let json = project.run(&["verify", "../out", "--format", "json"]).json();
    assert_eq!((&json["kind"], &json["patch"]), (&"adapter".into(), &id(&project).into()));
    assert!(Project::files(&project.cache()) == before, "something was written");
}

#[test]
fn a_factor_that_changed_is_told_by_its_place() {
    let project = built();
    project.run(&["export", "peft", "../out"]);
    project.run(&["export", "gguf", "../lora.gguf"]);
    // The last number of the file is the last element of the second adapter matrix.
    for (name, what, back) in [("../out/adapter_model.safetensors", "../out", 4), ("../lora.gguf", "../lora.gguf", 4)] {
        let mut bytes = std::fs::read(project.path(name)).expect("a file");
        let at = bytes.len() - back;
        bytes[at] ^= 0x10;
        std::fs::write(project.path(name), bytes).expect("the file is written");
        let run = project.run(&["verify", what]);
        assert!(run.code() == Some(1) && run.out().contains("the first at row 31, column 2"), "{}", run.whole());
    }
    insta::assert_snapshot!("verify_changed_peft", project.run(&["verify", "../out"]).whole());
}

#[test]
fn what_is_missing_extra_or_unknown() {
    let project = built();
    project.run(&["export", "peft", "../out"]);
    project.run(&["export", "gguf", "../lora.gguf"]);
    for name in ["README.md", "adapter_config.json", "adapter_model.safetensors", "corrigenda-manifest.json"] {
        let path = project.path("../out").join(name);
        let bytes = std::fs::read(&path).expect("a file");
        std::fs::remove_file(&path).expect("the file is removed");
        let run = project.run(&["verify", "../out"]);
        assert!(run.code() == Some(1) && run.out().contains("missing"), "{name}: {}", run.whole());
        std::fs::write(&path, bytes).expect("the file is written");
    }
    project.write("../out/notes.txt", "x");
    let run = project.run(&["verify", "../out"]);
    assert!(run.code() == Some(1) && run.out().contains("extra: not part of an adapter"), "{}", run.whole());
    std::fs::remove_file(project.path("../out/notes.txt")).expect("the file is removed");
    // Without the patch, `verify` checks what it can and reports that the rest is unknown.
    std::fs::remove_file(project.path("corrigenda.lock")).expect("the file is removed");
    let elsewhere = |what: &str| project.run(&["verify", what, "--cache-dir", "../other"]);
    insta::assert_snapshot!("verify_peft_unknown", elsewhere("../out").whole());
    insta::assert_snapshot!("verify_gguf_unknown", elsewhere("../lora.gguf").whole());
    // Even without the patch, `verify` detects bytes that differ from the claimed digests.
    for (name, what) in [("../out/adapter_model.safetensors", "../out"), ("../lora.gguf", "../lora.gguf")] {
        let mut bytes = std::fs::read(project.path(name)).expect("a file");
        let at = bytes.len() - 2;
        bytes[at] ^= 1;
        std::fs::write(project.path(name), bytes).expect("the file is written");
        assert_eq!(elsewhere(what).code(), Some(1), "{}", elsewhere(what).whole());
    }
}

#[test]
fn an_adapter_of_another_patch_or_base() {
    let project = built();
    project.run(&["export", "peft", "../out"]);
    project.run(&["export", "gguf", "../lora.gguf"]);
    project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
    assert_eq!(project.run(&["export", "peft", "../more"]).code(), Some(3), "a stale lock");
    assert_eq!(project.run(&["export", "gguf", "../more"]).code(), Some(3), "a stale lock");
    project.run(&["build"]);
    // The adapter still matches its claim, although the lock now names another patch.
    for what in ["../out", "../lora.gguf"] {
        let run = project.run(&["verify", what]);
        assert!(run.code() == Some(0) && run.out().contains("claimed by the"), "{}", run.whole());
    }
    tiny::write_model_with(&project.path("model"), &other_model());
    for what in ["../out", "../lora.gguf"] {
        let run = project.run(&["verify", what]);
        assert!(run.code() == Some(1) && run.out().contains("contradicted by the bytes"), "{}", run.whole());
    }
}

/// Returns the tiny model with one changed element of the edited weight.
fn other_model() -> Vec<u8> {
    tiny::editable(|name, elements| {
        if name == EDITED {
            elements[0] += 0.5;
        }
    })
}

#[test]
fn a_patch_without_a_project() {
    let project = built();
    let before = Project::files(&project.path("model"));
    let id = id(&project);
    std::fs::copy(patch(&project).0, project.path("../mine.safetensors")).expect("the file is copied");
    insta::assert_snapshot!("patch_show", project.run(&["patch", "show", &id, "-C", "../nowhere"]).whole());
    let json = project.run(&["patch", "show", "../mine.safetensors", "--format", "json"]).json();
    assert_eq!((&json["id"], json["edits"].as_array().map(Vec::len)), (&id.into(), Some(3)));
    assert_eq!((&json["tensors"][0]["name"], &json["tensors"][0]["layout"]), (&EDITED.into(), &"conv1d".into()));
    let apply = ["patch", "apply", "../mine.safetensors", "--base", "model", "--out", "../out", "-C", "../nowhere"];
    let run = project.run(&[&apply[..], &["--cache-dir", "../elsewhere"]].concat());
    insta::assert_snapshot!("patch_apply", run.whole());
    insta::assert_snapshot!("patch_apply_readme", project.read("../out/README.md"));
    project.run(&["export", "checkpoint", "../exported"]);
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let read = |folder: &str| std::fs::read(project.path(folder).join(name)).expect("a file");
        assert!(read("../out") == read("../exported"), "{name}");
    }
    assert_eq!(project.run(&["verify", "../out"]).code(), Some(0));
    assert!(Project::files(&project.path("model")) == before);
}

/// Returns the tensors of the tiny model: shapes and bytes.
fn tensors(project: &Project) -> BTreeMap<String, (Vec<u64>, Vec<u8>)> {
    let bytes = std::fs::read(project.path("model/model.safetensors")).expect("weights");
    let header = Header::parse(bytes.len() as u64, &bytes).expect("a header");
    let tensor = |(name, info): (&String, &corrigenda::safetensors::TensorInfo)| {
        (name.clone(), (info.shape.clone(), bytes[info.start as usize..info.end as usize].to_vec()))
    };
    header.tensors.iter().map(tensor).collect()
}

/// Creates a folder with the files of the project's base except the weights.
fn base_beside(project: &Project, name: &str) -> PathBuf {
    let folder = project.path(name);
    std::fs::create_dir_all(&folder).expect("the folder is created");
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(project.path("model").join(file), folder.join(file)).expect("the file is copied");
    }
    folder
}

#[test]
fn a_patch_and_the_bases_that_it_is_not_for() {
    let project = built();
    let id = id(&project);
    let apply = |base: &str, to: &str| project.run(&["patch", "apply", &id, "--base", base, "--out", to]);
    tiny::write_model_with(&project.path("../changed"), &other_model());
    let run = apply("../changed", "../out");
    insta::assert_snapshot!("patch_apply_to_another_base", run.whole());
    assert_eq!(run.code(), Some(3));
    // The same values in BF16, truncated to its precision.
    let half = |bytes: &[u8]| bytes.chunks(4).flat_map(|number| [number[2], number[3]]).collect::<Vec<u8>>();
    let halves = tensors(&project).into_iter().map(|(name, (shape, bytes))| (name, (shape, half(&bytes)))).collect();
    write_weights(&base_beside(&project, "../halved"), &halves, Dtype::BF16, false);
    let other_type = apply("../halved", "../out");
    insta::assert_snapshot!("patch_apply_to_another_type", other_type.whole());
    assert_eq!(other_type.code(), Some(3));
    // The same tensors in two files are the same base.
    write_weights(&base_beside(&project, "../sharded"), &tensors(&project), Dtype::F32, true);
    let sharded = apply("../sharded", "../out");
    assert_eq!(sharded.code(), Some(0), "{}", sharded.whole());
    for form in ["peft", "gguf"] {
        project.replace("corrigenda.toml", "path = \"model\"", "path = \"../changed\"");
        let exported = project.run(&["export", form, "../more", "--patch", &id]);
        assert!(exported.code() == Some(3) && exported.err().contains(EDITED), "{}", exported.whole());
        assert!(!project.path("../more").exists());
        project.replace("corrigenda.toml", "path = \"../changed\"", "path = \"model\"");
    }
}

#[test]
fn a_patch_that_is_none() {
    let project = built();
    let (path, bytes) = patch(&project);
    let mut other = bytes.clone();
    other[9] ^= 1;
    std::fs::write(project.path("broken.safetensors"), other).expect("the file is written");
    std::fs::write(project.path("short.safetensors"), &bytes[..bytes.len() - 1]).expect("the file is written");
    std::fs::write(project.path("empty.safetensors"), Patch::default().to_bytes()).expect("the file is written");
    let mut flipped = bytes.clone();
    *flipped.last_mut().expect("bytes") ^= 1;
    let named = format!("{}.safetensors", Digest::of(&bytes).hex());
    std::fs::write(project.path(&named), flipped).expect("the file is written");
    let before = world(&project);
    for (name, part) in [
        ("broken.safetensors", "[patch-unusable]"),
        ("short.safetensors", "[patch-unusable]"),
        (&*named, "[patch-unusable]"),
        ("model", "not a regular file"),
        ("model/model.safetensors", "this is not a patch"),
        ("model/config.json", "[patch-unusable]"),
        ("0123456789", "[patch-missing]"),
        ("nowhere", "neither a file nor the id"),
    ] {
        for arguments in [
            &["patch", "show", name][..],
            &["patch", "apply", name, "--base", "model", "--out", "../out"],
            &["export", "peft", "../out", "--patch", name],
            &["export", "gguf", "../out", "--patch", name],
        ] {
            let run = project.run(arguments);
            assert!(run.code() == Some(2) && run.err().contains(part), "{arguments:?}: {}", run.whole());
        }
    }
    // An empty patch is valid and gives a copy of the base; an adapter cannot represent it.
    for form in ["peft", "gguf"] {
        let run = project.run(&["export", form, "../out", "--patch", "empty.safetensors"]);
        assert!(run.code() == Some(2) && run.err().contains("the patch has no edits"), "{}", run.whole());
    }
    assert!(world(&project) == before, "something was written");
    let run = project.run(&["patch", "apply", "empty.safetensors", "--base", "model", "--out", "../out"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    let shown = project.run(&["patch", "show", "empty.safetensors"]);
    assert!(shown.code() == Some(0) && shown.out().contains("0 edits"), "{}", shown.whole());
    assert!(path.exists());
    let no_base = project.run(&["patch", "apply", "empty.safetensors", "--base", "nowhere", "--out", "../more"]);
    assert!(no_base.code() == Some(2) && no_base.err().contains("[model-unusable]"), "{}", no_base.whole());
}

#[test]
fn of_a_sharded_base_only_the_edited_bytes_differ() {
    let project = Project::new();
    let all = tensors(&project);
    let folder = base_beside(&project, "sharded");
    write_weights(&folder, &all, Dtype::F32, true);
    project.replace("corrigenda.toml", "path = \"model\"", "path = \"sharded\"");
    let run = project.run(&["build"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    let before = Project::files(&folder);
    let exported = project.run(&["export", "checkpoint", "../out"]);
    assert_eq!(exported.code(), Some(0), "{}", exported.whole());
    assert!(Project::files(&folder) == before);
    let mut changed = 0;
    for (path, ours) in before {
        let name = path.file_name().expect("a name");
        let theirs = std::fs::read(project.path("../out").join(name)).expect("the same file");
        assert_eq!(ours.len(), theirs.len(), "{name:?}");
        let edited = match Header::parse(ours.len() as u64, &ours) {
            Ok(header) => header.tensors.get(EDITED).map(|info| info.start as usize..info.end as usize),
            Err(_) => None,
        };
        let inside = |at: &usize| edited.as_ref().is_some_and(|range| range.contains(at));
        assert!((0..ours.len()).all(|at| inside(&at) || ours[at] == theirs[at]), "{name:?}");
        changed += usize::from(ours != theirs);
    }
    assert_eq!(changed, 1, "one shard holds the edited tensor");
    for (form, to) in [("peft", "../adapter"), ("gguf", "../lora.gguf")] {
        let adapter = project.run(&["export", form, to]);
        assert_eq!(adapter.code(), Some(0), "{}", adapter.whole());
        assert_eq!(project.run(&["verify", to]).code(), Some(0));
    }
    assert_eq!(project.run(&["verify", "../out"]).code(), Some(0));
}

/// Returns a patch of two edits on every layer of a model, with numbers from a formula.
fn formula(folder: &Path, spec: &corrigenda::model::Spec) -> Patch {
    let bytes = std::fs::read(folder.join("model.safetensors")).expect("weights");
    let header = Header::parse(bytes.len() as u64, &bytes).expect("a header");
    let mut edits = vec![Digest::of(b"one"), Digest::of(b"two")];
    edits.sort_unstable();
    let number = |seed: u64, at: usize| (generated::splitmix(seed, at as u64) - 0.5) as f32;
    let target = |(name, info): (&String, &corrigenda::safetensors::TensorInfo)| {
        let layer = spec.layer_of(name)? as u64;
        let (out, inner) = (spec.hidden_size, spec.intermediate_size);
        let target = Target {
            base: Digest::of(&bytes[info.start as usize..info.end as usize]),
            dtype: info.dtype,
            layout: spec.family.layout,
            out,
            inner,
            edits: edits.clone(),
            u: (0..2 * out).map(|at| number(layer, at) * 1000.0).collect(),
            v: (0..2 * inner).map(|at| number(layer + 100, at) / 1e6).collect(),
        };
        Some((name.clone(), target))
    };
    Patch::new(header.tensors.iter().filter_map(target).collect()).expect("valid")
}

/// For every family and dtype, an adapter passes `verify` and has the names that its client expects.
#[test]
fn adapters_of_every_family() {
    let mut said = String::new();
    for (case, dtype) in
        cases().iter().flat_map(|case| [Dtype::F32, Dtype::BF16, Dtype::F16].map(|dtype| (case, dtype)))
    {
        let top = tempfile::tempdir().expect("a temporary folder");
        let (folder, store) = (top.path().join("base"), top.path().join("store"));
        case.write(&folder, dtype, false);
        let model = corrigenda::model::Model::open(&folder, corrigenda::numeric::Isa::detect()).expect("a model");
        let patch = formula(&folder, model.spec());
        assert_eq!(patch.targets().len(), model.spec().layers, "{}", case.name());
        let base = LockedBase { digest: Digest::of(b"base"), files: locked_weights(&folder) };
        let [to, file, whole] = ["out", "lora.gguf", "whole"].map(|name| top.path().join(name));
        let request = |output| ExportRequest {
            folder: &folder,
            base: &base,
            patch: &patch,
            facts: &[],
            settings: None,
            store: &store,
            to: output,
            progress: &corrigenda::progress::NoProgress,
        };
        peft(&request(&to), AdapterBase { spec: model.spec(), name: BaseName { name: "base", on_hub: false } })
            .expect("an adapter");
        let config = std::fs::read_to_string(to.join("adapter_config.json")).expect("a file");
        let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
        let gguf = llama_cpp(&request(&file), model.spec());
        let gguf = gguf.map_or_else(|error| error.to_string(), |one| one.architecture.to_owned());
        checkpoint(&request(&whole)).expect("a checkpoint");
        if dtype == Dtype::F32 {
            let name = case.name();
            said += &format!("{name}: {} {} | {gguf}\n", config["target_modules"], config["fan_in_fan_out"]);
        }
    }
    insta::assert_snapshot!("adapters_of_every_family", said);
}

#[test]
fn help_says_what_the_forms_are() {
    let project = Project::new();
    insta::assert_snapshot!("help_peft", project.run(&["export", "peft", "--help"]).whole());
    insta::assert_snapshot!("help_gguf", project.run(&["export", "gguf", "--help"]).whole());
    insta::assert_snapshot!("help_patch", project.run(&["patch", "--help"]).whole());
    insta::assert_snapshot!("help_patch_apply", project.run(&["patch", "apply", "--help"]).whole());
}
