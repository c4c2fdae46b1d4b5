//! Implements `plan --base`: shows for each fact of the project whether a different model already gives its target.
//! Writes nothing, and needs no second moments.

use std::path::Path;

use crate::cli::answers::plan::{LockedTokens, ModelShape, OtherBaseAnswer, OtherBaseEdit, Standing};
use crate::cli::answers::{LeftOutEntry, ScoredAnswer};
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Failure, escape_controls, quoted};
use crate::pipeline::Base;
use crate::pipeline::other_base::{FactReading, OtherBaseFacts, UnreadableFact, read};
use crate::project::{Edit, Project};
use crate::report::Outcome;
use crate::report::table::{Table, percent};
use crate::store::Store;

/// Prints for each selected fact whether the model `name` already gives its target; `name` is a folder or a name on the
/// Hub. If the model does not give a target or cannot process a prompt, and `strict` is true, the outcome is
/// [`Outcome::Findings`].
pub(in crate::cli) fn show_plan(
    context: &Context,
    project: &Project,
    store: &Store,
    chosen: &[&Edit],
    name: &str,
    strict: bool,
) -> Result<Outcome, Failure> {
    let base = context.base_named(Path::new(name), store, false)?;
    let lock = project.lock()?;
    let elsewhere = read(project, &base, lock.as_ref(), chosen)?;
    match context.format {
        Format::Json => {
            context.answer_json(Outcome::Ok, &[], &project.edits.sources, answer(&base, &elsewhere));
        }
        _ => context.ui.answer(&human(&base, &elsewhere, context.ui.width())),
    }
    let open = !elsewhere.unreadable.is_empty() || elsewhere.readings.iter().any(|one| !one.target.holds);
    Ok(if strict && open { Outcome::Findings } else { Outcome::Ok })
}

/// Formats the last token of the subject and its position in the prompt. The MLP key of an edit is computed at this
/// token.
fn key(tokens: &[String], position: usize) -> String {
    let piece = tokens.get(position).map_or("", String::as_str);
    format!("{} at {position}", quoted(piece))
}

fn human(base: &Base, elsewhere: &OtherBaseFacts<'_>, width: usize) -> String {
    let spec = base.model.spec();
    let mut head = Table::new(&[1], &[]);
    let shape = format!("{}, {} layers of width {}", spec.family.model_type, spec.layers, spec.hidden_size);
    head.row(["base", &format!("{}  {}  {shape}", base.name(), base.locked.digest.short())]);
    let layer = match &elsewhere.layer {
        Ok(layer) => format!("{layer}"),
        Err(why) => format!("none: {why}"),
    };
    head.row(["layer", &escape_controls(&layer)]);
    let mut table = Table::new(&[4], &[]);
    table.row(["", "edit", "the base says", "target", "subject ends in"]);
    for one in &elsewhere.readings {
        let sign = if one.target.holds { "=" } else { "+" };
        let said = format!("{} {}", quoted(&one.top.0), percent(one.top.1));
        let target = format!("{} {}", escape_controls(&one.edit.target), percent(one.target.probability));
        let now = key(&one.tokens, one.position);
        let ends = match &one.before {
            Some((tokens, position)) => match key(tokens, *position) {
                same if same == now => format!("{now}, with other tokens around it"),
                before => format!("{now}, in the lock {before}"),
            },
            None => now,
        };
        table.row([sign, &escape_controls(&one.edit.label(one.name)), &said, &target, &ends]);
    }
    for one in &elsewhere.unreadable {
        table.row([
            "!",
            &escape_controls(&one.edit.id),
            &format!("cannot be read: {}", escape_controls(&one.why)),
            "",
            "",
        ]);
    }
    format!("{}\n{}\n{}", head.render(usize::MAX), table.render(width.max(80)), summary(elsewhere))
}

fn summary(elsewhere: &OtherBaseFacts<'_>) -> String {
    let count = |which: fn(&&FactReading<'_>) -> bool| elsewhere.readings.iter().filter(which).count();
    let needed = count(|one| !one.target.holds);
    let moved = count(|one| one.before.is_some());
    let disagree = count(|one| !one.target.holds && one.was.is_some_and(|was| !was.holds));
    let mut parts = vec![format!("{needed} needed"), format!("{} already true", elsewhere.readings.len() - needed)];
    parts.push(format!("{moved} with other tokens than in the lock"));
    if disagree > 0 {
        parts.push(format!("{disagree} needed where the base does not say `was`"));
    }
    if !elsewhere.unreadable.is_empty() {
        parts.push(format!("{} cannot be read", elsewhere.unreadable.len()));
    }
    parts.join(", ")
}

fn answer<'e>(base: &Base, elsewhere: &'e OtherBaseFacts<'_>) -> OtherBaseAnswer<'e> {
    let edit = |one: &'e FactReading<'_>| OtherBaseEdit {
        id: &one.edit.id,
        alias: (one.name != one.edit.subject).then_some(one.name),
        standing: if one.target.holds { Standing::AlreadyTrue } else { Standing::Needed },
        tokens: &one.tokens,
        position: one.position,
        moved: one.before.as_ref().map(|(tokens, position)| LockedTokens { tokens, position: *position }),
        says: (&one.top).into(),
        target: one.target.into(),
        was: one.was.map(ScoredAnswer::from),
    };
    let unreadable = |one: &'e UnreadableFact<'_>| LeftOutEntry { id: &one.edit.id, why: one.why.clone() };
    let spec = base.model.spec();
    OtherBaseAnswer {
        base: ModelShape {
            name: base.name(),
            digest: base.locked.digest,
            family: spec.family.model_type,
            layers: spec.layers,
            width: spec.hidden_size,
        },
        layer: elsewhere.layer.as_ref().ok().copied(),
        edits: elsewhere.readings.iter().map(edit).collect(),
        unreadable: elsewhere.unreadable.iter().map(unreadable).collect(),
    }
}
