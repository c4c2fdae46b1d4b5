//! Draws the mean effects by layer: one line with a 95 % band per token class, and bars for runs in which MLP or
//! attention outputs are fixed at their corrupted values.

use super::heat::{hue, number, restored_words};
use crate::numeric::Mean;
use crate::research::figure::plot::{Axes, GRID};
use crate::research::figure::svg::{Anchor, FAINT, INK, Svg, TEXT, text_width};
use crate::research::trace::averages::{AverageEffects, TokenClass};
use crate::research::trace::plan::{RestoredKind, TracePlan};

const TOP: f64 = 62.0;
const LEFT: f64 = 58.0;
const PANEL: f64 = 270.0;
const HEIGHT: f64 = 210.0;
const GAP: f64 = 18.0;
const BOTTOM: f64 = 84.0;

/// The colours of the token classes, in the order of [`TokenClass::ALL`]. Readers with colour vision deficiency can
/// distinguish them. The last subject token has the strongest colour.
const COLOURS: [&str; 6] = ["#7fb3d5", "#8e6bb0", "#c0392b", "#e6a23c", "#9b9b9b", "#1f3a6d"];

fn colour(class: TokenClass) -> &'static str {
    TokenClass::ALL.iter().position(|one| *one == class).map_or(INK, |index| COLOURS[index])
}

/// Returns the range of the vertical axis, which includes zero and the 95 % intervals of all means.
fn reach<'m>(means: impl Iterator<Item = &'m Mean>) -> (f64, f64) {
    let (mut low, mut high) = (0.0, 0.0);
    for mean in means {
        low = if mean.value - mean.ci95 < low { mean.value - mean.ci95 } else { low };
        high = if mean.value + mean.ci95 > high { mean.value + mean.ci95 } else { high };
    }
    if high - low < 1e-9 { (low, low + 1.0) } else { (low, high + (high - low) * 0.04) }
}

/// A plot with the layers on its horizontal axis.
struct Panel {
    axes: Axes,
    layers: usize,
}

impl Panel {
    fn x(&self, layer: f64) -> f64 {
        self.axes.left + self.axes.width * (layer + 0.5) / self.layers as f64
    }

    fn y(&self, value: f64) -> f64 {
        self.axes.y(value)
    }

    /// Draws the frame, the title and the ticks of both axes. The values of the vertical axis are written only if
    /// `numbers` is true.
    fn axes(&self, svg: &mut Svg, title: &str, numbers: bool) {
        let Axes { left, width, .. } = self.axes;
        svg.bold([left, TOP - 10.0], Anchor::Start, TEXT, title);
        let colour = |step: f64| if step == 0.0 { FAINT } else { GRID };
        self.axes.grid(svg, colour, |step| numbers.then(|| number(step)));
        let every = [1, 2, 5, 10, 20].into_iter().find(|every| self.layers / every <= 12).unwrap_or(50);
        for layer in (0..self.layers).step_by(every) {
            let x = self.x(layer as f64);
            svg.line(&[[x, TOP + HEIGHT], [x, TOP + HEIGHT + 4.0]], INK, 0.8);
            svg.text([x, TOP + HEIGHT + 16.0], Anchor::Middle, TEXT, INK, &layer.to_string());
        }
        svg.text([left + width / 2.0, TOP + HEIGHT + 33.0], Anchor::Middle, TEXT, INK, "layer");
        self.axes.frame(svg);
    }
}

/// Draws three plots: for restored hidden states, MLP outputs and attention outputs. Plots without data are left out.
/// Returns `None` if no plot is left.
pub fn by_layer(effects: &AverageEffects, plan: &TracePlan) -> Option<String> {
    let kinds: Vec<RestoredKind> = RestoredKind::TABLES.into_iter().filter(|kind| plan.kinds.contains(kind)).collect();
    let of = |kind: RestoredKind| effects.indirect.iter().filter(move |((other, _), _)| *other == kind);
    let layers = kinds.iter().find_map(|kind| of(*kind).next()).map(|(_, layers)| layers.len())?;
    let (low, high) = reach(kinds.iter().flat_map(|kind| of(*kind)).flat_map(|(_, means)| means));
    let entries = TokenClass::ALL.map(|class| (class.words().to_owned(), colour(class).to_owned()));
    let whole = LEFT + kinds.len() as f64 * (PANEL + GAP);
    let mut svg = Svg::new(whole.max(legend_width(&entries)), TOP + HEIGHT + BOTTOM);
    let title = "Average indirect effect by layer, with 95 % intervals";
    svg.bold([12.0, 22.0], Anchor::Start, 13.0, title);
    svg.upwards([14.0, TOP + HEIGHT / 2.0], TEXT, "average indirect effect");
    for (index, kind) in kinds.iter().enumerate() {
        let left = LEFT + index as f64 * (PANEL + GAP);
        let panel = Panel { axes: Axes { left, top: TOP, width: PANEL, height: HEIGHT, low, high }, layers };
        panel.axes(&mut svg, &format!("restoring {}", restored_words(*kind, plan)), index == 0);
        for ((_, class), means) in of(*kind) {
            curve(&mut svg, &panel, means, colour(*class), if *class == TokenClass::LastSubject { 2.4 } else { 1.5 });
        }
    }
    legend(&mut svg, &entries);
    Some(svg.finish())
}

