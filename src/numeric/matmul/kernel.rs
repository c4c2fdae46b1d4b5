//! Register tiles, in every instruction set.

use super::pack::{Packed, blocks, pack_columns};
use super::{BLOCK, View};
use crate::numeric::fused::{Emulated, Fused};
use crate::numeric::isa::{Isa, Kind};

/// How a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Product {
    /// Whether the right matrix gives its terms one by one: see [`turned`].
    turned: bool,
    /// Whether the left matrix has hardly any rows.
    few: bool,
    /// What is taken one by one, and what side by side.
    tile: (usize, usize),
}

/// At most so many rows are few: a higher tile would be filled with zeros mostly.
const FEW: usize = 4;
/// How many rows of the left matrix a turned tile takes where they are few.
const FEW_SIDE: usize = 16;
/// Panels of the left matrix that a turned product holds against one strip of the right one.
const PANELS: usize = 8;

impl Product {
    /// What suits the right matrix as it lies.
    pub(super) fn of(isa: Isa, m: usize, right: &View) -> Self {
        let tile = match isa.kind() {
            Kind::Plain => (4, 8),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => (6, 16),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => (12, 32),
            #[cfg(target_arch = "aarch64")]
            Kind::Native => (8, 8),
        };
        let few = m <= FEW;
        let turned = right.row_step == 1 && right.column_step != 1;
        let tile = match (few, turned) {
            (true, true) => (tile.0, FEW_SIDE),
            (true, false) => (FEW, tile.1),
            _ => tile,
        };
        Self { turned, few, tile }
    }

    /// Rows in a panel of the left matrix.
    pub(super) fn packed_width(self) -> usize {
        if self.turned { self.tile.1 } else { self.tile.0 }
    }

    /// Whole tiles of the right matrix are this many columns.
    pub(super) fn group_step(self) -> usize {
        if self.turned { self.tile.0 } else { self.tile.1 }
    }
}

