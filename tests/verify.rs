//! Tests `export checkpoint`, `verify` and `build --provenance` on the tiny model: every claim, and damage that
//! `verify` must detect.

use std::path::PathBuf;

use corrigenda::digest::Digest;
use corrigenda::safetensors::Header;

use crate::support::project::{Project, Run};
use crate::support::tiny;

const EDITED: &str = "transformer.h.1.mlp.c_proj.weight";
const MANIFEST: &str = "../out/corrigenda-manifest.json";
const WEIGHTS: &str = "../out/model.safetensors";

/// Returns a built project whose checkpoint is exported to `../out`.
fn exported() -> Project {
    let project = Project::new();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    let run = project.run(&["export", "checkpoint", "../out"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    project
}

fn base(project: &Project) -> Vec<(PathBuf, Vec<u8>)> {
    Project::files(&project.path("model"))
}

/// Flips the lowest bit of byte `at` of a file.
fn flip(project: &Project, name: &str, at: usize) {
    let path = project.path(name);
    let mut bytes = std::fs::read(&path).expect("a file");
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).expect("the file is written");
}

/// Returns the offset of a tensor's first byte in a safetensors file.
fn offset(project: &Project, file: &str, tensor: &str) -> usize {
    let bytes = std::fs::read(project.path(file)).expect("weights");
    Header::parse(bytes.len() as u64, &bytes).expect("a header").tensors[tensor].start as usize
}

/// Damages an export, and expects `verify` to detect it with exit code 1 and to write nothing.
fn seen(parts: &[&str], damage: impl FnOnce(&Project)) -> Run {
    let project = exported();
    let before = base(&project);
    damage(&project);
    let cache = Project::files(&project.cache());
    let run = project.run(&["verify", "../out"]);
    assert_eq!(run.code(), Some(1), "{}", run.whole());
    for part in parts {
        assert!(run.out().contains(part), "{part} is not in {}", run.whole());
    }
    assert!(base(&project) == before && Project::files(&project.cache()) == cache, "something was written");
    run
}

#[test]
fn an_export_differs_only_in_the_edited_tensor() {
    let project = Project::new();
    project.write("model/README.md", "---\nlicense: mit\n---\n# Tiny\n");
    project.write("model/pytorch_model.bin", "no");
    std::fs::create_dir(project.path("model/.git")).expect("the folder is created");
    project.run(&["build"]);
    let before = base(&project);
    let run = project.run(&["export", "checkpoint", "../out"]);
    insta::assert_snapshot!("export", run.whole());
    insta::assert_snapshot!("export_manifest", project.read(MANIFEST));
    insta::assert_snapshot!("export_readme", project.read("../out/README.md"));
    assert!(base(&project) == before);
    let names: Vec<_> = Project::files(&project.path("../out")).into_iter().map(|(path, _)| path).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    let ours = std::fs::read(project.path("model/model.safetensors")).expect("weights");
    let theirs = std::fs::read(project.path(WEIGHTS)).expect("weights");
    let header = Header::parse(ours.len() as u64, &ours).expect("a header");
    let edited = header.tensors[EDITED].start as usize..header.tensors[EDITED].end as usize;
    assert_eq!(ours.len(), theirs.len());
    assert!((0..ours.len()).all(|at| edited.contains(&at) || ours[at] == theirs[at]));
    assert!(ours[edited.clone()] != theirs[edited]);
    insta::assert_snapshot!("verify_export", project.run(&["verify", "../out"]).whole());
    // Exporting twice gives the same bytes, and no temporary file is left.
    assert_eq!(project.run(&["export", "checkpoint", "../again"]).code(), Some(0));
    let bytes =
        |name: &str| Project::files(&project.path(name)).into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
    assert!(bytes("../out") == bytes("../again"));
    let beside = std::fs::read_dir(project.path("..")).expect("a folder").flatten();
    assert!(beside.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(".corrigenda")));
}

#[test]
fn an_export_says_the_same_in_json() {
    let project = exported();
    let export = project.run(&["export", "checkpoint", "../json", "--format", "json"]).json();
    let manifest: serde_json::Value = serde_json::from_str(&project.read(MANIFEST)).expect("JSON");
    assert_eq!((&export["manifest"], &export["outcome"]), (&manifest, &"ok".into()));
    let verify = project.run(&["verify", "../out", "--format", "json"]).json();
    assert_eq!((&verify["outcome"], &verify["failures"]), (&"ok".into(), &0.into()));
    assert_eq!(verify["patch"], manifest["patch"]);
    let tensor = verify["checks"].as_array().expect("checks").iter().find(|check| check["name"] == EDITED);
    assert_eq!(tensor.expect("the edited tensor")["said"], "base + patch");
}

