//! Reads the files of a project: `corrigenda.toml`, the edits, the probes and the lock. One run reports the mistakes of
//! all files.
//!
//! - [`read`] finds files and reads TOML; a mistake does not stop the reading.
//! - [`edits`] defines an edit, reads all edits and probes, finds conflicts between edits, and compares two sets of
//!   edits.
//! - [`config`] reads `corrigenda.toml`.
//! - [`lock`] writes, reads and compares `corrigenda.lock`, and reads `corrigenda.accepted`.
//!
//! This module does not open a model and does not write files: [`Lock::render`] returns the text of the lock, and the
//! caller writes the file.

pub mod config;
pub mod edits;
pub mod lock;
pub mod read;

use std::collections::BTreeMap;
use std::path::{Component, Path};

use crate::diagnostics::{Code, Diagnostic, Findings, Sources};

pub use config::models::{ModelConfig, NamedModel};
pub use config::paths::Paths;
pub use config::policy::{Level, Limit, Policy};
pub use config::settings::{LinkConfig, RomeConfig, StageConfig, StatisticsConfig, TestConfig};
pub use config::tasks::{TaskConfig, TaskForm, TaskScorer};
pub use config::{Config, PROJECT_FILE};
pub use edits::conflicts::pairs;
pub use edits::diff::ChangeKind;
pub use edits::edit::{Edit, EditSpans, Expect};
pub use edits::end::EndMark;
pub use edits::prefaces::Prefaces;
pub use edits::probes::{PROBES_FILE, Probe};
pub use edits::says::{JudgedBy, SaysRule};
pub use edits::{EditSet, files_of, parse_files};
pub use lock::compare::{Difference, EditChange, EditPart, LockField, LockItem};
pub use lock::text::MOST_LOCK_BYTES;
pub use lock::{LOCK_FILE, Lock, LockFile, LockedBase, LockedEdit, LockedFile, LockedPatch, LockedStatistics};
pub use read::files::MOST_FILE_BYTES;
pub use read::rules::{MOST_ID_BYTES, MOST_TEXT_BYTES, is_id};

/// The content of a project's files: settings, edits and probes.
#[derive(Clone, Debug)]
pub struct Project {
    pub config: Config,
    /// All edits of the project. `edits.sources` also has the texts of `corrigenda.toml` and `probes.toml`, for error
    /// messages.
    pub edits: EditSet,
    pub probes: Vec<Probe>,
    /// The warnings about the project's files, with the severities that `[policy]` sets.
    pub warnings: Vec<Diagnostic>,
    /// The file contents of a past revision, by path relative to the project's folder; `None` if the project was read
    /// from disk.
    snapshot: Option<BTreeMap<String, Vec<u8>>>,
}

impl Project {
    /// Reads the project in the folder `root`.
    ///
    /// All files are checked, even if one of them has an error. If `corrigenda.toml` is missing, no other file is
    /// checked, because `root` is then probably the wrong folder.
    ///
    /// # Errors
    /// If any file has an error; all errors and warnings are returned.
    pub fn load(root: &Path) -> Result<Self, Findings> {
        let mut sources = Sources::default();
        let (config, edits, mut findings) = config::read(root, &mut sources);
        if findings.iter().any(|finding| finding.code == Code::ProjectMissing) {
            return Err(Findings { diagnostics: findings, sources });
        }
        let path = root.join(PROBES_FILE);
        let absent = path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        let bytes = (!absent).then(|| crate::project::read::files::read(&path, PROBES_FILE, &mut sources));
        let probes = read_probes(bytes, PROBES_FILE, &mut sources, &mut findings);
        let (empty, withdrawn) = crate::project::edits::withdrawal::of(root, &edits);
        let mut edits = EditSet::load_with(sources, &root.join(edits), root, empty);
        if let Ok((set, set_findings)) = &mut edits {
            set_findings.extend(withdrawn.filter(|_| set.written().is_empty()));
        }
        Self::gather(config, findings, probes, edits, None)
    }