fn curve(svg: &mut Svg, panel: &Panel, means: &[Mean], colour: &str, width: f64) {
    let point =
        |(layer, mean): (usize, &Mean), side: f64| [panel.x(layer as f64), panel.y(mean.value + side * mean.ci95)];
    let upper = means.iter().enumerate().map(|one| point(one, 1.0));
    let lower = means.iter().enumerate().rev().map(|one| point(one, -1.0));
    svg.band(&upper.chain(lower).collect::<Vec<_>>(), colour);
    svg.line(&means.iter().enumerate().map(|one| point(one, 0.0)).collect::<Vec<_>>(), colour, width);
}

fn legend(svg: &mut Svg, entries: &[(String, String)]) {
    let (mut x, y) = (LEFT, TOP + HEIGHT + 62.0);
    for (text, colour) in entries {
        svg.rect([x, y - 8.0, 14.0, 8.0], colour);
        svg.text([x + 19.0, y], Anchor::Start, TEXT, INK, text);
        x += ENTRY + text_width(text, TEXT);
    }
}

/// The width of a legend entry without its text, in SVG units.
const ENTRY: f64 = 36.0;

fn legend_width(entries: &[(String, String)]) -> f64 {
    entries.iter().fold(LEFT, |width, (text, _)| width + ENTRY + text_width(text, TEXT))
}

/// Draws three bars per layer for the subject's last token: the effect of restoring the hidden state alone, with
/// severed attention outputs, and with severed MLP outputs. Returns `None` if one of the three effects was not
/// measured.
pub fn severed(effects: &AverageEffects, plan: &TracePlan) -> Option<String> {
    let kinds = [RestoredKind::State, RestoredKind::AttentionSevered, RestoredKind::MlpSevered];
    let means: Vec<&Vec<Mean>> =
        kinds.iter().map(|kind| effects.indirect.get(&(*kind, TokenClass::LastSubject))).collect::<Option<_>>()?;
    let layers = means[0].len();
    let (low, high) = reach(means.iter().flat_map(|means| means.iter()));
    let width = (layers as f64 * 34.0).clamp(320.0, 900.0);
    let entries = kinds.map(|kind| (restored_words(kind, plan), hue(kind).full()));
    let mut svg = Svg::new((LEFT + width + GAP).max(legend_width(&entries)), TOP + HEIGHT + BOTTOM);
    svg.bold([12.0, 22.0], Anchor::Start, 13.0, "Effect of severing MLPs or attentions on a restored state");
    svg.upwards([14.0, TOP + HEIGHT / 2.0], TEXT, "average indirect effect");
    let panel = Panel { axes: Axes { left: LEFT, top: TOP, width, height: HEIGHT, low, high }, layers };
    panel.axes(&mut svg, "at the subject's last token", true);
    let bar = width / layers as f64 / 4.0;
    for (index, (kind, kind_means)) in kinds.iter().zip(&means).enumerate() {
        for (layer, mean) in kind_means.iter().enumerate() {
            let x = panel.x(layer as f64) + bar * (index as f64 - 1.5);
            let (from, to) = (panel.y(0.0), panel.y(mean.value));
            let top = if to < from { to } else { from };
            svg.rect([x, top, bar * 0.92, (to - from).abs()], &hue(*kind).full());
            let middle = x + bar * 0.46;
            svg.line(
                &[[middle, panel.y(mean.value - mean.ci95)], [middle, panel.y(mean.value + mean.ci95)]],
                FAINT,
                0.9,
            );
        }
    }
    legend(&mut svg, &entries);
    Some(svg.finish())
}
