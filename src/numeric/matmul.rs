//! The matrix product of `portable-1`.
//!
//! One output is `((s₀ + s₁) + s₂) + …`, where `s_b` is the sequential fused multiply-add chain over the `b`-th
//! block of [`BLOCK`] terms, started at +0. That order is the definition; tiles, threads and instruction sets only
//! choose which outputs are computed side by side.
//!
//! The shape is the usual one: the left matrix is packed once into panels of `MR` rows, threads take groups of
//! columns, pack one block of the right matrix into panels of `NR` columns, and a register tile of `MR × NR`
//! accumulators runs over the block.

use rayon::prelude::*;

use super::elements::{Elements, with_elements};
use super::fused::{Emulated, Fused};
use super::isa::{Isa, Kind};

/// Panels that are packed by one thread at least.
const PANELS_TO_A_THREAD: usize = 8;

/// The number of terms summed by one chain.
pub const BLOCK: usize = 256;

/// A matrix as it lies in memory: element `(r, c)` is `data[r · row_step + c · column_step]`. What is stored in 16
/// bits is widened, exactly, as it is packed: a tile at a time.
#[derive(Clone, Copy)]
pub struct View<'a> {
    data: Elements<'a>,
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl<'a> View<'a> {
    /// A row-major matrix of `rows × columns`.
    ///
    /// # Panics
    /// If `data` has another length: shapes are validated where tensors are read.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::of(Elements::Own(data), rows, columns)
    }

    /// The same of numbers in whatever type.
    ///
    /// # Panics
    /// If `data` has another length.
    pub fn of(data: Elements<'a>, rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a {rows} × {columns} matrix");
        Self { data, rows, columns, row_step: columns, column_step: 1 }
    }

    /// The same memory read as the transposed matrix.
    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_step: self.column_step,
            column_step: self.row_step,
        }
    }

    /// Rows `first .. first + count`.
    pub fn row_band(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.rows);
        Self { data: self.data.skip(first * self.row_step), rows: count, ..self }
    }

    /// Columns `first .. first + count`.
    pub fn column_band(self, first: usize, count: usize) -> Self {
        self.transposed().row_band(first, count).transposed()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Element `(row, column)`.
    pub fn at(&self, row: usize, column: usize) -> f32 {
        self.data.at(row * self.row_step + column * self.column_step)
    }
}

/// `left · right`, row-major `[left.rows, right.columns]`.
///
/// # Panics
/// If the inner dimensions differ.
pub fn matmul(isa: Isa, left: View, right: View) -> Vec<f32> {
    assert_eq!(left.columns, right.rows, "the inner dimension of a product");
    let (m, n) = (left.rows, right.columns);
    if m == 0 || n == 0 || left.columns == 0 {
        return vec![0.0; m * n];
    }
    let (mr, nr) = tile_shape(isa);
    let packed = pack_left(left, mr);
    let width = group_width(m, n, left.columns, nr);
    let mut out = vec![0.0; m * n];
    let mut groups = column_groups(&mut out, n, width);
    let compute = |(index, rows): (usize, &mut Vec<&mut [f32]>)| {
        let first = index * width;
        product(isa, &packed, rows, right.column_band(first, width.min(n - first)));
    };
    match groups.as_mut_slice() {
        [one] => compute((0, one)),
        groups => groups.par_iter_mut().enumerate().for_each(compute),
    }
    out
}

/// How many columns a thread takes at a time: all of them when the product is too small to be worth a second
/// thread, else enough groups to keep every thread busy, in whole tiles.
fn group_width(m: usize, n: usize, k: usize, nr: usize) -> usize {
    const WORTH_A_THREAD: usize = 1 << 18;
    let threads = rayon::current_num_threads();
    if threads == 1 || m * n * k < WORTH_A_THREAD {
        return n.min(16 * nr).max(1).next_multiple_of(nr);
    }
    n.div_ceil(4 * threads).next_multiple_of(nr).clamp(nr, 16 * nr)
}

/// A row-major matrix of `n` columns cut into groups of `width` columns, each as its parts of all rows.
fn column_groups(out: &mut [f32], n: usize, width: usize) -> Vec<Vec<&mut [f32]>> {
    let mut groups: Vec<Vec<&mut [f32]>> = (0..n.div_ceil(width)).map(|_| Vec::with_capacity(out.len() / n)).collect();
    for row in out.chunks_mut(n) {
        for (group, part) in groups.iter_mut().zip(row.chunks_mut(width)) {
            group.push(part);
        }
    }
    groups
}

