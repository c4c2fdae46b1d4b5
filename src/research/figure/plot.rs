//! Defines and draws the axes of a chart.

use super::svg::{Anchor, INK, Svg, TEXT, steps};

/// The colour of grid lines, as a CSS colour.
pub const GRID: &str = "#e4e4e4";

/// The axes of a chart: the plot area in SVG units, and the values at its lower and upper edge.
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

    /// Returns the vertical position of the lower edge, in SVG units.
    pub fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// Draws a horizontal line at every round value. `colour` and `label` return the line's colour and label for the
    /// value; `None` draws no label.
    pub fn grid(&self, svg: &mut Svg, colour: impl Fn(f64) -> &'static str, label: impl Fn(f64) -> Option<String>) {
        for step in steps(self.low, self.high) {
            let y = self.y(step);
            svg.line(&[[self.left, y], [self.left + self.width, y]], colour(step), 0.8);
            if let Some(text) = label(step) {
                svg.text([self.left - 6.0, y + 4.0], Anchor::End, TEXT, INK, &text);
            }
        }
    }

    /// Draws the outline of the plot area.
    pub fn frame(&self, svg: &mut Svg) {
        svg.frame([self.left, self.top, self.width, self.height]);
    }
}
