//! Matrices cut into panels, as a register tile takes them.

use rayon::prelude::*;

use super::{BLOCK, View};
use crate::numeric::elements::{Elements, fill, with_elements};
use crate::numeric::fresh::{Part, SLACK, before_line, fresh};

/// Panels that are packed by one thread at least.
const PANELS_TO_A_THREAD: usize = 8;

/// A left matrix, cut into blocks of terms and in each block into panels of `width` rows stored term by term:
/// `[block][panel][term][row]`, short panels filled with zeros. It begins at a line of memory, so that no vector of it
/// lies across two.
pub(super) struct Packed {
    data: Vec<f32>,
    start: usize,
    pub terms: usize,
    pub panels: usize,
    width: usize,
}

impl Packed {
    pub(super) fn new(left: View, width: usize) -> Self {
        let (terms, panels) = (left.columns, left.rows.div_ceil(width));
        let count = terms * panels * width;
        let data = fresh(count + SLACK, |room| {
            let skip = room.before_line();
            let (before, room) = room.split_at(skip);
            let (mut rest, behind) = room.split_at(count);
            before.clear();
            behind.clear();
            let mut places = Vec::new();
            for (first, terms) in blocks(terms) {
                for panel in 0..panels {
                    let (own, later) = rest.split_at(terms * width);
                    places.push((first, panel * width, own));
                    rest = later;
                }
            }
            places.into_par_iter().with_min_len(PANELS_TO_A_THREAD).for_each(|(first, row, panel)| {
                let (count, panel) = (width.min(left.rows - row), panel.clear());
                match left.row_step {
                    1 => copy_rows(left.transposed(), first, row, count, panel, width),
                    _ => transpose(left.transposed(), first, row, count, panel, width),
                }
            });
        });
        Self { start: before_line(&data), data, terms, panels, width }
    }

    pub(super) fn panel(&self, first: usize, terms: usize, panel: usize) -> &[f32] {
        let block = self.start + first * self.panels * self.width;
        &self.data[block + panel * terms * self.width..][..terms * self.width]
    }
}

/// The blocks of a sum: the first term and how many there are.
pub(super) fn blocks(terms: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..terms).step_by(BLOCK).map(move |first| (first, BLOCK.min(terms - first)))
}

/// Packs terms `first ..` of all columns of `source` into panels of `NR` columns, `[panel][term][NR]`. What a panel
/// has too much is left as it is: nothing reads what comes of it.
#[inline(always)]
pub(super) fn pack_columns<const NR: usize>(source: View, (first, terms): (usize, usize), packed: &mut [f32]) {
    let n = source.columns;
    debug_assert_eq!(source.column_step, 1, "what lies otherwise is turned");
    with_elements!(source.data, |data, widen| {
        // Along the rows of the source, as memory likes it: it is far greater than what is packed.
        for term in 0..terms {
            let row = &data[(first + term) * source.row_step..][..n];
            for (index, from) in row.chunks(NR).enumerate() {
                let to = &mut packed[(index * terms + term) * NR..][..from.len()];
                fill(to, from, widen);
            }
        }
    });
}

/// Copies terms `first ..` of columns `column .. column + count` of a `source` whose columns lie side by side into
/// `panel`, `width` to a term.
fn copy_rows(source: View, first: usize, column: usize, count: usize, panel: &mut [f32], width: usize) {
    for (term, panel) in panel.chunks_mut(width).enumerate() {
        let start = (first + term) * source.row_step + column;
        source.data.widen_into(start, &mut panel[..count]);
    }
}

/// The same of a source whose terms lie side by side, or nothing does: read along the terms, a cache line of them at a
/// time.
fn transpose(source: View, first: usize, column: usize, count: usize, panel: &mut [f32], width: usize) {
    let (step, terms) = (source.row_step, panel.len() / width);
    with_elements!(source.data, |data, widen| {
        for start in (0..terms).step_by(16) {
            let stop = (start + 16).min(terms);
            for index in 0..count {
                let base = (column + index) * source.column_step + first * step;
                for term in start..stop {
                    panel[term * width + index] = widen(data[base + term * step]);
                }
            }
        }
    });
}
