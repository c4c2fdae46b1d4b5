//! Runs `plan`, `build`, `test` and `stats` on the tiny model.

use std::collections::BTreeSet;

use corrigenda::numeric::Isa;

use crate::support::project::Project;

/// The patch id of the tiny project: the same on every machine, with every thread count, instruction set and profile.
const PATCH: &str = "sha256:81bbdff11f9a515b50c73e97535686804a0bbcc8f6322cf114adb0b1d98e6524";

#[test]
fn from_facts_to_a_patch() {
    let project = Project::new();
    insta::assert_snapshot!("plan_of_a_new_project", project.run(&["plan"]).whole());
    assert!(!project.cache().exists() && !project.path("corrigenda.lock").exists(), "plan writes nothing");
    let build = project.run(&["build"]);
    insta::assert_snapshot!("first_build", build.whole());
    assert!(build.out().contains(PATCH), "{}", build.out());
    insta::assert_snapshot!("lock", project.read("corrigenda.lock"));
    let again = project.run(&["build"]);
    insta::assert_snapshot!("build_without_changes", again.whole());
    insta::assert_snapshot!("plan_without_changes", project.run(&["plan"]).whole());
    insta::assert_snapshot!("stats", project.run(&["stats", "show"]).whole());
    let verify = project.run(&["store", "verify"]);
    assert_eq!((verify.code(), verify.out().as_str()), (Some(0), "8 entries checked, no problems\n"));
}

#[test]
fn a_test_says_what_fails_and_exits_with_one() {
    let project = Project::new();
    assert_eq!(project.run(&["test"]).code(), Some(3), "nothing was built");
    assert_eq!(project.run(&["build"]).code(), Some(0));
    let test = project.run(&["test"]);
    insta::assert_snapshot!("test", test.whole());
    insta::assert_snapshot!("test_in_full", project.run(&["test", "-v", "--only", "ada.born"]).whole());
    let json = project.run(&["test", "--format", "json"]).json();
    assert_eq!(json["outcome"], "findings");
    let answer = &json["answers"][0];
    assert_eq!((&answer["id"], &answer["asked"]), (&"ada.born".into(), &"edit".into()));
    assert_eq!((&answer["after"]["holds"], &answer["verdict"]), (&true.into(), &"pass".into()));
    // Without the failing expectation, the test passes, although the expectations have changed since the build.
    project.replace("edits/people.toml", "unchanged = [\"I live in Lisbon\"]", "unchanged = []");
    project.replace("edits/people.toml", "paraphrase = [\"The people live in Ada Bellini\"]", "");
    let passes = project.run(&["test"]);
    assert_eq!(passes.code(), Some(0), "{}", passes.whole());
    project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
    assert_eq!(project.run(&["test"]).code(), Some(3), "the lock is older than the edit");
}

#[test]
fn the_same_patch_every_way() {
    let project = Project::new();
    for isa in Isa::all() {
        for threads in ["1", "2", "8"] {
            let cache = format!("../cache-{}-{threads}", isa.name());
            let run = project.run(&["build", "--isa", isa.name(), "--threads", threads, "--cache-dir", &cache]);
            assert!(run.out().contains(PATCH), "{} with {threads} threads: {}", isa.name(), run.whole());
        }
    }
}

#[test]
fn the_set_alone_defines_the_patch() {
    let project = Project::new();
    project.run(&["build"]);
    // Other ids, files, order and reasons give the same patch.
    let text = project.read("edits/places.toml");
    let (head, rest) = text.split_once("[[edit]]").expect("two edits");
    let (first, second) = rest.split_once("[[edit]]").expect("two edits");
    project.write("edits/a.toml", &format!("{head}[[edit]]{}", second.replace("rome.country", "a.b")));
    project.write("edits/places.toml", &format!("{head}[[edit]]{first}source = \"a book\"\n"));
    let run = project.run(&["build"]);
    assert!(run.out().contains(PATCH), "{}", run.whole());
    insta::assert_snapshot!("renamed", run.whole());
}

#[test]
fn one_changed_fact_is_one_compiled_object() {
    let project = Project::new();
    project.run(&["build"]);
    project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
    insta::assert_snapshot!("plan_of_a_change", project.run(&["plan", "--only", "ada.born"]).whole());
    assert_eq!(project.run(&["plan", "--exit-code"]).code(), Some(1));
    let run = project.run(&["build"]);
    assert!(run.err().contains("edits to compile (1)\n"), "{}", run.whole());
    assert!(!run.out().contains(PATCH) && run.out().contains("lock   corrigenda.lock written: 1 changed"));
    std::fs::remove_file(project.path("edits/people.toml")).expect("the file is removed");
    let removal = project.run(&["build"]);
    assert_eq!(removal.err(), "", "everything is in the store");
    assert!(removal.out().contains("-  ada.born") && removal.out().contains("written: 1 removed"), "{}", removal.out());
    assert_eq!(project.run(&["plan", "--exit-code"]).code(), Some(0));
}

