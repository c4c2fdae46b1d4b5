//! Writes SVG drawings that consist of rectangles, lines, polygons and texts. Every drawing has a white background, so
//! it looks the same on light and dark pages.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr;

use crate::diagnostics::escape_controls;

/// The horizontal alignment of a text: the part of the text that is at the given x coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// The CSS colour of texts and lines.
pub const INK: &str = "#1a1a1a";
/// The CSS colour of less important texts and lines.
pub const FAINT: &str = "#767676";
/// The font size of all texts except titles, in SVG units.
pub const TEXT: f64 = 11.0;
/// The approximate mean width of a character, as a fraction of the font size.
const CHARACTER: f64 = 0.58;

/// Returns the approximate width of a text, in SVG units; `size` is the font size.
pub fn text_width(text: &str, size: f64) -> f64 {
    text.width() as f64 * size * CHARACTER
}

impl Svg {
    /// Creates an empty drawing with a white background; `width` and `height` are in SVG units.
    pub fn new(width: f64, height: f64) -> Self {
        let mut svg = Self { width, height, body: String::new() };
        svg.rect([0.0, 0.0, width, height], "#ffffff");
        svg
    }

    /// Adds a filled rectangle with its top left corner at `[x, y]`.
    pub fn rect(&mut self, [x, y, width, height]: [f64; 4], fill: &str) {
        self.put(&format!(r#"<rect x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" fill="{fill}"/>"#));
    }

    /// Adds the outline of a rectangle with its top left corner at `[x, y]`.
    pub fn frame(&mut self, [x, y, width, height]: [f64; 4]) {
        self.put(&format!(
            r#"<rect x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" fill="none" stroke="{INK}" stroke-width="0.8"/>"#
        ));
    }

    /// Adds a text. The text is escaped, and control characters are replaced by visible escapes.
    pub fn text(&mut self, [x, y]: [f64; 2], anchor: Anchor, size: f64, colour: &str, text: &str) {
        self.styled([x, y], anchor, size, colour, "", text);
    }

    /// Adds a bold text in the colour [`INK`]. The text is escaped as in [`Svg::text`].
    pub fn bold(&mut self, [x, y]: [f64; 2], anchor: Anchor, size: f64, text: &str) {
        self.styled([x, y], anchor, size, INK, r#" font-weight="bold""#, text);
    }

    /// Adds a text that is rotated to run upwards, centred at `[x, y]`.
    pub fn upwards(&mut self, [x, y]: [f64; 2], size: f64, text: &str) {
        let turned = format!(r#" transform="rotate(-90 {x:.2} {y:.2})""#);
        self.styled([x, y], Anchor::Middle, size, INK, &turned, text);
    }

    fn styled(&mut self, [x, y]: [f64; 2], anchor: Anchor, size: f64, colour: &str, style: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(&escape_controls(text).to_string());
        self.put(&format!(
            r#"<text x="{x:.2}" y="{y:.2}" text-anchor="{anchor}" font-size="{size:.1}" fill="{colour}"{style} xml:space="preserve">{text}</text>"#
        ));
    }

    /// Adds a line through the points, in their order.
    pub fn line(&mut self, points: &[[f64; 2]], colour: &str, width: f64) {
        let points = joined(points);
        self.put(&format!(
            r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width:.1}" stroke-linejoin="round"/>"#
        ));
    }

    /// Adds a filled, translucent polygon, such as a confidence band.
    pub fn band(&mut self, points: &[[f64; 2]], colour: &str) {
        let points = joined(points);
        self.put(&format!(r#"<polygon points="{points}" fill="{colour}" fill-opacity="0.16"/>"#));
    }

    fn put(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    pub fn finish(self) -> String {
        let Self { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"'DejaVu Sans', Verdana, sans-serif\">\n{body}</svg>\n"
        )
    }
}

fn joined(points: &[[f64; 2]]) -> String {
    let mut out = String::new();
    for [x, y] in points {
        // Writing to a `String` cannot fail.
        let _ = write!(out, "{x:.2},{y:.2} ");
    }
    out.trim_end().to_owned()
}

/// Escapes a text for use in an XML element or in a double-quoted attribute.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

/// Returns a CSS colour of a hue, from light (`share` = 0) to dark (`share` = 1). `share` is clamped to this range, and
/// counts as 0 if it is not finite.
pub fn shade(hue: Hue, share: f64) -> String {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let stops = hue.stops();
    let place = share * (stops.len() - 1) as f64;
    let below = (place.floor() as usize).min(stops.len() - 2);
    let between = place - below as f64;
    let part = |index: usize| {
        let (a, b) = (f64::from(stops[below][index]), f64::from(stops[below + 1][index]));
        (a + (b - a) * between).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", part(0), part(1), part(2))
}

/// The hue of a figure. It identifies the component of the model, as in the figures of Meng et al. 2022.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hue {
    /// The hue of figures about hidden states.
    Purple,
    /// The hue of figures about MLP outputs.
    Green,
    /// The hue of figures about attention outputs.
    Red,
}

impl Hue {
    fn stops(self) -> [[u8; 3]; 4] {
        match self {
            Self::Purple => [[0xf7, 0xf5, 0xfa], [0xcb, 0xc4, 0xe3], [0x8a, 0x7c, 0xbd], [0x3f, 0x1f, 0x7d]],
            Self::Green => [[0xf4, 0xfa, 0xf4], [0xbf, 0xe3, 0xc0], [0x66, 0xb0, 0x70], [0x08, 0x5a, 0x2b]],
            Self::Red => [[0xfd, 0xf5, 0xf3], [0xf7, 0xc1, 0xb0], [0xdd, 0x75, 0x5c], [0x8e, 0x12, 0x12]],
        }
    }

    /// Returns the darkest colour of the hue.
    pub fn full(self) -> String {
        shade(self, 1.0)
    }
}

/// Returns round numbers from `low` to `high` for the ticks of an axis, usually three to six. Returns only `low` if the
/// range is empty or not finite.
pub fn steps(low: f64, high: f64) -> Vec<f64> {
    let reach = high - low;
    if !reach.is_finite() || reach <= 0.0 {
        return vec![low];
    }
    let mut unit = 1.0;
    while unit > reach {
        unit /= 10.0;
    }
    while unit * 10.0 <= reach {
        unit *= 10.0;
    }
    // `unit` is a power of ten. The step is the smallest of 0.2, 0.4, 1 and 2 times `unit` that fits into the range at
    // most six times.
    let step = [0.1, 0.2, 0.5, 1.0].map(|part| part * unit * 2.0).into_iter().find(|step| reach / step <= 6.0);
    let step = step.unwrap_or(unit);
    let (first, last) = ((low / step).ceil() as i64, (high / step + 1e-9).floor() as i64);
    (first..=last).map(|index| index as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_few_round_steps() {
        for (low, high) in [(0.0, 1.0), (0.0, 0.037), (-0.02, 0.31), (0.0, 7.0), (0.0, 1e-9), (0.2, 0.9)] {
            let steps = steps(low, high);
            assert!((2..=8).contains(&steps.len()), "{low} {high}: {steps:?}");
            assert!(steps.iter().all(|step| *step >= low - 1e-12 && *step <= high * 1.0001), "{low} {high}: {steps:?}");
        }
        assert_eq!(steps(0.5, 0.5), [0.5]);
    }

    #[test]
    fn texts_cannot_leave_their_element() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.text([0.0, 0.0], Anchor::Start, TEXT, INK, "</text><script>\u{202e}\n");
        let out = svg.finish();
        assert!(out.contains("&lt;/text&gt;&lt;script&gt;") && !out.contains("<script") && !out.contains('\u{202e}'));
    }

    #[test]
    fn shades_go_from_light_to_dark() {
        assert_eq!(shade(Hue::Purple, -1.0), "#f7f5fa");
        assert_eq!(shade(Hue::Purple, 2.0), Hue::Purple.full());
        assert_eq!(shade(Hue::Green, f64::NAN), shade(Hue::Green, 0.0));
    }
}
