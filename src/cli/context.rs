//! What every verb is given: the terminal, the project's folder, the store, and how to end.

use std::cell::RefCell;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Common, Format, Outcome};
use crate::build::Stop;
use crate::numeric::Isa;
use crate::project::{Code, Diagnostic, Findings, Project, Sources, to_json};
use crate::store::{Store, StoreError, cache_root};
use crate::ui::{Loudness, Ui};

/// The surroundings of a verb.
pub(super) struct Context {
    pub ui: Ui,
    pub root: PathBuf,
    pub format: Format,
    pub isa: Isa,
    cache_dir: Option<PathBuf>,
    /// The project's warnings, for an answer in JSON.
    warned: RefCell<Vec<Value>>,
}

impl Context {
    pub(super) fn new(common: &Common) -> Self {
        if let Some(threads) = common.threads {
            // The pool can only be refused where it was built before, and nothing has run yet.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global();
        }
        let loudness = match (common.quiet, common.verbose) {
            (true, _) => Loudness::Quiet,
            (_, true) => Loudness::Verbose,
            _ => Loudness::Normal,
        };
        Self {
            ui: Ui::new(common.color, loudness, !common.no_progress),
            root: common.project.clone(),
            format: common.format,
            isa: common.isa,
            cache_dir: common.cache_dir.clone(),
            warned: RefCell::default(),
        }
    }

    /// The store, or the reason why there is none.
    pub(super) fn store(&self) -> Result<Store, Diagnostic> {
        cache_root(self.cache_dir.as_deref(), |name| std::env::var_os(name)).map(Store::open).ok_or_else(|| {
            Diagnostic::new(
                Code::StoreFailed,
                "nothing says where the cache is: neither HOME nor XDG_CACHE_HOME is set",
            )
            .help("name a folder with `--cache-dir DIR` or CORRIGENDA_CACHE_DIR")
        })
    }

    /// The project, its warnings shown; or the end of the run.
    pub(super) fn project(&self) -> Result<Project, Outcome> {
        match Project::load(&self.root) {
            Ok(project) => {
                let (warnings, sources) = (&project.warnings, &project.edits.sources);
                match self.format {
                    Format::Human | Format::Csv => self.ui.findings(warnings, sources),
                    Format::Json => {
                        *self.warned.borrow_mut() = warnings.iter().map(|one| to_json(one, sources)).collect()
                    }
                }
                Ok(project)
            }
            Err(Findings { diagnostics, sources }) => Err(self.refuse(Outcome::Error, &diagnostics, &sources)),
        }
    }

    /// Project and store, or the end of the run.
    pub(super) fn ground(&self) -> Result<(Project, Store), Outcome> {
        let project = self.project()?;
        let store = self.store().map_err(|finding| self.fail(finding))?;
        Ok((project, store))
    }

    /// Ends a run that was stopped.
    pub(super) fn stop(&self, stop: &Stop) -> Outcome {
        let outcome = if stop.stale { Outcome::Stale } else { Outcome::Error };
        self.refuse(outcome, &stop.findings, &stop.sources)
    }

    /// Ends a run that could not be done: findings for people on stderr, for programs as the answer.
    pub(super) fn refuse(&self, outcome: Outcome, findings: &[Diagnostic], sources: &Sources) -> Outcome {
        match self.format {
            Format::Human | Format::Csv => self.ui.findings(findings, sources),
            Format::Json => self.answer_json(outcome, findings, sources, json!({})),
        }
        outcome
    }

    /// Ends a run that failed without a place in the project's files.
    pub(super) fn fail(&self, finding: Diagnostic) -> Outcome {
        self.refuse(Outcome::Error, &[finding], &Sources::default())
    }

    /// The same for what the store says.
    pub(super) fn fail_store(&self, error: &StoreError) -> Outcome {
        self.fail(Diagnostic::new(Code::StoreFailed, error.to_string()))
    }

    /// The answer for programs: version, outcome, findings, and the object that the verb adds.
    pub(super) fn answer_json(&self, outcome: Outcome, findings: &[Diagnostic], sources: &Sources, rest: Value) {
        let warned = self.warned.take();
        let list: Vec<_> = warned.into_iter().chain(findings.iter().map(|finding| to_json(finding, sources))).collect();
        let mut whole = rest;
        whole["version"] = json!(1);
        whole["outcome"] = json!(outcome.word());
        whole["findings"] = json!(list);
        self.ui.answer(&whole.to_string());
    }
}
