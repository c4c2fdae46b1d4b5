//! Selects the layers at which edits are tried if the user does not name layers: first evenly spaced layers, then
//! layers near the best ones.

use std::collections::BTreeSet;

use super::best_layer::{LayerResult, best, indistinguishable};

/// The maximum number of layers in the first round. If the model has at most this number of layers, the first round has
/// all of them.
const FIRST: usize = 8;
/// The maximum number of layers whose neighbours are tried in the next round: the best layer, and one more layer that
/// is not significantly worse.
const CENTRES: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// The layers to try, in ascending order.
    pub layers: Vec<usize>,
    /// The best layers so far, around which `layers` are selected. The list is empty in the first round, and while no
    /// edit works at any layer.
    pub around: Vec<usize>,
}

/// A search for the best layer in rounds. Each round halves the distance between the layers to try.
#[derive(Clone, Copy, Debug)]
pub struct CoarseSearch {
    count: usize,
    stride: usize,
}

impl CoarseSearch {
    /// Creates a search over a model of `count` layers. Also returns the first round.
    pub fn new(count: usize) -> (Self, Round) {
        let mut stride = 1;
        while count.div_ceil(stride) > FIRST {
            stride *= 2;
        }
        let coarse = Self { count, stride };
        (coarse, Round { layers: coarse.all(), around: Vec::new() })
    }

    /// Returns the next round: untried layers around the best layers, at half the distance of the previous round.
    /// Returns `None` if all layers next to the best layers have been tried.
    pub fn next(&mut self, tried: &[LayerResult]) -> Option<Round> {
        loop {
            self.stride = (self.stride / 2).max(1);
            let around = centres(tried);
            let candidates: BTreeSet<usize> = if around.is_empty() {
                // No edit works at any of the tried layers, so the layers between them are tried next.
                self.all().into_iter().collect()
            } else {
                around.iter().flat_map(|&centre| self.neighbours(centre)).collect()
            };
            let layers: Vec<usize> =
                candidates.into_iter().filter(|layer| tried.iter().all(|one| one.layer != *layer)).collect();
            if !layers.is_empty() {
                return Some(Round { layers, around });
            }
            if self.stride == 1 {
                return None;
            }
        }
    }

    /// Returns the layers to try if there is no best layer yet: every `stride`-th layer, from layer `stride / 2` on.
    fn all(self) -> Vec<usize> {
        (self.stride / 2..self.count).step_by(self.stride).collect()
    }

    fn neighbours(self, centre: usize) -> impl Iterator<Item = usize> {
        let below = centre.checked_sub(self.stride);
        below.into_iter().chain(Some(centre + self.stride).filter(|above| *above < self.count))
    }
}

/// Returns up to [`CENTRES`] layers in ascending order: the best layer, and the best of the layers whose results are
/// not significantly worse. The list is empty if no edit works at any layer.
fn centres(tried: &[LayerResult]) -> Vec<usize> {
    let Some(first) = best(tried) else { return Vec::new() };
    let mut rest: Vec<LayerResult> = tried.iter().filter(|one| indistinguishable(first, one)).cloned().collect();
    let mut centres = Vec::new();
    while centres.len() < CENTRES {
        let Some(next) = best(&rest).map(|one| one.layer) else { break };
        centres.push(next);
        rest.retain(|one| one.layer != next);
    }
    centres.sort_unstable();
    centres
}

#[cfg(test)]
mod tests {
    use super::super::best_layer::Shares;
    use super::*;
    use crate::behaviour::expectation::Share;

    /// Returns the results of a layer at which `held` of ten edits work and every neighbour stays unchanged.
    fn tried(layer: usize, held: usize) -> LayerResult {
        let edit = |met: bool| Shares {
            efficacy: Share { met: usize::from(met), all: 1 },
            paraphrase: Share { met: usize::from(met), all: 1 },
            unchanged: Share { met: 1, all: 1 },
        };
        LayerResult::new(layer, (0..10).map(|index| edit(index < held)).collect(), 0, 0)
    }

    /// Returns all rounds for a model of `count` layers; `held` returns the number of edits that work at a layer.
    fn rounds(count: usize, held: impl Fn(usize) -> usize) -> Vec<Round> {
        let (mut coarse, first) = CoarseSearch::new(count);
        let (mut tried_so_far, mut rounds, mut next) = (Vec::new(), Vec::new(), Some(first));
        while let Some(round) = next {
            tried_so_far.extend(round.layers.iter().map(|&layer| tried(layer, held(layer))));
            rounds.push(round);
            next = coarse.next(&tried_so_far);
        }
        rounds
    }

    fn layers(rounds: &[Round]) -> Vec<Vec<usize>> {
        rounds.iter().map(|round| round.layers.clone()).collect()
    }

    #[test]
    fn few_layers_are_tried_at_once() {
        for count in 1..=8 {
            assert_eq!(layers(&rounds(count, |_| 5)), [(0..count).collect::<Vec<_>>()]);
        }
    }

    #[test]
    fn the_rounds_close_in_on_the_best_layer() {
        // The number of edits that work is largest at layer `top`, which is between two layers of the first round.
        let hill = |top: usize| move |layer: usize| 10usize.saturating_sub(3 * layer.abs_diff(top));
        let found = rounds(30, hill(7));
        assert_eq!(found[0], Round { layers: vec![2, 6, 10, 14, 18, 22, 26], around: vec![] });
        assert_eq!((&found[1].around, &found[1].layers), (&vec![6], &vec![4, 8]));
        let all: Vec<usize> = found.iter().flat_map(|round| round.layers.clone()).collect();
        assert!(all.contains(&7) && all.len() < 15, "{found:?}");
        // The search tries the best layer, even if it is the first or the last layer. No layer is tried twice.
        for count in [9, 12, 17, 24, 30, 48] {
            for top in 0..count {
                let searched = rounds(count, |layer| 100usize.saturating_sub(layer.abs_diff(top)).saturating_sub(90));
                let mut layers: Vec<usize> = searched.iter().flat_map(|round| round.layers.clone()).collect();
                assert!(layers.contains(&top), "{top} of {count}: {searched:?}");
                let tried = layers.len();
                layers.sort_unstable();
                layers.dedup();
                assert_eq!(layers.len(), tried, "{searched:?}");
            }
        }
    }

    #[test]
    fn neighbours_of_equally_good_layers_are_tried() {
        let found = rounds(30, |layer| if [6, 18].contains(&layer) { 9 } else { 2 });
        assert_eq!(found[1], Round { layers: vec![4, 8, 16, 20], around: vec![6, 18] });
        assert_eq!(found[2], Round { layers: vec![5, 7, 17, 19], around: vec![6, 18] });
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn every_layer_is_tried_if_no_edit_holds() {
        let found = rounds(30, |_| 0);
        assert!(found.iter().all(|round| round.around.is_empty()));
        let mut all: Vec<usize> = found.iter().flat_map(|round| round.layers.clone()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..30).collect::<Vec<_>>());
        // Edits work only at layer 11, which is between two layers of the first round.
        let between = rounds(30, |layer| if layer == 11 { 9 } else { 0 });
        assert!(between.iter().any(|round| round.layers.contains(&11)));
    }
}