/// The left matrix, cut into blocks of terms and in each block into panels of `mr` rows stored term by term:
/// `[block][panel][term][row]`, short panels filled with zeros.
struct Packed {
    data: Vec<f32>,
    terms: usize,
    panels: usize,
    mr: usize,
}

impl Packed {
    fn panel(&self, first: usize, terms: usize, panel: usize) -> &[f32] {
        let block = first * self.panels * self.mr;
        &self.data[block + panel * terms * self.mr..][..terms * self.mr]
    }
}

fn blocks(terms: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..terms).step_by(BLOCK).map(move |first| (first, BLOCK.min(terms - first)))
}

fn pack_left(left: View, mr: usize) -> Packed {
    let (terms, panels) = (left.columns, left.rows.div_ceil(mr));
    let mut data = vec![0.0; terms * panels * mr];
    let (mut rest, mut places) = (data.as_mut_slice(), Vec::new());
    for (first, terms) in blocks(terms) {
        for panel in 0..panels {
            let (own, later) = rest.split_at_mut(terms * mr);
            places.push((first, panel * mr, own));
            rest = later;
        }
    }
    places.par_iter_mut().with_min_len(PANELS_TO_A_THREAD).for_each(|(first, row, panel)| {
        pack_panel(left.transposed(), *first, *row, mr.min(left.rows - *row), panel, mr);
    });
    Packed { data, terms, panels, mr }
}

/// Copies terms `first ..` of columns `column .. column + count` of `source` into `panel`, `width` to a term.
fn pack_panel(source: View, first: usize, column: usize, count: usize, panel: &mut [f32], width: usize) {
    if source.column_step == 1 {
        for (term, panel) in panel.chunks_mut(width).enumerate() {
            let start = (first + term) * source.row_step + column;
            source.data.widen_into(start, &mut panel[..count]);
        }
        return;
    }
    let base = |index: usize| (column + index) * source.column_step + first * source.row_step;
    with_elements!(source.data, |data, widen| {
        transpose(data, widen, source.row_step, (0..count).map(base), panel, width);
    });
}

/// Lays runs of elements that stand `step` apart, one run after another, into the columns of a panel: read along the
/// contiguous direction, a cache line of terms at a time.
#[inline(always)]
fn transpose<T: Copy>(
    data: &[T],
    widen: impl Fn(T) -> f32,
    step: usize,
    bases: impl Iterator<Item = usize> + Clone,
    panel: &mut [f32],
    width: usize,
) {
    let terms = panel.len() / width;
    for start in (0..terms).step_by(16) {
        let stop = (start + 16).min(terms);
        for (index, base) in bases.clone().enumerate() {
            for term in start..stop {
                panel[term * width + index] = widen(data[base + term * step]);
            }
        }
    }
}

fn tile_shape(isa: Isa) -> (usize, usize) {
    match isa.kind() {
        Kind::Plain => (4, 8),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => (6, 16),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => (12, 32),
        #[cfg(target_arch = "aarch64")]
        Kind::Native => (8, 8),
    }
}