    /// Reads a project whose files are in memory, for example those of a git revision. `files` has the content of each
    /// file by its path relative to `root`. Error messages show each path with the prefix `label`, such as `main:`.
    ///
    /// # Errors
    /// If any file has an error; all errors and warnings are returned.
    pub fn of_files(root: &Path, label: &str, files: BTreeMap<String, Vec<u8>>) -> Result<Self, Findings> {
        let mut sources = Sources::default();
        let shown = |path: &str| format!("{label}{path}");
        let Some(config_bytes) = files.get(PROJECT_FILE) else {
            let message = format!("there is no {PROJECT_FILE} in {}", label.trim_end_matches(':'));
            return Err(Findings { diagnostics: vec![Diagnostic::new(Code::ProjectMissing, message)], sources });
        };
        let (config, edits, mut findings) =
            match crate::project::read::files::add(&shown(PROJECT_FILE), config_bytes.clone(), &mut sources) {
                Ok(file) => config::parse(root, file, sources.text(file)),
                Err(finding) => (None, config::DEFAULT_EDITS.into(), vec![finding]),
            };
        let probe_bytes = files.get(PROBES_FILE).map(|bytes| Ok(bytes.clone()));
        let probes = read_probes(probe_bytes, &shown(PROBES_FILE), &mut sources, &mut findings);
        let folder = edits.to_string_lossy().into_owned();
        let inside = |path: &str| path.strip_prefix(&folder).is_some_and(|rest| rest.starts_with('/'));
        let facts = files.iter().filter(|(path, _)| inside(path) && path.ends_with(".toml"));
        let facts = facts.map(|(path, bytes)| (shown(path), bytes.clone())).collect();
        let edit_set = EditSet::of_files(sources, facts, &shown(&folder));
        Self::gather(config, findings, probes, edit_set, Some(files))
    }

    fn gather(
        config: Option<Config>,
        mut findings: Vec<Diagnostic>,
        probes: Vec<Probe>,
        edits: Result<(EditSet, Vec<Diagnostic>), Findings>,
        snapshot: Option<BTreeMap<String, Vec<u8>>>,
    ) -> Result<Self, Findings> {
        let (edits, sources) = match edits {
            Ok((set, warnings)) => {
                findings.extend(warnings);
                (Some(set), Sources::default())
            }
            Err(more) => {
                findings.extend(more.diagnostics);
                // If `edits` in `corrigenda.toml` is not a folder inside the project, the default folder was read
                // instead. An error that the default folder has no edits would be misleading.
                if findings.iter().any(|finding| finding.code == Code::PathOutside) {
                    findings.retain(|finding| finding.code != Code::NoEdits);
                }
                (None, more.sources)
            }
        };
        if let Some(edits) = &edits {
            findings.extend(crate::project::edits::conflicts::of_probes(&edits.edits, &probes));
        }
        // Edits with equal MLP keys are not reported in a past revision. The error would prevent a comparison of the
        // revision with the current edits.
        if let (Some(edits), Some(config), None) = (&edits, &config, &snapshot) {
            let ridge = config.link.ridge.is_some_and(|ridge| ridge > 0.0);
            findings.extend(crate::project::edits::conflicts::one_key(&edits.edits, ridge));
        }
        // The policy is not applied to a past revision, because the revision can no longer be changed.
        if let Some(Config { policy, .. }) = config.as_ref().filter(|_| snapshot.is_none()) {
            findings.extend(edits.iter().flat_map(|edits| policy.judge(edits)));
            findings = policy.apply(findings);
        }
        crate::diagnostics::sort(&mut findings);
        match (config, edits) {
            (Some(config), Some(edits)) if !findings.iter().any(Diagnostic::is_error) => {
                Ok(Self { config, edits, probes, warnings: findings, snapshot })
            }
            (_, edits) => {
                let sources = edits.map_or(sources, |set| set.sources);
                Err(Findings { diagnostics: findings, sources })
            }
        }
    }

