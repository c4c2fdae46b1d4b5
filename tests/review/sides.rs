//! Tests the sides of `diff`: every kind of name (base, worktree, revision, patch, folder), and invalid names.

use std::collections::BTreeMap;
use std::path::Path;

use git2::{Oid, Signature, Time};

use super::folder;
use crate::support::project::{EDITS, Project, Run};
use crate::support::tiny;

/// A project in a git repository with fixed names and times.
pub(super) struct Repository {
    pub project: Project,
    git: git2::Repository,
    /// The project's folder in the repository with a trailing `/`, or empty.
    prefix: &'static str,
}

impl Repository {
    /// Returns a repository without a commit; the project is in its root folder.
    pub fn new() -> Self {
        let project = Project::new();
        let git = init(&project.path(""));
        Self { project, git, prefix: "" }
    }

    /// Returns a repository with a built project that is committed once on `main`.
    pub fn built() -> Self {
        let repository = Self::new();
        repository.build();
        repository.commit("Built");
        repository
    }

    pub fn build(&self) {
        let run = self.project.run(&["build", "-q"]);
        assert_eq!(run.code(), Some(0), "{}", run.whole());
    }

    /// Commits the project's files without the model, and moves `main` to the commit.
    pub fn commit(&self, message: &str) -> Oid {
        let root = self.project.path("");
        let files = Project::files(&root).into_iter().filter_map(|(path, bytes)| {
            let path = path.strip_prefix(&root).expect("below it").to_str().expect("UTF-8").to_owned();
            let inside = !path.starts_with(".git/") && !path.starts_with("model/");
            inside.then_some((format!("{}{path}", self.prefix), bytes))
        });
        let mut update = git2::build::TreeUpdateBuilder::new();
        for (path, bytes) in files.collect::<BTreeMap<_, _>>() {
            update.upsert(path, self.git.blob(&bytes).expect("a blob"), git2::FileMode::Blob);
        }
        let empty = self.git.treebuilder(None).and_then(|builder| builder.write()).expect("an empty tree");
        let tree = update.create_updated(&self.git, &self.git.find_tree(empty).expect("a tree")).expect("a tree");
        let parent = self.git.revparse_single("main").ok().map(|one| one.peel_to_commit().expect("a commit"));
        let day = parent.as_ref().map_or(20_000, |parent| parent.time().seconds() / 86_400 + 1);
        let ada = Signature::new("Ada Bellini", "ada@example.org", &Time::new(day * 86_400, 0)).expect("a signature");
        let (tree, parents) = (self.git.find_tree(tree).expect("a tree"), parent.iter().collect::<Vec<_>>());
        let id = self.git.commit(None, &ada, &ada, message, &tree, &parents).expect("a commit");
        self.git.reference("refs/heads/main", id, true, "test").expect("a branch");
        id
    }

    pub fn branch(&self, name: &str, at: Oid) {
        self.git.reference(&format!("refs/heads/{name}"), at, true, "test").expect("a branch");
    }

    pub fn diff(&self, arguments: &[&str]) -> Run {
        self.project.run(&[&["diff"], arguments].concat())
    }

    /// Returns the output of a run with placeholders for commit ids, which depend on the format of the lock.
    pub fn said(&self, run: &Run) -> String {
        let all = self.git.references().expect("references").flatten().filter_map(|one| one.peel_to_commit().ok());
        let all = all.flat_map(|commit| [Some(commit.clone()), commit.parent(0).ok()]).flatten();
        all.fold(run.whole(), |said, commit| said.replace(&commit.id().to_string()[..12], "[--COMMIT--]"))
    }

    /// Returns the facts that differ, such as `+id`.
    fn facts(&self, arguments: &[&str]) -> Vec<String> {
        let run = self.project.run(&[&["diff", "--format", "json", "--tokens", "0"], arguments].concat());
        assert_eq!(run.code(), Some(0), "{arguments:?}: {}", run.whole());
        let json = run.json();
        let facts = json["facts"].as_array().cloned().unwrap_or_default();
        let text = |one: &serde_json::Value| one.as_str().expect("a text").to_owned();
        facts.iter().map(|fact| text(&fact["change"]) + &text(&fact["id"])).collect()
    }
}

