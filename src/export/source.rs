//! Which patch: the lock's, or one that is named by id, by the start of its id, or by its file.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::build::setup::Corpus;
use crate::build::{Base, Setup, Stop, plan};
use crate::digest::Digest;
use crate::patch::Patch;
use crate::project::{Code, Diagnostic, LOCK_FILE, Lock, Project, Sources};
use crate::store::{Kind, Store};

/// The fewest hexadecimal digits that name a patch.
pub const FEWEST_DIGITS: usize = 8;
/// The largest patch file that is read, in bytes.
const MOST_PATCH_BYTES: u64 = 4 << 30;

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

/// The project's lock, if it speaks of these edits on this base.
///
/// # Errors
/// There is no lock, or it is older than what the weights depend on. Expectations and records may be newer.
pub fn locked(project: &Project, base: &Base, store: &Store) -> Result<Lock, Stop> {
    let build = "run `corrigenda build`";
    let Some(lock) = Lock::load(&project.config.root)? else {
        let finding = Diagnostic::new(Code::LockMissing, format!("there is no {LOCK_FILE}: nothing was built yet"));
        return Err(Stop::stale(vec![finding.help(build)], &Sources::default()));
    };
    // The patch is read, not made: the corpus need not even be here.
    let corpus = lock.statistics.first().map_or(Corpus::Remembered, |locked| Corpus::Assumed(locked.corpus));
    let setup = Setup::new(project, base, store, corpus)?;
    let plan = plan(project, base, &setup)?;
    let differences = plan.differences(&lock, base, &setup);
    match differences.iter().find(|one| !matches!(one.field, "expectation" | "record")) {
        None => Ok(lock),
        Some(one) => {
            let message = format!("{LOCK_FILE} is older than the project: {}, {}", one.place, one.field);
            Err(Stop::stale(vec![Diagnostic::new(Code::LockStale, message).help(build)], &Sources::default()))
        }
    }
}

/// The sound patch with this id in the store.
///
/// # Errors
/// It is not there, or is damaged.
pub fn stored(store: &Store, id: &Digest) -> Result<Patch, Stop> {
    let refuse = |message: String| {
        wrong(Diagnostic::new(Code::PatchMissing, message).help("`corrigenda build` makes the lock's patch anew"))
    };
    let bytes = store.get(Kind::Patch, id).map_err(|error| refuse(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| refuse(format!("the patch {id} is not in the store")))?;
    Patch::from_bytes(&bytes).map_err(|error| refuse(error.to_string()))
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
    let hex = digits.len() <= 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !hex || digits.len() < FEWEST_DIGITS {
        let message = format!("`{name}` is neither a file nor the id of a patch");
        return Err(wrong(Diagnostic::new(Code::PatchMissing, message).help(format!(
            "an id is `sha256:` and 64 hexadecimal digits; the first {FEWEST_DIGITS} or more are enough"
        ))));
    }
    let patches = store.ls()?.into_iter().filter(|entry| entry.kind == Kind::Patch);
    let ids: Vec<Digest> = patches.map(|entry| entry.key).filter(|key| key.hex().starts_with(digits)).collect();
    match ids[..] {
        [id] => Ok(Found { path: store.path(Kind::Patch, &id), id: Some(id) }),
        [] => {
            let finding = Diagnostic::new(Code::PatchMissing, format!("no patch in the store has the id `{name}`"));
            Err(wrong(finding.help("`corrigenda store ls` lists the patches")))
        }
        _ => {
            let message = format!("{} patches in the store have an id that starts with `{digits}`", ids.len());
            let finding = Diagnostic::new(Code::PatchMissing, message);
            Err(wrong(ids.iter().fold(finding, |finding, id| finding.help(id.to_string()))))
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
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(MOST_PATCH_BYTES + 1).read_to_end(&mut bytes));
        read.map_err(|error| refuse(format!("reading `{}`: {error}", self.path.display())))?;
        match bytes.len() as u64 > MOST_PATCH_BYTES {
            true => Err(refuse(format!("`{}` is larger than a patch can be", self.path.display()))),
            false => Ok(bytes),
        }
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
