//! Writes a provenance statement, which states how a patch was built: an in-toto Statement with a SLSA provenance
//! predicate.
//!
//! The statement contains no time, host or run id, so the same build gives the same bytes. The statement is not signed;
//! the user can sign it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use crate::diagnostics::{Code, Diagnostic, Failure, FileId};
use crate::digest::Digest;
use crate::project::MOST_FILE_BYTES;
use crate::project::{Edit, Lock, PROJECT_FILE, Project};
use crate::regular_file;
use crate::store::{StoreError, atomic};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// The SLSA build type: a URI that defines what the parameters in the statement mean.
pub const BUILD_TYPE: &str = "urn:corrigenda:build:1";
/// The default id of the builder in a statement, a URI.
pub const BUILDER: &str = "urn:corrigenda:builder:unnamed";

/// Returns the provenance statement for the patch in `lock`, which was just built from `project`. `builder` is a URI
/// that identifies the builder.
///
/// # Errors
/// If a file of the project cannot be read, or has changed since the build read it.
pub fn statement(project: &Project, lock: &Lock, builder: &str) -> Result<Vec<u8>, Failure> {
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

/// Returns the name and the digest of every file that the build read.
fn dependencies(project: &Project, lock: &Lock) -> Result<Vec<Value>, Failure> {
    let mut all = BTreeMap::new();
    for file in &lock.base.files {
        all.insert(format!("base/{}", file.path), file.digest);
    }
    if let Some(statistics) = &project.config.statistics {
        let corpus = lock.statistics.iter().map(|locked| (hide_folders("corpus", &statistics.corpus), locked.corpus));
        all.extend(corpus);
    }
    all.extend(lock.statistics.iter().map(|locked| (format!("statistics/layer-{}", locked.layer), locked.digest)));
    let files = project.edits.edits.iter().map(|edit| edit.spans.file);
    let files: BTreeSet<FileId> = files.chain([project.config.file]).collect();
    for file in files {
        let path = project.edits.sources.path(file);
        all.insert(path.to_owned(), read(project, file, &project.config.root.join(path))?);
    }
    if let Some(path) = &project.config.rome.templates {
        let bytes = regular_file::read(&project.config.resolve(path), MOST_FILE_BYTES)
            .map_err(|error| unreadable(path, &error.to_string()))?;
        all.insert(hide_folders("templates", path), Digest::of(&bytes));
    }
    let one = |(name, digest): (String, Digest)| json!({ "name": name, "digest": { "sha256": digest.hex() } });
    Ok(all.into_iter().map(one).collect())
}

/// Returns the name of a file in the statement: `role`, a slash and the file name of `path`. The folders of `path` are
/// left out, because they could reveal details of the machine.
fn hide_folders(role: &str, path: &Path) -> String {
    format!("{role}/{}", path.file_name().unwrap_or_default().to_string_lossy())
}

/// Returns the digest of a project file. Fails if the file has changed since the build read it.
fn read(project: &Project, file: FileId, path: &Path) -> Result<Digest, Failure> {
    let bytes = regular_file::read(path, MOST_FILE_BYTES).map_err(|error| unreadable(path, &error.to_string()))?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    if text != project.edits.sources.text(file).as_bytes() {
        return Err(unreadable(path, "it changed while the build ran: build again"));
    }
    Ok(Digest::of(&bytes))
}

fn unreadable(path: &Path, why: &str) -> Failure {
    let message = format!("`{}` cannot be named in the provenance: {why}", path.display());
    Failure::from(Diagnostic::new(Code::FileUnreadable, message))
}

/// Checks that the statement can be written to `path` and that `builder` is a URI. Runs before the build, so that a
/// mistake is reported early.
///
/// # Errors
/// If the folder does not exist, the file cannot be created, or `builder` is not a URI.
pub fn check(path: &Path, builder: &str) -> Result<(), Failure> {
    let not_allowed = |character: char| character.is_whitespace() || character.is_control();
    if !builder.contains(':') || builder.starts_with(':') || builder.contains(not_allowed) {
        let message = format!("`{builder}` is not a URI, and a builder is named by a URI");
        let finding = Diagnostic::new(Code::OutOfRange, message)
            .help("give a URI, for example `--builder https://ci.example/main`");
        return Err(Failure::from(finding));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir());
    if let Some(folder) = folder {
        let message =
            format!("`{}` cannot be written: the folder `{}` does not exist", path.display(), folder.display());
        let finding = Diagnostic::new(Code::StoreFailed, message).help("create the folder first");
        return Err(Failure::from(finding));
    }
    let staged = atomic::Staged::new(path).map(drop);
    Ok(staged?)
}

/// Writes a provenance statement atomically.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, statement: &[u8]) -> Result<(), StoreError> {
    atomic::write(path, statement)
}