fn init(folder: &Path) -> git2::Repository {
    let mut options = git2::RepositoryInitOptions::new();
    options.initial_head("main").external_template(false);
    git2::Repository::init_opts(folder, &options).expect("a repository")
}

/// Removes the edit `rome.country`.
fn forget_rome(project: &Project) {
    let (kept, _) = EDITS[1].1.rsplit_once("\n[[edit]]").expect("two edits");
    project.write("edits/places.toml", kept);
}

#[test]
fn every_name_of_a_state() {
    let repository = Repository::built();
    let first = repository.commit("The same");
    let project = &repository.project;
    forget_rome(project);
    repository.build();
    let second = repository.commit("Rome is no more");
    repository
        .git
        .tag_lightweight("v1", &repository.git.find_object(first, None).expect("a commit"), false)
        .expect("a tag");
    let ada = Signature::new("Ada", "ada@example.org", &Time::new(0, 0)).expect("a signature");
    let object = repository.git.find_object(first, None).expect("a commit");
    repository.git.tag("annotated", &object, &ada, "A tag with a message", false).expect("a tag");
    repository.branch("feature/old", first);
    let lock = project.read("corrigenda.lock");
    let id = lock.lines().rev().find_map(|line| line.strip_prefix("id = \"")).expect("an id").trim_end_matches('"');
    // Every name of the revision with the edit `rome.country`.
    let (long, short) = (first.to_string(), first.to_string()[..10].to_owned());
    let names = ["v1", "annotated", "feature/old", "HEAD~1", "main^", &long, &short];
    for name in names {
        assert_eq!(repository.facts(&[name]), ["-rome.country"], "{name}");
        assert_eq!(repository.facts(&["HEAD", name]), ["+rome.country"], "{name}");
    }
    // A patch contains only digests of meanings, and the worktree no longer has the edit of this digest.
    for name in ["81bbdff1", "sha256:81bbdff11f9a"] {
        assert_eq!(repository.facts(&[name]), ["-meaning d7058cd3b5c9"], "{name}");
        assert_eq!(repository.facts(&[name, "v1"]), [""; 0], "{name}");
    }
    // Every name of the revision without the edit `rome.country`.
    for name in ["HEAD", "main", "worktree", ".", "./", &second.to_string(), id, &id["sha256:".len()..][..8]] {
        assert_eq!(repository.facts(&[name]), [""; 0], "{name}");
        assert_eq!(repository.facts(&["v1", name]), ["-rome.country"], "{name}");
    }
    // Every name of the base model.
    for name in ["base", "./model", "model"] {
        assert_eq!(repository.facts(&[name]), ["+ada.born", "+sao-tome.city"], "{name}");
    }
    assert_eq!(repository.facts(&["base", "./model"]), [""; 0]);
    // An ambiguous name is interpreted in a fixed order, and every interpretation also has an unambiguous name.
    repository.branch("base", first);
    repository.branch("model", first);
    assert_eq!(repository.facts(&["base"]), ["+ada.born", "+sao-tome.city"]);
    assert_eq!(repository.facts(&["refs/heads/base"]), ["-rome.country"]);
    assert_eq!(repository.facts(&["model"]), ["-rome.country"]);
    std::fs::create_dir(project.path("base")).expect("a folder");
    let run = repository.diff(&["./base"]);
    assert!(
        run.code() == Some(2) && run.err().contains("`./base` contains neither a project nor a model"),
        "{}",
        run.whole()
    );
}

