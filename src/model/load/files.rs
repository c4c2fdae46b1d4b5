//! Finds, checks and memory-maps the files of a model folder. The weights are one file, or several files (shards) with
//! an index.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{hub, storage};
use crate::model::ModelError;
use crate::regular_file;
use crate::safetensors::{FileError, MappedFile, TensorInfo, refuse_pickle};

/// Maximum size of config.json, in bytes. The files of published language models are only a few KiB long.
const CONFIG_LIMIT: u64 = 1 << 20;
/// Maximum size of a weights index, in bytes. The index has one entry per tensor, and a large model can have more than
/// 100,000 tensors.
const INDEX_LIMIT: u64 = 64 << 20;

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The memory-mapped weights files of a model folder.
#[derive(Clone, Debug)]
pub(crate) struct WeightFiles {
    pub shards: Vec<MappedFile>,
    /// Whether the weights are several shards with a weights index, and not the single file model.safetensors.
    pub indexed: bool,
    /// Tensors that the weights index lists but no shard contains, each with the shard that the index states. A missing
    /// tensor is an error only if the decoder reads it. Some indexes list tensors that no program needs, such as the
    /// output matrix of a model with tied embeddings.
    pub absent: BTreeMap<String, String>,
    /// The file that error messages name: the single weights file, or the weights index.
    pub path: PathBuf,
}

impl WeightFiles {
    /// Memory-maps the weights of the model in `folder`: model.safetensors if it exists, otherwise the shards that the
    /// weights index lists.
    pub(crate) fn open(folder: &Path) -> Result<Self, ModelError> {
        check_contained(folder, WHOLE)?;
        let whole = folder.join(WHOLE);
        if whole.is_file() {
            return Ok(Self {
                shards: vec![open_shard(folder, WHOLE)?],
                indexed: false,
                absent: BTreeMap::new(),
                path: whole,
            });
        }
        check_contained(folder, INDEX)?;
        let index = folder.join(INDEX);
        if index.is_file() {
            return Self::of_index(folder, index);
        }
        Err(storage::without_weights(folder))
    }

    fn of_index(folder: &Path, index: PathBuf) -> Result<Self, ModelError> {
        let places = read_index(&index)?;
        let mut names: Vec<&String> = places.values().collect();
        names.sort();
        names.dedup();
        for name in &names {
            check_contained(folder, name)?;
        }
        let missing = |name: &&&String| !folder.join(name).is_file();
        if let Some(name) = names.iter().find(missing) {
            return Err(ModelError::NoShard { index, shard: (**name).clone() });
        }
        let shards = names.iter().map(|name| open_shard(folder, name)).collect::<Result<Vec<_>, _>>()?;
        let mut weights = Self { shards, indexed: true, absent: BTreeMap::new(), path: index };
        weights.check_index(places)?;
        Ok(weights)
    }

    /// Compares the weights index with the shards. Rejects a tensor that is in two shards, and a tensor for which the
    /// index states the wrong shard. A tensor that is in no shard is added to `absent` without an error.
    fn check_index(&mut self, places: BTreeMap<String, String>) -> Result<(), ModelError> {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for shard in &self.shards {
            for name in shard.file.header.tensors.keys() {
                if let Some(other) = seen.insert(name, &shard.file.name) {
                    let shards = [other.to_owned(), shard.file.name.clone()];
                    return Err(ModelError::Twice { tensor: name.clone(), shards });
                }
            }
        }
        let elsewhere = |(tensor, shard): &(&String, &String)| seen.get(tensor.as_str()).is_some_and(|at| at != shard);
        if let Some((tensor, shard)) = places.iter().find(elsewhere) {
            return Err(self.not_there(tensor, shard));
        }
        let absent = places.iter().filter(|(tensor, _)| !seen.contains_key(tensor.as_str()));
        self.absent = absent.map(|(tensor, shard)| (tensor.clone(), shard.clone())).collect();
        Ok(())
    }

    /// Returns the error for a tensor that is missing from the shard stated in the weights index.
    pub(crate) fn not_there(&self, tensor: &str, shard: &str) -> ModelError {
        ModelError::NotInShard { index: self.path.clone(), tensor: tensor.to_owned(), shard: shard.to_owned() }
    }

