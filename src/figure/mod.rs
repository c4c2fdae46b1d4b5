//! Figures: SVG, the same in dots, and pages that hold them.

pub mod page;
pub mod png;
pub mod svg;

use png::Painter;
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
    /// The figure as files: its drawing, and the same in dots.
    ///
    /// # Errors
    /// It cannot be painted: in words.
    pub fn files(&self, painter: &Painter) -> Result<[(String, Vec<u8>); 2], String> {
        let dots = painter.paint(&self.svg).map_err(|error| format!("{} cannot be painted: {error}", self.name))?;
        Ok([(format!("{}.svg", self.name), self.svg.clone().into_bytes()), (format!("{}.png", self.name), dots)])
    }

    /// The figure as an element of a page.
    pub fn element(&self) -> String {
        let shows = escaped(&self.shows);
        let svg = self.svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{shows}\" "), 1);
        format!("<figure>\n{svg}<figcaption>{shows}</figcaption>\n</figure>\n")
    }
}