#[test]
fn the_default_sides_are_head_and_worktree() {
    let repository = Repository::built();
    repository.project.replace("edits/people.toml", "A test.", "Another.");
    let whole = repository.diff(&["HEAD", "worktree"]);
    assert_eq!(repository.diff(&[]).whole(), whole.whole());
    assert_eq!(repository.diff(&["HEAD"]).whole(), whole.whole());
    assert!(
        whole.code() == Some(0) && whole.out().contains("facts: 0 added, 1 changed, 0 removed"),
        "{}",
        whole.whole()
    );
}

#[test]
fn another_project_is_a_side() {
    let repository = Repository::built();
    let other = Project::new();
    forget_rome(&other);
    let path = other.path("").to_string_lossy().into_owned();
    assert_eq!(repository.facts(&[&path]), ["+rome.country"]);
    other.write("edits/places.toml", "format = 1\n[[edit]]\nid = \"x\"\n");
    let run = repository.diff(&[&path]);
    assert!(run.code() == Some(2) && run.err().contains("edits/places.toml:2"), "{}", run.whole());
}

#[test]
fn unknown_side_names_are_refused() {
    let repository = Repository::built();
    repository.branch("feature/bridges", repository.git.revparse_single("main").expect("a commit").id());
    let mut said = String::new();
    for name in [
        "feature/bridge",
        "HEAD~3",
        "81bbdff",
        "sha256:81bb",
        "81bbdff2",
        &"ab".repeat(32),
        "./nowhere",
        "edits",
        "edits/people.toml",
        "",
    ] {
        let run = repository.diff(&[name]);
        assert_eq!((run.code(), run.out().as_str()), (Some(2), ""), "{name}: {}", run.whole());
        said += &format!("diff {name:?}\n{}\n", run.err());
    }
    insta::assert_snapshot!("unknown_side_names_are_refused", said);
    assert_eq!(repository.diff(&["a", "b", "c"]).code(), Some(2));
}

#[test]
fn without_a_repository_or_a_commit() {
    let project = super::built();
    let run = project.run(&["diff"]);
    insta::assert_snapshot!("without_a_repository", run.whole());
    assert_eq!(project.run(&["diff", "base", "worktree", "--tokens", "0"]).code(), Some(0), "these need none");
    let repository = Repository::new();
    repository.build();
    insta::assert_snapshot!("without_a_commit", repository.diff(&[]).whole());
    assert_eq!(repository.diff(&["base", "worktree"]).code(), Some(0));
    let json = repository.diff(&["--format", "json"]);
    assert_eq!((json.code(), &json.json()["outcome"]), (Some(2), &"error".into()));
}

#[test]
fn a_revision_whose_lock_is_not_that_of_its_facts() {
    let repository = Repository::new();
    let project = &repository.project;
    repository.commit("No lock");
    let missing = repository.diff(&["HEAD", "base", "--tokens", "0", "--no-damage"]);
    assert!(!project.path("corrigenda.lock").exists());
    repository.build();
    let sound = project.read("corrigenda.lock");
    project.replace("edits/people.toml", "Paris", "Vienna");
    repository.commit("A lock that is older than its facts");
    let stale = repository.diff(&["HEAD", "base", "--tokens", "0", "--no-damage"]);
    project.write("edits/people.toml", EDITS[0].1);
    forget_rome(project);
    let (before, rest) = sound.split_once("[[edit]]\nid = \"rome").expect("an entry");
    let (_, after) = rest.split_once("[[edit]]").expect("another");
    project.write("corrigenda.lock", &format!("{before}[[edit]]{after}"));
    repository.commit("Merged");
    let merged = repository.diff(&["HEAD", "base", "--tokens", "0", "--no-damage"]);
    for (run, said, patch) in [
        (missing, "HEAD has no corrigenda.lock", Some("81bbdff11f9a")),
        (stale, "corrigenda.lock of HEAD is not what a build would write", None),
        (merged, "corrigenda.lock of HEAD was merged", None),
    ] {
        assert!(run.code() == Some(0) && run.out().contains(said), "{}", run.whole());
        assert!(patch.is_none_or(|patch| run.out().contains(patch)), "{}", run.whole());
    }
    // `diff` and `build` give the same patch.
    let json = repository.diff(&["HEAD", "--format", "json", "--tokens", "0"]).json();
    std::fs::remove_file(project.path("corrigenda.lock")).expect("the file is removed");
    let build = project.run(&["build", "--format", "json"]).json();
    assert_eq!(json["before"]["patch"], build["patch"]["id"]);
    // A lock that cannot be read is reported with its location.
    for (wrong, code) in
        [("<<<<<<< ours\n", "lock-conflict"), ("version = 1\n", "lock-damaged"), ("version = 9\n", "lock-newer")]
    {
        project.write("corrigenda.lock", wrong);
        repository.commit("A damaged lock");
        project.write("corrigenda.lock", &sound);
        let run = repository.diff(&["HEAD", "base"]);
        assert!(run.code() == Some(2) && run.err().contains(code), "{wrong}: {}", run.whole());
    }
}

