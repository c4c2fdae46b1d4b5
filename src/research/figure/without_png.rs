//! Takes the place of the PNG renderer if the feature `png` is off: figures are written as SVG only.

/// A renderer that renders nothing.
#[derive(Default)]
pub(super) struct PngRenderer;

impl PngRenderer {
    #[expect(clippy::unnecessary_wraps, reason = "the same signature as with the feature")]
    #[expect(clippy::unused_self, reason = "the same signature as with the feature")]
    pub(super) fn render(&self, _svg: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }
}
