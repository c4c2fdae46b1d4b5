//! The declarative layer: what people write, what the lock says, and what is wrong with either.
//!
//! Read from the bottom up:
//!
//! - [`diagnostic`] is the vocabulary of findings: stable codes, severities, labels, advice. [`sources`] keeps the
//!   texts that labels point into, [`mod@render`] draws a finding for people or gives it to programs.
//! - `walk` (with `numbers`) reads TOML without stopping at the first mistake, and `files` finds and opens files
//!   with every refusal as a finding.
//! - [`edits`] makes an [`EditSet`] of the folder of facts. `rules` holds what one edit must obey, `conflicts`
//!   what edits must not do to one another; [`facts`] says in what two sets differ.
//! - [`config`] reads `corrigenda.toml`, [`lock`] compares `corrigenda.lock`, `lock_text` writes and reads it.
//! - [`schema`] gives editors JSON Schemas of what the walk accepts.
//!
//! This layer knows no model: no tokenizer, no weights, no cache. It never prints, and it asks neither the clock nor
//! the environment. It writes nothing either: [`Lock::render`] gives a text, and the caller stores it.
//!
//! Findings are values. All of them, of all files, are gathered in one run; [`Project::load`] is the usual way in.

use std::path::Path;

pub mod config;
mod conflicts;
pub mod diagnostic;
pub mod edits;
pub mod facts;
mod files;
pub mod lock;
mod lock_text;
mod numbers;
pub mod render;
mod rules;
pub mod schema;
pub mod sources;
mod walk;

pub use config::{Config, LinkConfig, ModelConfig, PROJECT_FILE, RomeConfig, Stage, StatisticsConfig, TestConfig};
pub use diagnostic::{Code, Diagnostic, Findings, Label, Severity};
pub use edits::{Edit, EditSet, Expect, Place, parse_files};
pub use files::MOST_FILE_BYTES;
pub use lock::{
    Change, ChangeKind, Difference, LOCK_FILE, Lock, LockedBase, LockedEdit, LockedFile, LockedPatch, LockedStatistics,
    Part,
};
pub use render::{RenderStyle, render, to_json, visible};
pub use rules::{MOST_ID_BYTES, MOST_TEXT_BYTES, is_id};
pub use sources::{FileId, Position, Sources};

/// A project as written: its settings and its facts.
#[derive(Clone, Debug)]
pub struct Project {
    /// The settings.
    pub config: Config,
    /// The facts; their sources hold the project file too.
    pub edits: EditSet,
    /// What a person should look at.
    pub warnings: Vec<Diagnostic>,
}

impl Project {
    /// Reads `corrigenda.toml` in `root` and every fact, and gathers the findings of both.
    ///
    /// The facts are read even where the settings are wrong. Only where there is no project file at all is
    /// that the one finding: the folder is most likely not the one that was meant.
    pub fn load(root: &Path) -> Result<Self, Findings> {
        let mut sources = Sources::default();
        let (config, edits, mut findings) = config::read(root, &mut sources);
        if findings.iter().any(|finding| finding.code == Code::ProjectMissing) {
            return Err(Findings { diagnostics: findings, sources });
        }
        let (edits, sources) = match EditSet::load_beside(sources, &root.join(edits), root) {
            Ok((set, warnings)) => {
                findings.extend(warnings);
                (Some(set), Sources::default())
            }
            Err(more) => {
                findings.extend(more.diagnostics);
                (None, more.sources)
            }
        };
        diagnostic::sort(&mut findings);
        match (config, edits) {
            (Some(config), Some(edits)) if !findings.iter().any(Diagnostic::is_error) => {
                Ok(Self { config, edits, warnings: findings })
            }
            (_, edits) => {
                let sources = edits.map_or(sources, |set| set.sources);
                Err(Findings { diagnostics: findings, sources })
            }
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
