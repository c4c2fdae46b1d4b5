//! What a person should know of a model that can be opened: nothing stops, and something may be meant otherwise.

use std::path::Path;

use serde_json::Value;

use super::family::Family;
use super::storage::config::other_class;
use super::storage::{ADAPTER, base_of_adapter};

/// What a remark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Tensors of the decoder that are not read.
    TensorsUnread,
    /// The class that the config names is of another family.
    ArchitectureDiffers,
    /// An adapter lies in the folder.
    AdapterUnread,
    /// A tied output matrix is stored once more, rounded.
    HeadRounded,
    /// The tokenizer ends every text with tokens of its own.
    TextsEnded,
}

/// One remark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// What it is about.
    pub kind: Kind,
    /// One sentence.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl Remark {
    pub(super) fn new(kind: Kind, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: help.into() }
    }
}

/// Remarks about a folder and its config.
pub(super) fn of_folder(folder: &Path, path: &Path, config: &Value, family: &Family) -> Vec<Remark> {
    let mut found = Vec::new();
    if let Some(class) = other_class(path, config, family) {
        let message = format!(
            "{}: `architectures` names {class}, and `model_type` is `{}`: the model is computed as the latter",
            path.display(),
            family.model_type
        );
        let help = "correct the one that is wrong; a model of another family, relabelled, gives wrong numbers";
        found.push(Remark::new(Kind::ArchitectureDiffers, message, help));
    }
    if folder.join(ADAPTER).is_file() {
        let base = base_of_adapter(folder).map_or_else(String::new, |base| format!(" for `{base}`"));
        let message =
            format!("{} beside the model is an adapter{base}, and is not read", folder.join(ADAPTER).display());
        let help = "transformers with peft lays it on the model: merge it (`merge_and_unload().save_pretrained(NEW)`) and \
                    name the result, or move it out of the folder";
        found.push(Remark::new(Kind::AdapterUnread, message, help));
    }
    found
}

/// A remark about tensors that are not read.
pub(super) fn unread(path: &Path, names: &[&str]) -> Option<Remark> {
    let (first, count) = (names.first()?, names.len());
    let more = if count == 1 { String::new() } else { format!(" and {} more", count - 1) };
    let message = format!("the decoder does not read {} in {}: `{first}`{more}", tensors(count), path.display());
    let help = "the numbers are those of a model without them: check that config.json is the one of these weights";
    Some(Remark::new(Kind::TensorsUnread, message, help))
}

fn tensors(count: usize) -> String {
    if count == 1 { "a tensor".to_owned() } else { format!("{count} tensors") }
}
