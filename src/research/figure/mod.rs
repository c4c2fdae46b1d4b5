//! Draws figures as SVG, renders them as PNG, and builds HTML pages that contain them.

pub mod page;
pub mod png;
pub mod svg;

use png::PngRenderer;
use svg::escaped;

/// A figure with its file name and description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// The name of the figure's files, without an extension.
    pub name: String,
    /// A description in words, for readers who cannot see the figure.
    pub shows: String,
    /// The SVG document.
    pub svg: String,
}

impl Figure {
    /// Returns the figure as two files, SVG and PNG, each with its name and bytes.
    ///
    /// # Errors
    /// If the drawing cannot be rendered as PNG.
    pub fn files(&self, renderer: &PngRenderer) -> Result<[(String, Vec<u8>); 2], String> {
        let dots = renderer.render(&self.svg).map_err(|error| format!("{} cannot be drawn: {error}", self.name))?;
        Ok([(format!("{}.svg", self.name), self.svg.clone().into_bytes()), (format!("{}.png", self.name), dots)])
    }

    /// Returns the figure as an HTML element, with the description as caption and label.
    pub fn element(&self) -> String {
        let shows = escaped(&self.shows);
        let svg = self.svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{shows}\" "), 1);
        format!("<figure>\n{svg}<figcaption>{shows}</figcaption>\n</figure>\n")
    }
}
