//! The numbers of NumPy's legacy `RandomState`, so that noise is the published one, on every machine.
//!
//! MT19937 (Matsumoto and Nishimura 1998) from a 32-bit seed, doubles of 53 bits from two of its words, and normal
//! numbers by Marsaglia's polar method.

use crate::numeric::elementary::ln;

const WORDS: usize = 624;
const SHIFT: usize = 397;

/// A stream of random numbers.
#[derive(Clone)]
pub struct Legacy {
    words: [u32; WORDS],
    next: usize,
    /// The second normal number of the last pair.
    kept: Option<f64>,
}

impl Legacy {
    /// `RandomState(seed)`.
    pub fn new(seed: u32) -> Self {
        let mut words = [0; WORDS];
        words[0] = seed;
        for index in 1..WORDS {
            let before: u32 = words[index - 1];
            words[index] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(index as u32);
        }
        Self { words, next: WORDS, kept: None }
    }

    fn word(&mut self) -> u32 {
        if self.next == WORDS {
            self.twist();
        }
        let mut word = self.words[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for index in 0..WORDS {
            let mixed = (self.words[index] & 0x8000_0000) | (self.words[(index + 1) % WORDS] & 0x7fff_ffff);
            let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.words[index] = self.words[(index + SHIFT) % WORDS] ^ (mixed >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// A number of [0, 1), a multiple of 2⁻⁵³.
    pub fn double(&mut self) -> f64 {
        let (high, low) = (self.word() >> 5, self.word() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// A number of the standard normal distribution.
    pub fn normal(&mut self) -> f64 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        loop {
            let (x, y) = (2.0 * self.double() - 1.0, 2.0 * self.double() - 1.0);
            let square = x * x + y * y;
            if square < 1.0 && square != 0.0 {
                let factor = (-2.0 * ln(square) / square).sqrt();
                self.kept = Some(factor * x);
                return factor * y;
            }
        }
    }

    /// A number of [-1, 1).
    pub fn uniform(&mut self) -> f64 {
        -1.0 + 2.0 * self.double()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.random.RandomState(1).randn(8)`.
    const NORMAL: [f64; 8] = [
        1.6243453636632417,
        -0.6117564136500754,
        -0.5281717522634557,
        -1.0729686221561705,
        0.8654076293246785,
        -2.3015386968802827,
        1.74481176421648,
        -0.7612069008951028,
    ];

    #[test]
    fn normal_numbers_are_numpys_to_one_unit_in_the_last_place() {
        let mut stream = Legacy::new(1);
        for want in NORMAL {
            let found = stream.normal();
            assert!(found.to_bits().abs_diff(want.to_bits()) <= 1, "{found} {want}");
        }
    }

    /// `RandomState(1).randn(2000)[-1]` and `.random_sample(2000)[-1]`: the stream is twisted more than once.
    #[test]
    fn the_stream_goes_on() {
        let mut stream = Legacy::new(1);
        let normal: Vec<f64> = (0..2000).map(|_| stream.normal()).collect();
        let last = normal[1999];
        assert!(last.to_bits().abs_diff(LAST_NORMAL.to_bits()) <= 1, "{last}");
        let mut stream = Legacy::new(1);
        let doubles: Vec<f64> = (0..2000).map(|_| stream.double()).collect();
        assert_eq!(doubles[1999], LAST_DOUBLE);
        let mut stream = Legacy::new(1);
        assert_eq!(stream.uniform(), -1.0 + 2.0 * 0.417022004702574);
    }

    const LAST_NORMAL: f64 = 1.386825593941044;
    const LAST_DOUBLE: f64 = 0.9467282696079524;
}