    /// Iterates over the names of all tensors in the weights files.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.shards.iter().flat_map(|shard| shard.file.header.tensors.keys().map(String::as_str))
    }

    /// Returns the header entry of the tensor `name` (dtype, shape, byte range), and the weights file that contains the
    /// tensor.
    pub(crate) fn get(&self, name: &str) -> Option<(&MappedFile, &TensorInfo)> {
        self.shards.iter().find_map(|shard| Some((shard, shard.file.tensor(name)?)))
    }

    /// Returns the names of the files that determine the model's output, sorted: config.json, tokenizer.json, the
    /// weights files, and the index of the weights files if there is one.
    pub(crate) fn files(&self) -> Vec<String> {
        let fixed = [CONFIG, TOKENIZER].into_iter().chain(self.indexed.then_some(INDEX)).map(str::to_owned);
        let mut names: Vec<String> = fixed.chain(self.shards.iter().map(|shard| shard.file.name.clone())).collect();
        names.sort();
        names
    }
}

/// Memory-maps the weights file `name` in `folder`. Rejects pickles.
fn open_shard(folder: &Path, name: &str) -> Result<MappedFile, ModelError> {
    let path = folder.join(name);
    let read_error = |source| ModelError::Read { path: path.clone(), source };
    let mut first_bytes = Vec::new();
    let file = regular_file::open(&path).map_err(read_error)?;
    file.take(16).read_to_end(&mut first_bytes).map_err(read_error)?;
    if let Some(refused) = refuse_pickle(&path, &first_bytes) {
        return Err(refused.into());
    }
    MappedFile::open(name, &path).map_err(|error| match error {
        FileError::Read(source) => ModelError::Read { path, source },
        FileError::Header(source) => ModelError::Header { path, source },
    })
}

/// Reads the `weight_map` of a weights index, which maps the name of each tensor to the file name of its shard. Rejects
/// file names that lead out of the folder or do not end in `.safetensors`.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, ModelError> {
    let index = read_json(path, INDEX_LIMIT)?;
    let wrong = |problem: String| ModelError::Index { path: path.to_owned(), problem };
    let map = index["weight_map"].as_object().ok_or_else(|| wrong("it has no object `weight_map`".into()))?;
    let place = |(tensor, shard): (&String, &Value)| match shard.as_str() {
        Some(name) if is_shard(name) => Ok((tensor.clone(), name.to_owned())),
        Some(name) => {
            Err(wrong(format!("it assigns `{tensor}` to {name:?}, which is not a safetensors file of this folder")))
        }
        None => Err(wrong(format!("it assigns `{tensor}` to {shard}, which is not a file name"))),
    };
    if map.is_empty() { Err(wrong("its `weight_map` is empty".into())) } else { map.iter().map(place).collect() }
}

/// Whether a shard's name has only ASCII letters, digits, `-`, `_` and `.`, does not start with `.`, and ends in
/// `.safetensors`. A shard with such a name is inside the model folder.
fn is_shard(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.ends_with(".safetensors") && !name.starts_with('.') && name.chars().all(plain)
}

/// Returns the path of config.json in `folder`. If `folder` is not a model folder, the error describes the files that
/// it contains.
pub(crate) fn find_config(folder: &Path) -> Result<PathBuf, ModelError> {
    if let Some(refused) = refuse_pickle(folder, &[]) {
        return Err(refused.into());
    }
    if folder.is_file() {
        return Err(storage::file(folder));
    }
    if !folder.is_dir() {
        return Err(ModelError::NoFolder(folder.to_owned()));
    }
    check_contained(folder, CONFIG)?;
    let config = folder.join(CONFIG);
    if config.is_file() { Ok(config) } else { Err(storage::without_config(folder)) }
}

pub(crate) fn read_capped(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    let context = |source| ModelError::Read { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(context)?.len();
    if size > limit {
        return Err(ModelError::TooLarge { path: path.to_owned(), size, limit });
    }
    regular_file::read(path, limit).map_err(context)
}

pub(crate) fn read_config(path: &Path) -> Result<Value, ModelError> {
    read_json(path, CONFIG_LIMIT)
}

/// Rejects the file `name` if it is a link to a target outside the model folder. In a snapshot of the Hugging Face
/// cache, the target may be anywhere in the `models--*` folder of the model. A missing file is accepted.
pub(crate) fn check_contained(folder: &Path, name: &str) -> Result<(), ModelError> {
    let path = folder.join(name);
    if !path.symlink_metadata().is_ok_and(|there| there.is_symlink()) {
        return Ok(());
    }
    let inside = hub::root(folder).and_then(|root| hub::contained(&root, &path));
    match inside {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(ModelError::LinkLeaves { path }),
        Err(source) => Err(ModelError::Read { path, source }),
    }
}

pub(crate) fn read_json(path: &Path, limit: u64) -> Result<Value, ModelError> {
    let bytes = read_capped(path, limit)?;
    serde_json::from_slice(&bytes).map_err(|source| ModelError::NotJson { path: path.to_owned(), source })
}
