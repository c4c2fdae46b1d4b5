//! Draws heat maps with one row per token or token class and one column per layer.

use crate::report::table::plural;
use crate::research::figure::svg::{Anchor, FAINT, Hue, INK, Svg, TEXT, shade, steps, text_width};
use crate::research::trace::averages::{AverageEffects, TokenClass};
use crate::research::trace::indirect_effects::FactTrace;
use crate::research::trace::plan::{RestoredKind, TracePlan};

struct HeatMap {
    title: String,
    note: String,
    /// The label of each row, and whether its tokens are part of the subject.
    rows: Vec<(String, bool)>,
    table: Vec<Vec<f64>>,
    low: f64,
    high: f64,
    hue: Hue,
    axis: String,
    scale: String,
}

const ROW: f64 = 19.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 46.0;
const BAR: f64 = 92.0;
/// The maximum width of a row's label, in SVG units.
const WIDEST: f64 = 190.0;

/// Returns the colour for a kind of restored state: purple for hidden states, green for MLPs, red for attention. Runs
/// with severed MLP or attention outputs have the colour of the severed component.
pub fn hue(kind: RestoredKind) -> Hue {
    match kind {
        RestoredKind::State => Hue::Purple,
        RestoredKind::Mlp | RestoredKind::MlpSevered => Hue::Green,
        RestoredKind::Attention | RestoredKind::AttentionSevered => Hue::Red,
    }
}

/// Describes a kind of restored state for titles and legends, such as `the MLPs of 10 layers`.
pub fn restored_words(kind: RestoredKind, plan: &TracePlan) -> String {
    match kind {
        RestoredKind::State => "the state after one layer".to_owned(),
        RestoredKind::Mlp => format!("the MLPs of {}", plural(plan.window, "layer")),
        RestoredKind::Attention => format!("the attentions of {}", plural(plan.window, "layer")),
        RestoredKind::MlpSevered => "the state, with the MLPs above it severed".to_owned(),
        RestoredKind::AttentionSevered => "the state, with the attentions above it severed".to_owned(),
    }
}

/// Draws a heat map for one fact: the probability of the answer by the token and the layer of the restored state.
/// Returns `None` if the kind of state was not traced.
pub fn of_fact(traced: &FactTrace, kind: RestoredKind, plan: &TracePlan) -> Option<String> {
    let table = traced.table(kind)?;
    let high = table.iter().flatten().fold(traced.corrupted, |high, p| if *p > high { *p } else { high });
    let rows = traced.tokens.iter().enumerate().map(|(token, text)| (text.clone(), traced.subject.contains(&token)));
    let heat = HeatMap {
        title: format!("p({:?}) with {} restored", traced.answer, restored_words(kind, plan)),
        note: format!("{}: clean {:.3}, subject corrupted {:.3}", traced.fact.id, traced.clean, traced.corrupted),
        rows: rows.collect(),
        table: table.clone(),
        low: traced.corrupted,
        high,
        hue: hue(kind),
        axis: axis(kind, plan),
        scale: "p".to_owned(),
    };
    Some(heat.draw())
}

/// Draws a heat map of the average indirect effect by token class and layer. `high` is the upper end of the colour
/// scale. Returns `None` if the kind of state was not traced.
pub fn of_effects(effects: &AverageEffects, kind: RestoredKind, plan: &TracePlan, high: f64) -> Option<String> {
    let rows: Vec<(TokenClass, Vec<f64>)> = TokenClass::ALL
        .into_iter()
        .filter_map(|class| {
            let layers = effects.indirect.get(&(kind, class))?;
            Some((class, layers.iter().map(|mean| mean.value).collect()))
        })
        .collect();
    if rows.is_empty() {
        return None;
    }
    let subject = |class: &TokenClass| *class <= TokenClass::LastSubject;
    let heat = HeatMap {
        title: format!("Average indirect effect of restoring {}", restored_words(kind, plan)),
        note: format!("{} facts, average total effect {:.3}", effects.facts, effects.total.value),
        rows: rows.iter().map(|(class, _)| (class.words().to_owned(), subject(class))).collect(),
        table: rows.into_iter().map(|(_, layers)| layers).collect(),
        low: 0.0,
        high,
        hue: hue(kind),
        axis: axis(kind, plan),
        scale: "AIE".to_owned(),
    };
    Some(heat.draw())
}

fn axis(kind: RestoredKind, plan: &TracePlan) -> String {
    match kind {
        RestoredKind::Mlp | RestoredKind::Attention => {
            format!("centre of the window of {}", plural(plan.window, "layer"))
        }
        _ => "restored layer".to_owned(),
    }
}

