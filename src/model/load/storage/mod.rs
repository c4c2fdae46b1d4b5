//! Explains why a path cannot be opened as a model. Recognises the formats of other programs by the names and the first
//! bytes of files. Each error names the format and tells the user what to do.
//!
//! - [`config`]: reads the family from config.json and rejects quantised weights;
//! - [`names`]: finds the cause of a missing tensor in the names of the existing tensors;
//! - [`gguf`]: reads the name of the source model from a GGUF file.

pub(crate) mod config;
mod gguf;
pub(crate) mod names;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::files::{CONFIG, TOKENIZER, WHOLE, read_json};
use crate::model::ModelError;
use crate::safetensors::refuse_pickle;

/// The name of the config file of a PEFT adapter. A folder with this file and without a model is an adapter.
pub(crate) const ADAPTER: &str = "adapter_config.json";
/// Maximum size of `adapter_config.json`, in bytes. A larger file is treated like a file that states no base model.
const ADAPTER_LIMIT: u64 = 1 << 20;
/// Advice for the user on how to save a model in the format of the Hugging Face Hub.
pub(crate) const SAVE: &str = "`AutoModelForCausalLM.from_pretrained(A).save_pretrained(B)` of transformers writes model A into \
                    the folder B in that form";
/// Maximum number of file or folder names that one error message lists.
const LISTED: usize = 3;

/// The names of the files and subfolders of a folder, each list sorted. A link to a folder counts as a folder.
struct Listing {
    files: Vec<String>,
    folders: Vec<String>,
}

impl Listing {
    fn of(folder: &Path) -> Self {
        let mut listing = Self { files: Vec::new(), folders: Vec::new() };
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if entry.path().is_dir() { listing.folders.push(name) } else { listing.files.push(name) }
        }
        listing.files.sort();
        listing.folders.sort();
        listing
    }

    fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file == name)
    }

    fn ending(&self, end: &str) -> Vec<&String> {
        self.files.iter().filter(|name| name.to_ascii_lowercase().ends_with(end)).collect()
    }
}

/// Formats the first names and the number of the remaining names, such as `a, b, c and 4 more`.
fn listed(names: &[&String]) -> String {
    let shown: Vec<&str> = names.iter().take(LISTED).map(|name| name.as_str()).collect();
    match names.len().checked_sub(LISTED).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", shown.join(", ")),
        None => shown.join(", "),
    }
}

