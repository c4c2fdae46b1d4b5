//! Defines the readers that `fuzz.rs` and `guided/` fuzz, by the names of their targets.

use std::fs;
use std::path::{Path, PathBuf};

use corrigenda::compile::Object;
use corrigenda::model::{Checkpoint, Tokens};
use corrigenda::patch::Patch;
use corrigenda::project::{LockFile, Project, edits::parse_files};
use corrigenda::research::bench::data::{Dataset, read_all};
use corrigenda::safetensors::Header;
use corrigenda::stats::published;

/// The width of a key for the reader of published second moments.
pub const MOMENT: usize = 128;

/// A valid edits file, for the target that fuzzes the project file.
const EDIT: &str = "format = 1\n[[edit]]\nid = \"a\"\nsubject = \"Ada\"\nprompt = \"{} lives in\"\ntarget = \"Rome\"\n";

pub type Reader = Box<dyn FnMut(&[u8])>;

/// Returns the reader of `target`; `beside` is a folder with the other files of a checkpoint.
///
/// # Panics
/// If the target does not exist, or a temporary folder cannot be created.
pub fn reader(target: &str, beside: &Path) -> Reader {
    match target {
        "edits" => Box::new(|bytes| drop(parse_files(vec![("edits/a.toml".to_owned(), bytes.to_vec())]))),
        "corrigenda.toml" => project(),
        "locks" => Box::new(|bytes| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                drop(LockFile::parse("corrigenda.lock", text));
            }
        }),
        "headers" => Box::new(|bytes| {
            drop(Header::parse(bytes.len() as u64, bytes));
            drop(Header::parse(u64::MAX, bytes));
        }),
        "patches" => Box::new(|bytes| drop(Patch::from_bytes(bytes))),
        "objects" => Box::new(|bytes| drop(Object::from_bytes(bytes))),
        "model.safetensors.index.json" | "config.json" => checkpoint(target, beside),
        "tokenizer.json" => tokenizer(),
        "moments" => {
            let place = Place::new("a.npz");
            Box::new(move |bytes| drop(published::read(place.with(bytes), MOMENT)))
        }
        "counterfact.json" => dataset(Dataset::Counterfact),
        "zsre.json" => dataset(Dataset::Zsre),
        "easyedit.json" => dataset(Dataset::Easyedit),
        other => panic!("no target is called {other}"),
    }
}

/// A temporary file to which each input is written before the reader runs.
struct Place {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { path: folder.path().join(name), folder }
    }

    /// Writes `bytes` to the file and returns its path.
    fn with(&self, bytes: &[u8]) -> &Path {
        fs::write(&self.path, bytes).expect("the file is written");
        &self.path
    }

    /// Writes `bytes` to the file and returns its folder.
    fn folder_with(&self, bytes: &[u8]) -> &Path {
        self.with(bytes);
        self.folder.path()
    }
}

fn project() -> Reader {
    let place = Place::new("corrigenda.toml");
    let edits = place.folder.path().join("edits");
    fs::create_dir(&edits).expect("a folder");
    fs::write(edits.join("a.toml"), EDIT).expect("the file is written");
    Box::new(move |bytes| drop(Project::load(place.folder_with(bytes))))
}

fn checkpoint(name: &str, beside: &Path) -> Reader {
    let place = Place::new(name);
    for entry in fs::read_dir(beside).expect("a folder").flatten() {
        fs::copy(entry.path(), place.folder.path().join(entry.file_name())).expect("the file is copied");
    }
    Box::new(move |bytes| drop(Checkpoint::open(place.folder_with(bytes))))
}

fn tokenizer() -> Reader {
    let place = Place::new("tokenizer.json");
    Box::new(move |bytes| {
        let opened = Tokens::open(place.folder_with(bytes), 400);
        if let Ok(tokens) = opened
            && let Ok(cut) = tokens.encode("Ada Bellini lives in São Tomé, 12 years.")
        {
            drop((tokens.pieces(&cut.ids), tokens.decode(&cut.ids)));
        }
    })
}

fn dataset(dataset: Dataset) -> Reader {
    let place = Place::new("records.json");
    Box::new(move |bytes| drop(read_all(place.with(bytes), dataset)))
}
