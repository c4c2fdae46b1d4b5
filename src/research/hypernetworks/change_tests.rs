//! Tests the rows of facts, the changes that the editors compute from them, and the model with these changes.

use super::capture::{capture, capture_all};
use super::ke::Ke;
use super::mend::Mend;
use super::objective::losses_and_gradients;
use super::sites::{changed, first_layer, sites};
use super::toy::{FACTS, WEIGHTS, captured_facts, captured_rows, family, filled, judged, judged_states};
use super::toy::{norm, outer_texts, toy_ke, toy_mend};
use super::whitening::RunningStatistics;
use crate::model::Model;
use crate::model::load::checkpoint::MlpMatrix;
use crate::model::run::low_rank::{BatchChanges, LowRank, Site};
use crate::model::run::upper_pass::{MlpGradients, UpperPass};
use crate::numeric::random::NumpyRandomState;

/// A model with the layout of Conv1D, one with the layout of Linear, and one with the layout of Linear and gated MLPs.
fn models() -> [(&'static str, Model, Vec<Site>); 3] {
    ["gpt2", "gpt_neo", "llama"].map(|name| {
        let model = family(name);
        let sites = sites(model.spec(), 2);
        (name, model, sites)
    })
}

fn editors(model: &Model, sites: &[Site]) -> (Mend, Ke) {
    let mut mend = toy_mend(model, sites, false);
    captured_rows(model, sites).iter().for_each(|rows| mend.observe(rows));
    (mend, toy_ke(model, sites))
}

/// Computes the changes of both editors for [`FACTS`].
fn all_changes(model: &Model, sites: &[Site]) -> [Vec<Vec<LowRank>>; 2] {
    let rows = captured_rows(model, sites);
    let (mend, ke) = editors(model, sites);
    [mend.edit(&captured_facts(&rows)).changes, ke.edit(&captured_facts(&rows)).changes]
}

/// Returns the norm of the difference, divided by the norm of `wanted`.
fn distance(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let difference = found.iter().zip(wanted).map(|(a, b)| f64::from(*a) - f64::from(*b));
    norm(difference) / norm(wanted.iter().map(|x| f64::from(*x)))
}

/// Compares the sum of `xᵀ δ` with central differences of the loss, in the direction of each row of each matrix.
#[test]
fn rows_give_the_gradient_of_their_matrix() {
    for (name, model, sites) in models() {
        let (text, labels) = FACTS[1];
        let (_, of_sites) = capture(&model, &sites, text, labels);
        for (site, rows) in sites.iter().zip(&of_sites) {
            let (inputs, outputs) = site.shape(model.spec());
            let pairs = || rows.x.chunks(inputs).zip(rows.delta.chunks(outputs));
            for (row_x, row_delta) in pairs() {
                let unit = |row: &[f32]| {
                    let length = norm(row.iter().map(|x| f64::from(*x)));
                    row.iter().map(|x| (f64::from(*x) / length) as f32).collect::<Vec<f32>>()
                };
                let (a, b) = (unit(row_x), unit(row_delta));
                let product = |one: &[f32], other: &[f32]| {
                    one.iter().zip(other).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>()
                };
                let wanted: f64 = pairs().map(|(x, delta)| product(x, &a) * product(delta, &b)).sum();
                let loss = |step: f32| {
                    let factor: Vec<f32> = a.iter().map(|x| x * step).collect();
                    capture(&model.with_added(site.layer, site.matrix, &factor, &b), &sites, text, labels).0
                };
                let step = 1e-2;
                let found = (loss(step) - loss(-step)) / (2.0 * f64::from(step));
                assert!((found - wanted).abs() < 1e-2 * wanted.abs(), "{name}, {site:?}: {found} {wanted}");
            }
        }
    }
}

#[test]
fn a_longer_neighbour_changes_no_bit() {
    for (name, model, sites) in models() {
        let together = capture_all(&model, &sites, &FACTS);
        let alone = FACTS.map(|(text, labels)| capture(&model, &sites, text, labels));
        assert!(together == alone, "{name}: the rows");
        let texts = outer_texts();
        let states = judged_states(&model, &sites, &texts);
        for changes in all_changes(&model, &sites) {
            let facts = judged(&states, &changes);
            let batch = losses_and_gradients(&model, &sites, &facts, WEIGHTS);
            let each = facts.iter().flat_map(|fact| losses_and_gradients(&model, &sites, &[*fact], WEIGHTS));
            assert!(batch == each.collect::<Vec<_>>(), "{name}: the losses and the gradients");
        }
    }
}

#[test]
fn new_mend_returns_whitened_rows() {
    for (name, model, sites) in models() {
        let mut mend = Mend::new(model.spec(), model.isa(), sites.clone(), 5, &mut NumpyRandomState::new(0));
        let rows = captured_rows(&model, &sites);
        // All up-projections and gates have the same statistics, and all down-projections have the same ones.
        let [mut x, mut delta] = [0, 1].map(|side| {
            [MlpMatrix::Up, MlpMatrix::Down].map(|matrix| {
                let (inputs, outputs) = Site { layer: 0, matrix }.shape(model.spec());
                RunningStatistics::new([inputs, outputs][side])
            })
        });
        let shape = |site: &Site| usize::from(site.matrix == MlpMatrix::Down);
        for (site, of_site) in sites.iter().zip(&rows[0]) {
            x[shape(site)].add(&of_site.x);
            delta[shape(site)].add(&of_site.delta);
        }
        mend.observe(&rows[0]);
        let changes = mend.observe_and_edit(&captured_facts(&rows)[1..]).changes.remove(0);
        for ((site, of_site), change) in sites.iter().zip(&rows[1]).zip(&changes) {
            let (x, delta) = (&mut x[shape(site)], &mut delta[shape(site)]);
            x.add(&of_site.x);
            delta.add(&of_site.delta);
            assert_eq!(change.a, x.whiten(&of_site.x), "{name}, {site:?}");
            let b: Vec<f32> = delta.whiten(&of_site.delta).iter().map(|element| 1e-4 * element).collect();
            assert_eq!(change.b, b, "{name}, {site:?}");
        }
    }
}

#[test]
fn mend_never_lowers_a_whitened_element() {
    for (name, model, sites) in models() {
        let (mut mend, _) = editors(&model, &sites);
        mend.rates.fill(1.0);
        let rows = captured_rows(&model, &sites);
        let mut new = Mend::identity(model.spec(), model.isa(), sites.clone(), 5);
        new.rates.fill(1.0);
        for (of_new, of_mend) in new.shapes.iter_mut().zip(&mend.shapes) {
            (of_new.inputs, of_new.outputs) = (of_mend.inputs.clone(), of_mend.outputs.clone());
        }
        let facts = captured_facts(&rows);
        let pairs = new.edit(&facts).changes.concat().into_iter().zip(mend.edit(&facts).changes.concat());
        for (whitened, transformed) in pairs {
            for (before, after) in [(whitened.a, transformed.a), (whitened.b, transformed.b)] {
                assert!(before.iter().zip(&after).all(|(before, after)| after >= before), "{name}");
                assert!(before != after, "{name}");
            }
        }
    }
}

/// The input and the output gradient of each MLP matrix: layer after layer, each with a name.
type Outputs = Vec<(String, Vec<f32>)>;

/// Runs one text, and back-propagates a fixed gradient of the logits. Returns the logits and the gradients.
fn passed(model: &Model, first: usize, texts: &[(&[u32], usize)], changes: BatchChanges<'_>) -> Outputs {
    let (tokens, labelled): (Vec<&[u32]>, Vec<usize>) = texts.iter().copied().unzip();
    let pass = UpperPass::new(model, first, &tokens, &labelled);
    let tape = pass.forward(model, changes);
    // The gradient of each text starts with the same element, whether or not it is alone.
    let width = model.spec().vocabulary;
    let gradient: Vec<f32> = labelled.iter().flat_map(|count| filled(count * width, 7, 0.5, 0.1)).collect();
    let mut out = vec![("logits".to_owned(), tape.logits.clone())];
    pass.reverse(model, changes, &tape, &gradient, |layer, gradients| {
        let MlpGradients { normed, gate, up, key, down, .. } = gradients;
        for (part, numbers) in [("normed", normed), ("up", up), ("key", key), ("down", down)] {
            out.push((format!("{part} of block {layer}"), numbers));
        }
        out.extend(gate.map(|gate| (format!("gate of block {layer}"), gate)));
    });
    out
}

#[test]
fn low_rank_changes_equal_changed_matrices() {
    let texts: [(&[u32], usize); 2] = [(&[10, 47, 22, 58, 14, 36], 3), (&[60, 9, 38, 7], 4)];
    for (name, model, sites) in models() {
        let first = first_layer(&sites);
        for changes in all_changes(&model, &sites) {
            let groups: Vec<(usize, &[LowRank])> = changes.iter().map(|changes| (1, &changes[..])).collect();
            let found = passed(&model, first, &texts, BatchChanges { sites: &sites, groups: &groups });
            let alone = |index: usize| {
                let model = changed(&model, &sites, &changes[index]);
                passed(&model, first, &texts[index..=index], BatchChanges::NONE)
            };
            let base = passed(&model, first, &texts, BatchChanges::NONE);
            assert!(distance(&base[0].1, &found[0].1) > 1e-3, "{name}: the changes have no effect");
            for ((part, numbers), (one, other)) in found.iter().zip(alone(0).into_iter().zip(alone(1))) {
                let error = distance(numbers, &[one.1, other.1].concat());
                assert!(error < 1e-4, "{name}, {part}: {error:e}");
            }
        }
    }
}

#[test]
fn the_lstm_reads_each_fact_alone() {
    let model = family("gpt2");
    let sites = sites(model.spec(), 1);
    let (rows, ke) = (captured_rows(&model, &sites), toy_ke(&model, &sites));
    let facts = captured_facts(&rows);
    let together = ke.edit(&facts);
    let alone = [ke.edit(&facts[..1]), ke.edit(&facts[1..])];
    assert_eq!(together.conditions, alone.each_ref().map(|edits| edits.conditions.clone()).concat());
    assert_eq!(together.changes, alone.each_ref().map(|edits| edits.changes.clone()).concat());
}
