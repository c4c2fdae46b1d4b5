//! What every verb is given: the terminal, the project's folder, the store, and how to end.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::report::{ReportArguments, deliver};
use super::root;
use super::{Common, Format, Outcome};
use crate::build::base::folder_named;
use crate::build::{Base, Stop, StopKind};
use crate::numeric::Isa;
use crate::project::{Code, Diagnostic, PROJECT_FILE, Project, Sources};
use crate::report::json::inert;
use crate::report::{Finding, Report, VERSION};
use crate::store::{Store, StoreError, cache_root};
use crate::ui::{Loudness, Ui};

/// The surroundings of a verb.
pub(super) struct Context {
    pub ui: Ui,
    pub root: PathBuf,
    /// The folder that `-C` names.
    named: Option<PathBuf>,
    pub format: Format,
    pub isa: Isa,
    cache_dir: Option<PathBuf>,
    /// The store, once it was asked for.
    store: RefCell<Option<Store>>,
    /// The name of the model that is chosen, if one is.
    model: RefCell<Option<String>>,
    /// Whether the project's warnings were shown: they are of all its models.
    told: Cell<bool>,
    /// The project's warnings and what they point into, for an answer in another form.
    warned: RefCell<Vec<(Diagnostic, Sources)>>,
    /// The verb, where it answers with a report.
    reporting: Cell<Option<&'static str>>,
    reports: RefCell<Vec<(Format, PathBuf)>>,
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
            root: root::find(common.project.as_deref()),
            named: common.project.clone(),
            format: common.format,
            isa: common.isa,
            cache_dir: common.cache_dir.clone(),
            store: RefCell::default(),
            model: RefCell::new(common.model.as_ref().map(|name| name.to_string_lossy().into_owned())),
            told: Cell::default(),
            warned: RefCell::default(),
            reporting: Cell::default(),
            reports: RefCell::default(),
        }
    }

    /// The folder in which a project is begun: a project above it is another.
    pub(super) fn beginning(&self) -> PathBuf {
        self.named.clone().unwrap_or_else(|| PathBuf::from("."))
    }

    /// Whether there is a project, be it one that cannot be read.
    pub(super) fn has_project(&self) -> bool {
        self.root.join(PROJECT_FILE).symlink_metadata().is_ok()
    }

    /// Says which project is meant, where it was found above this folder.
    pub(super) fn tell_root(&self) {
        if self.named.is_none() && self.root != Path::new(".") {
            self.ui.note(&format!("the project in `{}`", self.root.display()));
        }
    }

    /// The store, or the reason why there is none.
    pub(super) fn store(&self) -> Result<Store, Diagnostic> {
        if let Some(store) = &*self.store.borrow() {
            return Ok(store.clone());
        }
        let root = cache_root(self.cache_dir.as_deref(), |name| std::env::var_os(name)).ok_or_else(|| {
            let nothing = "nothing says where the cache is: neither HOME nor XDG_CACHE_HOME is set";
            Diagnostic::new(Code::StoreFailed, nothing)
                .help("name a folder with `--cache-dir DIR` or CORRIGENDA_CACHE_DIR")
        })?;
        self.may_keep(&root)?;
        Ok(self.store.borrow_mut().insert(Store::open(root)).clone())
    }

    /// Says at the end of a run what was damaged in the store and computed again.
    pub(super) fn tell_passed_over(&self) {
        let damaged = self.store.borrow().as_ref().map(Store::passed_over).unwrap_or_default();
        let finding = |damage| {
            Diagnostic::new(Code::StoreDamaged, damage).help(
                "it was not used; `corrigenda store verify` reads every entry, and every build heals what it needs",
            )
        };
        let findings: Vec<Diagnostic> = damaged.into_iter().map(finding).collect();
        self.ui.findings(&findings, &Sources::default());
    }

    /// The name of the model that is chosen, if one is.
    pub(super) fn chosen(&self) -> Option<String> {
        self.model.borrow().clone()
    }

    /// Chooses a model for what follows.
    pub(super) fn choose(&self, name: String) {
        self.model.replace(Some(name));
    }

    /// The project with its chosen model, its warnings shown; or the end of the run.
    pub(super) fn project(&self) -> Result<Project, Outcome> {
        let mut project = Project::load(&self.root).map_err(|findings| self.stop(&findings.into()))?;
        let chosen = project.config.choose(self.chosen().as_deref());
        chosen.map_err(|finding| self.fail(finding))?;
        let expired = self.expired(&project);
        if expired.iter().any(Diagnostic::is_error) {
            return Err(self.stop(&Stop::findings(expired, &project.edits.sources)));
        }
        project.warnings.extend(expired);
        let sources = &project.edits.sources;
        *self.warned.borrow_mut() = project.warnings.iter().map(|one| (one.clone(), sources.clone())).collect();
        if !self.told.replace(true) {
            self.show(&project.warnings, sources);
        }
        Ok(project)
    }

    /// The base of a project, its warnings shown; they are among the findings of the answer too.
    pub(super) fn base(&self, project: &Project, store: &Store, fresh: bool) -> Result<Base, Stop> {
        let base = Base::open(project, store, self.isa, fresh)?;
        self.warn(project.config.policy.apply(base.warnings.clone()), &project.edits.sources)?;
        Ok(base)
    }

    /// The base in a folder that a person names, a path or a name on the Hub, its warnings shown.
    pub(super) fn base_named(&self, name: &Path, store: &Store, fresh: bool) -> Result<Base, Stop> {
        let stop = |finding| Stop::wrong(vec![finding], &Sources::default());
        let folder = folder_named(name).map_err(stop)?;
        let base = Base::at(&folder, store, self.isa, fresh).map_err(stop)?;
        self.warn(base.warnings.clone(), &Sources::default())?;
        Ok(base)
    }

    /// Shows warnings before the answer, and keeps them for it; those that a policy denies end the run.
    fn warn(&self, warnings: Vec<Diagnostic>, sources: &Sources) -> Result<(), Stop> {
        if warnings.iter().any(Diagnostic::is_error) {
            return Err(Stop::findings(warnings, sources));
        }
        self.show(&warnings, sources);
        self.warned.borrow_mut().extend(warnings.into_iter().map(|one| (one, sources.clone())));
        Ok(())
    }

    /// Edits that are out of date today.
    pub(super) fn expired(&self, project: &Project) -> Vec<Diagnostic> {
        project.config.policy.expired(&project.edits, today())
    }

    /// Draws findings for people, unless the answer says them.
    pub(super) fn show(&self, findings: &[Diagnostic], sources: &Sources) {
        if self.format != Format::Json {
            self.ui.findings(findings, sources);
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
        let outcome = match stop.kind {
            StopKind::Wrong => Outcome::Error,
            StopKind::Stale => Outcome::Stale,
            StopKind::Denied => Outcome::No,
        };
        self.refuse(outcome, &stop.findings, &stop.sources)
    }

    /// Ends a run that could not be done: findings for people on stderr, for programs as the answer.
    pub(super) fn refuse(&self, outcome: Outcome, findings: &[Diagnostic], sources: &Sources) -> Outcome {
        self.show(findings, sources);
        match (self.reporting.get(), self.format) {
            (None, Format::Json) => self.answer_json(outcome, findings, sources, json!({})),
            (None, _) => {}
            (Some(verb), _) => {
                let report = self.report(verb, outcome, &format!("corrigenda {verb}"), findings, sources);
                // Nothing was answered, so there is nothing to say to a person beside the findings.
                return deliver(self, &report, |_, _| String::new());
            }
        }
        outcome
    }

    /// From here on the run ends in a report, whatever becomes of it.
    pub(super) fn expect_reports(&self, verb: &'static str, arguments: &ReportArguments) {
        self.reporting.set(Some(verb));
        self.reports.replace(arguments.reports.clone());
    }

    /// The files into which the report is to be written.
    pub(super) fn reports(&self) -> Vec<(Format, PathBuf)> {
        self.reports.borrow().clone()
    }

    /// The beginning of a report: the project's warnings, then what the verb found.
    pub(super) fn report(
        &self,
        verb: &str,
        outcome: Outcome,
        command: &str,
        findings: &[Diagnostic],
        sources: &Sources,
    ) -> Report {
        let warned = self.warned.take();
        let warned = warned.iter().map(|(one, sources)| Finding::new(one, sources));
        let model = self.chosen().map_or_else(String::new, |name| format!(" --model {name}"));
        Report {
            version: VERSION,
            verb: verb.to_owned(),
            outcome: outcome.word().to_owned(),
            command: format!("{command}{model}"),
            findings: warned.chain(findings.iter().map(|one| Finding::new(one, sources))).collect(),
            ..Report::default()
        }
    }

    /// Ends a run whose answer was asked for in a form that its verb does not have.
    pub(super) fn unknown_format(&self, format: Format, known: &[Format]) -> Outcome {
        let known: Vec<String> = known.iter().map(|format| format.name()).collect();
        let message = format!("this verb does not answer as {}: it knows {}", format.name(), known.join(", "));
        self.ui.findings(&[Diagnostic::new(Code::FormatUnknown, message)], &Sources::default());
        Outcome::Error
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
        let warned = warned.iter().map(|(one, sources)| Finding::new(one, sources));
        let list: Vec<_> = warned.chain(findings.iter().map(|finding| Finding::new(finding, sources))).collect();
        let mut whole = rest;
        whole["version"] = json!(1);
        whole["outcome"] = json!(outcome.word());
        whole["findings"] = json!(list);
        self.ui.answer(&inert(&whole.to_string()));
    }
}

/// The day on which facts are held against the day on which they expire: that of the clock in UTC, or the one of
/// `SOURCE_DATE_EPOCH`, by which builds are repeated on later days.
fn today() -> Date {
    let fixed = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let instant = fixed.and_then(|seconds| Timestamp::from_second(seconds).ok());
    instant.unwrap_or_else(Timestamp::now).to_zoned_datetime(TimeZone::UTC).date()
}
