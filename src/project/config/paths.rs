//! Collects the paths that `corrigenda.toml` names, even if the file is invalid.
//!
//! Commands compare their output paths with the collected paths, so that no output overwrites an input such as the base
//! model.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::parse;
use crate::diagnostics::{Code, Diagnostic, Sources};
use crate::project::read::toml_reader::TomlReader;
use crate::project::{MOST_FILE_BYTES, PROJECT_FILE};
use crate::regular_file;

/// The paths that `corrigenda.toml` names. Relative paths are relative to the folder of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The folder of edits, without a leading `./`; `edits` if the file does not name a valid folder.
    pub edits: String,
    pub templates: BTreeSet<String>,
    /// The input files that `corrigenda.toml` names: context templates, corpora, neutral texts and
    /// tasks.
    pub read: BTreeSet<PathBuf>,
    /// The base models: folders, or names on the Hugging Face Hub.
    pub models: BTreeSet<PathBuf>,
    /// The folders that may contain edits: the folder of edits, and the value of every `edits` key in a wrong table.
    /// Folders outside the project are not included. The set is empty if there is no `corrigenda.toml`.
    pub facts: BTreeSet<PathBuf>,
    /// Whether `corrigenda.toml` has errors. Some of its paths may then be missing here.
    pub broken: bool,
    /// Whether `corrigenda.toml` cannot be read or is too large to be parsed. Its paths are then unknown.
    pub unparsed: bool,
}

impl Paths {
    /// Collects the paths from the text of `corrigenda.toml`. A path is also collected if its key is in the wrong
    /// table.
    pub fn of(text: &str) -> Self {
        let mut sources = Sources::default();
        let file = sources.add(PROJECT_FILE, text);
        let source = sources.text(file);
        let (_, edits, findings) = parse(Path::new(""), file, source);
        let (_, tree) = TomlReader::document(file, source, &[]);
        let named = |key| {
            let mut found = BTreeSet::new();
            texts(&tree, key, &mut found);
            found
        };
        let templates = named("templates");
        let facts = named("edits").into_iter().map(PathBuf::from).chain([edits.clone()]);
        let read = [&templates, &named("corpus"), &named("neutral"), &named("file")]
            .into_iter()
            .flatten()
            .map(PathBuf::from)
            .collect();
        Self {
            edits: shown(&edits.to_string_lossy()),
            templates: templates.iter().map(|path| shown(path)).collect(),
            read,
            models: named("path").into_iter().map(PathBuf::from).collect(),
            facts: facts.filter(|folder| is_below(folder)).collect(),
            broken: findings.iter().any(Diagnostic::is_error),
            unparsed: findings.iter().any(|finding| finding.code == Code::FileTooLarge),
        }
    }

    /// Collects the paths from `corrigenda.toml` in the folder `root`. If the file cannot be read, sets `unparsed`.
    pub fn at(root: &Path) -> Self {
        match regular_file::read(&root.join(PROJECT_FILE), MOST_FILE_BYTES) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Self::of(&text),
                Err(error) => Self { broken: true, ..Self::of(&String::from_utf8_lossy(error.as_bytes())) },
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Self { facts: BTreeSet::new(), broken: false, ..Self::of("") }
            }
            Err(_) => Self { unparsed: true, ..Self::of("") },
        }
    }
}

/// Returns whether `folder` is a relative path to a folder inside the project's folder. A path that contains `..`
/// counts as outside.
fn is_below(folder: &Path) -> bool {
    let mut depth = 0;
    for part in folder.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            _ => return false,
        }
    }
    depth > 0
}

/// Collects the string values of `key` from every table. All tables are searched, because a path whose key is in the
/// wrong table must not be overwritten either.
fn texts(table: &DeTable<'_>, key: &str, found: &mut BTreeSet<String>) {
    for (name, value) in table {
        match value.get_ref() {
            DeValue::String(text) if name.get_ref() == key && !text.is_empty() => found.extend([text.to_string()]),
            DeValue::Table(inner) => texts(inner, key, found),
            DeValue::Array(list) => {
                let tables = list.iter().filter_map(|one| one.get_ref().as_table());
                tables.for_each(|inner| texts(inner, key, found));
            }
            _ => {}
        }
    }
}

/// Removes a leading `./` and a final `/`, because paths in the output of git do not have them.
fn shown(path: &str) -> String {
    path.trim_start_matches("./").trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "format = 1\nedits = \"./facts/\"\n[model.one]\npath = \"hf:a/b\"\nrome.templates = \"./t.txt\"\n\
        [model.two]\npath = \"/models/two\"\n[statistics]\ncorpus = \"c.txt\"\n[test]\nneutral = \"n.txt\"\n\
        [[task]]\nfile = \"q.jsonl\"\n";

    fn set<T: Ord + for<'t> From<&'t str>>(names: &[&str]) -> BTreeSet<T> {
        names.iter().map(|name| T::from(name)).collect()
    }

    #[test]
    fn a_project_file_names_what_it_reads() {
        let paths = Paths::of(TEXT);
        assert_eq!((paths.edits.as_str(), &paths.templates), ("facts", &set(&["t.txt"])));
        let read: Vec<_> = paths.read.iter().filter_map(|path| path.to_str()).collect();
        assert_eq!(read, ["./t.txt", "c.txt", "n.txt", "q.jsonl"]);
        let models: Vec<_> = paths.models.iter().filter_map(|path| path.to_str()).collect();
        assert_eq!((models, paths.broken), (vec!["/models/two", "hf:a/b"], false));
    }

    #[test]
    fn a_broken_project_file_names_its_paths() {
        let breaks = [
            ("format = 1", "format = 2"),
            ("[test]", "[tset]\nmuch ="),
            ("[test]", "[[test]]"),
            ("[statistics]", "[[statistics]]"),
            ("[model.two]", "[[model.two]]"),
        ];
        let whole = Paths::of(TEXT);
        for (good, bad) in breaks {
            let paths = Paths::of(&TEXT.replace(good, bad));
            assert!(paths.broken && !paths.unparsed, "{bad}");
            assert_eq!((&paths.read, &paths.models), (&whole.read, &whole.models), "{bad}");
            assert!(paths.facts.contains(Path::new("./facts")), "{bad}");
        }
        let elsewhere = Paths::of(&TEXT.replace("\"./facts/\"", "\"../facts\""));
        assert_eq!(elsewhere.facts, set::<PathBuf>(&["edits"]));
        assert!(Paths::of(&"[".repeat(200_000)).unparsed);
        let nowhere = Paths::at(Path::new("there/is/none"));
        assert!(!nowhere.broken && !nowhere.unparsed && nowhere.models.is_empty());
        assert!(nowhere.facts.is_empty(), "without a project there are no facts");
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join(PROJECT_FILE)).expect("the folder is created");
        let read = Paths::at(folder.path());
        assert!(read.broken && read.unparsed);
        std::fs::remove_dir(folder.path().join(PROJECT_FILE)).expect("the folder is removed");
        std::fs::write(folder.path().join(PROJECT_FILE), [TEXT.as_bytes(), b"# \xff\n"].concat()).expect("written");
        let undecoded = Paths::at(folder.path());
        assert!(undecoded.broken && !undecoded.unparsed && undecoded.models == whole.models);
    }
}
