//! `trace --suggest-layer`: the layer that takes edits best, tried; and what tracing says of the same facts.

use serde_json::{Value, json};

use super::table::{Table, percent, plural};
use super::trace::{Arguments, of_edit, trace_all};
use super::traced::figure;
use super::{Context, Format, Outcome};
use crate::behaviour::expect::Share;
use crate::behaviour::{Question, scores};
use crate::build::{Base, Stop};
use crate::numeric::Mean;
use crate::project::{Code, Diagnostic, Edit, Project, Sources, parse_files};
use crate::review::layers::{Tried, as_good, best, try_layer};
use crate::store::Store;
use crate::trace::rewritten::rewritten;
use crate::trace::{Class, Effects, Kind, KnownFact, LeftOut, Noise};

/// Edits that are tried where nobody says how many.
const EDITS: usize = 24;

/// What was tried, and traced.
struct Told {
    base: (String, String),
    edits: Vec<String>,
    tried: Vec<Tried>,
    /// The best layer; none where no edit takes.
    suggested: Option<usize>,
    as_good: Vec<usize>,
    noise: Noise,
    window: usize,
    traced: Effects,
    left_out: Vec<(String, LeftOut)>,
}

pub(super) fn suggest(
    context: &Context,
    arguments: &Arguments,
    project: &Project,
    (base, store): (&Base, &Store),
    gathered: Vec<KnownFact>,
) -> Result<Outcome, Stop> {
    let layers = layers(arguments, base)?;
    let project = some_edits(arguments, project, base, gathered)?;
    let mut tried = Vec::new();
    for &layer in &layers {
        context.ui.note(&format!("layer {layer}, of {}", plural(layers.len(), "layer")));
        tried.push(try_layer(&project, base, store, layer, &context.ui)?);
    }
    let facts: Vec<KnownFact> = project.edits.edits.iter().map(of_edit).collect();
    let kinds = vec![Kind::Mlp, Kind::Attention];
    let (noise, plan) = arguments.rules(base, &facts, kinds)?;
    let (traced, left) = trace_all(context, base, facts, &noise, &plan);
    let found = best(&tried);
    let others = |found: &Tried| {
        let others = tried.iter().filter(|one| one.layer != found.layer && as_good(found, one));
        others.map(|one| one.layer).collect()
    };
    let told = Told {
        base: (base.name(), base.locked.digest.short()),
        edits: project.edits.edits.iter().map(|edit| edit.id.clone()).collect(),
        suggested: found.map(|found| found.layer),
        as_good: found.map_or_else(Vec::new, others),
        tried,
        window: plan.window,
        noise,
        traced: Effects::of(&traced),
        left_out: left,
    };
    let outcome = if told.suggested.is_some() { Outcome::Ok } else { Outcome::No };
    match context.format {
        Format::Json => context.answer_json(outcome, &[], &Sources::default(), json(&told)),
        _ => context.ui.answer(&human(&told, &project.config.model.prefix(), context.ui.width())),
    }
    Ok(outcome)
}

fn wrong(message: String) -> Stop {
    Stop::wrong(vec![Diagnostic::new(Code::TraceRefused, message)], &Sources::default())
}

/// The layers to try: all, or those that are named.
fn layers(arguments: &Arguments, base: &Base) -> Result<Vec<usize>, Stop> {
    let count = base.model.spec().layers;
    let mut named: Vec<usize> = arguments.layers.iter().flat_map(|range| range.0.clone()).collect();
    named.sort_unstable();
    named.dedup();
    match named.last() {
        None => Ok((0..count).collect()),
        Some(last) if *last >= count => {
            Err(wrong(format!("the model has the layers 0 to {}: there is no layer {last}", count - 1)))
        }
        Some(_) => Ok(named),
    }
}