    /// Returns the lock of the model in `config.model`; `None` if there is no lock file, or the file has no lock of
    /// this model.
    ///
    /// # Errors
    /// If the lock file cannot be read or is invalid.
    pub fn lock(&self) -> Result<Option<Lock>, Findings> {
        let name = self.config.model.name.as_deref();
        Ok(self.lock_file()?.and_then(|file| file.of(name).cloned()))
    }

    /// Returns the content of `corrigenda.lock`, with one lock per model; `None` if the file does not exist.
    ///
    /// # Errors
    /// If the lock file cannot be read or is invalid.
    pub fn lock_file(&self) -> Result<Option<LockFile>, Findings> {
        let Some(files) = &self.snapshot else { return LockFile::load(&self.config.root) };
        let Some(bytes) = files.get(LOCK_FILE) else { return Ok(None) };
        let shown = self.edits.sources.path(self.config.file).replace(PROJECT_FILE, LOCK_FILE);
        LockFile::parse(&shown, &String::from_utf8_lossy(bytes)).map(Some)
    }

    /// Returns the error message that the project has no lock of the model in `config.model`.
    pub fn no_lock(&self) -> String {
        match &self.config.model.name {
            None => format!("there is no {LOCK_FILE}"),
            Some(name) => format!("there is no {LOCK_FILE} of the model `{name}`"),
        }
    }

    /// Returns whether the project is a past revision, with its files in memory instead of on disk.
    pub fn is_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Returns the bytes of a file of a past revision; `Some(None)` if the revision has no such file.
    ///
    /// Returns `None` if the caller must read the file from disk: the project itself is on disk, or `path` is outside
    /// the project's folder.
    pub fn snapshot_file(&self, path: &Path) -> Option<Option<&[u8]>> {
        let files = self.snapshot.as_ref()?;
        let found = path.to_str().and_then(|path| files.get(path.trim_start_matches("./"))).map(Vec::as_slice);
        let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        (found.is_some() || inside).then_some(found)
    }
}

fn read_probes(
    bytes: Option<Result<Vec<u8>, Diagnostic>>,
    shown: &str,
    sources: &mut Sources,
    findings: &mut Vec<Diagnostic>,
) -> Vec<Probe> {
    let file = match bytes {
        None => return Vec::new(),
        Some(bytes) => bytes.and_then(|bytes| crate::project::read::files::add(shown, bytes, sources)),
    };
    match file {
        Ok(file) => {
            let (probes, found) = crate::project::edits::probes::parse(file, sources.text(file));
            findings.extend(found);
            probes
        }
        Err(finding) => {
            findings.push(finding);
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::{RenderStyle, render};

    const EDIT: &str = "format = 1\n[[edit]]\nid = \"a\"\nsubject = \"A\"\nprompt = \"{} is\"\ntarget = \"b\"\n";

    #[test]
    fn settings_and_edits_are_checked_together() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        let missing = Project::load(root).expect_err("nothing there");
        assert_eq!(missing.diagnostics.len(), 1);
        std::fs::write(root.join(PROJECT_FILE), "format = 1\nedits = \"facts\"\nmodle = 1\n").expect("written");
        std::fs::create_dir(root.join("facts")).expect("the folder is created");
        std::fs::write(root.join("facts/a.toml"), EDIT.replace("target", "traget")).expect("the file is written");
        let findings = Project::load(root).expect_err("wrong");
        let drawn = findings.diagnostics.iter().map(|one| render(one, &findings.sources, RenderStyle::default()));
        insta::assert_snapshot!(drawn.collect::<Vec<_>>().join("\n\n"));
        std::fs::write(root.join("facts/a.toml"), EDIT).expect("the file is written");
        assert!(Project::load(root).is_err());
        std::fs::write(root.join(PROJECT_FILE), "format = 1\nedits = \"facts\"\nmodel.path = \"m\"\n")
            .expect("written");
        let project = Project::load(root).expect("the project is valid");
        assert!(project.warnings.is_empty());
        assert_eq!(project.edits.sources.path(project.config.file), PROJECT_FILE);
        assert_eq!(project.edits.sources.path(project.edits.edits[0].spans.file), "facts/a.toml");
    }
}
