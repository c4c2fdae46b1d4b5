//! Lists the files of a checkpoint folder, and rejects links to files outside the folder.
//!
//! A snapshot in a Hugging Face cache consists of links to files in another folder, `blobs`. Therefore the target of a
//! link may also be in the `models--*` folder that contains the snapshot and `blobs`. The contents of subfolders are
//! not listed.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::ExportError;
use crate::model::load::hub;
use crate::project::LockedBase;
use crate::safetensors::refuse_pickle;

/// A regular file of a checkpoint folder, or the target of a link in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderFile {
    /// The file name in the folder.
    pub name: String,
    /// The path from which the file is read; for a link, the path of its target.
    pub path: PathBuf,
    /// The size in bytes; for a link, the size of its target.
    pub size: u64,
    /// Whether the file is a Python pickle, judged by its name or its first bytes.
    pub pickle: bool,
    /// Whether the file contains weights or refers to a file with weights, judged by its name or its first bytes. False
    /// for a pickle.
    pub weights: bool,
}

impl FolderFile {
    /// Returns whether the file contains weights that are not part of the base, usually the same model in another
    /// format. The patch is not applied to such a file, so a copy in the export would contain the unedited model.
    /// Therefore the file is not exported.
    pub fn is_left_out(&self, base: &LockedBase) -> bool {
        self.weights && !base.has(&self.name)
    }
}

/// The contents of a checkpoint folder; each list is sorted by the bytes of the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderListing {
    pub files: Vec<FolderFile>,
    /// The names of the rejected entries, such as broken links, each with the reason.
    pub refused: Vec<(String, String)>,
    /// The names of the subfolders. Their contents are not listed.
    pub folders: Vec<String>,
}

impl FolderListing {
    pub fn get(&self, name: &str) -> Option<&FolderFile> {
        self.files.iter().find(|member| member.name == name)
    }
}

/// Lists the files, the rejected entries and the subfolders of `folder`, and checks where links point.
///
/// # Errors
/// If the folder cannot be listed or a file in it cannot be read.
pub fn list(folder: &Path) -> Result<FolderListing, ExportError> {
    let root = root(folder)?;
    let reading = || ExportError::io("listing", folder);
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(reading())? {
        entries.push(entry.map_err(reading())?.path());
    }
    entries.sort();
    let mut listing = FolderListing::default();
    for path in entries {
        add(&mut listing, &root, &path)?;
    }
    Ok(listing)
}

fn add(listing: &mut FolderListing, root: &Path, path: &Path) -> Result<(), ExportError> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let mut refuse = |why: &str| listing.refused.push((name.to_string_lossy().into_owned(), why.to_owned()));
    let Some(name) = name.to_str() else {
        refuse("has a name that is not UTF-8");
        return Ok(());
    };
    let there = fs::symlink_metadata(path).map_err(ExportError::io("reading", path))?;
    let path = match there.is_symlink().then(|| hub::contained(root, path)) {
        None => path.to_owned(),
        Some(Ok(Some(target))) => target,
        Some(Ok(None)) => {
            refuse("is a link to a target outside the folder");
            return Ok(());
        }
        Some(Err(_)) => {
            refuse("is a broken link");
            return Ok(());
        }
    };
    let metadata = fs::metadata(&path).map_err(ExportError::io("reading", &path))?;
    if metadata.is_dir() {
        listing.folders.push(name.to_owned());
    } else if metadata.is_file() {
        let first = first_bytes(&path)?;
        let pickle = refuse_pickle(Path::new(name), &first).is_some();
        let weights = !pickle && (holds_weights(name) || MAGIC.iter().any(|magic| first.starts_with(magic)));
        listing.files.push(FolderFile { name: name.to_owned(), path, size: metadata.len(), pickle, weights });
    } else {
        refuse("is not a regular file");
    }
    Ok(())
}

fn first_bytes(path: &Path) -> Result<Vec<u8>, ExportError> {
    let mut first = Vec::new();
    let read = File::open(path).and_then(|file| file.take(16).read_to_end(&mut first));
    read.map_err(ExportError::io("reading", path))?;
    Ok(first)
}

/// The first bytes of files in the formats GGUF, HDF5 and GGML. GGML files begin with `ggml`, `ggjt` or `ggmf` as a
/// little-endian number, so the letters are in reverse order.
const MAGIC: [&[u8]; 5] = [b"GGUF", b"lmgg", b"tjgg", b"\x89HDF", b"fmgg"];

/// The endings of the names of weights files and of the indexes of sharded checkpoints. Pickles are detected
/// separately.
const ENDINGS: [&str; 25] = [
    ".safetensors",
    ".gguf",
    ".ggml",
    ".h5",
    ".hdf5",
    ".keras",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".onnx.data",
    ".ort",
    ".ot",
    ".tflite",
    ".litertlm",
    ".task",
    ".mlmodel",
    ".npz",
    ".npy",
    ".pdparams",
    ".pdiparams",
    ".nemo",
    ".engine",
    ".pte",
    ".llamafile",
    ".index.json",
];

