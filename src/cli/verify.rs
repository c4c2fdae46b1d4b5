//! Implements `verify`: checks `corrigenda.lock`, the entries of the store, exports and patches.

use std::path::{Path, PathBuf};

use crate::cli::answers::verify::{CheckResult, VerifyAnswer};
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources, escape_controls};
use crate::pipeline::base::folder_named;
use crate::pipeline::patch_ref::find;
use crate::project::{PROJECT_FILE, Project};
use crate::report::Outcome;
use crate::report::table::{Table, plural};
use crate::store::Store;
use crate::verify::{Audit, Check, CheckState, VerifyContext, adapter, checkpoint, gguf, patch, project, rebuild};

/// Verify corrigenda.lock and the store, an exported checkpoint or adapter, or a patch
///
/// Without WHAT, the base and the corpus are read again and compared with corrigenda.lock, and every entry that this
/// file names is checked in the store. A folder is checked as an exported checkpoint, tensor by tensor, against the
/// base and the patch. A folder with adapter_config.json is checked as a PEFT adapter, and a file that begins with GGUF
/// as a llama.cpp adapter; their factors are compared with the patch. With `--base`, WHAT is compared with that model,
/// and no project is needed. Exit code 1: a check failed; 3: corrigenda.lock is out of date, or names another base.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An exported checkpoint or adapter, or a patch: its id, the first digits of the id, or its file
    #[arg(value_name = "DIR|FILE|PATCH")]
    what: Option<String>,
    /// Compute everything again in an empty store, and compare the bytes of the patch
    #[arg(long, conflicts_with_all = ["what", "base"])]
    rebuild: bool,
    /// Compare WHAT with this model, without a project
    #[arg(long, value_name = "DIR|hf:NAME", requires = "what")]
    base: Option<PathBuf>,
    /// The patch that WHAT should contain, if it is not in the store: its file or its id
    #[arg(long, value_name = "PATCH", requires = "base")]
    patch: Option<String>,
}

impl Arguments {
    /// Returns whether `verify` needs no project, because `--base` is set.
    pub(super) fn is_apart(&self) -> bool {
        self.base.is_some()
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let audited = match (&arguments.base, &arguments.what) {
        (Some(base), Some(what)) => match context.store() {
            Ok(store) => without_project(context, arguments, (base, what), &store.for_reading()),
            Err(finding) => return context.fail(finding),
        },
        (None, Some(_)) if !context.has_project() => {
            let message = format!("there is no {PROJECT_FILE} here that names the model");
            let finding = Diagnostic::new(Code::ProjectMissing, message);
            return context
                .fail(finding.help("name the model with `--base DIR`, or the project's folder with `-C DIR`"));
        }
        _ => match context.open_project_and_store() {
            Ok((project, store)) => audit(context, arguments, &project, &store.for_reading()),
            Err(outcome) => return outcome,
        },
    };
    match audited {
        Ok(audit) => answer(context, &audit),
        Err(stop) => context.stop(&stop),
    }
}

fn audit(context: &Context, arguments: &Arguments, what: &Project, store: &Store) -> Result<Audit, Failure> {
    let verify_context = || VerifyContext::open(what, store, context.isa);
    match &arguments.what {
        None if arguments.rebuild => rebuild::rebuild(what, &verify_context()?, context.isa, &context.ui),
        None => project::project(what, store, context.isa),
        Some(name) => artefact(name, store, verify_context),
    }
}

/// Checks the adapter, checkpoint or patch `what` against the model `base`, without a project.
fn without_project(
    context: &Context,
    arguments: &Arguments,
    (base, what): (&Path, &str),
    store: &Store,
) -> Result<Audit, Failure> {
    let folder = folder_named(base)?;
    let patch = arguments.patch.as_ref().map(|name| find(store, name)).transpose()?;
    artefact(what, store, || {
        let verify_context = VerifyContext::without_project(&folder, store, context.isa)?;
        patch.iter().try_fold(verify_context, VerifyContext::with_patch)
    })
}

/// Checks the adapter, checkpoint or patch with the path or id `name`. The closure `verify_context` opens the base
/// model. It is called only after `name` was found, so that a wrong name is reported at once.
fn artefact<'g>(
    name: &str,
    store: &Store,
    verify_context: impl FnOnce() -> Result<VerifyContext<'g>, Failure>,
) -> Result<Audit, Failure> {
    let path = Path::new(name);
    if path.is_dir() && adapter::is_peft(path) {
        adapter::peft_adapter(&verify_context()?, path)
    } else if gguf::is_gguf(path) {
        gguf::gguf(&verify_context()?, path)
    } else if path.is_dir() {
        checkpoint::checkpoint(&verify_context()?, path)
    } else {
        let found = find(store, name)?;
        patch::patch(&verify_context()?, &found)
    }
}

fn answer(context: &Context, audit: &Audit) -> Outcome {
    let outcome = match audit.state() {
        CheckState::Ok => Outcome::Ok,
        CheckState::Unknown => Outcome::Error,
        CheckState::Wrong => Outcome::Findings,
        CheckState::Stale => Outcome::Stale,
    };
    match context.format {
        Format::Json => {
            let answer = VerifyAnswer {
                kind: audit.kind,
                checks: audit.checks.iter().map(CheckResult::from).collect(),
                failures: audit.failures(),
                repair: &audit.repairs,
                fields: &audit.fields,
            };
            context.answer_json(outcome, &[], &Sources::default(), answer);
        }
        _ => context.ui.answer(&human(context, audit)),
    }
    outcome
}

fn human(context: &Context, audit: &Audit) -> String {
    let mut table = Table::new(&[2, 3], &[]);
    let rows = rows(audit, context.ui.verbose());
    for CheckRow { check, times } in &rows {
        let name = if *times > 1 { plural(*times, check.group) } else { check.name.clone() };
        table.row([check.state.as_str(), check.group, &name, &check.summary]);
    }
    let mut out = String::new();
    for (line, row) in table.render(context.ui.width()).lines().zip(&rows) {
        out.push_str(line);
        out.push('\n');
        for detail in &row.check.details {
            out.push_str(&format!("         {}\n", escape_controls(detail)));
        }
    }
    out.push('\n');
    let failures = audit.failures();
    if failures == 0 {
        return out + &escape_controls(&audit.verdict);
    }
    let unknown = audit.state() == CheckState::Unknown;
    let word = if unknown { "could not be judged" } else { "failed" };
    out.push_str(&format!("{failures} of {} {word}", plural(audit.checks.len(), "check")));
    if !audit.repairs.is_empty() {
        let repairs: Vec<String> = audit.repairs.iter().map(|one| format!("\n  {}", escape_controls(one))).collect();
        out.push_str(&format!("; to repair it:{}", repairs.concat()));
    }
    out
}

/// One line of the output: a check, or several passed checks of the same group. `times` is the number of checks.
struct CheckRow<'a> {
    check: &'a Check,
    times: usize,
}

/// Returns one row per check. Unless `every` is true, passed checks of the same group share one row if they are marked
/// `collapsible`.
fn rows(audit: &Audit, every: bool) -> Vec<CheckRow<'_>> {
    let mut rows: Vec<CheckRow<'_>> = Vec::new();
    for check in &audit.checks {
        let like = |row: &&mut CheckRow<'_>| {
            let kind = |one: &Check| (one.collapsible, one.state, one.group);
            check.collapsible && check.state == CheckState::Ok && !every && kind(row.check) == kind(check)
        };
        match rows.iter_mut().find(like) {
            Some(row) => row.times += 1,
            None => rows.push(CheckRow { check, times: 1 }),
        }
    }
    rows
}