#[test]
fn the_edited_model_is_a_base_like_any_other() {
    let project = exported();
    project.replace("corrigenda.toml", "path = \"model\"", "path = \"../out\"");
    std::fs::remove_file(project.path("corrigenda.lock")).expect("the file is removed");
    let plan = project.run(&["plan", "--only", "ada.born"]);
    assert_eq!(plan.code(), Some(0), "{}", plan.whole());
}

#[test]
fn folders_that_are_not_exported_to() {
    let project = exported();
    let before = base(&project);
    std::fs::write(project.path("../file"), "x").expect("the file is written");
    std::fs::create_dir_all(project.path("../full/x")).expect("the folder is created");
    std::fs::create_dir(project.path("../empty")).expect("the folder is created");
    let refused = [
        ("model", "base model"),
        ("model/sub", "base model"),
        ("../project/./model", "base model"),
        ("../cache/out", "the store"),
        ("../file", "is a file"),
        ("../full", "a folder that is not empty"),
        ("../out", "a folder that is not empty"),
        ("../file/where", "is not a folder and cannot be created"),
    ];
    for (to, part) in refused {
        let run = project.run(&["export", "checkpoint", to]);
        assert_eq!(run.code(), Some(2), "{to}: {}", run.whole());
        assert!(run.err().contains("[export-refused]") && run.err().contains(part), "{to}: {}", run.err());
    }
    assert_eq!(project.run(&["export", "checkpoint", "../empty"]).code(), Some(0));
    assert!(base(&project) == before);
}

#[cfg(unix)]
#[test]
fn links_are_followed_only_inside() {
    use std::os::unix::fs::symlink;
    let project = exported();
    symlink(project.path("../elsewhere"), project.path("../link")).expect("the link is created");
    let run = project.run(&["export", "checkpoint", "../link"]);
    assert!(run.code() == Some(2) && run.err().contains("a symbolic link"), "{}", run.whole());
    symlink(project.path("corrigenda.toml"), project.path("model/notes")).expect("the link is created");
    let outside = project.run(&["export", "checkpoint", "../other"]);
    assert!(
        outside.code() == Some(2) && outside.err().contains("`notes` is a link to a target outside the folder"),
        "{}",
        outside.whole()
    );
    assert!(!project.path("../other").exists());
    // A symbolic link in an export is reported too.
    std::fs::remove_file(project.path("model/notes")).expect("the file is removed");
    symlink(project.path("corrigenda.toml"), project.path("../out/notes")).expect("the link is created");
    let linked = project.run(&["verify", "../out"]);
    assert!(
        linked.code() == Some(1) && linked.out().contains("is a link to a target outside the folder"),
        "{}",
        linked.whole()
    );
}

#[test]
fn a_stale_lock_blocks_the_export_of_its_patch() {
    let project = Project::new();
    assert_eq!(project.run(&["export", "checkpoint", "../out"]).code(), Some(3), "nothing was built");
    project.run(&["build"]);
    let id = project.run(&["build", "--format", "json"]).json()["patch"]["id"].as_str().expect("an id").to_owned();
    project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
    let run = project.run(&["export", "checkpoint", "../out"]);
    assert!(run.code() == Some(3) && !project.path("../out").exists(), "{}", run.whole());
    let exported = project.run(&["export", "checkpoint", "../out", "--patch", &id[..15]]);
    assert_eq!(exported.code(), Some(0), "{}", exported.whole());
    let manifest: serde_json::Value = serde_json::from_str(&project.read(MANIFEST)).expect("JSON");
    assert_eq!((&manifest["patch"], manifest["facts"].as_array().map(Vec::len)), (&id.into(), Some(3)));
    let unknown = manifest["facts"].as_array().expect("facts").iter().filter(|fact| fact["id"].is_null()).count();
    assert_eq!(unknown, 1, "the fact that is no longer written is known by its digest");
    assert_eq!(project.run(&["verify", "../out"]).code(), Some(0));
    for name in ["sha256:00000000", "12345678", "1234", "../project"] {
        let missing = project.run(&["export", "checkpoint", "../more", "--patch", name]);
        assert!(missing.code() == Some(2) && missing.err().contains("[patch-missing]"), "{name}: {}", missing.whole());
    }
}

