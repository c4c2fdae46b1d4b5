//! Finds the patch that the user names by a file, an id, or the first digits of an id.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::digest::Digest;
use crate::patch::Patch;
use crate::regular_file;
use crate::store::{EntryKind, MOST_PATCH_BYTES, Store};

/// The minimum number of hexadecimal digits in an abbreviated patch id.
pub const MIN_ID_DIGITS: usize = 8;

/// A patch file, found by the name that the user gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPatch {
    pub path: PathBuf,
    /// The SHA-256 that the file must have. `None` if the user named a file, and its file name is not a SHA-256.
    pub id: Option<Digest>,
}

/// Returns the id of the patch in the store whose id starts with `digits`; `None` if there is no such patch.
///
/// # Errors
/// If several patches have an id that starts with `digits`, or if the store cannot be listed.
pub fn find_id(store: &Store, digits: &str) -> Result<Option<Digest>, Failure> {
    let patches = store.ls()?.into_iter().filter(|entry| entry.kind == EntryKind::Patch);
    let ids: Vec<Digest> = patches.map(|entry| entry.key).filter(|key| key.hex().starts_with(digits)).collect();
    if ids.len() < 2 {
        return Ok(ids.first().copied());
    }
    let message = format!("{} patches in the store have an id that starts with `{digits}`", ids.len());
    let finding = Diagnostic::new(Code::PatchMissing, message);
    Err(Failure::from(ids.iter().fold(finding, |finding, id| finding.help(id.to_string()))))
}

/// Returns whether a text can be the start of a patch id: [`MIN_ID_DIGITS`] to 64 lowercase hexadecimal digits.
pub fn is_id_prefix(text: &str) -> bool {
    let hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (MIN_ID_DIGITS..=64).contains(&text.len()) && text.bytes().all(hex)
}

/// Finds the patch that the user names. `name` is a file, or an id with or without the prefix `sha256:`. The first
/// eight digits of an id are enough. A file takes precedence over an id without a prefix.
///
/// # Errors
/// If no patch has this name, or several patches have it.
pub fn find(store: &Store, name: &str) -> Result<NamedPatch, Failure> {
    let (digits, is_id) = match name.strip_prefix("sha256:") {
        Some(digits) => (digits, true),
        None => (name, false),
    };
    let path = Path::new(name);
    if !is_id && path.exists() {
        if !path.is_file() {
            return Err(Diagnostic::new(Code::PatchMissing, format!("`{name}` is not a regular file")).into());
        }
        return Ok(NamedPatch { path: path.to_owned(), id: id_of_name(path) });
    }
    if !is_id_prefix(digits) {
        let message = format!("`{name}` is neither a file nor the id of a patch");
        return Err(Failure::from(Diagnostic::new(Code::PatchMissing, message).help(format!(
            "an id is `sha256:` and 64 hexadecimal digits; the first {MIN_ID_DIGITS} or more are enough"
        ))));
    }
    match find_id(store, digits)? {
        Some(id) => Ok(NamedPatch { path: store.path(EntryKind::Patch, &id), id: Some(id) }),
        None => {
            let finding = Diagnostic::new(Code::PatchMissing, format!("no patch in the store has the id `{name}`"));
            Err(Failure::from(finding.help("`corrigenda store ls` lists the patches")))
        }
    }
}

/// Returns the patch id if the file name without its extension is 64 hexadecimal digits; otherwise `None`.
fn id_of_name(path: &Path) -> Option<Digest> {
    path.file_stem().and_then(|stem| stem.to_str()).and_then(Digest::from_hex)
}

impl NamedPatch {
    /// Reads the patch file without checking its content.
    ///
    /// # Errors
    /// If the file cannot be read, or is larger than the maximum size of a patch file.
    pub fn bytes(&self) -> Result<Vec<u8>, Failure> {
        let failure = |why: String| Failure::from(Diagnostic::new(Code::PatchUnusable, why));
        regular_file::read(&self.path, MOST_PATCH_BYTES).map_err(|error| match error.kind() {
            ErrorKind::FileTooLarge => failure(format!("`{}` is larger than a patch can be", self.path.display())),
            _ => failure(format!("reading `{}`: {error}", self.path.display())),
        })
    }

    /// Reads the patch file, and checks its SHA-256 and its format.
    ///
    /// # Errors
    /// If the file cannot be read, does not have the SHA-256 `id`, or is not a valid patch.
    pub fn patch(&self) -> Result<Patch, Failure> {
        let bytes = self.bytes()?;
        let failure = |why: String| {
            Failure::from(Diagnostic::new(Code::PatchUnusable, format!("the patch `{}`: {why}", self.path.display())))
        };
        let found = Digest::of(&bytes);
        if let Some(id) = self.id.filter(|id| *id != found) {
            return Err(failure(format!("the digest of its bytes is {found}, and not {id}")));
        }
        Patch::from_bytes(&bytes).map_err(|error| failure(error.to_string()))
    }
}
