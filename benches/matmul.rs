//! Measures the speed of the matrix product of `portable-1` relative to candle's, in the same run: `cargo bench --bench
//! matmul`. As weights are stored in both ways, the right matrix is row-major (`columns`: all columns of one term are
//! adjacent) or column-major (`terms`: all terms of one column are adjacent). Absolute times are noisy on a shared
//! machine; the ratio of the best times of many rounds is stable.

#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::hint::black_box;
use std::time::Instant;

use candle_core::{Device, Tensor};
use corrigenda::numeric::{Isa, View, matmul};

const ROUNDS: usize = 40;

fn noise(n: usize) -> Vec<f32> {
    let mut state = 7_u64;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

/// Runs both functions alternately, `ROUNDS` times, and returns the best time of each in seconds.
fn race(mut ours: impl FnMut(), mut theirs: impl FnMut()) -> (f64, f64) {
    let timed = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        best.0 = best.0.min(timed(&mut ours));
        best.1 = best.1.min(timed(&mut theirs));
    }
    best
}

fn main() -> candle_core::Result<()> {
    println!("{:>24} {:>8} {:>14} {:>14} {:>8}", "m × k × n", "isa", "ours GFLOP/s", "candle", "ratio");
    let sizes = [
        (600, 768, 3072),
        (600, 3072, 768),
        (300, 1600, 6400),
        (88, 1600, 6400),
        (128, 768, 3072),
        (20, 1600, 6400),
        (1, 1600, 6400),
    ];
    for ((m, k, n), terms) in sizes.into_iter().flat_map(|size| [(size, false), (size, true)]) {
        let (a, b) = (noise(m * k), noise(k * n));
        let left = Tensor::from_slice(&a, (m, k), &Device::Cpu)?;
        let (right, view) = if terms {
            (Tensor::from_slice(&b, (n, k), &Device::Cpu)?.t()?, View::new(&b, n, k).transposed())
        } else {
            (Tensor::from_slice(&b, (k, n), &Device::Cpu)?, View::new(&b, k, n))
        };
        let gigaflop = 2e-9 * (m * k * n) as f64;
        // The kernel `plain` emulates the instruction exactly and is about 100 times slower, so it is not measured. It
        // exists for machines without the instruction.
        for isa in Isa::all().into_iter().filter(|isa| isa.name() != "plain") {
            let (ours, theirs) = race(
                || drop(black_box(matmul(isa, View::new(&a, m, k), view))),
                || drop(black_box(left.matmul(&right))),
            );
            println!(
                "{:>24} {:>8} {:>14.1} {:>14.1} {:>8.2}",
                format!("{m}×{k}×{n} {}", if terms { "terms" } else { "columns" }),
                isa.name(),
                gigaflop / ours,
                gigaflop / theirs,
                theirs / ours
            );
        }
    }
    Ok(())
}