#[test]
fn every_byte_of_an_export_counts() {
    let run = seen(&["not the same as in the base", "1 of 12800 elements differ"], |project| {
        flip(project, WEIGHTS, offset(project, WEIGHTS, "transformer.wte.weight"));
    });
    insta::assert_snapshot!("flipped_untouched", run.whole());
    let edited = seen(&["neither the base nor base + patch", "1 of 4096 elements differ"], |project| {
        flip(project, WEIGHTS, offset(project, WEIGHTS, EDITED));
    });
    insta::assert_snapshot!("flipped_edited", edited.whole());
    seen(&["config.json", "changed"], |project| flip(project, "../out/config.json", 60));
    seen(&["its weights cannot be read"], |project| flip(project, WEIGHTS, 8));
    seen(&["model.safetensors", "changed"], |project| {
        let bytes = std::fs::read(project.path(WEIGHTS)).expect("weights");
        let at = bytes.windows(4).position(|some| some == b"\"pt\"").expect("metadata");
        flip(project, WEIGHTS, at + 1);
    });
    seen(&["README.md", "changed"], |project| flip(project, "../out/README.md", 40));
    seen(&["notes.txt", "extra"], |project| project.write("../out/notes.txt", "x"));
    seen(&["sub", "extra: a folder"], |project| std::fs::create_dir(project.path("../out/sub")).expect("made"));
    seen(&["tokenizer.json", "missing"], |project| {
        std::fs::remove_file(project.path("../out/tokenizer.json")).expect("the file is removed");
    });
    seen(&["README.md", "missing"], |project| {
        std::fs::remove_file(project.path("../out/README.md")).expect("the file is removed");
    });
    seen(&["every tensor is the same as in the base", "the patch is not in it"], |project| {
        std::fs::copy(project.path("model/model.safetensors"), project.path(WEIGHTS)).expect("the file is copied");
    });
}

#[test]
fn every_claim_of_a_manifest_counts() {
    let text = exported().read(MANIFEST);
    let edit = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} is not in {text}");
        text.replacen(from, to, 1)
    };
    let lies = [
        (edit("\"digest\": \"sha256:", "\"digest\": \"sha256;"), "not valid"),
        (edit("\"config.json\"", "\"../config.json\""), "no file of the folder"),
        (edit("\"config.json\"", "\"/etc/passwd\""), "no file of the folder"),
        (edit("\"format\": 1", "\"format\": 2"), "of format 2"),
        (edit("\"format\": 1", "\"format\": 1, \"by\": \"me\""), "not valid"),
        (edit("portable-1", "portable-2"), "this program computes with portable-1"),
        (edit("\"target\": \"Paris\"", "\"target\": \"Quito\""), "contradicted by the bytes"),
        (edit("\"reason\": \"A test.\"", "\"reason\": \"A lie.\""), "README.md"),
        (edit("\"id\": \"ada.born\"", "\"id\": \"ada.dead\""), "README.md"),
        (edit(EDITED, "transformer.h.0.mlp.c_proj.weight"), "a tensor that the patch does not change"),
        (edit("  \"facts\"", "   \"facts\""), "not those that `export` writes"),
        (text.replacen("\"size\": ", "\"size\": 1", 1), "other files, or files with other bytes"),
    ];
    for (lie, part) in lies {
        seen(&[part], |project| project.write(MANIFEST, &lie));
    }
    let settings = text.find("\"settings\": \"sha256:").expect("settings") + 22;
    seen(&["settings"], |project| {
        let mut bytes = text.clone().into_bytes();
        bytes[settings] = if bytes[settings] == b'0' { b'1' } else { b'0' };
        std::fs::write(project.path(MANIFEST), bytes).expect("the file is written");
    });
}

#[test]
fn an_export_without_a_manifest_is_verified() {
    let run = seen(&["corrigenda-manifest.json", "missing", "named by the lock", "ada.born"], |project| {
        std::fs::remove_file(project.path(MANIFEST)).expect("the file is removed");
    });
    insta::assert_snapshot!("without_a_manifest", run.whole());
    // A patch is also found if only the store has it.
    let stored = seen(&["found in the store", "rome.country"], |project| {
        std::fs::remove_file(project.path(MANIFEST)).expect("the file is removed");
        project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
        project.run(&["build"]);
    });
    assert!(stored.out().contains("neither the project nor the manifest describes"), "{}", stored.whole());
    // A manifest that claims another patch is reported, and the actual patch is found.
    seen(&["patch", "contradicted by the bytes", "base + patch"], |project| {
        let text = project.read(MANIFEST);
        let claimed = text.split("\"patch\": \"").nth(1).expect("a patch")[..71].to_owned();
        project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
        let other =
            project.run(&["build", "--format", "json"]).json()["patch"]["id"].as_str().expect("an id").to_owned();
        project.replace(MANIFEST, &claimed, &other);
    });
}

