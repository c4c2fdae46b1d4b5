//! Which layers to try where nobody says: some far apart first, and then those around the best.

use std::collections::BTreeSet;

use super::layers::{Tried, as_good, best};

/// Layers of the first round at most. A model that has no more is tried at all of them at once.
const FIRST: usize = 8;
/// Around so many layers it is looked further at once: the best, and the best of those that the edits do not tell from it.
const CENTRES: usize = 2;

/// Layers that are tried together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// The layers, ascending.
    pub layers: Vec<usize>,
    /// The layers around which they lie; none in the first round, and where no edit held anywhere before.
    pub around: Vec<usize>,
}

/// A choice of layers from coarse to fine, as far as it has come.
#[derive(Clone, Copy, Debug)]
pub struct Coarse {
    count: usize,
    stride: usize,
}

impl Coarse {
    /// The first round for a model of `count` layers, and how it goes on.
    pub fn new(count: usize) -> (Self, Round) {
        let mut stride = 1;
        while count.div_ceil(stride) > FIRST {
            stride *= 2;
        }
        let coarse = Self { count, stride };
        (coarse, Round { layers: coarse.all(), around: Vec::new() })
    }

    /// The next round after what was tried: at half the distance around the best, in the end the layers next to it. None
    /// where those were tried, or every layer was.
    pub fn next(&mut self, tried: &[Tried]) -> Option<Round> {
        loop {
            self.stride = (self.stride / 2).max(1);
            let around = centres(tried);
            let wanted: BTreeSet<usize> = match around.is_empty() {
                // No edit held anywhere: the layers in which one does may lie between.
                true => self.all().into_iter().collect(),
                false => around.iter().flat_map(|&centre| self.beside(centre)).collect(),
            };
            let layers: Vec<usize> =
                wanted.into_iter().filter(|layer| tried.iter().all(|one| one.layer != *layer)).collect();
            if !layers.is_empty() {
                return Some(Round { layers, around });
            }
            if self.stride == 1 {
                return None;
            }
        }
    }

    /// Layers of all the model, a stride apart.
    fn all(self) -> Vec<usize> {
        (self.stride / 2..self.count).step_by(self.stride).collect()
    }

    fn beside(self, centre: usize) -> impl Iterator<Item = usize> {
        let below = centre.checked_sub(self.stride);
        below.into_iter().chain(Some(centre + self.stride).filter(|above| *above < self.count))
    }
}

/// The best layer, and the best of those that are as good for all that the edits say.
fn centres(tried: &[Tried]) -> Vec<usize> {
    let Some(first) = best(tried) else { return Vec::new() };
    let mut rest: Vec<Tried> = tried.iter().filter(|one| as_good(first, one)).cloned().collect();
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
    use super::super::layers::Shares;
    use super::*;
    use crate::behaviour::expect::Share;

    /// A layer at which `held` of ten edits hold, and all of what should stay stays.
    fn tried(layer: usize, held: usize) -> Tried {
        let edit = |met: bool| Shares {
            efficacy: Share { met: usize::from(met), all: 1 },
            paraphrase: Share { met: usize::from(met), all: 1 },
            unchanged: Share { met: 1, all: 1 },
        };
        Tried::new(layer, (0..10).map(|index| edit(index < held)).collect(), 0, 0)
    }

    /// All rounds for a model of `count` layers of which so many edits hold.
    fn rounds(count: usize, held: impl Fn(usize) -> usize) -> Vec<Round> {
        let (mut coarse, first) = Coarse::new(count);
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
    fn the_best_is_closed_in_on() {
        // One hill, its top between the layers of the first round.
        let hill = |top: usize| move |layer: usize| 10usize.saturating_sub(3 * layer.abs_diff(top));
        let found = rounds(30, hill(7));
        assert_eq!(found[0], Round { layers: vec![2, 6, 10, 14, 18, 22, 26], around: vec![] });
        assert_eq!((&found[1].around, &found[1].layers), (&vec![6], &vec![4, 8]));
        let all: Vec<usize> = found.iter().flat_map(|round| round.layers.clone()).collect();
        assert!(all.contains(&7) && all.len() < 15, "{found:?}");
        // Every layer can be found, those at the ends too, and none is tried twice.
        for count in [9, 12, 17, 24, 30, 48] {
            for top in 0..count {
                let found = rounds(count, |layer| 100usize.saturating_sub(layer.abs_diff(top)).saturating_sub(90));
                let mut all: Vec<usize> = found.iter().flat_map(|round| round.layers.clone()).collect();
                assert!(all.contains(&top), "{top} of {count}: {found:?}");
                let tried = all.len();
                all.sort_unstable();
                all.dedup();
                assert_eq!(all.len(), tried, "{found:?}");
            }
        }
    }

    #[test]
    fn layers_that_are_as_good_are_looked_around_too() {
        let found = rounds(30, |layer| if [6, 18].contains(&layer) { 9 } else { 2 });
        assert_eq!(found[1], Round { layers: vec![4, 8, 16, 20], around: vec![6, 18] });
        assert_eq!(found[2], Round { layers: vec![5, 7, 17, 19], around: vec![6, 18] });
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn where_nothing_holds_every_layer_is_tried() {
        let found = rounds(30, |_| 0);
        assert!(found.iter().all(|round| round.around.is_empty()));
        let mut all: Vec<usize> = found.iter().flat_map(|round| round.layers.clone()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..30).collect::<Vec<_>>());
        // One layer alone, between all others.
        let found = rounds(30, |layer| if layer == 11 { 9 } else { 0 });
        assert!(found.iter().any(|round| round.layers.contains(&11)));
    }
}