/// Returns whether a file with this name contains weights or refers to a file with weights. The index of a sharded
/// checkpoint, an `OpenVINO` graph and an adapter configuration refer to another file.
fn holds_weights(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let tensorflow = name.contains(".ckpt.") || name.contains(".ckpt-");
    let graph = name.starts_with("openvino_") && name.ends_with(".xml");
    ENDINGS.iter().any(|ending| name.ends_with(ending)) || tensorflow || graph || name == "adapter_config.json"
}

/// Returns the folder that must contain the targets of all links in `folder`: `folder` itself or, for a snapshot in a
/// Hugging Face cache, its `models--*` folder.
///
/// # Errors
/// If the path of `folder` cannot be resolved.
pub fn root(folder: &Path) -> Result<PathBuf, ExportError> {
    hub::root(folder).map_err(ExportError::io("reading", folder))
}

/// Returns whether `name` is a file name without a path, on every operating system.
pub fn is_plain_name(name: &str) -> bool {
    let odd = |character: char| matches!(character, '/' | '\\' | ':' | '\0');
    !name.is_empty() && name != "." && name != ".." && !name.contains(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names() {
        assert!(["a", "model.safetensors", "..a"].into_iter().all(is_plain_name));
        for name in ["", ".", "..", "../a", "/etc/passwd", "a/b", "C:\\a", "a\\b", "c:a", "a\0"] {
            assert!(!is_plain_name(name), "{name}");
        }
    }

    #[test]
    fn weights_formats_are_recognised() {
        for name in [
            "consolidated.safetensors",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin.index.json",
            "model-q8_0.GGUF",
            "tf_model.h5",
            "flax_model.msgpack",
            "model.onnx",
            "model.onnx_data",
            "openvino_model.xml",
            "rust_model.ot",
            "model.ckpt.data-00000-of-00001",
            "model.ckpt-1000",
            "weights.npz",
            "adapter_model.safetensors",
            "adapter_config.json",
        ] {
            assert!(holds_weights(name), "{name}");
        }
        for name in [
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer.model",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "vocab.json",
            "merges.txt",
            "chat_template.jinja",
            "README.md",
            "LICENSE",
            "USE_POLICY.md",
            "params.json",
            "modeling.py",
            ".gitattributes",
            "corrigenda-manifest.json",
        ] {
            assert!(!holds_weights(name), "{name}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("model"), b"GGUF\x03\0\0\0").expect("written");
        fs::write(folder.path().join("model.safetensors"), b"").expect("written");
        let digest = crate::digest::Digest::of(b"");
        let own = crate::project::LockedFile { path: "model.safetensors".into(), size: 0, digest };
        let base = LockedBase { digest, files: vec![own] };
        let listing = list(folder.path()).expect("listed");
        let left: Vec<_> =
            listing.files.iter().map(|member| (member.name.as_str(), member.is_left_out(&base))).collect();
        assert_eq!(left, [("model", true), ("model.safetensors", false)]);
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_inside() {
        use std::os::unix::fs::symlink;
        let top = tempfile::tempdir().expect("a folder");
        let snapshot = top.path().join("models--a--b/snapshots/1");
        let blobs = top.path().join("models--a--b/blobs");
        fs::create_dir_all(&snapshot).expect("made");
        fs::create_dir_all(&blobs).expect("made");
        fs::create_dir(snapshot.join(".git")).expect("made");
        fs::write(blobs.join("ab"), "{}").expect("written");
        fs::write(top.path().join("secret"), "s").expect("written");
        fs::write(snapshot.join("old.bin"), "x").expect("written");
        symlink("../../blobs/ab", snapshot.join("config.json")).expect("linked");
        symlink("../../../secret", snapshot.join("out")).expect("linked");
        symlink("nowhere", snapshot.join("dangling")).expect("linked");
        let listing = list(&snapshot).expect("listed");
        let names: Vec<_> = listing.files.iter().map(|member| (member.name.as_str(), member.pickle)).collect();
        assert_eq!(names, [("config.json", false), ("old.bin", true)]);
        assert_eq!(listing.folders, [".git"]);
        let refused: Vec<_> = listing.refused.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(refused, ["dangling", "out"]);
        // Outside a Hugging Face cache, a link to a file in `blobs` leaves the checkpoint folder and is rejected.
        let plain = top.path().join("plain");
        fs::create_dir(&plain).expect("made");
        symlink("../models--a--b/blobs/ab", plain.join("config.json")).expect("linked");
        assert_eq!(list(&plain).expect("listed").refused.len(), 1);
    }
}
