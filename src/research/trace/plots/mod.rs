//! Draws the figures of causal tracing as in Meng et al. 2022: heat maps of single facts and of average effects, line
//! charts by layer, and bar charts for severed MLP or attention outputs.

pub mod heat;
pub mod lines;
pub mod page;

use super::averages::{AverageEffects, TokenClass};
use super::indirect_effects::FactTrace;
use super::plan::{RestoredKind, TracePlan};
use crate::research::figure::Figure;

/// Draws the figures of the average effects over all facts: heat maps, line charts by layer, and bar charts for severed
/// MLP or attention outputs. A figure without data is left out.
pub fn averages(effects: &AverageEffects, plan: &TracePlan) -> Vec<Figure> {
    // All heat maps use the colour scale of the effects of single hidden states, as in the paper. If single states were
    // not traced, the scale covers all traced kinds.
    let scale_of = if plan.kinds.contains(&RestoredKind::State) {
        vec![RestoredKind::State]
    } else {
        RestoredKind::TABLES.to_vec()
    };
    let means = effects.indirect.iter().filter(|((kind, _), _)| scale_of.contains(kind));
    let mut high = 1e-9;
    for mean in means.flat_map(|(_, layers)| layers) {
        high = if mean.value > high { mean.value } else { high };
    }
    let heat = |kind: &RestoredKind| {
        let svg = heat::of_effects(effects, *kind, plan, high)?;
        let shows = match effects.peak(*kind, TokenClass::LastSubject) {
            Some((layer, mean)) => format!(
                "Average indirect effect of restoring {}, by token class and layer; at the subject's last token {:.3} \
                 in layer {layer}",
                heat::restored_words(*kind, plan),
                mean.value
            ),
            None => format!("Average indirect effect of restoring {}", heat::restored_words(*kind, plan)),
        };
        Some(Figure { name: format!("average-{}", kind.name()), shows, svg })
    };
    let mut figures: Vec<Figure> = RestoredKind::TABLES.iter().filter_map(heat).collect();
    let more = [
        ("layers", "Average indirect effects by layer, with 95 % intervals", lines::by_layer(effects, plan)),
        ("severed", "Effects of restored states with MLPs or attentions severed", lines::severed(effects, plan)),
    ];
    figures.extend(
        more.into_iter().filter_map(|(name, shows, svg)| {
            Some(Figure { name: name.to_owned(), shows: shows.to_owned(), svg: svg? })
        }),
    );
    figures
}

/// Draws the heat maps of one fact, for restored hidden states, MLP outputs and attention outputs. A heat map without
/// data is left out.
pub fn of_fact(traced: &FactTrace, plan: &TracePlan) -> Vec<Figure> {
    let figure = |kind: &RestoredKind| {
        let svg = heat::of_fact(traced, *kind, plan)?;
        let shows = format!("{}: {}", traced.fact.prompt, heat::restored_words(*kind, plan));
        Some(Figure { name: format!("fact-{}-{}", traced.fact.id, kind.name()), shows, svg })
    };
    RestoredKind::TABLES.iter().filter_map(figure).collect()
}
