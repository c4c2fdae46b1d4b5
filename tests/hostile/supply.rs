//! Tests which packages the program depends on, and that it makes no network calls.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{corpus, figure, quick, skipped};
use crate::support::project::{Project, binary};
use crate::support::tiny;

/// Returns the name and the source of every package in Cargo.lock.
fn packages() -> Vec<(String, Option<String>)> {
    let text = include_str!("../../Cargo.lock");
    let lock: toml::Table = text.parse().expect("Cargo.lock");
    let packages = lock["package"].as_array().expect("packages");
    let field = |package: &toml::Value, key: &str| package.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    packages.iter().map(|package| (field(package, "name").expect("a name"), field(package, "source"))).collect()
}

#[test]
fn dependencies_are_allowed() {
    let policy: toml::Table = include_str!("../../deny.toml").parse().expect("deny.toml");
    let banned = policy["bans"]["deny"].as_array().expect("bans");
    let packages = packages();
    for entry in banned {
        let name = entry["name"].as_str().expect("a name");
        assert!(packages.iter().all(|(other, _)| other != name), "{name} is banned by deny.toml");
    }
    let sources: std::collections::BTreeSet<&String> =
        packages.iter().filter_map(|(_, source)| source.as_ref()).collect();
    let own = "registry+https://github.com/rust-lang/crates.io-index";
    assert!(sources.len() == 1 && sources.iter().all(|source| *source == own), "{sources:?}");
    assert_eq!(packages.iter().filter(|(_, source)| source.is_none()).count(), 1, "this package alone is a folder");
    figure(&format!("{} packages, {} names banned", packages.len(), banned.len()));
}

/// A run of every verb, in an order in which each has its inputs.
const VERBS: [&[&str]; 31] = [
    &["init", "-C", "new", "--model", "model"],
    &["check"],
    &["plan"],
    &["plan", "--base", "hf:acme/tiny"],
    &["build"],
    &["build", "--locked"],
    &["test"],
    &["diff", "base", "worktree"],
    &["log"],
    &["verify"],
    &["stats", "show"],
    &["stats", "build"],
    &["trace", "--prompt", "The people live in Ada Bellini", "--subject", "Ada Bellini"],
    &["bench", "counterfact", "counterfact.json", "--editors", "rome,ft"],
    &["patch", "show", "a.patch"],
    &["patch", "apply", "a.patch", "--base", "model", "--out", "applied"],
    &["export", "checkpoint", "whole"],
    &["export", "peft", "adapter"],
    &["export", "gguf", "adapter.gguf"],
    &["store", "verify"],
    &["store", "ls"],
    &["store", "export", "carried"],
    &["store", "import", "carried"],
    &["store", "gc"],
    &["import", "zsre", "zsre.json"],
    &["import", "easyedit", "easyedit.json"],
    &["stats", "import", "a.npz", "--replace"],
    &["ask", "Rome", "--tokens", "3"],
    &["completions", "bash"],
    &["man"],
    &["schema", "edits"],
];

/// Creates a Hub cache with one model, whose name would allow a network request.
fn hub(project: &Project) -> PathBuf {
    let home = project.cache().with_file_name("hub");
    let model = home.join("hub/models--acme--tiny");
    let commit = "607a30d783dfa663caf39e06633721c8d4cfcd7e";
    std::fs::create_dir_all(model.join("refs")).expect("the folder is created");
    std::fs::write(model.join("refs/main"), commit).expect("the file is written");
    tiny::write_editable_model(&model.join("snapshots").join(commit));
    home
}

/// Commits the project files to a new repository.
fn commit(project: &Project) -> Result<(), git2::Error> {
    let git = git2::Repository::init(project.path(""))?;
    let mut index = git.index()?;
    index.add_all(["corrigenda.toml", "edits"], git2::IndexAddOption::DEFAULT, None)?;
    let (tree, author) = (git.find_tree(index.write_tree()?)?, git2::Signature::now("Ada", "ada@example.org")?);
    git.commit(Some("HEAD"), &author, &author, "Facts", &tree, &[]).map(drop)
}

#[test]
fn no_verb_opens_a_socket() {
    let project = quick();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    corpus::prepare(&project);
    commit(&project).expect("committed");
    let help = project.run(&["help"]).out().to_owned();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let listed = listed.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let names: Vec<&str> = listed.filter_map(|line| line.split(' ').next()).filter(|name| *name != "help").collect();
    assert!(names.len() >= 17, "the help lists them: {names:?}");
    for name in names {
        assert!(VERBS.iter().any(|verb| verb[0] == name), "{name:?} is among them");
    }
    let (log, hub) = (project.cache().with_file_name("sockets"), hub(&project));
    for verb in VERBS {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "trace=network", "-o"]).arg(&log).arg(binary()).args(verb);
        command.current_dir(project.path("")).env("CORRIGENDA_CACHE_DIR", project.cache()).env("HF_HOME", &hub);
        let run = command.stdout(Stdio::null()).stderr(Stdio::piped()).output();
        let Some((run, traced)) = run.ok().zip(std::fs::read_to_string(&log).ok()) else {
            skipped("strace is not here, or may not trace");
            return;
        };
        let told = String::from_utf8_lossy(&run.stderr);
        assert!(matches!(run.status.code(), Some(0 | 1)), "{verb:?} did its work: {told}");
        // `???(` is not a call: strace writes it for a thread that ended while strace detached from it.
        let named = |line: &&str| line.contains('(') && !line.contains(" ???(");
        let calls: Vec<&str> = traced.lines().filter(named).collect();
        assert!(calls.is_empty(), "{verb:?} speaks to a network: {calls:?}");
    }
    figure(&format!("{} runs, every verb among them: 0 calls of the network", VERBS.len()));
}