#[test]
fn checks_without_the_patch_are_unknown() {
    let project = exported();
    std::fs::create_dir(project.path("../hollow")).expect("the folder is created");
    let run = project.run(&["verify", "../hollow"]);
    assert!(run.code() == Some(2) && run.err().contains("holds no weights"), "{}", run.whole());
    // Without the patch, `verify` checks files and other tensors, and reports that the rest is unknown.
    project.run(&["verify", "../out"]);
    std::fs::remove_file(project.path("corrigenda.lock")).expect("the file is removed");
    let unknown = project.run(&["verify", "../out", "--cache-dir", "../other"]);
    insta::assert_snapshot!("unknown_patch", unknown.whole());
    // Even without the patch, `verify` detects a change in a tensor that no edit claims.
    flip(&project, WEIGHTS, offset(&project, WEIGHTS, "transformer.wte.weight"));
    assert_eq!(project.run(&["verify", "../out", "--cache-dir", "../other"]).code(), Some(1));
    std::fs::remove_dir_all(project.path("model")).expect("the folder is removed");
    let no_base = project.run(&["verify", "../out"]);
    assert!(no_base.code() == Some(2) && no_base.err().contains("[model-unusable]"), "{}", no_base.whole());
}

#[test]
fn another_base_is_another_model() {
    let project = exported();
    let patch = Project::files(&project.cache().join("v1/patches")).remove(0).0;
    let other = tiny::editable(|name, elements| {
        if name == EDITED {
            elements[0] += 0.5;
        }
    });
    tiny::write_model_with(&project.path("model"), &other);
    let run = project.run(&["verify", &patch.to_string_lossy()]);
    assert_eq!(run.code(), Some(1), "{}", run.whole());
    assert!(run.out().contains("not as in the base") && run.out().contains("expected sha256:"), "{}", run.out());
    let wrong = project.run(&["verify", "../out"]);
    assert!(wrong.code() != Some(0) && wrong.out().contains("WRONG"), "{}", wrong.whole());
    let refused = project.run(&["export", "checkpoint", "../more", "--patch", &patch.to_string_lossy()]);
    assert!(refused.code() == Some(3) && refused.err().contains("[patch-unusable]"), "{}", refused.whole());
    assert!(!project.path("../more").exists());
}

#[test]
fn an_export_of_another_model_is_one_finding() {
    let project = exported();
    let other = tiny::editable(|_, elements| elements.iter_mut().for_each(|x| *x += 0.5));
    tiny::write_model_with(&project.path("model"), &other);
    let run = project.run(&["verify", "../out", "--base", "model"]);
    assert_eq!(run.code(), Some(1), "{}", run.whole());
    assert!(
        run.out().contains("the export is of another model: no tensor is the same as in the base"),
        "{}",
        run.whole()
    );
    assert_eq!(run.out().matches("WRONG").count(), 1, "{}", run.whole());
}

#[test]
fn a_patch_is_its_bytes() {
    let project = Project::new();
    project.run(&["build"]);
    let (path, bytes) = Project::files(&project.cache().join("v1/patches")).remove(0);
    let id = Digest::of(&bytes);
    insta::assert_snapshot!("verify_patch", project.run(&["verify", &id.to_string()]).whole());
    assert_eq!(project.run(&["verify", &id.hex()[..8]]).code(), Some(0));
    project.write("mine.safetensors", "");
    std::fs::copy(&path, project.path("mine.safetensors")).expect("the file is copied");
    assert_eq!(project.run(&["verify", "mine.safetensors"]).code(), Some(0));
    let last = bytes.len() - 1;
    flip(&project, "mine.safetensors", last);
    // A patch with a flipped bit in a factor is valid, but its digest differs from the file name.
    let named = format!("{}.safetensors", id.hex());
    std::fs::copy(project.path("mine.safetensors"), project.path(&named)).expect("the file is copied");
    let run = project.run(&["verify", &named]);
    assert!(run.code() == Some(1) && run.out().contains("not the digest in the name"), "{}", run.whole());
    flip(&project, &named, 9);
    let invalid = project.run(&["verify", &named]);
    assert!(invalid.code() == Some(1) && invalid.out().contains("not a valid patch"), "{}", invalid.whole());
    // A damaged patch in the store is detected too.
    std::fs::copy(project.path("mine.safetensors"), &path).expect("the file is copied");
    let damaged = project.run(&["verify", &id.to_string()]);
    assert!(damaged.code() == Some(1) && damaged.out().contains(&id.to_string()), "{}", damaged.whole());
    assert_eq!(project.run(&["export", "checkpoint", "../out"]).code(), Some(2));
}

