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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// The file name without its extension.
    pub name: String,
    /// A description of the figure in words, used as the caption and as the label for screen readers.
    pub shows: String,
    pub svg: String,
}

impl Figure {
    /// Returns the name and the contents of each file of the figure: SVG, and PNG if the feature `png` is on.
    fn files(&self, renderer: &PngRenderer) -> Result<Vec<(String, Vec<u8>)>, String> {
        let png = renderer.render(&self.svg).map_err(|error| format!("{} cannot be drawn: {error}", self.name))?;
        let svg = (format!("{}.svg", self.name), self.svg.clone().into_bytes());
        Ok(std::iter::once(svg).chain(png.map(|bytes| (format!("{}.png", self.name), bytes))).collect())
    }

    /// Returns the figure as an HTML `<figure>` element, with the description as caption and `aria-label`.
    pub fn element(&self) -> String {
        let shows = escaped(&self.shows);
        let svg = self.svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{shows}\" "), 1);
        format!("<figure>\n{svg}<figcaption>{shows}</figcaption>\n</figure>\n")
    }
}

/// Writes figures to a new folder, together with the text files `others` (pairs of name and text). Returns the number
/// of files.
///
/// # Errors
/// If a file cannot be written, or a figure cannot be rendered as PNG. `render_error` converts the text of the PNG
/// error to a [`Failure`].
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

/// Returns the message of a command that has written figures: the folder, the number of files, and a note if PNG is not
/// supported.
pub fn wrote(folder: &Path, files: usize) -> String {
    let without_png = if cfg!(feature = "png") { "" } else { "; no PNG: built without the feature `png`" };
    format!("{}: {}{without_png}", escape_controls(&folder.display().to_string()), plural(files, "file"))
}