/// One thread's share: all rows times one group of columns, into that group's parts of all rows.
#[expect(unsafe_code, reason = "a call into code compiled for instructions that were detected")]
fn product(isa: Isa, left: &Packed, out: &mut [&mut [f32]], right: View) {
    match isa.kind() {
        Kind::Plain => band::<Emulated, 4, 8>(left, out, right),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this variant of `Isa` exists only where AVX2 and FMA were detected.
        Kind::Avx2 => unsafe { x86::avx2(left, out, right) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this variant of `Isa` exists only where AVX-512F, AVX2 and FMA were detected.
        Kind::Avx512 => unsafe { x86::avx512(left, out, right) },
        #[cfg(target_arch = "aarch64")]
        Kind::Native => band::<super::fused::Hardware, 8, 8>(left, out, right),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::fused::Hardware;
    use super::{Packed, View, band};

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(left: &Packed, out: &mut [&mut [f32]], right: View) {
        band::<Hardware, 6, 16>(left, out, right)
    }

    #[target_feature(enable = "avx2,fma,avx512f")]
    pub(super) fn avx512(left: &Packed, out: &mut [&mut [f32]], right: View) {
        band::<Hardware, 12, 32>(left, out, right)
    }
}

#[inline(always)]
fn band<F: Fused, const MR: usize, const NR: usize>(left: &Packed, out: &mut [&mut [f32]], right: View) {
    let n = right.columns;
    let panels = n.div_ceil(NR);
    let mut packed = vec![0.0_f32; BLOCK.min(left.terms) * panels * NR];
    for (first, terms) in blocks(left.terms) {
        for (index, panel) in packed.chunks_mut(terms * NR).take(panels).enumerate() {
            pack_panel(right, first, index * NR, NR.min(n - index * NR), panel, NR);
        }
        for (index, columns) in packed.chunks(terms * NR).take(panels).enumerate() {
            for row_panel in 0..left.panels {
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
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use proptest::prelude::*;

    pub(crate) fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32) / 8_388_608.0 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    /// The definition, literally.
    fn defined(a: View, b: View) -> Vec<f32> {
        let mut out = Vec::new();
        for r in 0..a.rows() {
            for c in 0..b.columns() {
                let mut total = None;
                for (first, terms) in blocks(a.columns()) {
                    let mut s = 0.0_f32;
                    for t in first..first + terms {
                        s = a.at(r, t).mul_add(b.at(t, c), s);
                    }
                    total = Some(total.map_or(s, |total| total + s));
                }
                out.push(total.unwrap_or(0.0));
            }
        }
        out
    }

    fn bits(xs: &[f32]) -> Vec<u32> {
        xs.iter().map(|x| x.to_bits()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn every_instruction_set_computes_the_definition(m in 1usize..30, n in 1usize..70, k in 1usize..600, seed in any::<u64>(), left_t in any::<bool>(), right_t in any::<bool>()) {
            let (a, b) = (noise(m * k, seed), noise(k * n, !seed));
            let left = if left_t { View::new(&a, k, m).transposed() } else { View::new(&a, m, k) };
            let right = if right_t { View::new(&b, n, k).transposed() } else { View::new(&b, k, n) };
            let want = bits(&defined(left, right));
            for isa in Isa::all() {
                prop_assert_eq!(&bits(&matmul(isa, left, right)), &want, "{}", isa.name());
            }
        }
    }

    #[test]
    fn threads_change_no_bit_and_the_bits_are_the_committed_ones() {
        let (m, n, k) = (37, 515, 700);
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        for threads in [1, 2, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
            for isa in Isa::all() {
                let c = pool.install(|| matmul(isa, View::new(&a, m, k), View::new(&b, k, n)));
                let bytes: Vec<u8> = c.iter().flat_map(|x| x.to_le_bytes()).collect();
                assert_eq!(Digest::of(&bytes).short(), "e869484cc7e3", "{threads} threads, {}", isa.name());
            }
        }
    }

    #[test]
    fn what_a_file_stores_is_widened_and_nothing_else() {
        use super::super::elements::Stored;
        use super::super::half::{append, round};
        let (m, n, k) = (5, 70, 300);
        let a = noise(m * k, 4);
        for stored in [Stored::F32, Stored::F16, Stored::BF16] {
            let wide: Vec<f32> =
                noise(n * k, 5).into_iter().map(|x| round(stored, f64::from(x)).expect("finite")).collect();
            // One byte before them: nothing is aligned.
            let mut bytes = vec![0];
            wide.iter().for_each(|x| append(stored, *x, &mut bytes));
            let elements = Elements::of_bytes(stored, &bytes[1..]);
            for isa in Isa::all() {
                let left = View::new(&a, m, k);
                let rows = (View::of(elements, k, n), View::new(&wide, k, n));
                assert_eq!(bits(&matmul(isa, left, rows.0)), bits(&matmul(isa, left, rows.1)));
                let columns = (View::of(elements, n, k).transposed(), View::new(&wide, n, k).transposed());
                assert_eq!(bits(&matmul(isa, left, columns.0)), bits(&matmul(isa, left, columns.1)));
                assert_eq!(columns.0.at(7, 3), columns.1.at(7, 3));
            }
        }
    }

    #[test]
    fn bands_are_views_of_the_same_memory() {
        let a = noise(35, 3);
        let view = View::new(&a, 5, 7);
        assert_eq!(view.row_band(2, 2).at(1, 3), view.at(3, 3));
        assert_eq!(view.column_band(4, 3).at(4, 2), view.at(4, 6));
        assert_eq!(view.transposed().at(6, 1), view.at(1, 6));
    }
}