/// Returns the error for `path`, which is a file and not a model folder.
pub(crate) fn file(path: &Path) -> ModelError {
    let mut first = [0; 8];
    let read = File::open(path).and_then(|mut file| file.read(&mut first)).unwrap_or(0);
    if let Some(refused) = refuse_pickle(path, &first[..read]) {
        return refused.into();
    }
    if first[..read].starts_with(gguf::MAGIC) {
        return of_gguf(path);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match foreign(&name) {
        Some((what, help)) => ModelError::stored(path, format!("this is {what}"), help),
        None => ModelError::NotAFolder(path.to_owned()),
    }
}

/// Returns the error for a folder without config.json. The error states whether the folder contains all revisions of a
/// model, an adapter, models in subfolders, or a model in another format.
pub(crate) fn without_config(folder: &Path) -> ModelError {
    let listing = Listing::of(folder);
    if let Some(name) = cached(folder).filter(|_| listing.folders.iter().any(|name| name == "snapshots")) {
        let found = "this folder of the Hugging Face cache holds all revisions of a model; the model is a folder \
                     inside it";
        return ModelError::stored(folder, found, format!("write `hf:{name}`"));
    }
    if let Some(error) = adapter(folder, &listing).or_else(|| parent(folder, &listing)) {
        return error;
    }
    if listing.has("params.json") {
        let found = "it has params.json and no config.json: this is not the format of transformers";
        return ModelError::stored(
            folder,
            found,
            "fetch the model in the format of transformers: config.json, model.safetensors, tokenizer.json",
        );
    }
    others(folder, &listing).unwrap_or_else(|| ModelError::NoFile { folder: folder.to_owned(), name: CONFIG })
}

/// Returns the error for a folder that contains config.json, but neither model.safetensors nor an index of shards.
pub(crate) fn without_weights(folder: &Path) -> ModelError {
    let listing = Listing::of(folder);
    if let Some(error) = adapter(folder, &listing) {
        return error;
    }
    if listing.has("quantize_config.json") || listing.has("hf_quant_config.json") {
        let name = if listing.has("quantize_config.json") { "quantize_config.json" } else { "hf_quant_config.json" };
        return ModelError::Quantised { path: folder.to_owned(), method: format!("it has {name}") };
    }
    let found = others(folder, &listing).or_else(|| parent(folder, &listing));
    found.unwrap_or_else(|| ModelError::NoFile { folder: folder.to_owned(), name: WHOLE })
}

/// Returns the error for a folder without tokenizer.json. The error names the tokenizer files of other formats that the
/// folder contains.
pub(crate) fn without_tokenizer(folder: &Path) -> ModelError {
    let listing = Listing::of(folder);
    let known = ["vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "tekken.json", "vocab.txt"];
    let there: Vec<&str> = known.into_iter().filter(|name| listing.has(name)).collect();
    let there = if there.is_empty() { String::new() } else { format!("; {} cannot be read", there.join(", ")) };
    ModelError::stored(
        folder,
        format!("there is no {TOKENIZER}{there}"),
        "write one with `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)` of transformers, where DIR is the \
         model's folder",
    )
}

/// Returns `ORG/NAME` if the folder is the `models--ORG--NAME` folder of a model in the Hugging Face cache; `None` for
/// other folders.
fn cached(folder: &Path) -> Option<String> {
    let real = folder.canonicalize().ok()?;
    let name = real.file_name()?.to_str()?.strip_prefix("models--")?;
    Some(name.replacen("--", "/", 1))
}

/// Returns the name of the base model in `adapter_config.json` of `folder`; `None` if the file states no base model.
pub(crate) fn base_of_adapter(folder: &Path) -> Option<String> {
    let config = read_json(&folder.join(ADAPTER), ADAPTER_LIMIT).ok()?;
    config["base_model_name_or_path"].as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Returns the error for a folder that contains a PEFT adapter; `None` for other folders.
fn adapter(folder: &Path, listing: &Listing) -> Option<ModelError> {
    if !listing.has(ADAPTER) {
        return None;
    }
    let base = base_of_adapter(folder).map_or_else(String::new, |base| format!(" for `{base}`"));
    Some(ModelError::stored(
        folder,
        format!("this is an adapter{base}, not a model"),
        "merge it into its model with `AutoPeftModelForCausalLM.from_pretrained(DIR).merge_and_unload()\
         .save_pretrained(NEW)` of peft, and name the result",
    ))
}

/// Returns the error for a folder that contains models in subfolders; `None` for other folders.
fn parent(folder: &Path, listing: &Listing) -> Option<ModelError> {
    let models: Vec<&String> = listing.folders.iter().filter(|name| folder.join(name).join(CONFIG).is_file()).collect();
    let found = match &models[..] {
        [] => return None,
        [one] => format!("its subfolder `{one}` is a model"),
        _ => format!("its subfolders {} are models", listed(&models)),
    };
    let path = folder.join(models.last()?.as_str());
    let help = format!("name one of them, for example {}", path.display());
    let help = if models.len() == 1 { format!("name the subfolder: {}", path.display()) } else { help };
    Some(ModelError::stored(folder, format!("this folder is not a model; {found}"), help))
}

/// Returns the error for a folder whose weights have another format or unexpected file names; `None` if the folder
/// contains no weights.
fn others(folder: &Path, listing: &Listing) -> Option<ModelError> {
    if let Some(first) = listing.ending(".gguf").first() {
        return Some(of_gguf(&folder.join(first.as_str())));
    }
    let safetensors = listing.ending(".safetensors");
    if !safetensors.is_empty() {
        return Some(misnamed(folder, &safetensors));
    }
    let pickle = listing.files.iter().find_map(|name| refuse_pickle(&folder.join(name), &[]));
    if let Some(refused) = pickle {
        return Some(refused.into());
    }
    let (name, (what, help)) = listing.files.iter().find_map(|name| Some((name, foreign(name)?)))?;
    Some(ModelError::stored(&folder.join(name), format!("this is {what}"), help))
}

/// Returns the error for a folder whose safetensors files, `names`, do not have the file names of the Hugging Face Hub.
fn misnamed(folder: &Path, names: &[&String]) -> ModelError {
    let there = listed(names);
    let part = names.iter().any(|name| name.contains("-of-"));
    let (missing, help) = match names {
        _ if part => (
            "no model.safetensors.index.json, which says where each tensor is",
            format!("fetch the index that belongs to the parts; or {SAVE}"),
        ),
        [one] if !one.starts_with("consolidated") => (
            "no model.safetensors",
            format!("if {one} is the whole model, give it that name: `mv {one} model.safetensors`"),
        ),
        _ => ("no model.safetensors", format!("fetch the weights in the format of transformers; or {SAVE}")),
    };
    ModelError::stored(folder, format!("it has {there}, but {missing}"), help)
}

/// Recognises the weights files of other programs by the extension of the file name. Returns a description of the file
/// and the advice for the user; `None` for other extensions.
fn foreign(name: &str) -> Option<(&'static str, &'static str)> {
    const MADE_FROM: &str = "name the model that it was made from, in safetensors";
    const OLD: &str = "fetch the model in safetensors; if it is published only in this format, load these weights with \
                       transformers 4 (`from_tf=True`, `from_flax=True`) and save them with `save_pretrained(B)`";
    let (_, end) = name.rsplit_once('.')?;
    Some(match end.to_ascii_lowercase().as_str() {
        "h5" | "keras" => ("a file of weights for TensorFlow, which are not read", OLD),
        "msgpack" => ("a file of weights for Flax, which are not read", OLD),
        "onnx" => ("a model for ONNX, which is not read", MADE_FROM),
        "npz" => ("a file of weights for NumPy or MLX, which are not read", MADE_FROM),
        "tflite" => ("a model for TensorFlow Lite, which is not read", MADE_FROM),
        "safetensors" => ("a file of weights; the model is the folder around it", "name the folder that holds it"),
        _ => return None,
    })
}

fn of_gguf(path: &Path) -> ModelError {
    let made_from = gguf::made_from(path);
    let named = made_from.as_ref().map_or_else(String::new, |name| format!(", made from `{name}`"));
    let which = match made_from.filter(|name| name.contains('/')) {
        Some(name) => format!("`path = \"hf:{name}\"` in corrigenda.toml"),
        None => "`[model] path` in corrigenda.toml".to_owned(),
    };
    let help = format!(
        "facts are compiled on the model that it was made from: name that model, in safetensors, with {which}; then \
         run `corrigenda export gguf FILE` to write an adapter that llama.cpp applies to this file"
    );
    ModelError::stored(path, format!("this is a GGUF file{named}"), help)
}
