//! Draws figures as SVG, renders them as PNG if the feature `png` is on, and builds HTML pages that contain them.

pub mod page;
pub mod plot;
#[cfg(feature = "png")]
mod png;
#[cfg(not(feature = "png"))]
#[path = "without_png.rs"]
mod png;
pub mod svg;

use std::path::Path;

use png::PngRenderer;
use svg::escaped;

use crate::diagnostics::{Failure, escape_controls};
use crate::export::destination::Destination;
use crate::report::table::plural;

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
    /// Returns the names and the bytes of the figure's files: SVG, and PNG if the feature is on.
    fn files(&self, renderer: &PngRenderer) -> Result<Vec<(String, Vec<u8>)>, String> {
        let png = renderer.render(&self.svg).map_err(|error| format!("{} cannot be drawn: {error}", self.name))?;
        let svg = (format!("{}.svg", self.name), self.svg.clone().into_bytes());
        Ok(std::iter::once(svg).chain(png.map(|bytes| (format!("{}.png", self.name), bytes))).collect())
    }

    /// Returns the figure as an HTML element, with the description as caption and label.
    pub fn element(&self) -> String {
        let shows = escaped(&self.shows);
        let svg = self.svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{shows}\" "), 1);
        format!("<figure>\n{svg}<figcaption>{shows}</figcaption>\n</figure>\n")
    }
}

/// Writes figures, and other files with their names, to a new folder. Returns the number of files.
///
/// # Errors
/// If a file cannot be written, or a figure cannot be rendered; `render_error` builds the error of the latter.
pub fn write_all<'f>(
    folder: Destination,
    figures: impl IntoIterator<Item = &'f Figure>,
    others: &[(&str, String)],
    render_error: impl Fn(String) -> Failure,
) -> Result<usize, Failure> {
    let (renderer, staging, mut count) = (PngRenderer::default(), folder.stage()?, others.len());
    for figure in figures {
        for (name, bytes) in figure.files(&renderer).map_err(&render_error)? {
            staging.write(&name, |out| out.write_all(&bytes))?;
            count += 1;
        }
    }
    for (name, text) in others {
        staging.write(name, |out| out.write_all(text.as_bytes()))?;
    }
    staging.commit()?;
    Ok(count)
}

/// Returns what [`write_all`] wrote, as a text for the user.
pub fn wrote(folder: &Path, files: usize) -> String {
    let without_png = if cfg!(feature = "png") { "" } else { "; no PNG: built without the feature `png`" };
    format!("{}: {}{without_png}", escape_controls(&folder.display().to_string()), plural(files, "file"))
}
