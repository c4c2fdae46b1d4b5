//! The ratio of `portable-1`'s matrix product to candle's own, side by side in one run:
//! `cargo bench --bench matmul`. Times on a shared machine are noise; the ratio of the best of many rounds is not.

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

/// The best of `ROUNDS` runs of each, alternating, in seconds.
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
    println!("{:>18} {:>10} {:>14} {:>14} {:>8}", "m × k × n", "isa", "ours GFLOP/s", "candle", "ratio");
    for (m, k, n) in [(300, 1600, 6400), (128, 768, 3072), (20, 1600, 6400), (1, 1600, 6400)] {
        let (a, b) = (noise(m * k), noise(k * n));
        let left = Tensor::from_slice(&a, (m, k), &Device::Cpu)?;
        let right = Tensor::from_slice(&b, (k, n), &Device::Cpu)?;
        let gigaflop = 2e-9 * (m * k * n) as f64;
        for isa in Isa::all() {
            let (ours, theirs) = race(
                || drop(black_box(matmul(isa, View::new(&a, m, k), View::new(&b, k, n)))),
                || drop(black_box(left.matmul(&right))),
            );
            println!(
                "{:>18} {:>10} {:>14.1} {:>14.1} {:>8.2}",
                format!("{m}×{k}×{n}"),
                isa.name(),
                gigaflop / ours,
                gigaflop / theirs,
                theirs / ours
            );
        }
    }
    Ok(())
}