/// One thread's share: all rows times one group of columns, into that group's parts of all rows.
#[expect(unsafe_code, reason = "a call into code compiled for instructions that were detected")]
pub(super) fn product(isa: Isa, kind: Product, left: &Packed, out: &mut [&mut [f32]], right: View) {
    match isa.kind() {
        Kind::Plain => run::<Emulated, 4, 8>(kind, left, out, right),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this variant of `Isa` exists only where AVX2 and FMA were detected.
        Kind::Avx2 => unsafe { x86::avx2(kind, left, out, right) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this variant of `Isa` exists only where AVX-512F, AVX2 and FMA were detected.
        Kind::Avx512 => unsafe { x86::avx512(kind, left, out, right) },
        #[cfg(target_arch = "aarch64")]
        Kind::Native => run::<crate::numeric::fused::Hardware, 8, 8>(kind, left, out, right),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Packed, Product, View, run};
    use crate::numeric::fused::Hardware;

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(kind: Product, left: &Packed, out: &mut [&mut [f32]], right: View) {
        run::<Hardware, 6, 16>(kind, left, out, right)
    }

    #[target_feature(enable = "avx2,fma,avx512f")]
    pub(super) fn avx512(kind: Product, left: &Packed, out: &mut [&mut [f32]], right: View) {
        run::<Hardware, 12, 32>(kind, left, out, right)
    }
}

#[inline(always)]
fn run<F: Fused, const MR: usize, const NR: usize>(kind: Product, left: &Packed, out: &mut [&mut [f32]], right: View) {
    match (kind.turned, kind.few) {
        (true, true) => turned::<F, MR, FEW_SIDE>(left, out, right),
        (true, false) => turned::<F, MR, NR>(left, out, right),
        (false, true) => straight::<F, FEW, NR>(left, out, right),
        (false, false) => straight::<F, MR, NR>(left, out, right),
    }
}

/// Rows of the left matrix one by one against columns of the right one side by side.
#[inline(always)]
pub(super) fn straight<F: Fused, const MR: usize, const NR: usize>(left: &Packed, out: &mut [&mut [f32]], right: View) {
    let panels = right.columns().div_ceil(NR);
    let mut packed = vec![0.0_f32; BLOCK.min(left.terms) * panels * NR];
    for (first, terms) in blocks(left.terms) {
        pack_columns::<NR>(right, (first, terms), &mut packed);
        // While this block is computed the next one comes near, a part of it with every panel.
        let mut ahead = first + terms..(first + terms + BLOCK).min(left.terms);
        let step = ahead.len().div_ceil(left.panels.max(1));
        // A panel of rows stays nearest while the block, which is in the second cache, goes by.
        for row_panel in 0..left.panels {
            for term in ahead.by_ref().take(step) {
                right.data.prefetch(term * right.row_step, if right.column_step == 1 { right.columns() } else { 0 });
            }
            for (index, columns) in packed.chunks(terms * NR).take(panels).enumerate() {
                let mut sums = [[0.0_f32; NR]; MR];
                tile::<F, MR, NR>(left.panel(first, terms, row_panel), columns, &mut sums);
                add_tile(out, row_panel * MR, index * NR, &sums, first == 0);
            }
        }
    }
}

/// The register tile: `sums[r][c] = fma(left[term][r], right[term][c], sums[r][c])`, term after term.
#[inline(always)]
fn tile<F: Fused, const MR: usize, const NR: usize>(left: &[f32], right: &[f32], sums: &mut [[f32; NR]; MR]) {
    let mut local = *sums;
    for (a, b) in left.as_chunks::<MR>().0.iter().zip(right.as_chunks::<NR>().0) {
        for r in 0..MR {
            for c in 0..NR {
                local[r][c] = F::fma(a[r], b[c], local[r][c]);
            }
        }
    }
    *sums = local;
}

/// Columns of the right matrix one by one against rows of the left one side by side. Nothing of the right matrix is
/// laid another way, only widened; a tile has a row a column, and is turned once, when all blocks are summed.
#[inline(always)]
pub(super) fn turned<F: Fused, const MR: usize, const NR: usize>(left: &Packed, out: &mut [&mut [f32]], right: View) {
    let strips = right.columns().div_ceil(MR);
    let mut strip = [[0.0_f32; BLOCK]; MR];
    let mut held = vec![[[0.0_f32; NR]; MR]; strips * PANELS.min(left.panels)];
    for chunk in (0..left.panels).step_by(PANELS) {
        let panels = PANELS.min(left.panels - chunk);
        for (first, terms) in blocks(left.terms) {
            for (index, held) in held.chunks_mut(panels).take(strips).enumerate() {
                for (row, column) in strip.iter_mut().zip(index * MR..right.columns()) {
                    right.data.widen_into(column * right.column_step + first, &mut row[..terms]);
                }
                // While this strip is computed the next one comes near, a few rows with every tile.
                let mut ahead = (index + 1) * MR..((index + 2) * MR).min(right.columns());
                for (panel, held) in held.iter_mut().enumerate() {
                    for column in ahead.by_ref().take(MR.div_ceil(panels)) {
                        right.data.prefetch(column * right.column_step + first, terms);
                    }
                    let mut sums = [[0.0_f32; NR]; MR];
                    turned_tile::<F, MR, NR>(&strip, left.panel(first, terms, chunk + panel), &mut sums);
                    match first {
                        0 => *held = sums,
                        _ => held.iter_mut().zip(&sums).for_each(|(held, sums)| add_row(held, sums)),
                    }
                }
            }
        }
        for (index, held) in held.chunks(panels).take(strips).enumerate() {
            for (panel, tile) in held.iter().enumerate() {
                lay_turned(out, (chunk + panel) * NR, index * MR, tile);
            }
        }
    }
}

/// The register tile: `sums[r][c] = fma(right[r][term], left[term][c], sums[r][c])`, term after term.
#[inline(always)]
fn turned_tile<F: Fused, const MR: usize, const NR: usize>(
    right: &[[f32; BLOCK]; MR],
    left: &[f32],
    sums: &mut [[f32; NR]; MR],
) {
    let mut local = *sums;
    for (term, b) in left.as_chunks::<NR>().0.iter().enumerate().take(BLOCK) {
        for r in 0..MR {
            for c in 0..NR {
                local[r][c] = F::fma(right[r][term], b[c], local[r][c]);
            }
        }
    }
    *sums = local;
}

/// A tile whose rows are columns of the result.
#[inline(always)]
fn lay_turned<const MR: usize, const NR: usize>(
    out: &mut [&mut [f32]],
    row: usize,
    column: usize,
    tile: &[[f32; NR]; MR],
) {
    for (c, out) in out[row..].iter_mut().take(NR).enumerate() {
        for (out, tile) in out[column..].iter_mut().zip(tile) {
            *out = tile[c];
        }
    }
}

#[inline(always)]
fn add_tile<const MR: usize, const NR: usize>(
    out: &mut [&mut [f32]],
    row: usize,
    column: usize,
    sums: &[[f32; NR]; MR],
    first: bool,
) {
    for (out, sums) in out[row..].iter_mut().zip(sums) {
        // A whole tile has a length that the compiler knows: no call per row.
        match out[column..].first_chunk_mut::<NR>() {
            Some(out) if first => *out = *sums,
            Some(out) => add_row(out, sums),
            None if first => out[column..].iter_mut().zip(sums).for_each(|(out, sum)| *out = *sum),
            None => add_row(&mut out[column..], sums),
        }
    }
}

#[inline(always)]
fn add_row(out: &mut [f32], sums: &[f32]) {
    for (out, sum) in out.iter_mut().zip(sums) {
        *out += sum;
    }
}
