//! The declarative layer: what people write, what the lock says, and what is wrong with either.
//!
//! Read from the bottom up:
//!
//! - [`diagnostic`] is the vocabulary of findings: stable codes, severities, labels, advice. [`sources`] keeps the
//!   texts that labels point into, [`mod@render`] draws a finding for people or gives it to programs.
//! - `walk` (with `numbers`) reads TOML without stopping at the first mistake, and `files` finds and opens files
//!   with every refusal as a finding.
//! - [`edit`] is one fact. [`edits`] makes an [`EditSet`] of the folder of facts: `rules` holds what one edit must
//!   obey, `conflicts` what edits must not do to one another; [`facts`] says in what two sets differ.
//! - [`config`] reads `corrigenda.toml`, [`models`] its models, of which one is chosen, [`policy`] what it allows and
//!   demands; [`paths`] finds what it names even where it is broken. [`probes`] reads the prompts to watch.
//! - [`lock`] compares `corrigenda.lock`, `lock_text` writes and reads it.
//! - `withdrawal` tells a project whose facts were all withdrawn from one that has none yet.
//! - [`accepted`] holds what falls short of an expectation and was accepted.
//! - [`schema`] gives editors JSON Schemas of what the walk accepts; `schema_project` mirrors the project file.
//!
//! This layer knows no model: no tokenizer, no weights, no cache. It never prints, and it asks neither the clock nor
//! the environment. It writes nothing either: [`Lock::render`] gives a text, and the caller stores it.
//!
//! Findings are values. All of them, of all files, are gathered in one run; [`Project::load`] is the usual way in.

use std::collections::BTreeMap;
use std::path::{Component, Path};

pub mod accepted;
pub mod config;
mod conflicts;
pub mod diagnostic;
pub mod edit;
pub mod edits;
pub mod facts;
mod files;
pub mod lock;
mod lock_text;
mod misspelt;
pub mod models;
mod numbers;
pub mod paths;
pub mod policy;
mod prefaces;
pub mod probes;
pub mod render;
mod rules;
pub mod schema;
mod schema_project;
pub mod sources;
mod walk;
mod withdrawal;

pub use config::{Config, LinkConfig, PROJECT_FILE, RomeConfig, Stage, StatisticsConfig, TestConfig};
pub use conflicts::pairs;
pub use diagnostic::{Code, Diagnostic, Findings, Label, Severity};
pub use edit::{Edit, Expect, Place};
pub use edits::{EditSet, files_of, parse_files};
pub use files::MOST_FILE_BYTES;
pub use lock::{
    Change, ChangeKind, Difference, LOCK_FILE, Lock, LockFile, LockedBase, LockedEdit, LockedFile, LockedPatch,
    LockedStatistics, Part,
};
pub use lock_text::MOST_LOCK_BYTES;
pub use models::{ModelConfig, NamedModel};
pub use paths::Paths;
pub use policy::{Level, Limit, Policy};
pub use prefaces::Prefaces;
pub use probes::{PROBES_FILE, Probe};
pub use render::{RenderStyle, legible, quoted, render, visible};
pub use rules::{MOST_ID_BYTES, MOST_TEXT_BYTES, is_id};
pub use sources::{FileId, Position, Sources};

/// A project as written: its settings and its facts.
#[derive(Clone, Debug)]
pub struct Project {
    /// The settings.
    pub config: Config,
    /// The facts; their sources hold the other files of the project too.
    pub edits: EditSet,
    /// The prompts that are watched.
    pub probes: Vec<Probe>,
    /// What a person should look at.
    pub warnings: Vec<Diagnostic>,
    /// Files of a project that is not on the disk, by their path below its folder.
    kept: Option<BTreeMap<String, Vec<u8>>>,
}

impl Project {
    /// Reads `corrigenda.toml` in `root`, every fact and the probes, and gathers the findings of all.
    ///
    /// The facts are read even where the settings are wrong. Only where there is no project file at all is
    /// that the one finding: the folder is most likely not the one that was meant.
    pub fn load(root: &Path) -> Result<Self, Findings> {
        let mut sources = Sources::default();
        let (config, edits, mut findings) = config::read(root, &mut sources);
        if findings.iter().any(|finding| finding.code == Code::ProjectMissing) {
            return Err(Findings { diagnostics: findings, sources });
        }
        let path = root.join(PROBES_FILE);
        let absent = path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        let bytes = (!absent).then(|| files::read(&path, PROBES_FILE, &mut sources));
        let probes = read_probes(bytes, PROBES_FILE, &mut sources, &mut findings);
        let (empty, withdrawn) = withdrawal::of(root, &edits);
        let mut edits = EditSet::load_beside(sources, &root.join(edits), root, empty);
        if let Ok((set, findings)) = &mut edits {
            findings.extend(withdrawn.filter(|_| set.written().is_empty()));
        }
        Self::gather(config, findings, probes, edits, None)
    }

    /// The same from files in memory, by their path below `root`: a state of the project that is not on the disk.
    /// Findings show a path behind `label`, such as `main:`.
    pub fn of_files(root: &Path, label: &str, files: BTreeMap<String, Vec<u8>>) -> Result<Self, Findings> {
        let mut sources = Sources::default();
        let shown = |path: &str| format!("{label}{path}");
        let Some(bytes) = files.get(PROJECT_FILE) else {
            let message = format!("there is no {PROJECT_FILE} in {}", label.trim_end_matches(':'));
            return Err(Findings { diagnostics: vec![Diagnostic::new(Code::ProjectMissing, message)], sources });
        };
        let (config, edits, mut findings) = match files::add(&shown(PROJECT_FILE), bytes.clone(), &mut sources) {
            Ok(file) => config::parse(root, file, sources.text(file)),
            Err(finding) => (None, config::DEFAULT_EDITS.into(), vec![finding]),
        };
        let bytes = files.get(PROBES_FILE).map(|bytes| Ok(bytes.clone()));
        let probes = read_probes(bytes, &shown(PROBES_FILE), &mut sources, &mut findings);
        let folder = edits.to_string_lossy().into_owned();
        let inside = |path: &str| path.strip_prefix(&folder).is_some_and(|rest| rest.starts_with('/'));
        let facts = files.iter().filter(|(path, _)| inside(path) && path.ends_with(".toml"));
        let facts = facts.map(|(path, bytes)| (shown(path), bytes.clone())).collect();
        let edits = EditSet::of_files(sources, facts, &shown(&folder));
        Self::gather(config, findings, probes, edits, Some(files))
    }