#[test]
fn a_locked_build_never_changes_the_lock() {
    let project = Project::new();
    let missing = project.run(&["build", "--locked"]);
    assert_eq!(missing.code(), Some(3), "{}", missing.whole());
    assert!(missing.err().contains("lock-missing") && !project.path("corrigenda.lock").exists());
    project.run(&["build"]);
    let lock = project.read("corrigenda.lock");
    assert_eq!(project.run(&["build", "--locked"]).code(), Some(0));
    // A build with an empty store gives the patch in the lock.
    assert_eq!(project.run(&["build", "--locked", "--cache-dir", "../other"]).code(), Some(0));
    project.replace("edits/people.toml", "reason = \"A test.\"", "reason = \"Another.\"");
    project.replace("edits/places.toml", "target = \"Vienna\"", "target = \"Rome\"");
    insta::assert_snapshot!("locked_and_stale", project.run(&["build", "--locked"]).whole());
    let json = project.run(&["build", "--locked", "--format", "json"]);
    assert_eq!((json.code(), &json.json()["outcome"]), (Some(3), &"stale".into()));
    assert_eq!(project.read("corrigenda.lock"), lock);
}

#[test]
fn a_patch_id_that_was_tampered_with_is_found() {
    let project = Project::new();
    project.run(&["build"]);
    let other = PATCH.replace("81bb", "91bb");
    project.replace("corrigenda.lock", PATCH, &other);
    let run = project.run(&["build", "--locked"]);
    assert_eq!(run.code(), Some(3), "{}", run.whole());
    assert!(run.err().contains("patch, id: the lock has 91bbdff11f9a, found 81bbdff11f9a"), "{}", run.err());
    assert_eq!(project.run(&["test"]).code(), Some(2), "that patch is in no store");
    assert!(project.run(&["build"]).out().contains("written: no edit changed"));
}

