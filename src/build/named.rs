//! The patch that a person names: by its id, by the start of it, or by its file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Stop;
use crate::digest::Digest;
use crate::patch::Patch;
use crate::plain;
use crate::project::{Code, Diagnostic, Sources};
use crate::store::{Kind, MOST_PATCH_BYTES, Store};

/// The fewest hexadecimal digits that name a patch.
pub const FEWEST_DIGITS: usize = 8;

/// Where the bytes of a named patch are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// The id that the bytes must have, where one was named.
    pub id: Option<Digest>,
}

fn wrong(finding: Diagnostic) -> Stop {
    Stop::wrong(vec![finding], &Sources::default())
}

/// The id of the one patch of the store that begins with these digits; `None` where there is none.
///
/// # Errors
/// More than one begins so, or the store cannot be listed.
pub fn id(store: &Store, digits: &str) -> Result<Option<Digest>, Stop> {
    let patches = store.ls()?.into_iter().filter(|entry| entry.kind == Kind::Patch);
    let ids: Vec<Digest> = patches.map(|entry| entry.key).filter(|key| key.hex().starts_with(digits)).collect();
    if ids.len() < 2 {
        return Ok(ids.first().copied());
    }
    let message = format!("{} patches in the store have an id that starts with `{digits}`", ids.len());
    let finding = Diagnostic::new(Code::PatchMissing, message);
    Err(wrong(ids.iter().fold(finding, |finding, id| finding.help(id.to_string()))))
}

/// Whether a text may be the beginning of an id: enough hexadecimal digits.
pub fn is_digits(text: &str) -> bool {
    let hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (FEWEST_DIGITS..=64).contains(&text.len()) && text.bytes().all(hex)
}

/// Finds a patch that a person named: `sha256:…`, at least eight digits of an id, or a file.
///
/// # Errors
/// Nothing is called so, or more than one patch is.
pub fn find(store: &Store, name: &str) -> Result<Found, Stop> {
    let (digits, must) = match name.strip_prefix("sha256:") {
        Some(digits) => (digits, true),
        None => (name, false),
    };
    let path = Path::new(name);
    if !must && path.exists() {
        return match path.is_file() {
            true => Ok(Found { path: path.to_owned(), id: id_of_name(path) }),
            false => Err(wrong(Diagnostic::new(Code::PatchMissing, format!("`{name}` is not a regular file")))),
        };
    }
    if !is_digits(digits) {
        let message = format!("`{name}` is neither a file nor the id of a patch");
        return Err(wrong(Diagnostic::new(Code::PatchMissing, message).help(format!(
            "an id is `sha256:` and 64 hexadecimal digits; the first {FEWEST_DIGITS} or more are enough"
        ))));
    }
    match id(store, digits)? {
        Some(id) => Ok(Found { path: store.path(Kind::Patch, &id), id: Some(id) }),
        None => {
            let finding = Diagnostic::new(Code::PatchMissing, format!("no patch in the store has the id `{name}`"));
            Err(wrong(finding.help("`corrigenda store ls` lists the patches")))
        }
    }
}

/// The id that a file's name states: 64 digits and an ending.
fn id_of_name(path: &Path) -> Option<Digest> {
    path.file_stem().and_then(|stem| stem.to_str()).and_then(Digest::from_hex)
}

impl Found {
    /// The bytes, whatever they are.
    ///
    /// # Errors
    /// They cannot be read, or are more than a patch can be.
    pub fn bytes(&self) -> Result<Vec<u8>, Stop> {
        let refuse = |why: String| wrong(Diagnostic::new(Code::PatchUnusable, why));
        plain::read(&self.path, MOST_PATCH_BYTES).map_err(|error| match error.kind() {
            ErrorKind::FileTooLarge => refuse(format!("`{}` is larger than a patch can be", self.path.display())),
            _ => refuse(format!("reading `{}`: {error}", self.path.display())),
        })
    }

    /// The patch, sound and with the id that was asked for.
    ///
    /// # Errors
    /// The bytes are of another patch, or of none.
    pub fn patch(&self) -> Result<Patch, Stop> {
        let bytes = self.bytes()?;
        let refuse = |why: String| {
            wrong(Diagnostic::new(Code::PatchUnusable, format!("the patch `{}`: {why}", self.path.display())))
        };
        let found = Digest::of(&bytes);
        if let Some(id) = self.id.filter(|id| *id != found) {
            return Err(refuse(format!("its bytes are {found}, and not {id}")));
        }
        Patch::from_bytes(&bytes).map_err(|error| refuse(error.to_string()))
    }
}
