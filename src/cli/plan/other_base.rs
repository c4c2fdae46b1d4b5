//! Implements `plan --base`: shows which of the project's facts another model needs. Writes nothing and needs no
//! statistics.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Failure, escape_controls, quoted};
use crate::pipeline::Base;
use crate::pipeline::other_base::{FactReading, OtherBaseFacts, read};
use crate::project::{Edit, Project};
use crate::report::Outcome;
use crate::report::table::{Table, percent};
use crate::store::Store;

/// Prints which of the selected facts the model `name` needs; `name` is a folder or a name on the Hub. With `strict`,
/// the outcome is `No` if a fact is needed there or cannot be tokenized.
pub(crate) fn shown(
    context: &Context,
    (project, store): (&Project, &Store),
    chosen: &[&Edit],
    name: &str,
    strict: bool,
) -> Result<Outcome, Failure> {
    let base = context.base_named(Path::new(name), store, false)?;
    let lock = project.lock()?;
    let elsewhere = read(project, &base, lock.as_ref(), chosen)?;
    match context.format {
        Format::Json => {
            context.answer_json(Outcome::Ok, &[], &project.edits.sources, json(&base, &elsewhere));
        }
        _ => context.ui.answer(&human(&base, &elsewhere, context.ui.width())),
    }
    let open = !elsewhere.unreadable.is_empty() || elsewhere.readings.iter().any(|one| !one.target.holds);
    Ok(if strict && open { Outcome::Findings } else { Outcome::Ok })
}

/// Returns the status of a fact as text.
fn standing(reading: &FactReading<'_>) -> &'static str {
    if reading.target.holds { "already true" } else { "needed" }
}

/// Returns the subject's last token and its position in the prompt.
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

fn json(base: &Base, elsewhere: &OtherBaseFacts<'_>) -> Value {
    let reading = |one: &FactReading<'_>| {
        json!({
            "id": one.edit.id,
            "alias": (one.name != one.edit.subject).then_some(one.name),
            "standing": standing(one),
            "tokens": one.tokens,
            "position": one.position,
            "moved": one.before.as_ref().map(|(tokens, position)| json!({ "tokens": tokens, "position": position })),
            "says": { "token": one.top.0, "probability": one.top.1 },
            "target": { "holds": one.target.holds, "probability": one.target.probability },
            "was": one.was.map(|was| json!({ "holds": was.holds, "probability": was.probability })),
        })
    };
    let spec = base.model.spec();
    json!({
        "base": {
            "name": base.name(), "digest": base.locked.digest, "family": spec.family.model_type,
            "layers": spec.layers, "width": spec.hidden_size,
        },
        "layer": elsewhere.layer.as_ref().ok(),
        "edits": elsewhere.readings.iter().map(reading).collect::<Vec<_>>(),
        "unreadable": elsewhere.unreadable.iter().map(|one| json!({ "id": one.edit.id, "why": one.why }))
            .collect::<Vec<_>>(),
    })
}
