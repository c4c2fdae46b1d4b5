//! `portable-1`: arithmetic whose bytes do not depend on the machine.
//!
//! Everything that ends up in a patch is computed here, on slices, and nothing here does I/O or knows what a
//! model is. Three rules make the bytes portable:
//!
//! 1. **A reduction has one order, written down.** A product sums fused multiply-adds sequentially inside blocks
//!    of [`matmul::BLOCK`] and adds the block sums in order; a row reduction ([`rows`]) runs sixteen interleaved
//!    chains and joins them in a fixed tree. Code is vectorised over independent outputs, threads split outputs,
//!    and nothing ever splits a sum.
//! 2. **One source per kernel**, instantiated per instruction set ([`Isa`]). rustc neither contracts nor
//!    reassociates floating point, so equality follows from IEEE 754 and the order. Where there is no fused
//!    multiply-add in hardware it is computed exactly in f64 ([`fused`]).
//! 3. **No platform mathematics.** `exp` is a polynomial of our own ([`elementary`]), the one logarithm comes from
//!    `libm` at a pinned version, `sqrt` and division are exact by IEEE 754.
//!
//! [`buffers`] has what is freed and wanted again at once stay with the process.
//!
//! f32 for the model, f64 for the optimiser, the factor and the link (there with separate multiply and add).

pub mod attention;
pub mod buffers;
pub mod cholesky;
pub mod eigen;
pub mod elementary;
pub mod elements;
pub mod elementwise;
pub mod fused;
pub mod half;
mod isa;
pub mod matmul;
pub mod mean;
pub mod npy;
pub mod random;
pub mod rows;

pub use elements::{Elements, Stored};
pub use isa::{Isa, NoSuchIsa};
pub use matmul::{View, matmul, matmul_then};
pub use mean::Mean;

/// The identity of this arithmetic. It enters every digest that depends on a computed number: a change that can
/// change a bit is a new name.
pub const NUMERICS: &str = "portable-1";

/// Whether this process computes with subnormal numbers, which `portable-1` needs: some libraries switch them off
/// for a whole process.
pub fn subnormals_survive() -> bool {
    let tiny = std::hint::black_box(f32::MIN_POSITIVE);
    let half = tiny * std::hint::black_box(0.5);
    half > 0.0 && half + half == tiny
}
