//! The readers that are given bytes which nobody wrote, by the names of their targets: to `fuzz.rs` and to `guided/`.

use std::fs;
use std::path::{Path, PathBuf};

use corrigenda::bench::data::{Dataset, all};
use corrigenda::compile::Object;
use corrigenda::model::{Checkpoint, Tokens};
use corrigenda::patch::Patch;
use corrigenda::project::{LockFile, Project, edits::parse_files};
use corrigenda::safetensors::Header;
use corrigenda::stats::published;

/// The numbers of a key, where published second moments are read.
pub const MOMENT: usize = 128;

/// The edit of a project whose own file is not sound.
const EDIT: &str = "format = 1\n[[edit]]\nid = \"a\"\nsubject = \"Ada\"\nprompt = \"{} lives in\"\ntarget = \"Rome\"\n";

pub type Reader = Box<dyn FnMut(&[u8])>;

/// What reads the bytes of `target`; a checkpoint's other files are in `beside`.
///
/// # Panics
/// If there is no such target, or no place for its files.
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

/// A file of its own that inputs are written to.
struct Place {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { path: folder.path().join(name), folder }
    }

    /// The file, of these bytes.
    fn with(&self, bytes: &[u8]) -> &Path {
        fs::write(&self.path, bytes).expect("written");
        &self.path
    }

    /// The folder of the file, which is of these bytes.
    fn folder_with(&self, bytes: &[u8]) -> &Path {
        self.with(bytes);
        self.folder.path()
    }
}

fn project() -> Reader {
    let place = Place::new("corrigenda.toml");
    let edits = place.folder.path().join("edits");
    fs::create_dir(&edits).expect("a folder");
    fs::write(edits.join("a.toml"), EDIT).expect("written");
    Box::new(move |bytes| drop(Project::load(place.folder_with(bytes))))
}

fn checkpoint(name: &str, beside: &Path) -> Reader {
    let place = Place::new(name);
    for entry in fs::read_dir(beside).expect("a folder").flatten() {
        fs::copy(entry.path(), place.folder.path().join(entry.file_name())).expect("copied");
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
    Box::new(move |bytes| drop(all(place.with(bytes), dataset)))
}
