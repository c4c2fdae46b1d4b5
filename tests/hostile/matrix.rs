//! One set, one patch: whatever computes it, in whatever order it is written, from whatever store.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corrigenda::numeric::Isa;

use super::{figure, patch, quick, rounds, skipped};
use crate::support::project::{Project, binary};

/// What the small project gives. It moves only when the numerics do, which the lock would say.
const PATCH: &str = "sha256:d3feef456883d68fb3a7748b0e92744e40f41d27786ec9d3a4583e1b94d117af";

fn id(mut command: Command, project: &Project, cache: &Path) -> String {
    command.args(["build", "--format", "json"]).current_dir(project.path("")).env("CORRIGENDA_CACHE_DIR", cache);
    let output = command.stderr(Stdio::piped()).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    json["patch"]["id"].as_str().expect("a patch").to_owned()
}

/// A store that does not exist yet.
fn cold(project: &Project, name: &str) -> PathBuf {
    project.cache().with_file_name(name)
}

#[test]
fn threads_and_instructions_change_no_byte() {
    let project = quick();
    let mut count = 0;
    for isa in Isa::all() {
        for threads in ["1", "2", "8", "32"] {
            let mut command = Command::new(binary());
            command.args(["--isa", isa.name(), "--threads", threads]);
            let cache = cold(&project, &format!("{} {threads}", isa.name()));
            assert_eq!(id(command, &project, &cache), PATCH, "{}, {threads} threads", isa.name());
            count += 1;
        }
    }
    figure(&format!("{count} builds over threads and instruction sets: {PATCH}"));
}

#[test]
fn processors_of_other_years_give_the_same_patch() {
    let project = quick();
    for (processor, has) in [("Nehalem", "neither AVX nor FMA"), ("Haswell", "AVX2 and FMA")] {
        let mut command = Command::new("qemu-x86_64");
        let there = Command::new("qemu-x86_64").arg("--version").stdout(Stdio::null()).status();
        if !there.is_ok_and(|status| status.success()) {
            skipped("qemu-x86_64 is not here");
            return;
        }
        command.args(["-cpu", processor]).arg(binary());
        assert_eq!(id(command, &project, &cold(&project, processor)), PATCH, "{processor}");
        figure(&format!("qemu-x86_64 -cpu {processor} ({has}): {PATCH}"));
    }
}

#[test]
fn an_unoptimised_build_gives_the_same_patch() {
    let Some(debug) = std::env::var_os("CORRIGENDA_UNOPTIMISED") else {
        skipped("CORRIGENDA_UNOPTIMISED names no unoptimised build");
        return;
    };
    let project = quick();
    assert_eq!(id(Command::new(debug), &project, &project.cache()), PATCH);
    figure(&format!("an unoptimised build: {PATCH}"));
}

#[test]
fn order_names_and_files_are_no_matter() {
    let project = quick();
    let blocks: Vec<String> = ["edits/people.toml", "edits/places.toml"]
        .iter()
        .flat_map(|file| {
            let text = project.read(file);
            text.split("[[edit]]").skip(1).map(|block| format!("[[edit]]{block}")).collect::<Vec<_>>()
        })
        .collect();
    let mut state = 5_u64;
    let mut next = move |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let count = 4 + rounds(0) / 10;
    for round in 0..count {
        let _ = std::fs::remove_dir_all(project.path("edits"));
        std::fs::create_dir(project.path("edits")).expect("a folder");
        let mut left = blocks.clone();
        let mut files = vec![String::new(); 1 + next(3)];
        while !left.is_empty() {
            let block = left.swap_remove(next(left.len()));
            let name = next(1 << 20);
            let line = block.lines().find(|line| line.starts_with("id = ")).expect("an id").to_owned();
            let file = next(files.len());
            files[file].push_str(&block.replace(&line, &format!("id = \"e{name}.x{round}\"")));
        }
        for text in &files {
            project.write(&format!("edits/{}.toml", next(1 << 20)), &format!("format = 1\n\n{text}"));
        }
        let cache = if round % 2 == 0 { cold(&project, &format!("shuffled {round}")) } else { project.cache() };
        assert_eq!(id(Command::new(binary()), &project, &cache), PATCH, "round {round}");
    }
    figure(&format!("{count} shuffles of edits, files, names and ids, from cold and warm stores: {PATCH}"));
}

#[test]
fn objects_from_another_store_link_to_the_same_patch() {
    let project = quick();
    assert_eq!(patch(&project.run(&["build", "--format", "json"])), PATCH);
    let carried = project.cache().with_file_name("carried").to_string_lossy().into_owned();
    assert_eq!(project.run(&["store", "export", &carried]).code(), Some(0));
    let other = project.cache().with_file_name("other").to_string_lossy().into_owned();
    assert_eq!(project.run(&["store", "import", &carried, "--cache-dir", &other]).code(), Some(0));
    let run = project.run(&["build", "--format", "json", "--cache-dir", &other]);
    assert_eq!(patch(&run), PATCH);
    assert_eq!(run.json()["compiled"], 0, "everything came with the store: {}", run.whole());
    // Without what was linked: objects alone.
    for folder in ["patches", "reports"] {
        let _ = std::fs::remove_dir_all(Path::new(&other).join("v1").join(folder));
    }
    let run = project.run(&["build", "--format", "json", "--cache-dir", &other]);
    assert_eq!((patch(&run).as_str(), &run.json()["compiled"]), (PATCH, &0.into()));
    figure(&format!("objects from another store: {PATCH}"));
}

#[test]
fn a_thousand_builds_give_one_patch() {
    let project = quick();
    let count = rounds(3);
    for round in 0..count {
        let _ = std::fs::remove_dir_all(project.cache());
        assert_eq!(id(Command::new(binary()), &project, &project.cache()), PATCH, "round {round}");
    }
    figure(&format!("{count} builds from an empty store: 0 differences from {PATCH}"));
}