/// Changes one element of a tensor of the base.
fn another_base(project: &Project, tensor: &str) {
    let model = tiny::editable(|name, elements| {
        if name == tensor {
            elements[0] += 0.5;
        }
    });
    tiny::write_model_with(&project.path("model"), &model);
}

#[test]
fn a_revision_on_another_base() {
    let repository = Repository::built();
    another_base(&repository.project, "transformer.h.2.mlp.c_fc.bias");
    let run = repository.diff(&["HEAD", "base"]);
    assert_eq!((run.code(), run.out().as_str()), (Some(3), ""));
    insta::assert_snapshot!("a_revision_on_another_base", run.whole());
    // The patch still applies, because the tensor that it changes is unchanged.
    assert_eq!(repository.diff(&["81bbdff1", "base"]).code(), Some(0));
    another_base(&repository.project, "transformer.h.1.mlp.c_proj.weight");
    let refused = repository.diff(&["81bbdff1", "base"]);
    assert!(
        refused.code() == Some(3) && refused.err().contains("transformer.h.1.mlp.c_proj.weight"),
        "{}",
        refused.whole()
    );
}

#[test]
fn findings_of_a_revision_name_it() {
    let repository = Repository::built();
    let project = &repository.project;
    project.replace("edits/people.toml", "target", "traget");
    project.write("edits/more.toml", "format = 1\n[[edit]\n");
    project.replace("corrigenda.toml", "clamp", "clmap");
    repository.commit("Broken");
    let broken = repository.git.revparse_single("main").expect("a commit").id();
    repository.branch("broken", broken);
    project.write("edits/people.toml", EDITS[0].1);
    std::fs::remove_file(project.path("edits/more.toml")).expect("the file is removed");
    project.replace("corrigenda.toml", "clmap", "clamp");
    insta::assert_snapshot!("a_revision_that_is_broken", repository.diff(&["broken"]).whole());
    let json = repository.diff(&["broken", "--format", "json"]).json();
    assert_eq!(json["findings"][0]["place"]["file"], "broken:corrigenda.toml");
    // A comparison also evaluates the probes of the revision, which `plan` does not.
    let long = format!("format = 1\n[[probe]]\nid = \"a\"\nprompt = \"{}\"\n", "Oslo is far, ".repeat(40).trim_end());
    project.write("probes.toml", &long);
    repository.commit("A long probe");
    std::fs::remove_file(project.path("probes.toml")).expect("the file is removed");
    let run = repository.diff(&["main"]);
    assert!(run.code() == Some(2) && run.err().contains("main:probes.toml:4:10"), "{}", run.whole());
    // A revision without a project file is reported.
    std::fs::remove_file(project.path("corrigenda.toml")).expect("the file is removed");
    let none = repository.commit("No project");
    project.write("corrigenda.toml", crate::support::project::PROJECT);
    let no_project = repository.diff(&[&none.to_string()]);
    assert!(
        no_project.code() == Some(2) && no_project.err().contains("there is no corrigenda.toml in"),
        "{}",
        no_project.whole()
    );
}

