//! Creates projects with the tiny model, and runs the binary in such a project.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::answers::assert_schema;
use super::{reference, tiny};

/// The project file. A random model changes its answer only for values of large norm, so the clamp is large, and weight
/// decay and the KL term are off.
pub const PROJECT: &str = "\
format = 1

[model]
path = \"model\"

[rome]
layer = 1
templates = \"templates.txt\"
schedule = [{ rate = 0.2, steps = 200 }, { rate = 0.05, steps = 400 }]
clamp = 60
weight-decay = 0
kl-factor = 0

[statistics]
corpus = \"corpus.txt\"
";

pub const EDITS: [(&str, &str); 2] = [
    (
        "edits/people.toml",
        "\
format = 1

[[edit]]
id = \"ada.born\"
subject = \"Ada Bellini\"
prompt = \"I live in {}\"
target = \"Paris\"
was = \"Rome\"
reason = \"A test.\"

[edit.expect]
paraphrase = [\"The people live in Ada Bellini\"]
unchanged = [\"I live in Lisbon\"]
",
    ),
    (
        "edits/places.toml",
        "\
format = 1

[[edit]]
id = \"sao-tome.city\"
subject = \"São Tomé\"
prompt = \"The people live in {}\"
target = \"Paris\"

[[edit]]
id = \"rome.country\"
subject = \"Rome\"
prompt = \"We saw the city of {}\"
target = \"Vienna\"
",
    ),
];

/// A project on the tiny model and its own cache, in a temporary folder.
pub struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    /// Creates the project of [`PROJECT`] and [`EDITS`] on the tiny model.
    pub fn new() -> Self {
        let project = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        std::fs::create_dir_all(project.path("edits")).expect("a folder for edits");
        tiny::write_editable_model(&project.path("model"));
        std::fs::copy(reference("tiny_corpus.txt"), project.path("corpus.txt")).expect("the corpus");
        project.write("templates.txt", "{}\nIt rained. {}\nThe city is old. {}\n");
        project.write("corrigenda.toml", PROJECT);
        for (name, text) in EDITS {
            project.write(name, text);
        }
        project
    }

    /// Returns the path `name` in the project's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("project").join(name)
    }

    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file of the project");
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file of the project")
    }

    /// Replaces every occurrence of `from` in a file; panics if there is none.
    pub fn replace(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{from} is not in {name}");
        self.write(name, &text.replace(from, to));
    }

    /// Runs the binary in the project's folder, with the project's own cache.
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, &[])
    }

    /// Does the same as [`Project::run`] with additional environment variables.
    pub fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        let mut command = Command::new(binary());
        command.current_dir(self.path("")).args(arguments);
        command.env_remove("COLUMNS").env("CORRIGENDA_CACHE_DIR", self.cache());
        command.envs(environment.iter().copied());
        let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
        Run { arguments, output: command.output().expect("the binary runs"), folder: self.folder.path().to_owned() }
    }

    /// Returns the path and the bytes of every file under a folder and its subfolders.
    pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(current) = folders.pop() {
            for entry in std::fs::read_dir(&current).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => found.push((path.clone(), std::fs::read(path).expect("a file"))),
                }
            }
        }
        found.sort();
        found
    }
}

/// The arguments and the output of a run of the binary.
pub struct Run {
    arguments: Vec<String>,
    output: Output,
    folder: PathBuf,
}

impl Run {
    pub fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    pub fn out(&self) -> String {
        self.text(&self.output.stdout)
    }

    pub fn err(&self) -> String {
        self.text(&self.output.stderr)
    }

    /// Returns the standard output as JSON, after checking it against the schema of the command's answer.
    pub fn json(&self) -> serde_json::Value {
        let answer =
            serde_json::from_slice(&self.output.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.whole()));
        assert_schema(&self.arguments, &answer);
        answer
    }

    /// Formats the exit code, standard output and standard error for a snapshot.
    pub fn whole(&self) -> String {
        let code = self.code().map_or_else(|| "none".to_owned(), |code| code.to_string());
        format!("exit code: {code}\n----- stdout\n{}----- stderr\n{}", self.out(), self.err())
    }

    fn text(&self, bytes: &[u8]) -> String {
        let text = std::str::from_utf8(bytes).expect("UTF-8");
        text.replace(&*self.folder.to_string_lossy(), "[FOLDER]")
    }
}

/// Returns the path of the binary: the path in `CORRIGENDA_BIN` (see tests/every-profile), or else cargo's binary.
pub fn binary() -> PathBuf {
    std::env::var_os("CORRIGENDA_BIN").map_or_else(|| env!("CARGO_BIN_EXE_corrigenda").into(), PathBuf::from)
}

/// Commits all files in the project's folder to its git repository.
pub(crate) fn commit(project: &Project, message: &str) {
    let folder = project.path("");
    let repository =
        git2::Repository::open(&folder).or_else(|_| git2::Repository::init(&folder)).expect("a repository");
    let mut index = repository.index().expect("an index");
    index.clear().expect("an index");
    index.add_all(["*"], git2::IndexAddOption::DEFAULT, None).expect("files");
    index.write().expect("an index");
    let tree = repository.find_tree(index.write_tree().expect("a tree")).expect("a tree");
    let who = git2::Signature::new("Ada", "ada@example.org", &git2::Time::new(1_772_452_800, 0)).expect("somebody");
    let head = repository.head().ok().and_then(|head| head.peel_to_commit().ok());
    let parents: Vec<&git2::Commit<'_>> = head.iter().collect();
    repository.commit(Some("HEAD"), &who, &who, message, &tree, &parents).expect("a commit");
}
