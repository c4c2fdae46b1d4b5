//! `test`: does the patched model say what the edits expect?

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::table::{Table, percent};
use super::{Context, Format, Outcome, table};
use crate::behaviour::expect::{Asked, Unasked, Verdict, verdicts};
use crate::behaviour::{Comparison, UNCHANGED_KL};
use crate::build::plan::only;
use crate::build::setup::Corpus;
use crate::build::{Base, Setup, Stop, plan};
use crate::digest::Digest;
use crate::model::Model;
use crate::patch::Patch;
use crate::project::{Code, Diagnostic, LOCK_FILE, Lock, Project, Sources, visible};
use crate::store::{Kind, Store};

/// Ask the patched model for what the edits expect; exit code 1 when one fails.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only this edit (repeatable)
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let (project, store) = match context.ground() {
        Ok(ground) => ground,
        Err(outcome) => return outcome,
    };
    tested(context, arguments, &project, &store).unwrap_or_else(|stop| context.stop(&stop))
}

fn tested(context: &Context, arguments: &Arguments, project: &Project, store: &Store) -> Result<Outcome, Stop> {
    let chosen = only(project, &arguments.only)?;
    let base = Base::open(project, store, context.isa, false)?;
    let id = locked_patch(project, &base, store)?;
    let patched = patched(&base, store, &id)?;
    let threshold = project.config.test.unchanged_kl.unwrap_or(UNCHANGED_KL);
    let verdicts = verdicts(&base.model, &patched, &base.tokens, &chosen, threshold)
        .map_err(|unasked| Stop::wrong(unasked.iter().map(cannot_ask).collect(), &project.edits.sources))?;
    let outcome = if verdicts.iter().all(Verdict::passes) { Outcome::Ok } else { Outcome::No };
    match context.format {
        Format::Human | Format::Csv => context.ui.answer(&human(context, &base, &verdicts, &id)),
        Format::Json => {
            let whole = json!({
                "patch": id,
                "unchanged-kl": threshold,
                "edits": verdicts.iter().map(|verdict| as_json(&base, verdict)).collect::<Vec<_>>(),
            });
            context.answer_json(outcome, &[], &project.edits.sources, whole);
        }
    }
    Ok(outcome)
}

fn cannot_ask(unasked: &Unasked<'_>) -> Diagnostic {
    let Unasked { edit, span, error } = unasked;
    let message = format!("edit `{}`: {error}", edit.id);
    Diagnostic::new(Code::PromptTooLong, message).at(edit.place.file, span, "cannot be asked")
}

/// The patch that the lock names, if the lock speaks of these edits on this base.
fn locked_patch(project: &Project, base: &Base, store: &Store) -> Result<Digest, Stop> {
    let build = "run `corrigenda build`";
    let Some(lock) = Lock::load(&project.config.root)? else {
        let finding = Diagnostic::new(Code::LockMissing, format!("there is no {LOCK_FILE}: nothing was built yet"));
        return Err(Stop::stale(vec![finding.help(build)], &Sources::default()));
    };
    // The patch is asked, not made: the corpus need not even be here.
    let corpus = lock.statistics.first().map_or(Corpus::Remembered, |locked| Corpus::Assumed(locked.corpus));
    let setup = Setup::new(project, base, store, corpus)?;
    let plan = plan(project, base, &setup)?;
    // Expectations and records change no weight: they may be newer than the lock.
    let differences = plan.differences(&lock, base, &setup);
    let stale = differences.iter().find(|one| !matches!(one.field, "expectation" | "record"));
    match stale {
        None => Ok(lock.patch.id),
        Some(one) => {
            let message = format!("{LOCK_FILE} is older than the project: {}, {}", one.place, one.field);
            Err(Stop::stale(vec![Diagnostic::new(Code::LockStale, message).help(build)], &Sources::default()))
        }
    }
}