/// Runs the repair commands that `verify` reports.
fn mend(project: &Project) {
    let json = project.run(&["verify", "--format", "json"]).json();
    for command in json["repair"].as_array().expect("commands") {
        let command = command.as_str().expect("a command");
        match command.strip_prefix("rm -r '").and_then(|rest| rest.strip_suffix('\'')) {
            Some(path) => std::fs::remove_file(path).expect("the file is removed"),
            None => assert_eq!((command, project.run(&["build"]).code()), ("corrigenda build", Some(0))),
        }
    }
}

#[test]
fn the_project_matches_its_lock() {
    let project = Project::new();
    assert_eq!(project.run(&["verify"]).code(), Some(3), "nothing was built");
    project.run(&["build"]);
    insta::assert_snapshot!("verify", project.run(&["verify"]).whole());
    insta::assert_snapshot!("verify_elsewhere", project.run(&["verify", "--cache-dir", "../empty"]).whole());
    assert!(!project.path("../empty").exists(), "nothing is written");
    // Every damaged entry of the store is one finding.
    for (path, mut bytes) in Project::files(&project.cache().join("v1/objects")) {
        bytes[20] ^= 1;
        std::fs::write(path, bytes).expect("the file is written");
    }
    let run = project.run(&["verify"]);
    assert!(run.code() == Some(1) && run.out().matches("WRONG  object").count() == 3, "{}", run.whole());
    // A build does not repair the store; the reported commands do.
    project.run(&["build"]);
    assert_eq!(project.run(&["verify"]).code(), Some(1));
    mend(&project);
    assert_eq!(project.run(&["verify"]).code(), Some(0));
    let statistics = Project::files(&project.cache().join("v1/statistics")).remove(0).0;
    flip(&project, &statistics.to_string_lossy(), 4000);
    assert!(project.run(&["verify"]).out().contains("WRONG  statistics"));
    mend(&project);
    assert_eq!(project.run(&["verify"]).code(), Some(0));
    project.replace("edits/people.toml", "reason = \"A test.\"", "reason = \"Another.\"");
    let stale = project.run(&["verify"]);
    assert!(stale.code() == Some(3) && stale.out().contains("edit ada.born, record"), "{}", stale.whole());
}

#[test]
fn a_changed_base_or_corpus_is_found() {
    let project = Project::new();
    project.run(&["build"]);
    project.write("corpus.txt", "Another corpus.\n");
    flip(&project, "model/model.safetensors", 40_000);
    let run = project.run(&["verify"]);
    insta::assert_snapshot!("verify_another_base", run.whole());
    assert_eq!(project.run(&["verify", "--rebuild"]).code(), Some(3));
    std::fs::remove_file(project.path("corpus.txt")).expect("the file is removed");
    assert!(project.run(&["verify"]).out().contains("the statistics were computed from it"));
}

#[test]
fn everything_is_computed_again() {
    let project = Project::new();
    assert_eq!(project.run(&["verify", "--rebuild"]).code(), Some(3), "nothing was built");
    project.run(&["build"]);
    let files = || [Project::files(&project.cache()), Project::files(&project.path(""))].concat();
    let before = files();
    let run = project.run(&["verify", "--rebuild"]);
    insta::assert_snapshot!("rebuild", run.whole());
    assert!(files() == before, "something was written");
    // If the inputs match the lock but the patch differs, the lock is reported as wrong, not as stale.
    let lock = project.read("corrigenda.lock");
    let id = lock.rsplit("id = \"sha256:").next().expect("an id")[..64].to_owned();
    project.replace("corrigenda.lock", &id, &format!("{}{}", &id[32..], &id[..32]));
    let other_bytes = project.run(&["verify", "--rebuild"]);
    assert_eq!(other_bytes.code(), Some(1), "{}", other_bytes.whole());
    assert!(other_bytes.out().contains("the same inputs gave other bytes"), "{}", other_bytes.whole());
    project.write("corrigenda.lock", &lock);
    project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
    let stale = project.run(&["verify", "--rebuild"]);
    assert!(stale.code() == Some(3) && stale.out().contains("nothing was computed"), "{}", stale.whole());
    assert_eq!(project.run(&["verify", "--rebuild", "../out"]).code(), Some(2));
}

