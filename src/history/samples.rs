//! Creates git repositories for tests. All names and times are fixed, so the commit ids are always the same.

use std::collections::BTreeMap;
use std::path::PathBuf;

use git2::{Oid, Signature, Time};

/// A git repository in a temporary folder. Commits are created from texts in memory, and no files are checked out.
pub(crate) struct SampleRepository {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) git: git2::Repository,
    pub(crate) author: (String, String),
    /// The path of the project's folder in the repository: empty, or a path that ends in `/`.
    pub(crate) prefix: String,
}

pub(crate) const PROJECT: &str = "format = 1\nmodel.path = \"model\"\n";

impl SampleRepository {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut options = git2::RepositoryInitOptions::new();
        options.initial_head("main").external_template(false);
        let git = git2::Repository::init_opts(folder.path(), &options).expect("a repository");
        let author = ("Ada Bellini".to_owned(), "ada@example.org".to_owned());
        Self { folder, git, author, prefix: String::new() }
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.folder.path().join(&self.prefix)
    }

    /// Creates a commit with the project file and `files`, dated `day` days after 1970-01-01. Moves the branch `main`
    /// to the commit and returns its id.
    pub(crate) fn commit(&self, day: i64, message: &str, files: &[(&str, &str)], parents: &[Oid]) -> Oid {
        let mut all = BTreeMap::from([("corrigenda.toml", PROJECT)]);
        all.extend(files.iter().copied());
        let entries: Vec<_> = all.into_iter().map(|(path, text)| (path, 0o100_644, text)).collect();
        self.commit_tree(day, message, self.tree(&entries), parents)
    }

    pub(crate) fn commit_tree(&self, day: i64, message: &str, tree: Oid, parents: &[Oid]) -> Oid {
        let at = |seconds| Time::new(day * 86_400 + seconds, 60);
        let author = Signature::new(&self.author.0, &self.author.1, &at(0)).expect("a signature");
        let committer = Signature::new("Build", "build@example.org", &at(3600)).expect("a signature");
        let tree = self.git.find_tree(tree).expect("a tree");
        let parents: Vec<_> = parents.iter().map(|id| self.git.find_commit(*id).expect("a parent")).collect();
        let parents: Vec<_> = parents.iter().collect();
        let id = self.git.commit(None, &author, &committer, message, &tree, &parents).expect("a commit");
        self.git.reference("refs/heads/main", id, true, "sample").expect("a branch");
        id
    }

    /// Writes a git tree with `entries` and returns its id. An entry consists of a path in the project's folder, a file
    /// mode and a text. For a submodule, the text is a commit id.
    pub(crate) fn tree(&self, entries: &[(&str, i32, &str)]) -> Oid {
        let mut update = git2::build::TreeUpdateBuilder::new();
        for (path, mode, text) in entries {
            let id = match mode {
                0o160_000 => Oid::from_str(text).expect("an id"),
                _ => self.git.blob(text.as_bytes()).expect("a blob"),
            };
            let mode = match mode {
                0o120_000 => git2::FileMode::Link,
                0o160_000 => git2::FileMode::Commit,
                _ => git2::FileMode::Blob,
            };
            update.upsert(format!("{}{path}", self.prefix), id, mode);
        }
        let empty = self.git.treebuilder(None).and_then(|builder| builder.write()).expect("an empty tree");
        let empty = self.git.find_tree(empty).expect("an empty tree");
        update.create_updated(&self.git, &empty).expect("a tree")
    }
}

/// Returns the text of an edit file with one edit. `more` is appended to the edit as further TOML lines.
pub(crate) fn edit(id: &str, subject: &str, target: &str, more: &str) -> String {
    let prompt = "{} is in";
    format!(
        "format = 1\n\n[[edit]]\nid = \"{id}\"\nsubject = \"{subject}\"\nprompt = \"{prompt}\"\ntarget = \"{target}\"\n{more}\n"
    )
}

/// Returns the text of a `corrigenda.lock`. Its patch id is `sha256:` and 64 characters, in which `name` is repeated.
pub(crate) fn lock(name: &str) -> String {
    let lock = include_str!("../../corrigenda.lock");
    let (head, _) = lock.rsplit_once("\nid = ").expect("a lock with a patch");
    format!("{head}\nid = \"sha256:{}\"\n", &name.repeat(64)[..64])
}

/// Damages a git object: overwrites its file with invalid data.
pub(crate) fn damage(sample: &SampleRepository, id: Oid) {
    let hex = id.to_string();
    let path = sample.git.path().join("objects").join(&hex[..2]).join(&hex[2..]);
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, b"noise").expect("written");
}
