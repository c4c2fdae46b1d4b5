//! Computes the fluency GE of generated text: a weighted entropy of its word bigrams and trigrams (Meng et al. 2022,
//! section 3.4, after Zhang et al. 2018). Repetitive text has a low entropy.

use std::collections::BTreeMap;

use super::words::words;
use crate::numeric::elementary::ln;

/// Returns the fluency GE of a text in bits: `(2/3 H₂ + 4/3 H₃) / 2`, where H₂ and H₃ are the entropies of the word
/// bigrams and trigrams of the text. Returns `None` if the text has fewer than three words.
pub fn entropy(text: &str) -> Option<f64> {
    let words = words(text);
    let of = |length: usize| entropy_of(&words, length);
    Some((2.0 / 3.0 * of(2)? + 4.0 / 3.0 * of(3)?) / 2.0)
}

/// Returns the mean GE of several texts. Texts with fewer than three words are skipped. Returns `None` if all texts are
/// skipped.
pub fn fluency<'t>(texts: impl IntoIterator<Item = &'t str>) -> Option<f64> {
    let found: Vec<f64> = texts.into_iter().filter_map(entropy).collect();
    let mut total = 0.0;
    for one in &found {
        total += one;
    }
    (!found.is_empty()).then(|| total / found.len() as f64)
}

/// Returns the entropy of the word n-grams with n = `length`, in bits; `None` if there are fewer than n words.
fn entropy_of(words: &[String], length: usize) -> Option<f64> {
    let mut counts: BTreeMap<&[String], usize> = BTreeMap::new();
    words.windows(length).for_each(|run| *counts.entry(run).or_default() += 1);
    let all = words.len().checked_sub(length - 1).filter(|all| *all > 0)? as f64;
    let mut total = 0.0;
    for count in counts.into_values() {
        let share = count as f64 / all;
        total -= share * ln(share);
    }
    Some(total / std::f64::consts::LN_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropies_are_those_of_n_grams() {
        // The bigrams are ab, ba, ab, so H₂ = −(2/3 log₂ 2/3 + 1/3 log₂ 1/3). The trigrams are aba, bab, so H₃ = 1.
        let pairs = -(2.0_f64 / 3.0 * (2.0_f64 / 3.0).log2() + 1.0 / 3.0 * (1.0_f64 / 3.0).log2());
        let want = (2.0 / 3.0 * pairs + 4.0 / 3.0) / 2.0;
        assert!((entropy("a b a b").expect("four words") - want).abs() < 1e-12);
        assert_eq!(entropy("a a a a a"), Some(0.0));
        assert_eq!(entropy("a b"), None);
        assert_eq!(fluency(["a b", "a a a"]), Some(0.0));
        assert_eq!(fluency(["a"]), None);
    }
}
