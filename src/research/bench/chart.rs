//! Draws the charts of a benchmark: score by editor, efficacy against specificity, and scores against the number of
//! facts edited at once.

use super::table::{BASE, ResultsTable};
use crate::research::figure::Figure;
use crate::research::figure::plot::{Axes, GRID};
use crate::research::figure::svg::{Anchor, FAINT, INK, Svg, TEXT, steps, text_width};

const TOP: f64 = 46.0;
const LEFT: f64 = 58.0;
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 240.0;
const BOTTOM: f64 = 46.0;
const MARGIN: f64 = 18.0;

/// The colours of the editors in charts, chosen to be distinguishable with colour vision deficiency.
const COLOURS: [&str; 12] = [
    "#c0392b", "#1f3a6d", "#e6a23c", "#2e8b57", "#8e6bb0", "#7fb3d5", "#767676", "#a0522d", "#d4679e", "#4daf9c",
    "#8c8c1a", "#1a1a1a",
];

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

struct Plot {
    svg: Svg,
    axes: Axes,
}

impl Plot {
    fn new(title: &str, upwards: &str, (low, high): (f64, f64), legend_width: f64) -> Self {
        let mut svg = Svg::new(LEFT + WIDTH + MARGIN + legend_width, TOP + HEIGHT + BOTTOM);
        svg.bold([12.0, 22.0], Anchor::Start, 13.0, title);
        svg.upwards([14.0, TOP + HEIGHT / 2.0], TEXT, upwards);
        let axes = Axes { left: LEFT, top: TOP, width: WIDTH, height: HEIGHT, low, high };
        axes.grid(&mut svg, |_| GRID, |step| Some(step.to_string()));
        Self { svg, axes }
    }

    fn y(&self, value: f64) -> f64 {
        self.axes.y(value)
    }

    fn finish(mut self, along: &str) -> String {
        self.axes.frame(&mut self.svg);
        self.svg.text([LEFT + WIDTH / 2.0, TOP + HEIGHT + 38.0], Anchor::Middle, TEXT, INK, along);
        self.svg.finish()
    }
}

/// Draws a bar chart with one bar per editor and one for the unedited base. Each bar shows the value in the first
/// column of `grid`, the mean score over records that are edited alone. Returns `None` if the table has no columns.
pub fn scores(grid: &ResultsTable) -> Option<Figure> {
    let column = *grid.columns.first()?;
    let rows: Vec<(&str, f64)> =
        grid.rows.iter().filter_map(|(name, cells)| Some((name.as_str(), cells.first()?.as_ref()?.value))).collect();
    let left = rows.iter().map(|(name, _)| text_width(name, TEXT)).fold(60.0, f64::max) + 24.0;
    let height = TOP + BAR * rows.len() as f64;
    let mut svg = Svg::new(left + WIDTH + 50.0, height + BOTTOM);
    svg.bold([12.0, 22.0], Anchor::Start, 13.0, "Score by editor, each fact alone");
    for step in steps(0.0, 100.0) {
        let x = left + WIDTH * step / 100.0;
        svg.line(&[[x, TOP], [x, height]], GRID, 0.8);
        svg.text([x, height + 16.0], Anchor::Middle, TEXT, INK, &format!("{step}"));
    }
    for (index, (name, value)) in rows.iter().enumerate() {
        let (y, width) = (TOP + BAR * index as f64, WIDTH * value / 100.0);
        svg.rect([left, y + 4.0, width, BAR - 8.0], if *name == BASE { FAINT } else { colour(1) });
        svg.text([left - 8.0, y + BAR * 0.66], Anchor::End, TEXT, INK, name);
        svg.text([left + width + 6.0, y + BAR * 0.66], Anchor::Start, TEXT, INK, &format!("{value:.1}"));
    }
    svg.text([left + WIDTH / 2.0, height + 38.0], Anchor::Middle, TEXT, INK, column);
    let shows = format!("{column} of {} rows, each fact edited alone", rows.len());
    Some(Figure { name: "scores".to_owned(), shows, svg: svg.finish() })
}

/// The height of a bar with the space above and below it, in SVG units.
const BAR: f64 = 24.0;

/// Draws a scatter plot with one point per editor: efficacy on the horizontal axis, specificity on the vertical axis.
/// For CounterFact these are the metrics ES and NS. Returns `None` if no editor has both values.
pub fn trade(grid: &ResultsTable) -> Option<Figure> {
    let [along, up] = if grid.columns.contains(&"ES") { ["ES", "NS"] } else { ["efficacy", "specificity"] };
    let point = |(name, _): &(String, Vec<Option<super::table::TableCell>>)| {
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

/// Draws the legend entry of one editor to the right of the plot.
fn entry(svg: &mut Svg, index: usize, name: &str) {
    let (x, y) = (LEFT + WIDTH + 14.0, TOP + 14.0 + 18.0 * index as f64);
    svg.rect([x, y - 8.0, 12.0, 8.0], colour(index));
    svg.text([x + 17.0, y], Anchor::Start, TEXT, INK, name);
}

/// Draws a line chart of one metric against the number of facts edited at once. `name` is the file name without its
/// extension, and `up` is the label of the vertical axis. `lines` has the name of each editor and its points (number of
/// facts, metric value). Returns `None` if all points have the same number of facts, or there are no points.
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
    // The numbers of facts usually grow exponentially, such as 1, 10, 100. Therefore they are placed at equal
    // distances on the horizontal axis, and not in proportion to their values.
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
        line.iter().for_each(|[across, down]| plot.svg.rect([across - 2.5, down - 2.5, 5.0, 5.0], colour(index)));
        entry(&mut plot.svg, index, editor);
    }
    let shows = format!("{title}: {}", lines.iter().map(|(editor, _)| editor.as_str()).collect::<Vec<_>>().join(", "));
    Some(Figure { name: name.to_owned(), shows, svg: plot.finish("facts edited at once") })
}