#[test]
fn a_patch_that_is_not_in_the_store_is_built() {
    let repository = Repository::built();
    let project = &repository.project;
    let known = repository.diff(&["HEAD", "base", "--tokens", "0"]);
    std::fs::remove_dir_all(project.cache()).expect("a cache");
    let made = repository.diff(&["HEAD", "base", "--tokens", "0", "-q"]);
    assert_eq!((made.code(), made.out()), (Some(0), known.out()));
    // With the statistics of its lock, a revision does not need its corpus; without them, the error names the corpus.
    project.replace("corpus.txt", "Paris", "Quito");
    std::fs::remove_dir_all(project.cache().join("v1/patches")).expect("the folder is removed");
    assert_eq!(repository.diff(&["HEAD", "base", "--tokens", "0", "--no-damage"]).code(), Some(0));
    std::fs::remove_dir_all(project.cache()).expect("a cache");
    insta::assert_snapshot!("the_corpus_of_a_revision_is_gone", repository.diff(&["HEAD", "base"]).whole());
    let lost = project.run(&["diff", "81bbdff1", "base"]);
    assert!(lost.code() == Some(2) && lost.err().contains("a patch in the store"), "{}", lost.whole());
    let unknown = project.run(&["diff", "sha256:81bbdff1", "base"]);
    assert!(unknown.code() == Some(2) && unknown.err().contains("is not in the store"), "{}", unknown.whole());
}

#[test]
fn a_project_below_its_repository() {
    let project = Project::new();
    let git = init(project.path("").parent().expect("a folder"));
    let repository = Repository { project, git, prefix: "project/" };
    repository.build();
    repository.commit("Built");
    forget_rome(&repository.project);
    repository.build();
    assert_eq!(repository.facts(&[]), ["-rome.country"]);
    assert_eq!(repository.facts(&["main", "base"]), ["-ada.born", "-rome.country", "-sao-tome.city"]);
    let json = repository.diff(&["--format", "json", "--tokens", "0"]).json();
    assert_eq!(json["facts"][0]["place"]["file"], "main:edits/places.toml".replace("main", "HEAD"));
    // `-C` gives the same output from another folder.
    let root = repository.project.path("");
    let outside = repository.project.run(&["-C", &root.to_string_lossy(), "diff", "--tokens", "0"]);
    assert_eq!(outside.out(), repository.diff(&["--tokens", "0"]).out());
}

#[test]
fn templates_are_those_of_the_revision() {
    let repository = Repository::built();
    let project = &repository.project;
    let build = project.run(&["build", "--format", "json"]).json();
    project.write("templates.txt", "{}\nA city by the sea. {}\n");
    std::fs::remove_dir_all(project.cache()).expect("a cache");
    let json = repository.diff(&["HEAD", "worktree", "--format", "json", "--tokens", "0"]).json();
    assert_eq!(json["before"]["patch"], build["patch"]["id"]);
    assert_ne!(json["after"]["patch"], build["patch"]["id"]);
    assert!(json["facts"].is_null() && json["weights"]["tensors"].as_array().is_some_and(|all| all.len() == 1));
    std::fs::remove_file(project.path("templates.txt")).expect("the file is removed");
    assert_eq!(repository.diff(&["HEAD", "base"]).code(), Some(0));
    assert_eq!(repository.diff(&[]).code(), Some(2), "the worktree has none");
    repository.commit("No templates");
    let run = repository.diff(&["HEAD", "base"]);
    assert!(run.code() == Some(2) && run.err().contains("templates"), "{}", run.whole());
}

#[test]
fn a_comparison_writes_nothing_beside_the_store() {
    let repository = Repository::built();
    let project = &repository.project;
    project.replace("edits/people.toml", "Paris", "Vienna");
    let before = folder(project);
    for arguments in [&[][..], &["base", "worktree"], &["HEAD", "base", "--format", "html"], &["nobody"]] {
        repository.diff(arguments);
    }
    assert_eq!(folder(project), before);
}
