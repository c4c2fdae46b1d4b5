//! Holds the values that all commands share: the terminal, the project's folder and the store. Also loads projects and
//! base models, and prints warnings and errors.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::answers::{Answered, Unfinished};
use super::report::{ReportArguments, deliver};
use super::root;
use crate::cli::common_options::CommonOptions;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Failure, FailureKind, Sources};
use crate::numeric::Isa;
use crate::pipeline::Base;
use crate::pipeline::base::folder_named;
use crate::project::{PROJECT_FILE, Project};
use crate::report::Outcome;
use crate::report::json::inert;
use crate::report::{Finding, Report, ReportVerb, VERSION};
use crate::store::{Store, StoreError, cache_root};
use crate::ui::{Ui, Verbosity};

/// The global options of the command line, and the terminal output. Every verb gets a reference to one value of this
/// type.
pub(super) struct Context {
    pub ui: Ui,
    pub root: PathBuf,
    /// The folder of `-C`; `None` without that option.
    named: Option<PathBuf>,
    pub format: Format,
    pub isa: Isa,
    cache_dir: Option<PathBuf>,
    /// The store; `None` until the first call of [`Context::store`].
    store: RefCell<Option<Store>>,
    /// The name of the selected model, from `--model` or from a run over all models; `None` if no model is selected.
    model: RefCell<Option<String>>,
    /// Whether the project's warnings were already printed. They apply to all models, so a run over several models
    /// prints them only once.
    warnings_shown: Cell<bool>,
    /// The printed warnings, each with the texts of the files it refers to. These warnings are also listed in the JSON
    /// output or in the report.
    warned: RefCell<Vec<(Diagnostic, Sources)>>,
    /// The command whose report is the output of this run, set by [`Context::expect_reports`]; `None` if the command
    /// has no report.
    reporting: Cell<Option<ReportVerb>>,
    reports: RefCell<Vec<(Format, PathBuf)>>,
}

