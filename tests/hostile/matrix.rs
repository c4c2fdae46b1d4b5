//! Tests that the patch of a set of edits does not depend on the instruction set, the number of threads, the compiler
//! settings, the order of the edits, or the content of the store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corrigenda::numeric::Isa;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::{figure, patch, quick, rounds, skipped};
use crate::support::project::{Project, binary};

/// The expected patch id of the project of [`quick`]. A change of this id needs a new version of the numerics.
const PATCH: &str = "sha256:d3feef456883d68fb3a7748b0e92744e40f41d27786ec9d3a4583e1b94d117af";

fn id(mut command: Command, project: &Project, cache: &Path) -> String {
    command.args(["build", "--format", "json"]).current_dir(project.path("")).env("CORRIGENDA_CACHE_DIR", cache);
    let output = command.stderr(Stdio::piped()).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    json["patch"]["id"].as_str().expect("a patch").to_owned()
}

/// Returns the path of a new store.
fn cold(project: &Project, name: &str) -> PathBuf {
    project.cache().with_file_name(name)
}

/// Writes the edits of the project again, in another order, in other files and with other ids.
fn another_way(project: &Project, number: usize) {
    let mut facts: Vec<String> = Vec::new();
    for (path, bytes) in Project::files(&project.path("edits")) {
        let text = String::from_utf8(bytes).expect("text");
        facts.extend(text.split("[[edit]]\n").skip(1).map(str::to_owned));
        std::fs::remove_file(path).expect("the file is removed");
    }
    let first = number % facts.len();
    facts.rotate_left(first);
    for (place, fact) in facts.iter().rev().enumerate() {
        let rest = fact.split_once('\n').expect("an id stands first").1;
        let text = format!("format = 1\n[[edit]]\nid = \"e{number}.x{place}\"\n{rest}");
        project.write(&format!("edits/{}-{number}.toml", facts.len() - place), &text);
    }
}

/// Builds with every instruction set and several numbers of threads, each from an empty store. Returns the number of
/// combinations.
fn every_way(program: &Path) -> usize {
    let project = quick();
    let mut count = 0;
    for isa in Isa::all() {
        for threads in ["1", "2", "8", "32"] {
            let mut command = Command::new(program);
            command.args(["--isa", isa.name(), "--threads", threads]);
            let cache = cold(&project, &format!("{} {threads}", isa.name()));
            assert_eq!(id(command, &project, &cache), PATCH, "{}, {threads} threads", isa.name());
            count += 1;
            // Builds again from the same store, with the edits in another order and under other ids. The next
            // combination also starts from these edits.
            another_way(&project, count);
            let mut again = Command::new(program);
            again.args(["--isa", isa.name(), "--threads", threads]);
            let _ = std::fs::remove_dir_all(cache.join("v1/patches"));
            assert_eq!(id(again, &project, &cache), PATCH, "{}, {threads} threads, from what is known", isa.name());
        }
    }
    count
}

#[test]
fn threads_and_instructions_change_no_byte() {
    let count = every_way(&binary());
    figure(&format!("{count} builds over threads and instruction sets: {PATCH}"));
}

/// Other builds of the program: the environment variable with the path, and a description.
const OTHERS: [(&str, &str); 2] =
    [("CORRIGENDA_UNOPTIMISED", "an unoptimised build"), ("CORRIGENDA_MUSL", "a build with musl")];

fn other(variable: &str, what: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    if named.is_none() {
        skipped(&format!("{variable} does not name {what}"));
    }
    named
}

#[test]
fn other_builds_give_the_same_patch() {
    for (variable, what) in OTHERS {
        let Some(program) = other(variable, what) else { continue };
        figure(&format!("{what}: {} builds over threads and instruction sets: {PATCH}", every_way(&program)));
    }
}

