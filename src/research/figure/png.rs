//! Renders figures as PNG, for programs that do not support SVG. The fonts are embedded, so the bytes are the same on
//! every machine. Characters that the fonts lack are drawn as boxes.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::{Database, Source};
use resvg::usvg::{Options, Tree};

/// The number of pixels per SVG unit.
const SCALE: f32 = 2.0;

pub(super) struct PngRenderer {
    options: Options<'static>,
}

impl Default for PngRenderer {
    fn default() -> Self {
        let mut fonts = Database::new();
        for font in [dejavu::sans::regular(), dejavu::sans::bold()] {
            fonts.load_font_source(Source::Binary(Arc::new(font)));
        }
        let options = Options { fontdb: Arc::new(fonts), font_family: "DejaVu Sans".to_owned(), ..Options::default() };
        Self { options }
    }
}

impl PngRenderer {
    /// Renders an SVG document and returns the bytes of a PNG file. The result is always `Some`. In builds without the
    /// feature `png`, this function is replaced by one that returns `None`.
    ///
    /// # Errors
    /// If the document is not valid SVG, or the image is too large.
    pub(super) fn render(&self, svg: &str) -> Result<Option<Vec<u8>>, String> {
        let tree = Tree::from_str(svg, &self.options).map_err(|error| error.to_string())?;
        let size = tree.size();
        let (width, height) = ((size.width() * SCALE).ceil(), (size.height() * SCALE).ceil());
        let dots = Pixmap::new(width as u32, height as u32);
        let mut dots = dots.ok_or_else(|| format!("{width} x {height} pixels are too many"))?;
        resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut dots.as_mut());
        dots.encode_png().map(Some).map_err(|error| error.to_string())
    }
}