#[test]
fn provenance_names_everything_that_was_read() {
    let project = Project::new();
    let run = project.run(&["build", "--provenance", "../a.json"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    let text = project.read("../a.json");
    insta::assert_snapshot!("provenance", text);
    let statement: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let digest = |name: &str| Digest::of(&std::fs::read(project.path(name)).expect("a file")).hex();
    let list = statement["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().expect("a list");
    let named = |name: &str| list.iter().find(|one| one["name"] == name).map(|one| one["digest"]["sha256"].clone());
    for (name, file) in [
        ("base/config.json", "model/config.json"),
        ("base/model.safetensors", "model/model.safetensors"),
        ("base/tokenizer.json", "model/tokenizer.json"),
        ("corpus/corpus.txt", "corpus.txt"),
        ("corrigenda.toml", "corrigenda.toml"),
        ("edits/people.toml", "edits/people.toml"),
        ("edits/places.toml", "edits/places.toml"),
        ("templates/templates.txt", "templates.txt"),
    ] {
        assert_eq!(named(name), Some(digest(file).into()), "{name}");
    }
    let patch = Project::files(&project.cache().join("v1/patches")).remove(0).1;
    assert_eq!(statement["subject"][0]["digest"]["sha256"], Digest::of(&patch).hex());
    // A build from the store and a build from an empty store give the same bytes.
    project.run(&["build", "--locked", "--provenance", "../b.json", "--cache-dir", "../other"]);
    assert_eq!(project.read("../b.json"), text);
    project.run(&["build", "--provenance", "../c.json", "--builder", "https://ci.example/main"]);
    assert_eq!(project.read("../c.json"), text.replace("urn:corrigenda:builder:unnamed", "https://ci.example/main"));
    // Without a build, no provenance is written; if the provenance cannot be written, nothing is built.
    project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
    assert_eq!(project.run(&["build", "--locked", "--provenance", "../d.json"]).code(), Some(3));
    assert!(!project.path("../d.json").exists());
    for arguments in
        [["--provenance", "../no/d.json", "--builder", "a:b"], ["--provenance", "../d.json", "--builder", "me"]]
    {
        let refused = project.run(&[&["build"], &arguments[..]].concat());
        assert!(refused.code() == Some(2) && !refused.err().contains("compile"), "{}", refused.whole());
    }
    assert_eq!(project.run(&["build", "--builder", "a:b"]).code(), Some(2), "a builder of nothing");
}

#[test]
fn an_export_that_fails_late_leaves_nothing() {
    use corrigenda::export::{ExportError, ExportRequest, checkpoint};
    use corrigenda::patch::Patch;
    use corrigenda::project::{LockedBase, LockedFile};

    let project = Project::new();
    project.run(&["build"]);
    let before = base(&project);
    let patch = Project::files(&project.cache().join("v1/patches")).remove(0).1;
    // A file of the base that changes after the base is opened is detected only after the export is written.
    let file = LockedFile { path: "config.json".to_owned(), size: 1, digest: Digest::of(b"another") };
    let bytes = std::fs::read(project.path("model/model.safetensors")).expect("weights");
    let (path, size) = ("model.safetensors".to_owned(), bytes.len() as u64);
    let weights = LockedFile { path, size, digest: Digest::of(&bytes) };
    let request = ExportRequest {
        folder: &project.path("model"),
        base: &LockedBase { digest: Digest::of(b"base"), files: vec![file, weights] },
        patch: &Patch::from_bytes(&patch).expect("a patch"),
        facts: &[],
        settings: None,
        store: &project.cache(),
        to: &project.path("../out"),
        progress: &corrigenda::progress::NoProgress,
    };
    let error = checkpoint(&request).expect_err("the base changed");
    assert!(matches!(error, ExportError::Changed { .. }), "{error}");
    let left: Vec<_> = std::fs::read_dir(project.path("..")).expect("a folder").flatten().collect();
    assert_eq!(left.len(), 2, "project and cache: {left:?}");
    assert!(base(&project) == before);
}

#[test]
fn help_says_what_the_verbs_do() {
    let project = Project::new();
    insta::assert_snapshot!("help_export", project.run(&["export", "checkpoint", "--help"]).whole());
    insta::assert_snapshot!("help_verify", project.run(&["verify", "--help"]).whole());
}
