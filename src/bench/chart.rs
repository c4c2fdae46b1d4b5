//! Charts of a run: scores by editor, efficacy against specificity, and scores against the size of the set.

use super::table::{BASE, Grid};
use crate::figure::Figure;
use crate::figure::svg::{Anchor, FAINT, INK, Svg, TEXT, steps, text_width};

const TOP: f64 = 46.0;
const LEFT: f64 = 58.0;
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 240.0;
const BOTTOM: f64 = 46.0;
const MARGIN: f64 = 18.0;

/// Colours that are told apart in light and by those who see few colours.
const COLOURS: [&str; 8] = ["#c0392b", "#1f3a6d", "#e6a23c", "#2e8b57", "#8e6bb0", "#7fb3d5", "#767676", "#a0522d"];

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// A plot whose numbers go from `low` to `high` upwards.
struct Plot {
    svg: Svg,
    low: f64,
    high: f64,
}

impl Plot {
    fn new(title: &str, upwards: &str, (low, high): (f64, f64), beside: f64) -> Self {
        let mut svg = Svg::new(LEFT + WIDTH + MARGIN + beside, TOP + HEIGHT + BOTTOM);
        svg.bold([12.0, 22.0], Anchor::Start, 13.0, title);
        svg.upwards([14.0, TOP + HEIGHT / 2.0], TEXT, upwards);
        let mut plot = Self { svg, low, high };
        for step in steps(low, high) {
            let y = plot.y(step);
            plot.svg.line(&[[LEFT, y], [LEFT + WIDTH, y]], "#e4e4e4", 0.8);
            plot.svg.text([LEFT - 6.0, y + 4.0], Anchor::End, TEXT, INK, &format!("{step}"));
        }
        plot
    }

    fn y(&self, value: f64) -> f64 {
        TOP + HEIGHT * (1.0 - (value - self.low) / (self.high - self.low))
    }

    fn finish(mut self, along: &str) -> String {
        self.svg.frame([LEFT, TOP, WIDTH, HEIGHT]);
        self.svg.text([LEFT + WIDTH / 2.0, TOP + HEIGHT + 38.0], Anchor::Middle, TEXT, INK, along);
        self.svg.finish()
    }
}

/// The score of every editor, each record alone.
pub fn scores(grid: &Grid) -> Option<Figure> {
    let column = *grid.columns.first()?;
    let rows: Vec<(&str, f64)> =
        grid.rows.iter().filter_map(|(name, cells)| Some((name.as_str(), cells.first()?.as_ref()?.value))).collect();
    let mut plot = Plot::new("Score by editor, each fact alone", column, (0.0, 100.0), 0.0);
    let slot = WIDTH / rows.len().max(1) as f64;
    for (index, (name, value)) in rows.iter().enumerate() {
        let x = LEFT + slot * (index as f64 + 0.15);
        let (top, bottom) = (plot.y(*value), plot.y(0.0));
        let fill = if *name == BASE { FAINT } else { colour(1) };
        plot.svg.rect([x, top, slot * 0.7, bottom - top], fill);
        let middle = x + slot * 0.35;
        plot.svg.text([middle, top - 4.0], Anchor::Middle, TEXT, INK, &format!("{value:.1}"));
        // Names of neighbours stand on two heights.
        let down = if text_width(name, TEXT) > slot && index % 2 == 1 { 27.0 } else { 15.0 };
        plot.svg.text([middle, bottom + down], Anchor::Middle, TEXT, INK, name);
    }
    let shows = format!("{column} of {} rows, each fact edited alone", rows.len());
    Some(Figure { name: "scores".to_owned(), shows, svg: plot.finish("") })
}

/// Efficacy against specificity.
pub fn trade(grid: &Grid) -> Option<Figure> {
    let [along, up] = match grid.columns.contains(&"ES") {
        true => ["ES", "NS"],
        false => ["efficacy", "specificity"],
    };
    let point = |(name, _): &(String, Vec<Option<super::table::Cell>>)| {
        Some((name.clone(), grid.value(name, along)?.value, grid.value(name, up)?.value))
    };
    let points: Vec<(String, f64, f64)> = grid.rows.iter().filter_map(point).collect();
    if points.is_empty() {
        return None;
    }
    let mut plot = Plot::new("Efficacy against specificity, each fact alone", up, (0.0, 100.0), 110.0);
    for step in steps(0.0, 100.0) {
        let x = LEFT + WIDTH * step / 100.0;
        plot.svg.text([x, TOP + HEIGHT + 16.0], Anchor::Middle, TEXT, INK, &format!("{step}"));
    }
    for (index, (name, x, y)) in points.iter().enumerate() {
        let (x, y) = (LEFT + WIDTH * x / 100.0, plot.y(*y));
        plot.svg.rect([x - 4.0, y - 4.0, 8.0, 8.0], colour(index));
        entry(&mut plot.svg, index, name);
    }
    let shows = format!("{along} against {up} of {} editors", points.len());
    Some(Figure { name: "trade".to_owned(), shows, svg: plot.finish(along) })
}

/// A name beside a plot, with its colour.
fn entry(svg: &mut Svg, index: usize, name: &str) {
    let (x, y) = (LEFT + WIDTH + 14.0, TOP + 14.0 + 18.0 * index as f64);
    svg.rect([x, y - 8.0, 12.0, 8.0], colour(index));
    svg.text([x + 17.0, y], Anchor::Start, TEXT, INK, name);
}

/// A line an editor: a number against the size of the set.
pub fn curve(name: &str, title: &str, up: &str, lines: &[(String, Vec<(usize, f64)>)]) -> Option<Figure> {
    let mut sizes: Vec<usize> = lines.iter().flat_map(|(_, points)| points.iter().map(|(size, _)| *size)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let all = lines.iter().flat_map(|(_, points)| points).map(|(_, value)| *value);
    let low = all.clone().fold(f64::INFINITY, |low, x| if x < low { x } else { low });
    let high = all.fold(f64::NEG_INFINITY, |high, x| if x > high { x } else { high });
    if sizes.len() < 2 {
        return None;
    }
    let room = ((high - low) * 0.06).max(1e-3);
    let mut plot = Plot::new(title, up, (low - room, high + room), 130.0);
    // Sizes stand side by side: they grow by factors.
    let x = |size: usize| {
        let place = sizes.iter().position(|other| *other == size).unwrap_or(0);
        LEFT + WIDTH * (place as f64 + 0.5) / sizes.len() as f64
    };
    for &size in &sizes {
        plot.svg.text([x(size), TOP + HEIGHT + 16.0], Anchor::Middle, TEXT, INK, &size.to_string());
    }
    for (index, (editor, points)) in lines.iter().enumerate() {
        let line: Vec<[f64; 2]> = points.iter().map(|(size, value)| [x(*size), plot.y(*value)]).collect();
        plot.svg.line(&line, colour(index), 2.0);
        line.iter().for_each(|[x, y]| plot.svg.rect([x - 2.5, y - 2.5, 5.0, 5.0], colour(index)));
        entry(&mut plot.svg, index, editor);
    }
    let shows = format!("{title}: {}", lines.iter().map(|(editor, _)| editor.as_str()).collect::<Vec<_>>().join(", "));
    Some(Figure { name: name.to_owned(), shows, svg: plot.finish("facts edited at once") })
}
