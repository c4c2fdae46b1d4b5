//! Computes positions on the vertical axis of a chart, and draws its grid lines and its outline.

use super::svg::{Anchor, INK, Svg, TEXT, steps};

pub const GRID: &str = "#e4e4e4";

/// The axes of a chart: the plot area in SVG units, and the range of the values on the vertical axis.
#[derive(Clone, Copy, Debug)]
pub struct Axes {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    /// The data value at the lower edge of the plot area.
    pub low: f64,
    /// The data value at the upper edge of the plot area.
    pub high: f64,
}

impl Axes {
    /// Returns the vertical position of a value, in SVG units.
    pub fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - (value - self.low) / (self.high - self.low))
    }

    pub fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// Draws a horizontal line at each round value of the vertical axis. For each value, `colour` returns the colour of
    /// the line, and `label` returns the text next to the line (`None` for no text).
    pub fn grid(&self, svg: &mut Svg, colour: impl Fn(f64) -> &'static str, label: impl Fn(f64) -> Option<String>) {
        for step in steps(self.low, self.high) {
            let y = self.y(step);
            svg.line(&[[self.left, y], [self.left + self.width, y]], colour(step), 0.8);
            if let Some(text) = label(step) {
                svg.text([self.left - 6.0, y + 4.0], Anchor::End, TEXT, INK, &text);
            }
        }
    }

    pub fn frame(&self, svg: &mut Svg) {
        svg.frame([self.left, self.top, self.width, self.height]);
    }
}
