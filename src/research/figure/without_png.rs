//! Takes the place of the PNG renderer if the feature `png` is off: figures are written as SVG only.

/// A renderer that renders nothing.
#[derive(Default)]
pub(super) struct PngRenderer;

impl PngRenderer {
    pub(super) fn render(&self, _svg: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }
}
