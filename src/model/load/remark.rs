//! Collects warnings about a model that can be opened, but may not be the model that the user intends.

use std::path::Path;

use serde_json::Value;

use super::storage::config::other_class;
use super::storage::{ADAPTER, base_of_adapter};
use crate::model::arch::family::Family;

/// The reason for a [`Remark`], which determines the code of the printed warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemarkKind {
    /// Some tensors in the weights files have names like those of the decoder's tensors, but the decoder does not read
    /// them.
    TensorsUnread,
    /// In config.json, `architectures` names a class that does not belong to the family `model_type`.
    ArchitectureDiffers,
    /// The model folder contains a PEFT adapter, which is not read.
    AdapterUnread,
    /// The model has tied embeddings, and also stores an output matrix that is the token embedding rounded to another
    /// dtype.
    HeadRounded,
    /// The tokenizer appends special tokens to every text. They are removed from prompts.
    TextsEnded,
}

/// A warning about a model that opens without an error, but may not be the model that the user intends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    pub kind: RemarkKind,
    pub message: String,
    pub help: String,
}

impl Remark {
    pub(crate) fn new(kind: RemarkKind, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: help.into() }
    }
}

/// Returns the warnings about a model folder and its config.json: [`RemarkKind::ArchitectureDiffers`] and
/// [`RemarkKind::AdapterUnread`].
pub(crate) fn of_folder(folder: &Path, path: &Path, config: &Value, family: &Family) -> Vec<Remark> {
    let mut found = Vec::new();
    if let Some(class) = other_class(path, config, family) {
        let message = format!(
            "{}: `architectures` names {class}, but `model_type` is `{}`: the latter is used",
            path.display(),
            family.model_type
        );
        let help = "correct the wrong one; a model that is read as another family gives wrong results";
        found.push(Remark::new(RemarkKind::ArchitectureDiffers, message, help));
    }
    if folder.join(ADAPTER).is_file() {
        let base = base_of_adapter(folder).map_or_else(String::new, |base| format!(" for `{base}`"));
        let message =
            format!("{} in the model's folder is an adapter{base}, which is not read", folder.join(ADAPTER).display());
        let help = "transformers with peft applies it to the model: merge it \
                    (`merge_and_unload().save_pretrained(NEW)`) and name the result, or move it out of the folder";
        found.push(Remark::new(RemarkKind::AdapterUnread, message, help));
    }
    found
}

/// Returns a warning that the decoder does not read the tensors `names`; `None` if `names` is empty.
pub(crate) fn unread(path: &Path, names: &[&str]) -> Option<Remark> {
    let (first, count) = (names.first()?, names.len());
    let more = if count == 1 { String::new() } else { format!(" and {} more", count - 1) };
    let message = format!("the decoder does not read {} in {}: `{first}`{more}", tensors(count), path.display());
    let help = "the results are those of a model without these tensors: check that config.json belongs to these \
                weights";
    Some(Remark::new(RemarkKind::TensorsUnread, message, help))
}

fn tensors(count: usize) -> String {
    if count == 1 { "a tensor".to_owned() } else { format!("{count} tensors") }
}
