//! Finds the conflict markers that git writes into a file after a failed merge.

use std::ops::Range;

/// Returns the byte ranges of the lines that begin like a conflict marker of git, such as `<<<<<<<`. The text must be a
/// generated file, because a file that people write may have such lines without a conflict.
pub(crate) fn merge_markers(text: &str) -> Vec<Range<usize>> {
    let mut markers = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if ["<<<<<<<", "|||||||", "=======", ">>>>>>>"].iter().any(|marker| line.starts_with(marker)) {
            markers.push(start..start + line.trim_end().len());
        }
        start += line.len();
    }
    markers
}
