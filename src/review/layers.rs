//! Which layer takes the edits best, of figures that were measured ([`trials`](super::trials)): every edit alone at a
//! layer, asked what it expects: its target, its held-out phrasings, its neighbours.
//!
//! Where tracing points is not always where editing works best (Hase et al. 2023, "Does localization inform
//! editing?"): so it is tried.

use serde::{Deserialize, Serialize};

use crate::behaviour::expect::Share;
use crate::numeric::Mean;

/// What one edit, or many, came to: efficacy, held-out phrasings, neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// Edits that hold, each name of a subject counted.
    pub efficacy: Share,
    /// Held-out phrasings that hold.
    pub paraphrase: Share,
    /// Neighbours that stay as they are.
    pub unchanged: Share,
}

impl Shares {
    fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.efficacy, other.efficacy),
            (&mut self.paraphrase, other.paraphrase),
            (&mut self.unchanged, other.unchanged),
        ];
        for (own, other) in pairs {
            own.met += other.met;
            own.all += other.all;
        }
    }

    /// Those of which there is something.
    fn parts(&self) -> Vec<f64> {
        let parts = [self.efficacy, self.paraphrase, self.unchanged];
        parts.iter().filter(|part| part.all > 0).map(|part| part.value()).collect()
    }

    /// Their mean.
    fn mean(&self) -> f64 {
        Mean::of(&self.parts()).value
    }

    /// S: the harmonic mean of the shares of which there is something (Meng et al. 2022, section 3.4).
    pub fn score(&self) -> f64 {
        let parts = self.parts();
        if parts.is_empty() || parts.contains(&0.0) {
            return 0.0;
        }
        parts.len() as f64 / parts.iter().map(|part| 1.0 / part).sum::<f64>()
    }
}

/// The edits at one layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The layer.
    pub layer: usize,
    /// All edits.
    pub shares: Shares,
    /// Of each edit, in the order of the project.
    pub edits: Vec<Shares>,
    /// Edits that have no value, those that were not tried included: they count as edits that do not hold.
    pub refused: usize,
    /// Edits that were not tried, because none of the first has a value there.
    pub untried: usize,
}

impl Tried {
    /// What the edits came to at a layer.
    pub fn new(layer: usize, edits: Vec<Shares>, refused: usize, untried: usize) -> Self {
        let mut shares = Shares::default();
        edits.iter().for_each(|one| shares.add(one));
        Self { layer, shares, edits, refused, untried }
    }
}

/// The layer of the greatest score, the lowest of equals; none where no edit holds at any. Where no layer has a score,
/// the mean of the shares decides.
pub fn best(tried: &[Tried]) -> Option<&Tried> {
    let rank = |one: &Tried| (one.shares.score(), one.shares.mean());
    tried
        .iter()
        .filter(|one| one.shares.efficacy.met > 0)
        .reduce(|best, other| if rank(other) > rank(best) { other } else { best })
}

/// Whether a layer is as good as the best, for all that these edits say: whether the 95 % interval of the difference of
/// their scores holds zero. The edits are the same at both, so the interval is that of the jackknife over them. One edit
/// tells no layer from another.
pub fn as_good(best: &Tried, other: &Tried) -> bool {
    let count = best.edits.len();
    if count < 2 {
        return true;
    }
    let figure = if best.shares.score() > 0.0 { Shares::score } else { Shares::mean };
    let without = |tried: &Tried, left_out: Option<usize>| {
        let mut rest = Shares::default();
        tried.edits.iter().enumerate().filter(|(index, _)| Some(*index) != left_out).for_each(|(_, one)| rest.add(one));
        figure(&rest)
    };
    let difference = |left_out| without(best, left_out) - without(other, left_out);
    let whole = difference(None);
    let pseudo = |edit| count as f64 * whole - (count - 1) as f64 * difference(Some(edit));
    whole <= Mean::of(&(0..count).map(pseudo).collect::<Vec<_>>()).half
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(efficacy: bool, paraphrase: usize, unchanged: usize) -> Shares {
        Shares {
            efficacy: Share { met: usize::from(efficacy), all: 1 },
            paraphrase: Share { met: paraphrase, all: 2 },
            unchanged: Share { met: unchanged, all: 4 },
        }
    }

    fn tried(layer: usize, edits: Vec<Shares>) -> Tried {
        Tried::new(layer, edits, 0, 0)
    }

    #[test]
    fn the_score_is_the_harmonic_mean_of_what_there_is() {
        assert!((shares(true, 1, 3).score() - 3.0 / (1.0 + 2.0 + 4.0 / 3.0)).abs() < 1e-12);
        assert_eq!(shares(true, 0, 4).score(), 0.0);
        let none = Share::default();
        assert_eq!(Shares { paraphrase: none, unchanged: none, ..shares(true, 0, 0) }.score(), 1.0);
    }

    #[test]
    fn the_lowest_of_the_best_is_named_and_those_that_cannot_be_told_from_it() {
        let good = || shares(true, 2, 4);
        let layers = [
            tried(0, vec![shares(false, 0, 4); 8]),
            tried(1, vec![good(); 8]),
            tried(2, vec![good(); 8]),
            tried(3, [vec![good(); 7], vec![shares(true, 1, 4)]].concat()),
            tried(4, vec![shares(true, 1, 3); 8]),
        ];
        let best = best(&layers).expect("there are some");
        assert_eq!(best.layer, 1);
        let good: Vec<usize> = layers.iter().filter(|one| as_good(best, one)).map(|one| one.layer).collect();
        assert_eq!(good, [1, 2, 3]);
        // Where one kind is met nowhere, the others still tell layers apart.
        assert!(super::best(&[tried(0, vec![shares(false, 2, 4); 3])]).is_none(), "no edit holds");
        assert!(as_good(&tried(0, vec![shares(true, 2, 4)]), &tried(1, vec![shares(false, 0, 0)])), "one edit is none");
        let none = [tried(0, vec![shares(true, 0, 0); 3]), tried(1, vec![shares(true, 2, 0); 3])];
        assert_eq!(super::best(&none).map(|best| (best.layer, as_good(best, &none[0]))), Some((1, false)));
    }
}