#[test]
fn another_base_needs_update_base() {
    use crate::support::tiny;
    let project = Project::new();
    project.run(&["build"]);
    let lock = project.read("corrigenda.lock");
    tiny::write_model_with(
        &project.path("model"),
        &tiny::editable(|name, elements| {
            if name == "transformer.h.0.mlp.c_fc.bias" {
                elements[0] += 0.5;
            }
        }),
    );
    for arguments in [&["build"][..], &["build", "--locked"]] {
        let run = project.run(arguments);
        assert_eq!(run.code(), Some(3), "{}", run.whole());
        assert!(run.err().contains("model.safetensors, digest: the lock has"), "{}", run.err());
    }
    assert_eq!(project.read("corrigenda.lock"), lock);
    assert!(project.run(&["plan"]).out().contains("NOT the base that the lock names"));
    let run = project.run(&["build", "--update-base"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    assert!(run.out().contains("corrigenda.lock written"), "{}", run.out());
}

#[test]
fn locked_entries_survive_gc_and_transfer() {
    let project = Project::new();
    project.run(&["build"]);
    project.run(&["store", "gc", "--all"]);
    assert_eq!(project.run(&["build"]).err(), "", "nothing is built again");
    let export = project.run(&["store", "export", "../carried"]);
    assert!(export.out().contains("3 objects and 1 patch"), "{}", export.whole());
    let elsewhere = project.run(&["store", "gc", "-C", ".."]);
    assert_eq!(elsewhere.code(), Some(2), "a folder without a project empties no store: {}", elsewhere.whole());
    assert_eq!(project.run(&["store", "import", "../carried", "--cache-dir", "../other"]).code(), Some(0));
    let run = project.run(&["build", "--locked", "--cache-dir", "../other"]);
    assert!(run.out().contains(PATCH) && !run.err().contains("compile"), "{}", run.whole());
}

#[test]
fn exported_statistics_replace_the_corpus() {
    let project = Project::new();
    project.run(&["build"]);
    assert_eq!(project.run(&["store", "export", "--statistics", "../carried"]).code(), Some(0));
    project.run(&["store", "import", "../carried", "--cache-dir", "../other"]);
    let run = project.run(&["build", "--locked", "--cache-dir", "../other"]);
    assert!(run.out().contains(PATCH) && run.err().is_empty(), "{}", run.whole());
    std::fs::remove_file(project.path("corpus.txt")).expect("the file is removed");
    assert_eq!(project.run(&["test", "--cache-dir", "../other"]).code(), Some(1), "the patch is asked all the same");
}

#[test]
fn settings_are_part_of_what_is_locked() {
    for (from, to) in
        [("layer = 1", "layer = 2"), ("clamp = 60", "clamp = 61"), ("corpus.txt\"", "corpus.txt\"\nmax-documents = 50")]
    {
        let project = Project::new();
        project.run(&["build"]);
        project.replace("corrigenda.toml", from, to);
        let plan = project.run(&["plan", "--exit-code"]);
        assert_eq!(plan.code(), Some(1), "{to}: {}", plan.whole());
        assert!(plan.out().contains("~ patch: settings\n"), "{to}: {}", plan.out());
        assert_eq!(project.run(&["test"]).code(), Some(3), "{to}");
        let locked = project.run(&["build", "--locked"]);
        assert!(locked.code() == Some(3) && !locked.err().contains("compile"), "{to}: {}", locked.whole());
        let build = project.run(&["build"]);
        assert!(build.out().contains("no edit changed, new") && build.out().contains("settings"), "{}", build.whole());
    }
}

#[test]
fn a_locked_build_reads_the_corpus_itself() {
    let project = Project::new();
    let long = project.read("corpus.txt").repeat(400);
    project.write("corpus.txt", &long);
    project.replace("corrigenda.toml", "corpus.txt\"", "corpus.txt\"\nmax-documents = 64");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let age = || {
        let file = std::fs::File::options().write(true).open(project.path("corpus.txt")).expect("the corpus");
        file.set_modified(old).expect("its time");
    };
    age();
    project.run(&["build"]);
    // The corpus has the same size and modification time but other bytes; `--locked` reads the file and sees the
    // change.
    project.write("corpus.txt", &long.replacen("Paris", "Quito", 1));
    age();
    let run = project.run(&["build", "--locked"]);
    assert!(run.code() == Some(3) && run.err().contains("corpus"), "{}", run.whole());
}

#[test]
fn damaged_entries_are_made_again() {
    let project = Project::new();
    project.run(&["build"]);
    let folders: BTreeSet<_> = ["objects", "patches", "reports", "statistics", "factors"].into();
    for (path, mut bytes) in Project::files(&project.cache().join("v1")) {
        let name = path.strip_prefix(project.cache().join("v1")).expect("below it").to_string_lossy().into_owned();
        if folders.iter().any(|folder| name.starts_with(folder)) {
            bytes[20] ^= 1;
            std::fs::write(&path, bytes).expect("the file is written");
        }
    }
    assert_eq!(project.run(&["store", "verify"]).code(), Some(1));
    let run = project.run(&["build", "--locked"]);
    assert!(run.code() == Some(0) && run.out().contains(PATCH), "{}", run.whole());
    assert_eq!(project.run(&["store", "verify"]).code(), Some(0));
}

#[test]
fn a_narrow_terminal_without_colour() {
    let project = Project::new();
    project.run(&["build"]);
    let narrow = project.run_with(&["build"], &[("COLUMNS", "80")]);
    insta::assert_snapshot!("narrow", narrow.out());
    assert!(narrow.out().lines().all(|line| line.chars().count() <= 80), "{}", narrow.out());
    let test = project.run_with(&["test"], &[("COLUMNS", "80")]);
    assert!(test.out().contains("unchanged: I live in Lisbon\n"), "{}", test.out());
    assert!(!project.run(&["build"]).whole().contains('\u{1b}'));
}

#[test]
fn json_has_the_same_content() {
    let project = Project::new();
    let plan = project.run(&["plan", "--format", "json"]).json();
    assert_eq!(plan["edits"][0]["position"], 10);
    assert_eq!(plan["edits"][0]["change"], "+");
    let build = project.run(&["build", "--format", "json", "-q"]);
    assert_eq!(build.err(), "");
    let build = build.json();
    assert_eq!(
        (&build["patch"]["id"], &build["compiled"], &build["lock"]),
        (&PATCH.into(), &3.into(), &"written".into())
    );
    assert_eq!(build["edits"][0]["target"]["holds"], true);
    assert_eq!(build["edits"][0]["line"], 4);
    let stats = project.run(&["stats", "build", "--format", "json"]).json();
    assert_eq!((&stats["keys"], &stats["documents"]), (&1564.into(), &64.into()));
}
