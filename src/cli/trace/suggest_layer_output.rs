//! Formats the results of `trace --suggest-layer`: a table for a terminal, and JSON with all numbers.

use super::output::figure;
use crate::behaviour::expectation::Share;
use crate::cli::answers::trace::{LayerEffects, LayerSearchAnswer, SearchRound, TraceSummary, TriedLayer};
use crate::cli::answers::{LeftOutEntry, NamedBase};
use crate::numeric::Mean;
use crate::report::table::{Table, percent, plural};
use crate::research::layers::best_layer::LayerResult;
use crate::research::layers::coarse_search::Round;
use crate::research::trace::{AverageEffects, Noise, RestoredKind, Skipped, TokenClass};

pub(crate) struct LayerSearchOutput {
    pub base: (String, String),
    pub edits: Vec<String>,
    pub rounds: Vec<Round>,
    /// The results of the tried layers, in ascending order of layers.
    pub tried: Vec<LayerResult>,
    /// The layer with the highest score; `None` if no edit holds at any layer.
    pub suggested: Option<usize>,
    pub indistinguishable: Vec<usize>,
    pub noise: Noise,
    pub window: usize,
    pub traced: AverageEffects,
    pub left_out: Vec<(String, Skipped)>,
}

pub(crate) fn human(output: &LayerSearchOutput, prefix: &str, width: usize) -> String {
    let mut head = Table::new(&[], &[]);
    head.row(["base".to_owned(), format!("{}  {}", output.base.0, output.base.1)]);
    let (edits, layers) = (plural(output.edits.len(), "edit"), plural(output.tried.len(), "layer"));
    head.row(["tried".to_owned(), format!("{edits}, each alone at {layers}")]);
    if output.rounds.len() > 1 {
        head.row(["layers".to_owned(), rounds_in_words(&output.rounds)]);
    }
    head.row(["traced".to_owned(), traced_in_words(output)]);
    let no_value: Vec<String> = output.tried.iter().filter_map(no_value).collect();
    if !no_value.is_empty() {
        head.row(["no value".to_owned(), format!("{}; these count as not holding", no_value.join(", "))]);
    }
    head.row(["suggested".to_owned(), suggested_in_words(output)]);
    if let Some(layer) = output.suggested {
        head.row(["to set it".to_owned(), format!("layer = {layer} under [{prefix}rome]")]);
    }
    format!("{}\n{}", head.render_wrapped(width), layers_in_rows(output).render(usize::MAX))
}

/// Formats the number of edits for which the optimisation found no MLP value at this layer; `None` if it found one for
/// every edit.
fn no_value(one: &LayerResult) -> Option<String> {
    let (layer, refused) = (one.layer, plural(one.refused, "edit"));
    match (one.refused, one.untried) {
        (0, _) => None,
        (_, 0) => Some(format!("layer {layer}: {refused}")),
        (all, untried) => {
            Some(format!("layer {layer}: {refused} (stopped: none of the first {} has one)", all - untried))
        }
    }
}

/// Returns a text with the layers around which a round searches, such as ` around 5, 9`; empty if there are none.
pub(crate) fn around(round: &Round) -> String {
    if round.around.is_empty() { String::new() } else { format!(" around {}", numbers(&round.around)) }
}

