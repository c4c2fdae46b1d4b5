//! The matrix product of `portable-1`.
//!
//! One output is `((s₀ + s₁) + s₂) + …`, where `s_b` is the sequential fused multiply-add chain over the `b`-th
//! block of [`BLOCK`] terms, started at +0. That order is the definition; tiles, threads and instruction sets only
//! choose which outputs are computed side by side, and which factor comes first.
//!
//! The left matrix (states) is packed once; threads take groups of columns of the right one (a weight), which is far
//! greater, and read it as it lies:
//!
//! - [`straight`](kernel::straight): its columns lie side by side. A block of it is packed, and a register tile runs
//!   down the block with a few rows of the left matrix against many columns of the right one;
//! - [`turned`](kernel::turned): its terms lie side by side. They are taken one by one against many rows of the left
//!   matrix, and the tile is laid down turned.

mod kernel;
mod pack;
mod view;

use rayon::prelude::*;

use super::fresh::{Part, fresh};
use super::isa::Isa;
use kernel::{Product, product};
use pack::Packed;
pub use view::View;

/// The number of terms summed by one chain.
pub const BLOCK: usize = 256;

/// `left · right`, row-major `[left.rows, right.columns]`.
///
/// # Panics
/// If the inner dimensions differ.
pub fn matmul(isa: Isa, left: View, right: View) -> Vec<f32> {
    matmul_then(isa, left, right, |_, _, _| {})
}

/// The same, and `then` something with every part of a row, once, when it is summed and still near the processor: it is
/// given the row, the column that the part begins at, and the part.
///
/// # Panics
/// If the inner dimensions differ.
pub fn matmul_then(isa: Isa, left: View, right: View, then: impl Fn(usize, usize, &mut [f32]) + Sync) -> Vec<f32> {
    assert_eq!(left.columns(), right.rows(), "the inner dimension of a product");
    let (m, n, k) = (left.rows(), right.columns(), left.columns());
    if m == 0 || n == 0 {
        return Vec::new();
    }
    if k == 0 {
        let mut out = vec![0.0; m * n];
        out.chunks_mut(n).enumerate().for_each(|(row, out)| then(row, 0, out));
        return out;
    }
    let kind = Product::of(isa, m, &right);
    let packed = Packed::new(left, kind.packed_width());
    let width = group_width(m, n, k, kind.group_step());
    let compute = |(index, parts): (usize, Vec<Part>)| {
        let first = index * width;
        let mut rows: Vec<&mut [f32]> = parts.into_iter().map(Part::clear).collect();
        product(isa, kind, &packed, &mut rows, right.column_band(first, width.min(n - first)));
        rows.iter_mut().enumerate().for_each(|(row, part)| then(row, first, part));
    };
    fresh(m * n, |out| {
        let groups = column_groups(out, n, width);
        match groups.len() {
            1 => groups.into_iter().enumerate().for_each(compute),
            _ => groups.into_par_iter().enumerate().for_each(compute),
        }
    })
}

/// How many columns a thread takes at a time: all of them when the product is too small to be worth a second
/// thread, else enough groups to keep every thread busy, in whole tiles.
fn group_width(m: usize, n: usize, k: usize, step: usize) -> usize {
    const WORTH_A_THREAD: usize = 1 << 18;
    /// A group's own numbers stay near the processor.
    const MOST: usize = 256;
    let threads = rayon::current_num_threads();
    let most = MOST / step * step;
    if threads == 1 || m * n * k < WORTH_A_THREAD {
        return n.min(most).max(1).next_multiple_of(step);
    }
    n.div_ceil(4 * threads).next_multiple_of(step).clamp(step, most)
}

/// A row-major matrix of `n` columns cut into groups of `width` columns, each as its parts of all rows.
fn column_groups(out: Part, n: usize, width: usize) -> Vec<Vec<Part>> {
    let mut groups: Vec<Vec<Part>> = (0..n.div_ceil(width)).map(|_| Vec::new()).collect();
    for row in out.chunks(n) {
        groups.iter_mut().zip(row.chunks(width)).for_each(|(group, part)| group.push(part));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::pack::blocks;
    use super::*;
    use crate::digest::Digest;
    use crate::numeric::elements::Elements;
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
        fn every_instruction_set_computes_the_definition(m in 1usize..80, n in 1usize..70, k in 1usize..600, seed in any::<u64>(), left_t in any::<bool>(), right_t in any::<bool>()) {
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
    fn many_rows_and_few_are_the_definition_however_the_right_matrix_lies() {
        let (n, k) = (83, 700);
        let b = noise(n * k, 7);
        for m in [1, 3, 5, 300] {
            let a = noise(m * k, 6);
            let left = View::new(&a, m, k);
            for right in [View::new(&b, k, n), View::new(&b, n, k).transposed()] {
                let want = bits(&defined(left, right));
                for threads in [1, 2, 8] {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
                    for isa in Isa::all() {
                        let got = pool.install(|| matmul(isa, left, right));
                        assert_eq!(bits(&got), want, "{m} rows, {threads} threads, {}", isa.name());
                    }
                }
            }
        }
    }

    #[test]
    fn what_a_file_stores_is_widened_and_nothing_else() {
        use crate::numeric::elements::Stored;
        use crate::numeric::half::{append, round};
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
