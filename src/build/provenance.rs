//! What a patch was built from, as an unsigned in-toto Statement with a SLSA provenance predicate.
//!
//! The statement is a function of the build: it holds no time, no host and no id of a run, so that the same build
//! gives the same bytes. Signing it is for whoever runs the build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::Stop;
use crate::digest::Digest;
use crate::plain;
use crate::project::MOST_FILE_BYTES;
use crate::project::{Code, Diagnostic, Edit, FileId, Lock, PROJECT_FILE, Project, Sources};
use crate::store::{StoreError, atomic};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// The template of the build: how the parameters below are read.
pub const BUILD_TYPE: &str = "urn:corrigenda:build:1";
/// Who built it, where nobody says.
pub const BUILDER: &str = "urn:corrigenda:builder:unnamed";

/// The statement for the patch of `lock`, which was just built from `project`.
///
/// # Errors
/// A file of the project cannot be read, or is no longer the one that was built from.
pub fn statement(project: &Project, lock: &Lock, builder: &str) -> Result<Vec<u8>, Stop> {
    let meanings = |edit: &Edit| edit.names().map(|(name, _)| edit.meaning_of(name)).collect::<Vec<Digest>>();
    let edits: BTreeMap<&str, Vec<Digest>> =
        project.edits.edits.iter().map(|edit| (edit.id.as_str(), meanings(edit))).collect();
    let statement = json!({
        "_type": STATEMENT,
        "subject": [{
            "name": format!("{}.safetensors", lock.patch.id.hex()),
            "digest": { "sha256": lock.patch.id.hex() },
        }],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": { "project": PROJECT_FILE, "edits": edits, "settings": lock.patch.settings },
                "internalParameters": { "numerics": lock.numerics },
                "resolvedDependencies": dependencies(project, lock)?,
            },
            "runDetails": {
                "builder": { "id": builder, "version": { "corrigenda": env!("CARGO_PKG_VERSION") } },
                "metadata": {},
            },
        },
    });
    let text = serde_json::to_string_pretty(&statement).expect("texts and digests always serialise");
    Ok(format!("{text}\n").into_bytes())
}

/// Everything that the build read, by name.
fn dependencies(project: &Project, lock: &Lock) -> Result<Vec<Value>, Stop> {
    let mut all = BTreeMap::new();
    for file in &lock.base.files {
        all.insert(format!("base/{}", file.path), file.digest);
    }
    if let Some(statistics) = &project.config.statistics {
        let corpus = lock.statistics.iter().map(|locked| (named("corpus", &statistics.corpus), locked.corpus));
        all.extend(corpus);
    }
    all.extend(lock.statistics.iter().map(|locked| (format!("statistics/layer-{}", locked.layer), locked.digest)));
    let files = project.edits.edits.iter().map(|edit| edit.place.file);
    let files: BTreeSet<FileId> = files.chain([project.config.file]).collect();
    for file in files {
        let path = project.edits.sources.path(file);
        all.insert(path.to_owned(), read(project, file, &project.config.root.join(path))?);
    }
    if let Some(path) = &project.config.rome.templates {
        let bytes = plain::read(&project.config.resolve(path), MOST_FILE_BYTES)
            .map_err(|error| unread(path, &error.to_string()))?;
        all.insert(named("templates", path), Digest::of(&bytes));
    }
    let one = |(name, digest): (String, Digest)| json!({ "name": name, "digest": { "sha256": digest.hex() } });
    Ok(all.into_iter().map(one).collect())
}

/// A name that does not tell where on a machine the file was.
fn named(role: &str, path: &Path) -> String {
    format!("{role}/{}", path.file_name().unwrap_or_default().to_string_lossy())
}

/// The digest of a file of the project, which must still hold what was built from.
fn read(project: &Project, file: FileId, path: &Path) -> Result<Digest, Stop> {
    let bytes = plain::read(path, MOST_FILE_BYTES).map_err(|error| unread(path, &error.to_string()))?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    match text == project.edits.sources.text(file).as_bytes() {
        true => Ok(Digest::of(&bytes)),
        false => Err(unread(path, "it changed while the build ran: build again")),
    }
}

fn unread(path: &Path, why: &str) -> Stop {
    let message = format!("`{}` cannot be named in the provenance: {why}", path.display());
    Stop::wrong(vec![Diagnostic::new(Code::FileUnreadable, message)], &Sources::default())
}

/// Refuses, before anything is built, a statement that could not be written to `path`, or a builder that is no URI.
///
/// # Errors
/// The file or the URI is refused.
pub fn check(path: &Path, builder: &str) -> Result<(), Stop> {
    let odd = |character: char| character.is_whitespace() || character.is_control();
    if !builder.contains(':') || builder.starts_with(':') || builder.contains(odd) {
        let message = format!("`{builder}` is no URI, and a builder is named by one");
        let finding =
            Diagnostic::new(Code::OutOfRange, message).help("for example `--builder https://ci.example/main`");
        return Err(Stop::wrong(vec![finding], &Sources::default()));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir());
    if let Some(folder) = folder {
        let message = format!("`{}` cannot be written: there is no folder `{}`", path.display(), folder.display());
        let finding = Diagnostic::new(Code::StoreFailed, message).help("make the folder first");
        return Err(Stop::wrong(vec![finding], &Sources::default()));
    }
    let staged = atomic::Staged::new(path).map(drop);
    Ok(staged?)
}

/// Writes a statement, whole or not at all.
///
/// # Errors
/// The system refuses.
pub fn write(path: &Path, statement: &[u8]) -> Result<(), StoreError> {
    atomic::write(path, statement)
}
