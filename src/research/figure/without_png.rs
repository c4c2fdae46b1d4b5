//! Replaces the PNG renderer in builds without the feature `png`, which write figures only as SVG.

#[derive(Default)]
pub(super) struct PngRenderer;

impl PngRenderer {
    pub(super) fn render(&self, _svg: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }
}