impl HeatMap {
    fn draw(&self) -> String {
        let layers = self.table.first().map_or(0, Vec::len);
        let cell = (480.0 / layers.max(1) as f64).clamp(9.0, 56.0);
        let widest = self.rows.iter().map(|(text, _)| text_width(text, TEXT)).fold(60.0, f64::max);
        let left = widest.min(WIDEST) + 30.0;
        let (width, height) = (cell * layers as f64, ROW * self.rows.len() as f64);
        let whole = (left + width + BAR).max(text_width(&self.title, 13.0) + 24.0);
        let mut svg = Svg::new(whole, TOP + height + BOTTOM);
        svg.bold([12.0, 20.0], Anchor::Start, 13.0, &self.title);
        svg.text([12.0, 37.0], Anchor::Start, TEXT, FAINT, &self.note);
        for (index, ((text, subject), numbers)) in self.rows.iter().zip(&self.table).enumerate() {
            let y = TOP + ROW * index as f64;
            let text = token_label(text, *subject);
            let place = [left - 6.0, y + ROW * 0.68];
            if *subject {
                svg.bold(place, Anchor::End, TEXT, &text)
            } else {
                svg.text(place, Anchor::End, TEXT, INK, &text)
            }
            for (layer, number) in numbers.iter().enumerate() {
                let share = (number - self.low) / (self.high - self.low).max(1e-12);
                svg.rect([left + cell * layer as f64, y, cell + 0.3, ROW], &shade(self.hue, share));
            }
        }
        svg.frame([left, TOP, width, height]);
        self.layers(&mut svg, layers, left, cell, TOP + height);
        self.bar(&mut svg, left + width + 22.0, height);
        svg.finish()
    }

    /// Draws the layer numbers below the heat map, at intervals that avoid overlap.
    fn layers(&self, svg: &mut Svg, layers: usize, left: f64, cell: f64, y: f64) {
        let every = [1, 2, 5, 10, 20].into_iter().find(|every| cell * *every as f64 >= 22.0).unwrap_or(50);
        for layer in (0..layers).step_by(every) {
            let x = left + cell * (layer as f64 + 0.5);
            svg.line(&[[x, y], [x, y + 4.0]], INK, 0.8);
            svg.text([x, y + 16.0], Anchor::Middle, TEXT, INK, &layer.to_string());
        }
        let middle = left + cell * layers as f64 / 2.0;
        svg.text(
            [middle.max(text_width(&self.axis, TEXT) / 2.0 + 8.0), y + 34.0],
            Anchor::Middle,
            TEXT,
            INK,
            &self.axis,
        );
    }

    /// Draws the colour scale as a vertical bar with values next to it.
    fn bar(&self, svg: &mut Svg, x: f64, height: f64) {
        const PARTS: usize = 40;
        let part = height / PARTS as f64;
        for index in 0..PARTS {
            let share = 1.0 - (index as f64 + 0.5) / PARTS as f64;
            svg.rect([x, TOP + part * index as f64, 12.0, part + 0.3], &shade(self.hue, share));
        }
        svg.frame([x, TOP, 12.0, height]);
        svg.text([x + 6.0, TOP - 5.0], Anchor::Middle, TEXT, INK, &self.scale);
        for step in steps(self.low, self.high) {
            let y = TOP + height * (1.0 - (step - self.low) / (self.high - self.low).max(1e-12));
            svg.line(&[[x + 12.0, y], [x + 15.0, y]], INK, 0.8);
            svg.text([x + 18.0, y + 4.0], Anchor::Start, TEXT, INK, &number(step));
        }
    }
}

/// Formats a number with up to four decimal places, without trailing zeros.
pub fn number(x: f64) -> String {
    let text = format!("{x:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Formats the label of a token. A label that is too wide is truncated, and a token of the subject is marked with `*`.
fn token_label(text: &str, subject: bool) -> String {
    // White space is replaced by symbols, because a label of only white space looks empty.
    let shown = if text.trim().is_empty() { text.replace(' ', "␣").replace('\t', "⇥") } else { text.to_owned() };
    let mut out = String::new();
    for character in shown.chars() {
        if text_width(&out, TEXT) > WIDEST - 24.0 {
            out.push('…');
            break;
        }
        out.push(if character == '\n' { '⏎' } else { character });
    }
    if subject { format!("{out} *") } else { out }
}