fn patched(base: &Base, store: &Store, id: &Digest) -> Result<Model, Stop> {
    let refuse = |message: String| {
        let finding = Diagnostic::new(Code::PatchMissing, message);
        Stop::wrong(vec![finding.help("`corrigenda build` makes it anew")], &Sources::default())
    };
    let bytes = store.get(Kind::Patch, id).map_err(|error| refuse(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| refuse(format!("the patch {id} is not in the store")))?;
    let patch = Patch::from_bytes(&bytes).map_err(|error| refuse(error.to_string()))?;
    base.patched(&patch).map_err(|error| refuse(error.to_string()))
}

fn human(context: &Context, base: &Base, verdicts: &[Verdict<'_>], id: &Digest) -> String {
    let mut table = Table::new(&[2], &[3, 4, 5]);
    table.row(["", "edit", "new answer", "before → after", "paraphrases", "unchanged"]);
    for verdict in verdicts {
        table.row(row(verdict));
    }
    let lines = table.render(context.ui.width());
    let mut lines = lines.lines();
    let mut out = format!("{}\n", lines.next().unwrap_or_default());
    for (line, verdict) in lines.zip(verdicts) {
        let _ = writeln!(out, "{line}");
        details(&mut out, context.ui.verbose(), base, verdict);
    }
    let asked = verdicts.iter().flat_map(|verdict| &verdict.paraphrases);
    let (paraphrases, held) = asked.fold((0, 0), |(all, yes), one| (all + 1, yes + usize::from(one.after.holds)));
    let unchanged: usize = verdicts.iter().map(|verdict| verdict.unchanged.len()).sum();
    let kept: usize = verdicts.iter().map(kept).sum();
    let edits = verdicts.iter().filter(|verdict| verdict.target.after.holds).count();
    let count = |yes: usize, all: usize, rest: &str| format!("{yes} of {all} {rest}");
    let _ = write!(
        out,
        "\npatch {}: {}, {}, {}",
        id.short(),
        count(edits, verdicts.len(), "edits hold"),
        count(held, paraphrases, "paraphrases hold"),
        count(kept, unchanged, "prompts unchanged"),
    );
    out
}

fn kept(verdict: &Verdict<'_>) -> usize {
    verdict.unchanged.iter().filter(|comparison| verdict.kept(comparison)).count()
}

fn word(passes: bool) -> &'static str {
    if passes { "ok" } else { "FAIL" }
}

fn change(asked: &Asked) -> String {
    table::change(asked.before.probability, asked.after.probability)
}

fn row(verdict: &Verdict<'_>) -> [String; 6] {
    let held = verdict.paraphrases.iter().filter(|asked| asked.after.holds).count();
    [
        word(verdict.passes()).to_owned(),
        verdict.edit.id.clone(),
        verdict.edit.target.trim().to_owned(),
        change(&verdict.target),
        format!("{held}/{}", verdict.paraphrases.len()),
        format!("{}/{}", kept(verdict), verdict.unchanged.len()),
    ]
}

/// What failed, in full, under its edit; every expectation if `all`.
fn details(out: &mut String, all: bool, base: &Base, verdict: &Verdict<'_>) {
    let edit = verdict.edit;
    let mut detail = |passes: bool, what: &str, text: &str, figures: &str| {
        if all || !passes {
            // Writing to a `String` cannot fail.
            let _ =
                writeln!(out, "      {:<4}  {what}: {}\n            {}", word(passes), visible(text), visible(figures));
        }
    };
    detail(verdict.target.after.holds, "edit", &edit.filled_prompt(), &change(&verdict.target));
    for (text, asked) in edit.expect.paraphrase.iter().zip(&verdict.paraphrases) {
        detail(asked.after.holds, "paraphrase", text, &change(asked));
    }
    for (text, comparison) in edit.expect.unchanged.iter().zip(&verdict.unchanged) {
        detail(verdict.kept(comparison), "unchanged", text, &moved(base, comparison));
    }
}

fn moved(base: &Base, comparison: &Comparison) -> String {
    let Comparison { before, after, divergence } = comparison;
    let answer =
        |(token, probability): &(u32, f64)| format!("{:?} {}", base.tokens.piece(*token), percent(*probability));
    format!("{} → {}, KL {divergence:.3}", answer(before), answer(after))
}

fn as_json(base: &Base, verdict: &Verdict<'_>) -> Value {
    let edit = verdict.edit;
    let asked = |prompt: &str, asked: &Asked| {
        json!({
            "prompt": prompt,
            "held": asked.before.holds, "holds": asked.after.holds,
            "before": asked.before.probability, "after": asked.after.probability,
        })
    };
    let answer =
        |(token, probability): (u32, f64)| json!({ "token": base.tokens.piece(token), "probability": probability });
    let unchanged = edit.expect.unchanged.iter().zip(&verdict.unchanged).map(|(prompt, comparison)| {
        json!({
            "prompt": prompt,
            "unchanged": verdict.kept(comparison),
            "before": answer(comparison.before), "after": answer(comparison.after),
            "divergence": comparison.divergence,
        })
    });
    let paraphrases = edit.expect.paraphrase.iter().zip(&verdict.paraphrases).map(|(prompt, one)| asked(prompt, one));
    json!({
        "id": edit.id,
        "target": edit.target,
        "passes": verdict.passes(),
        "edit": asked(&edit.filled_prompt(), &verdict.target),
        "paraphrases": paraphrases.collect::<Vec<_>>(),
        "unchanged": unchanged.collect::<Vec<_>>(),
    })
}
