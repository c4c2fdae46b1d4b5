//! Selects the layer at which the edits of a project work best, from the results of
//! [`layer_trials`](super::layer_trials).
//!
//! The layer that causal tracing finds is not always the best one to edit (Hase et al. 2023, "Does localization inform
//! editing?"). Therefore the edits are tried at several layers.

use serde::{Deserialize, Serialize};

use crate::behaviour::expectation::Share;
use crate::numeric::Mean;

/// The shares of prompts for which the edited model meets the expectation: the target after the edit prompts and
/// paraphrases, and an unchanged prediction after the neighbour prompts. The prompts are those of one edit or of
/// several edits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// The share of edit prompts for which the model predicts the target. An edit has one prompt with its subject, and
    /// one prompt with each alias of the subject.
    pub efficacy: Share,
    pub paraphrase: Share,
    pub unchanged: Share,
}

impl Shares {
    fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.efficacy, other.efficacy),
            (&mut self.paraphrase, other.paraphrase),
            (&mut self.unchanged, other.unchanged),
        ];
        for (own, added) in pairs {
            own.met += added.met;
            own.all += added.all;
        }
    }

    /// Returns `efficacy`, `paraphrase` and `unchanged` as fractions from 0 to 1. A share is left out if there are no
    /// prompts of its kind, such as no paraphrases.
    fn parts(&self) -> Vec<f64> {
        let parts = [self.efficacy, self.paraphrase, self.unchanged];
        parts.iter().filter(|part| part.all > 0).map(|part| part.value()).collect()
    }

    /// Returns the arithmetic mean of the efficacy, paraphrase and unchanged shares. A share is left out if there are
    /// no prompts of its kind, such as no paraphrases.
    fn mean(&self) -> f64 {
        Mean::of(&self.parts()).value
    }

    /// Returns the score S: the harmonic mean of the efficacy, paraphrase and unchanged shares (Meng et al. 2022,
    /// section 3.4). A share is left out if there are no prompts of its kind, such as no paraphrases.
    pub fn score(&self) -> f64 {
        let parts = self.parts();
        if parts.is_empty() || parts.contains(&0.0) {
            return 0.0;
        }
        parts.len() as f64 / parts.iter().map(|part| 1.0 / part).sum::<f64>()
    }
}

/// The results of all edits at one layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerResult {
    pub layer: usize,
    /// The efficacy, paraphrase and unchanged shares over the prompts of all edits.
    pub shares: Shares,
    /// The efficacy, paraphrase and unchanged shares of each edit alone, in the order of the project.
    pub edits: Vec<Shares>,
    /// The number of edits for which no value vector was found, including the edits that were not tried. The prompts
    /// and paraphrases of all these edits count as failed.
    pub refused: usize,
    /// The number of edits that were not tried, because no value vector was found for any of the first
    /// [`FIRST`](super::layer_trials::FIRST) edits.
    pub untried: usize,
}

impl LayerResult {
    /// Creates the result of a layer. `edits` has the efficacy, paraphrase and unchanged shares of each edit, in the
    /// order of the project. The shares over all edits are computed from the sums of the counts in `edits`.
    pub fn new(layer: usize, edits: Vec<Shares>, refused: usize, untried: usize) -> Self {
        let mut shares = Shares::default();
        edits.iter().for_each(|one| shares.add(one));
        Self { layer, shares, edits, refused, untried }
    }
}

/// Returns the result with the highest score. If scores are equal, for example all 0, the highest mean of the shares
/// decides, then the earliest position in `tried`. Returns `None` if no edit works at any layer.
pub fn best(tried: &[LayerResult]) -> Option<&LayerResult> {
    let rank = |one: &LayerResult| (one.shares.score(), one.shares.mean());
    tried
        .iter()
        .filter(|one| one.shares.efficacy.met > 0)
        .reduce(|best, other| if rank(other) > rank(best) { other } else { best })
}

/// Returns true if the layer `other` is not significantly worse than the layer `best`, that is, if the 95 % interval of
/// the difference of their scores includes zero. The interval is computed by the jackknife over the edits, which are
/// the same at both layers. The result is also true if there are fewer than two edits.
pub fn indistinguishable(best: &LayerResult, other: &LayerResult) -> bool {
    let count = best.edits.len();
    if count < 2 {
        return true;
    }
    let figure = if best.shares.score() > 0.0 { Shares::score } else { Shares::mean };
    let without = |tried: &LayerResult, left_out: Option<usize>| {
        let mut rest = Shares::default();
        tried.edits.iter().enumerate().filter(|(index, _)| Some(*index) != left_out).for_each(|(_, one)| rest.add(one));
        figure(&rest)
    };
    let difference = |left_out| without(best, left_out) - without(other, left_out);
    let whole = difference(None);
    let pseudo = |edit| count as f64 * whole - (count - 1) as f64 * difference(Some(edit));
    whole <= Mean::of(&(0..count).map(pseudo).collect::<Vec<_>>()).ci95
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

    fn tried(layer: usize, edits: Vec<Shares>) -> LayerResult {
        LayerResult::new(layer, edits, 0, 0)
    }

    #[test]
    fn the_score_is_the_harmonic_mean_of_stated_shares() {
        assert!((shares(true, 1, 3).score() - 3.0 / (1.0 + 2.0 + 4.0 / 3.0)).abs() < 1e-12);
        assert_eq!(shares(true, 0, 4).score(), 0.0);
        let none = Share::default();
        assert_eq!(Shares { paraphrase: none, unchanged: none, ..shares(true, 0, 0) }.score(), 1.0);
    }

    #[test]
    fn the_lowest_of_the_best_layers_is_selected() {
        let met = || shares(true, 2, 4);
        let layers = [
            tried(0, vec![shares(false, 0, 4); 8]),
            tried(1, vec![met(); 8]),
            tried(2, vec![met(); 8]),
            tried(3, [vec![met(); 7], vec![shares(true, 1, 4)]].concat()),
            tried(4, vec![shares(true, 1, 3); 8]),
        ];
        let best = best(&layers).expect("edits hold at some layers");
        assert_eq!(best.layer, 1);
        let good: Vec<usize> = layers.iter().filter(|one| indistinguishable(best, one)).map(|one| one.layer).collect();
        assert_eq!(good, [1, 2, 3]);
        assert!(super::best(&[tried(0, vec![shares(false, 2, 4); 3])]).is_none(), "no edit holds");
        assert!(
            indistinguishable(&tried(0, vec![shares(true, 2, 4)]), &tried(1, vec![shares(false, 0, 0)])),
            "one edit cannot distinguish layers"
        );
        // A score is 0 if the efficacy, paraphrase or unchanged share is 0. Here the scores of both layers are 0, so
        // `best` compares the means of the shares.
        let none = [tried(0, vec![shares(true, 0, 0); 3]), tried(1, vec![shares(true, 2, 0); 3])];
        assert_eq!(super::best(&none).map(|one| (one.layer, indistinguishable(one, &none[0]))), Some((1, false)));
    }
}