fn numbers(layers: &[usize]) -> String {
    layers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Returns a text with the layers of each round and the layers around which they were chosen, such as
/// `0, 4, 8; then 3, 5 around 4`.
fn rounds_in_words(rounds: &[Round]) -> String {
    let said = |round: &Round| format!("{}{}", numbers(&round.layers), around(round));
    rounds.iter().map(said).collect::<Vec<_>>().join("; then ")
}

fn suggested_in_words(output: &LayerSearchOutput) -> String {
    let Some(layer) = output.suggested else {
        return "none: no edit holds at any of these layers; the model may not know such answers, or the settings under \
                [rome] may not fit it"
            .to_owned();
    };
    let others: Vec<String> = output.indistinguishable.iter().map(ToString::to_string).collect();
    let others = match others.as_slice() {
        [] => String::new(),
        others => {
            let these = if output.edits.len() == 1 { "this edit alone does" } else { "these edits do" };
            format!("; {these} not distinguish it from layer {}", others.join(", "))
        }
    };
    let found = output.tried.iter().find(|one| one.layer == layer);
    let nil = if found.is_some_and(|one| one.shares.score() > 0.0) {
        ""
    } else {
        "; one kind of expectation is never met there"
    };
    format!("layer {layer}{others}{nil}")
}

fn layers_in_rows(output: &LayerSearchOutput) -> Table {
    let mut table = Table::new(&[], &[0, 1, 2, 3, 4, 5, 6]);
    table.row(["layer", "efficacy", "paraphrase", "unchanged", "score", "traced: MLPs", "attentions"]);
    for one in &output.tried {
        let share = |share: Share| if share.all == 0 { "-".to_owned() } else { percent(share.value()) };
        let effect = |kind| effect(output, kind, one.layer).map_or_else(|| "-".to_owned(), figure);
        let shares = &one.shares;
        table.row([
            one.layer.to_string(),
            share(shares.efficacy),
            share(shares.paraphrase),
            share(shares.unchanged),
            percent(shares.score()),
            effect(RestoredKind::Mlp),
            effect(RestoredKind::Attention),
        ]);
    }
    table
}

/// Returns the mean indirect effect of restoring the MLP outputs or the attention outputs (`kind`) of the window of
/// layers around `layer`, at the subject's last token; `None` if it was not measured.
fn effect(output: &LayerSearchOutput, kind: RestoredKind, layer: usize) -> Option<Mean> {
    output.traced.indirect.get(&(kind, TokenClass::LastSubject))?.get(layer).copied()
}

fn traced_in_words(output: &LayerSearchOutput) -> String {
    let Some((layer, mean)) = output.traced.peak(RestoredKind::Mlp, TokenClass::LastSubject) else {
        return "nothing: the base does not know the facts of these edits".to_owned();
    };
    let left = match output.left_out.len() {
        0 => String::new(),
        left => format!(" ({left} not known)"),
    };
    // The layer with the largest effect is named only if the effect's 95 % confidence interval is above zero, after
    // rounding to three digits.
    let most = if mean.value - mean.ci95 > 5e-4 {
        let which = match output.suggested {
            Some(suggested) if suggested == layer => ": the same layer",
            Some(_) => ": another layer",
            None => "",
        };
        format!("MLPs at the subject's last token have the greatest effect at layer {layer}{which}")
    } else {
        "no layer's MLPs stand out at the subject's last token".to_owned()
    };
    format!("{}{left}; {most}", plural(output.traced.facts, "fact"))
}

pub(in crate::cli) fn answer(output: &LayerSearchOutput) -> LayerSearchAnswer<'_> {
    let layer = |one: &LayerResult| TriedLayer {
        layer: one.layer,
        efficacy: one.shares.efficacy,
        paraphrase: one.shares.paraphrase,
        unchanged: one.shares.unchanged,
        score: one.shares.score(),
        not_found: one.refused,
        untried: one.untried,
        traced: LayerEffects {
            mlp: effect(output, RestoredKind::Mlp, one.layer),
            attention: effect(output, RestoredKind::Attention, one.layer),
        },
    };
    let left_out = output.left_out.iter().map(|(id, why)| LeftOutEntry { id, why: why.to_string() });
    LayerSearchAnswer {
        base: NamedBase { name: output.base.0.clone(), digest: output.base.1.clone() },
        edits: &output.edits,
        suggested: output.suggested,
        as_good: &output.indistinguishable,
        traced: TraceSummary {
            facts: output.traced.facts,
            total: output.traced.total,
            window: output.window,
            noise: (&output.noise).into(),
            left_out: left_out.collect(),
        },
        layers: output.tried.iter().map(layer).collect(),
        rounds: output.rounds.iter().map(SearchRound::from).collect(),
    }
}