/// The project with the edits that are tried: some of its own, or such as are made of known facts.
fn some_edits(arguments: &Arguments, project: &Project, base: &Base, facts: Vec<KnownFact>) -> Result<Project, Stop> {
    let mut some = project.clone();
    some.probes.clear();
    let count = arguments.limit().unwrap_or(EDITS);
    if arguments.facts.is_none() {
        let wanted = |edit: &Edit| arguments.ids.is_empty() || arguments.ids.contains(&edit.id);
        some.edits.edits.retain(wanted);
        // Some of many are those of the lowest digests: of all files and relations, and the same every time.
        let mut order: Vec<_> = some.edits.edits.iter().map(|edit| (edit.meaning(), edit.id.clone())).collect();
        order.sort();
        order.truncate(count);
        some.edits.edits.retain(|edit| order.iter().any(|(_, id)| *id == edit.id));
        return Ok(some);
    }
    let (text, found) = rewritten(&facts, count, u64::from(arguments.seed), |fact| knows(base, fact));
    if found == 0 {
        return Err(Stop::wrong(
            vec![
                Diagnostic::new(Code::TraceRefused, "none of these facts can be edited to try layers")
                    .help("a record needs `relation_id` and an `attribute` that the model says")
                    .help("another record of its relation must have another attribute"),
            ],
            &Sources::default(),
        ));
    }
    some.edits = parse_files(vec![("known facts, said otherwise".to_owned(), text.into_bytes())])?.0;
    Ok(some)
}

fn knows(base: &Base, fact: &KnownFact) -> bool {
    let Some(answer) = &fact.answer else { return false };
    let question = Question::new(&base.tokens, fact.prompt.as_str().into(), answer.trim(), base.model.spec().positions);
    question.is_ok_and(|question| scores(&base.model, &[question])[0].holds)
}

fn human(told: &Told, prefix: &str, width: usize) -> String {
    let mut head = Table::new(&[], &[]);
    head.row(["base".to_owned(), format!("{}  {}", told.base.0, told.base.1)]);
    let (edits, layers) = (plural(told.edits.len(), "edit"), plural(told.tried.len(), "layer"));
    head.row(["tried".to_owned(), format!("{edits}, each alone at {layers}")]);
    head.row(["traced".to_owned(), traced_in_words(told)]);
    let no_value =
        |one: &Tried| (one.refused > 0).then(|| format!("layer {}: {}", one.layer, plural(one.refused, "edit")));
    let no_value: Vec<String> = told.tried.iter().filter_map(no_value).collect();
    if !no_value.is_empty() {
        head.row(["no value".to_owned(), format!("{}; these count as not holding", no_value.join(", "))]);
    }
    head.row(["suggested".to_owned(), suggested_in_words(told)]);
    if let Some(layer) = told.suggested {
        head.row(["to set it".to_owned(), format!("layer = {layer} under [{prefix}rome]")]);
    }
    format!("{}\n{}", head.render_wrapped(width), layers_in_rows(told).render(usize::MAX))
}

fn suggested_in_words(told: &Told) -> String {
    let Some(layer) = told.suggested else {
        return "none: no edit holds at any of these layers; the model may not know such answers, or the settings under \
                [rome] may not fit it"
            .to_owned();
    };
    let others: Vec<String> = told.as_good.iter().map(ToString::to_string).collect();
    let others = match others.as_slice() {
        [] => String::new(),
        others => {
            let these = if told.edits.len() == 1 { "this edit alone does" } else { "these edits do" };
            format!("; {these} not tell it from layer {}", others.join(", "))
        }
    };
    let found = told.tried.iter().find(|one| one.layer == layer);
    let nil = if found.is_some_and(|one| one.shares.score() > 0.0) { "" } else { "; of one kind nothing is met there" };
    format!("layer {layer}{others}{nil}")
}