#[test]
fn processors_of_other_years_give_the_same_patch() {
    let there = Command::new("qemu-x86_64").arg("--version").stdout(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        skipped("qemu-x86_64 is not here");
        return;
    }
    let musl = other(OTHERS[1].0, OTHERS[1].1).map(|program| ("musl", program));
    let project = quick();
    for (library, program) in std::iter::once(("the system's library", binary())).chain(musl) {
        for (processor, has) in [("Nehalem", "neither AVX nor FMA"), ("Haswell", "AVX2 and FMA")] {
            let mut command = Command::new("qemu-x86_64");
            command.args(["-cpu", processor]).arg(&program);
            let cache = cold(&project, &format!("{library} {processor}"));
            assert_eq!(id(command, &project, &cache), PATCH, "{processor}, {library}");
            figure(&format!("qemu-x86_64 -cpu {processor} ({has}), {library}: {PATCH}"));
        }
    }
}

/// The facts that a random set is drawn from: subject, prompt, target.
const FACTS: [(&str, &str, &str); 6] = [
    ("Ada Bellini", "I live in {}", "Paris"),
    ("São Tomé", "The people live in {}", "Paris"),
    ("Rome", "We saw the city of {}", "Vienna"),
    ("Lisbon", "The people live in {}", "Rome"),
    ("Vienna", "I live in {}", "Lisbon"),
    ("Paris", "We saw the city of {}", "Rome"),
];

/// A way to write a set as edit files: the indices of facts in order, and for each fact its file and its id.
#[derive(Clone, Debug)]
struct Written {
    facts: Vec<usize>,
    files: Vec<(usize, u32)>,
}

fn written() -> impl Strategy<Value = Written> {
    let all: Vec<usize> = (0..FACTS.len()).collect();
    let facts = subsequence(all, 1..=FACTS.len()).prop_shuffle();
    facts.prop_flat_map(|facts| {
        let files = vec((0_usize..3, any::<u32>()), facts.len());
        files.prop_map(move |files| Written { facts: facts.clone(), files })
    })
}

impl Written {
    /// Returns the same set in ascending order, in one file, with ids that count from zero.
    fn plain(&self) -> Self {
        let mut facts = self.facts.clone();
        facts.sort_unstable();
        Self { files: (0..facts.len()).map(|name| (0, name as u32)).collect(), facts }
    }

    fn write(&self, project: &Project) {
        let _ = std::fs::remove_dir_all(project.path("edits"));
        std::fs::create_dir(project.path("edits")).expect("a folder");
        let mut texts = BTreeMap::new();
        for (index, (&fact, (file, name))) in self.facts.iter().zip(&self.files).enumerate() {
            let (subject, prompt, target) = FACTS[fact];
            let text = texts.entry(file).or_insert_with(|| (*name, "format = 1\n".to_owned()));
            text.1 += &format!("\n[[edit]]\nid = \"e{name}.x{index}\"\n");
            text.1 += &format!("subject = \"{subject}\"\nprompt = \"{prompt}\"\ntarget = \"{target}\"\n");
        }
        texts.iter().for_each(|(file, (name, text))| project.write(&format!("edits/{name}-{file}.toml"), text));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6 + rounds(0) as u32 / 10, ..ProptestConfig::default() })]
    /// The patch does not depend on the order of the facts, the files, the ids, or on whether the store is empty.
    #[test]
    fn a_patch_is_a_function_of_the_set(written in written(), warm in any::<bool>()) {
        let project = quick();
        written.plain().write(&project);
        let want = id(Command::new(binary()), &project, &project.cache());
        written.write(&project);
        let _ = std::fs::remove_file(project.path("corrigenda.lock"));
        let cache = if warm { project.cache() } else { cold(&project, "cold") };
        // Removes the linked patch, so that the build links again.
        for folder in ["patches", "reports"] {
            let removed = std::fs::remove_dir_all(cache.join("v1").join(folder));
            prop_assert!(removed.is_ok() == warm, "{folder}: {removed:?}");
        }
        prop_assert_eq!(id(Command::new(binary()), &project, &cache), want);
    }
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
    // Removes the linked patch, so that only the objects remain.
    for folder in ["patches", "reports"] {
        let _ = std::fs::remove_dir_all(Path::new(&other).join("v1").join(folder));
    }
    let relinked = project.run(&["build", "--format", "json", "--cache-dir", &other]);
    assert_eq!((patch(&relinked).as_str(), &relinked.json()["compiled"]), (PATCH, &0.into()));
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