    fn gather(
        config: Option<Config>,
        mut findings: Vec<Diagnostic>,
        probes: Vec<Probe>,
        edits: Result<(EditSet, Vec<Diagnostic>), Findings>,
        kept: Option<BTreeMap<String, Vec<u8>>>,
    ) -> Result<Self, Findings> {
        let (edits, sources) = match edits {
            Ok((set, warnings)) => {
                findings.extend(warnings);
                (Some(set), Sources::default())
            }
            Err(more) => {
                findings.extend(more.diagnostics);
                // Where the folder that was named is refused, nobody said that facts are in the usual one.
                if findings.iter().any(|finding| finding.code == Code::PathOutside) {
                    findings.retain(|finding| finding.code != Code::NoEdits);
                }
                (None, more.sources)
            }
        };
        if let Some(edits) = &edits {
            findings.extend(conflicts::of_probes(&edits.edits, &probes));
        }
        // What a state of the past asked for is found out where it is built.
        if let (Some(edits), Some(config), None) = (&edits, &config, &kept) {
            let ridge = config.link.ridge.is_some_and(|ridge| ridge > 0.0);
            findings.extend(conflicts::one_key(&edits.edits, ridge));
        }
        // A state of the past is not judged by what it allowed itself: it is looked at.
        if let Some(Config { policy, .. }) = config.as_ref().filter(|_| kept.is_none()) {
            findings.extend(edits.iter().flat_map(|edits| policy.judge(edits)));
            findings = policy.apply(findings);
        }
        diagnostic::sort(&mut findings);
        match (config, edits) {
            (Some(config), Some(edits)) if !findings.iter().any(Diagnostic::is_error) => {
                Ok(Self { config, edits, probes, warnings: findings, kept })
            }
            (_, edits) => {
                let sources = edits.map_or(sources, |set| set.sources);
                Err(Findings { diagnostics: findings, sources })
            }
        }
    }

    /// The lock of the chosen model, if there is one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn lock(&self) -> Result<Option<Lock>, Findings> {
        let name = self.config.model.name.as_deref();
        Ok(self.lock_file()?.and_then(|file| file.of(name).cloned()))
    }

    /// The locks of all models, if there is such a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn lock_file(&self) -> Result<Option<LockFile>, Findings> {
        let Some(files) = &self.kept else { return LockFile::load(&self.config.root) };
        let Some(bytes) = files.get(LOCK_FILE) else { return Ok(None) };
        let shown = self.edits.sources.path(self.config.file).replace(PROJECT_FILE, LOCK_FILE);
        LockFile::parse(&shown, &String::from_utf8_lossy(bytes)).map(Some)
    }

    /// What is missing where [`Project::lock`] has nothing.
    pub fn no_lock(&self) -> String {
        match &self.config.model.name {
            None => format!("there is no {LOCK_FILE}"),
            Some(name) => format!("there is no {LOCK_FILE} of the model `{name}`"),
        }
    }

    /// Whether this is a state that is not on the disk.
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// The bytes of a file of a project in memory; `None` where it is read from the disk: that of a project on the disk,
    /// or one that lies outside.
    pub fn kept(&self, path: &Path) -> Option<Option<&[u8]>> {
        let files = self.kept.as_ref()?;
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
        Some(bytes) => bytes.and_then(|bytes| files::add(shown, bytes, sources)),
    };
    match file {
        Ok(file) => {
            let (probes, found) = probes::parse(file, sources.text(file));
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

    const EDIT: &str = "format = 1\n[[edit]]\nid = \"a\"\nsubject = \"A\"\nprompt = \"{} is\"\ntarget = \"b\"\n";

    #[test]
    fn settings_and_facts_are_judged_together() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        let missing = Project::load(root).expect_err("nothing there");
        assert_eq!(missing.diagnostics.len(), 1);
        std::fs::write(root.join(PROJECT_FILE), "format = 1\nedits = \"facts\"\nmodle = 1\n").expect("written");
        std::fs::create_dir(root.join("facts")).expect("made");
        std::fs::write(root.join("facts/a.toml"), EDIT.replace("target", "traget")).expect("written");
        let findings = Project::load(root).expect_err("wrong");
        let drawn = findings.diagnostics.iter().map(|one| render(one, &findings.sources, RenderStyle::default()));
        insta::assert_snapshot!(drawn.collect::<Vec<_>>().join("\n\n"));
        std::fs::write(root.join("facts/a.toml"), EDIT).expect("written");
        assert!(Project::load(root).is_err());
        std::fs::write(root.join(PROJECT_FILE), "format = 1\nedits = \"facts\"\nmodel.path = \"m\"\n")
            .expect("written");
        let project = Project::load(root).expect("valid");
        assert!(project.warnings.is_empty());
        assert_eq!(project.edits.sources.path(project.config.file), PROJECT_FILE);
        assert_eq!(project.edits.sources.path(project.edits.edits[0].place.file), "facts/a.toml");
    }
}