fn layers_in_rows(told: &Told) -> Table {
    let mut table = Table::new(&[], &[0, 1, 2, 3, 4, 5, 6]);
    table.row(["layer", "efficacy", "paraphrase", "unchanged", "score", "traced: MLPs", "attentions"]);
    for one in &told.tried {
        let share = |share: Share| if share.all == 0 { "-".to_owned() } else { percent(share.value()) };
        let effect = |kind| effect(told, kind, one.layer).map_or_else(|| "-".to_owned(), figure);
        let shares = &one.shares;
        table.row([
            one.layer.to_string(),
            share(shares.efficacy),
            share(shares.paraphrase),
            share(shares.unchanged),
            percent(shares.score()),
            effect(Kind::Mlp),
            effect(Kind::Attention),
        ]);
    }
    table
}

/// The average indirect effect of windows around a layer at the subject's last token.
fn effect(told: &Told, kind: Kind, layer: usize) -> Option<Mean> {
    told.traced.indirect.get(&(kind, Class::LastSubject))?.get(layer).copied()
}

fn traced_in_words(told: &Told) -> String {
    let Some((layer, mean)) = told.traced.peak(Kind::Mlp, Class::LastSubject) else {
        return "nothing: the base does not know the facts of these edits".to_owned();
    };
    let left = match told.left_out.len() {
        0 => String::new(),
        left => format!(" ({left} not known)"),
    };
    // An effect that may as well be none points nowhere.
    let most = match mean.value - mean.half > 5e-4 {
        false => "at the subject's last token the MLPs of no layer stand out".to_owned(),
        true => {
            let which = match told.suggested {
                Some(suggested) if suggested == layer => ": the same layer",
                Some(_) => ": another layer",
                None => "",
            };
            format!("MLPs at the subject's last token weigh most at layer {layer}{which}")
        }
    };
    format!("{}{left}; {most}", plural(told.traced.facts, "fact"))
}

fn json(told: &Told) -> Value {
    let share = |share: Share| json!({ "met": share.met, "all": share.all });
    let number = |mean: Mean| json!({ "value": mean.value, "half": mean.half, "count": mean.count });
    let mean = |mean: Option<Mean>| mean.map(number);
    let layer = |one: &Tried| {
        json!({
            "layer": one.layer, "efficacy": share(one.shares.efficacy), "paraphrase": share(one.shares.paraphrase),
            "unchanged": share(one.shares.unchanged), "score": one.shares.score(), "not_found": one.refused,
            "traced": {
                "mlp": mean(effect(told, Kind::Mlp, one.layer)),
                "attention": mean(effect(told, Kind::Attention, one.layer)),
            },
        })
    };
    let left = told.left_out.iter().map(|(id, why)| json!({ "id": id, "why": why.to_string() }));
    let (noise, traced) = (&told.noise, &told.traced);
    json!({
        "base": { "name": told.base.0, "digest": told.base.1 },
        "edits": told.edits, "suggested": told.suggested, "as_good": told.as_good,
        "traced": {
            "facts": traced.facts, "total": number(traced.total), "window": told.window,
            "noise": { "rule": noise.rule.to_string(), "scale": noise.scale, "samples": noise.samples, "seed": noise.seed },
            "left_out": left.collect::<Vec<_>>(),
        },
        "layers": told.tried.iter().map(layer).collect::<Vec<_>>(),
    })
}

/// Layers that are tried: one, or a range with both ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layers(std::ops::RangeInclusive<usize>);

impl std::str::FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.parse::<u16>().map(usize::from).map_err(|_| "a layer, or two with a dash: 3 or 2-5".to_owned())
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        if first <= last { Ok(Self(first..=last)) } else { Err(format!("{first} lies behind {last}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_numbers_or_ranges() {
        assert_eq!("3".parse(), Ok(Layers(3..=3)));
        assert_eq!("2-5".parse(), Ok(Layers(2..=5)));
        for wrong in ["", "-", "5-2", "a", "1-2-3", "99999", "-1"] {
            assert!(wrong.parse::<Layers>().is_err(), "{wrong}");
        }
    }
}
