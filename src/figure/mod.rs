//! Figures: SVG, the same in dots, and pages that hold them.

pub mod png;
pub mod svg;

use svg::escaped;

/// A figure: the name of its file, without an ending, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// The name.
    pub name: String,
    /// What it shows, for those who cannot see it.
    pub shows: String,
    /// The drawing.
    pub svg: String,
}

impl Figure {
    /// The figure as an element of a page.
    pub fn element(&self) -> String {
        let shows = escaped(&self.shows);
        let svg = self.svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{shows}\" "), 1);
        format!("<figure>\n{svg}<figcaption>{shows}</figcaption>\n</figure>\n")
    }
}