impl Context {
    pub(super) fn new(common: &CommonOptions) -> Self {
        if let Some(threads) = common.threads {
            // The call fails only if a global thread pool already exists, and no earlier code creates one.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global();
        }
        let verbosity = match (common.quiet, common.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        Self {
            ui: Ui::new(common.color, verbosity, !common.no_progress),
            root: root::find(common.project.as_deref()),
            named: common.project.clone(),
            format: common.format,
            isa: common.isa,
            cache_dir: common.cache_dir.clone(),
            store: RefCell::default(),
            model: RefCell::new(common.model.as_ref().map(|name| name.to_string_lossy().into_owned())),
            warnings_shown: Cell::default(),
            warned: RefCell::default(),
            reporting: Cell::default(),
            reports: RefCell::default(),
        }
    }

    /// Returns the folder in which `init` creates a project: the folder of `-C`, or the current folder. In contrast to
    /// other commands, `init` does not search the folders above the current one.
    pub(super) fn new_project_root(&self) -> PathBuf {
        self.named.clone().unwrap_or_else(|| PathBuf::from("."))
    }

    /// Returns whether the project's folder has a project file, which may be invalid or unreadable.
    pub(super) fn has_project(&self) -> bool {
        self.root.join(PROJECT_FILE).symlink_metadata().is_ok()
    }

    /// Prints a note with the project's folder if the folder is above the current one.
    pub(super) fn note_root(&self) {
        if self.named.is_none() && self.root != Path::new(".") {
            self.ui.note(&format!("the project in `{}`", self.root.display()));
        }
    }

    /// Returns the store, and opens it at the first call.
    ///
    /// # Errors
    /// If neither `--cache-dir` nor an environment variable determines the folder of the cache, or if that folder is
    /// inside a base model.
    pub(super) fn store(&self) -> Result<Store, Diagnostic> {
        if let Some(store) = &*self.store.borrow() {
            return Ok(store.clone());
        }
        let root = cache_root(self.cache_dir.as_deref(), |name| std::env::var_os(name)).ok_or_else(|| {
            let nothing = "the folder of the cache is unknown: neither HOME nor XDG_CACHE_HOME is set";
            Diagnostic::new(Code::StoreFailed, nothing)
                .help("name a folder with `--cache-dir DIR` or CORRIGENDA_CACHE_DIR")
        })?;
        self.may_hold_store(&root)?;
        Ok(self.store.borrow_mut().insert(Store::open(root)).clone())
    }

    /// Prints a warning for each damaged store entry that this run ignored. Must be called at the end of a run.
    pub(super) fn tell_skipped(&self) {
        let damaged = self.store.borrow().as_ref().map(Store::skipped).unwrap_or_default();
        let finding = |damage| {
            Diagnostic::new(Code::StoreDamaged, damage).help(
                "the entry is not used; run `corrigenda store verify` to check every entry; a build repairs those it needs",
            )
        };
        let findings: Vec<Diagnostic> = damaged.into_iter().map(finding).collect();
        self.ui.findings(&findings, &Sources::default());
    }

    /// Returns the name of the model that `--model` or [`Context::select_model`] selected, if any.
    pub(super) fn selected_model(&self) -> Option<String> {
        self.model.borrow().clone()
    }

    /// Selects the model that [`Context::project`] will use. A run over several models calls this once for each model.
    pub(super) fn select_model(&self, name: String) {
        self.model.replace(Some(name));
    }

    /// Loads the project with the settings of the selected model, and prints the project's warnings.
    ///
    /// # Errors
    /// If the project has errors, if it has no model of the selected name, if it has several models and none is
    /// selected, or if the policy denies an expired edit. The findings are printed, and the error is the outcome of the
    /// run.
    pub(super) fn project(&self) -> Result<Project, Outcome> {
        let mut project = Project::load(&self.root).map_err(|findings| self.stop(&findings.into()))?;
        let chosen = project.config.choose(self.selected_model().as_deref());
        chosen.map_err(|finding| self.fail(finding))?;
        let expired = self.expired(&project);
        if expired.iter().any(Diagnostic::is_error) {
            return Err(self.stop(&Failure::from_findings(expired, &project.edits.sources)));
        }
        project.warnings.extend(expired);
        let sources = &project.edits.sources;
        *self.warned.borrow_mut() = project.warnings.iter().map(|one| (one.clone(), sources.clone())).collect();
        if !self.warnings_shown.replace(true) {
            self.show(&project.warnings, sources);
        }
        Ok(project)
    }

    /// Opens the base model of a project, and prints the warnings about the model. If `fresh` is true, all files of the
    /// model are hashed again; otherwise digests in the store are used.
    pub(super) fn base(&self, project: &Project, store: &Store, fresh: bool) -> Result<Base, Failure> {
        let base = Base::open(project, store, self.isa, fresh)?;
        self.warn(project.config.policy.apply(base.warnings.clone()), &project.edits.sources)?;
        Ok(base)
    }

    /// Opens a base model that is given on the command line as a folder or as a name on the Hub, and prints the
    /// warnings about it. If `fresh` is true, all files of the model are hashed again; otherwise digests in the store
    /// are used.
    pub(super) fn base_named(&self, name: &Path, store: &Store, fresh: bool) -> Result<Base, Failure> {
        let folder = folder_named(name)?;
        let base = Base::at(&folder, store, self.isa, fresh)?;
        self.warn(base.warnings.clone(), &Sources::default())?;
        Ok(base)
    }

    /// Prints warnings, and stores them for the JSON output or the report of the run.
    ///
    /// # Errors
    /// If the project's policy denies one of the warnings.
    fn warn(&self, warnings: Vec<Diagnostic>, sources: &Sources) -> Result<(), Failure> {
        if warnings.iter().any(Diagnostic::is_error) {
            return Err(Failure::from_findings(warnings, sources));
        }
        self.show(&warnings, sources);
        self.warned.borrow_mut().extend(warnings.into_iter().map(|one| (one, sources.clone())));
        Ok(())
    }

    /// Returns a finding for each edit whose expiry date has passed.
    pub(super) fn expired(&self, project: &Project) -> Vec<Diagnostic> {
        project.config.policy.expired(&project.edits, today())
    }

    /// Prints findings on stderr. In the JSON format, nothing is printed, because the JSON output contains the
    /// findings.
    pub(super) fn show(&self, findings: &[Diagnostic], sources: &Sources) {
        if self.format != Format::Json {
            self.ui.findings(findings, sources);
        }
    }

    /// Loads the project and opens the store.
    ///
    /// # Errors
    /// If the project cannot be loaded, or if the store cannot be opened. The findings are printed, and the error is
    /// the outcome of the run.
    pub(super) fn open_project_and_store(&self) -> Result<(Project, Store), Outcome> {
        let project = self.project()?;
        let store = self.store().map_err(|finding| self.fail(finding))?;
        Ok((project, store))
    }

    /// Prints the findings of an error, or of a warning that the policy denies, and returns the outcome of the run.
    pub(super) fn stop(&self, stop: &Failure) -> Outcome {
        let outcome = match stop.kind {
            FailureKind::Invalid => Outcome::Error,
            FailureKind::Stale => Outcome::Stale,
            FailureKind::Denied => Outcome::Findings,
        };
        self.refuse(outcome, &stop.findings, &stop.sources)
    }

    /// Prints the findings of a run that could not finish, in the format of the run, and writes the files of
    /// `--report`. Returns `outcome`, or `Error` if such a file cannot be written.
    pub(super) fn refuse(&self, outcome: Outcome, findings: &[Diagnostic], sources: &Sources) -> Outcome {
        self.show(findings, sources);
        match (self.reporting.get(), self.format) {
            (None, Format::Json) => self.answer_json(outcome, findings, sources, Unfinished {}),
            (None, _) => {}
            (Some(verb), _) => {
                let report = self.report(verb, outcome, &format!("corrigenda {}", verb.as_str()), findings, sources);
                // In the human format, the findings are already on stderr, so nothing is printed on stdout.
                return deliver(self, &report, |_, _| String::new());
            }
        }
        outcome
    }

    /// Declares that the output of this run is the report of the command `verb`. A run that fails then also writes a
    /// report. The paths of `--report` are stored, because these files are written at the end of the run.
    pub(super) fn expect_reports(&self, verb: ReportVerb, arguments: &ReportArguments) {
        self.reporting.set(Some(verb));
        self.reports.replace(arguments.reports.clone());
    }

    /// Returns the files of `--report`, each with its format.
    pub(super) fn reports(&self) -> Vec<(Format, PathBuf)> {
        self.reports.borrow().clone()
    }

    /// Creates a report of the command `verb`, whose findings are the warnings printed so far, followed by `findings`.
    /// The fields for results have default values.
    pub(super) fn report(
        &self,
        verb: ReportVerb,
        outcome: Outcome,
        command: &str,
        findings: &[Diagnostic],
        sources: &Sources,
    ) -> Report {
        let warned = self.warned.take();
        let warned = warned.iter().map(|(one, own_sources)| Finding::new(one, own_sources));
        let model = self.selected_model().map_or_else(String::new, |name| format!(" --model {name}"));
        Report {
            version: VERSION,
            verb,
            outcome,
            command: format!("{command}{model}"),
            findings: warned.chain(findings.iter().map(|one| Finding::new(one, sources))).collect(),
            ..Report::default()
        }
    }

    /// Prints an error for a format that the command does not support, and returns the outcome. `known` lists the
    /// supported formats.
    pub(super) fn unknown_format(&self, format: Format, known: &[Format]) -> Outcome {
        let known: Vec<String> = known.iter().map(|one| one.name()).collect();
        let message =
            format!("this command does not support the format {}; it supports {}", format.name(), known.join(", "));
        self.ui.findings(&[Diagnostic::new(Code::FormatUnknown, message)], &Sources::default());
        Outcome::Error
    }

    /// Prints an error that has no position in a file, and returns the outcome `Error`.
    pub(super) fn fail(&self, finding: Diagnostic) -> Outcome {
        self.refuse(Outcome::Error, &[finding], &Sources::default())
    }

    /// Prints an error of the store, such as a failed write, and returns the outcome of the run.
    pub(super) fn fail_store(&self, error: &StoreError) -> Outcome {
        self.fail(Diagnostic::new(Code::StoreFailed, error.to_string()))
    }

    /// Prints the JSON output of a command: the version of the JSON format, the outcome, the findings, and the fields
    /// of `answer`.
    pub(super) fn answer_json(
        &self,
        outcome: Outcome,
        findings: &[Diagnostic],
        sources: &Sources,
        answer: impl Serialize,
    ) {
        let warned = self.warned.take();
        let warned = warned.iter().map(|(one, own_sources)| Finding::new(one, own_sources));
        let findings: Vec<_> = warned.chain(findings.iter().map(|finding| Finding::new(finding, sources))).collect();
        let answered = Answered { version: VERSION, outcome, findings: &findings, answer };
        // `serde_json::Value` sorts the keys, so the order of the fields in the type has no effect.
        let whole = serde_json::to_value(&answered).expect("the keys of answers are texts");
        self.ui.answer(&inert(&whole.to_string()));
    }
}

/// Returns the day with which expiry dates are compared: the current day in UTC. If `SOURCE_DATE_EPOCH` is set, its day
/// is used instead, so that a build can be repeated on a later day.
fn today() -> Date {
    let fixed = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let instant = fixed.and_then(|seconds| Timestamp::from_second(seconds).ok());
    instant.unwrap_or_else(Timestamp::now).to_zoned_datetime(TimeZone::UTC).date()
}
