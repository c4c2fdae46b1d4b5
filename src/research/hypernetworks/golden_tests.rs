//! Compares MEND and KE with float64 results of an independent implementation. The model is a GPT-2 of 3 blocks whose
//! weights are computed by one formula. The expected results are in `../shared/tools/hypernetworks/golden.json`.

use std::path::Path;

use serde_json::Value;

use super::capture::{CapturedFact, SiteRows, capture};
use super::mend::Mend;
use super::sites::changed;
use super::toy::{Judged, close, dense, ids, judge, mean, norm, numbers, toy_ke, toy_mend, toy_model, toy_sites, wide};
use crate::model::Model;
use crate::model::load::checkpoint::MlpMatrix;
use crate::model::run::low_rank::Site;
use crate::numeric::random::NumpyRandomState;

/// Reads the expected results. If the file does not exist, prints that the test is skipped and returns `None`.
#[expect(clippy::print_stderr, reason = "a skipped test is reported")]
fn golden() -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/tools/hypernetworks/golden.json");
    let text = std::fs::read_to_string(&path);
    if text.is_err() {
        eprintln!("SKIPPED: {} is absent", path.display());
    }
    text.ok().map(|text| serde_json::from_str(&text).expect("the golden is JSON"))
}

fn name(site: Site) -> String {
    format!("{}@{}", if site.matrix == MlpMatrix::Down { "proj" } else { "fc" }, site.layer)
}

/// Computes the loss and the rows of each edit in the file on the unedited model. Returns the mean loss, and the rows
/// of each edit by edited matrix.
fn captured(golden: &Value, model: &Model, sites: &[Site]) -> (f64, Vec<Vec<SiteRows>>) {
    let edits = golden["edits"].as_array().expect("a list");
    let found = edits.iter().map(|edit| capture(model, sites, &ids(&edit["ids"]), ids(&edit["labels"]).len()));
    let (losses, rows): (Vec<f64>, Vec<_>) = found.unzip();
    (losses.iter().sum::<f64>() / losses.len() as f64, rows)
}

#[test]
fn captured_rows_equal_the_golden() {
    let Some(golden) = golden() else { return };
    let (model, sites) = (toy_model(), toy_sites());
    let (loss, captured_rows) = captured(&golden, &model, &sites);
    assert!((loss - golden["inner_loss_mean"].as_f64().expect("a number")).abs() < 1e-6, "{loss}");
    for (edit, all) in captured_rows.iter().enumerate() {
        for (site, rows) in sites.iter().zip(all) {
            let wanted = &golden["caught"][edit][name(*site)];
            close("x", wide(&rows.x), &wanted["x"], 1e-5);
            close("delta", wide(&rows.delta), &wanted["delta"], 1e-5);
        }
    }
}

/// Returns the texts of the file on which the edited models are measured.
fn judged_texts(golden: &Value) -> Vec<Judged> {
    let all = golden["outer"].as_array().expect("a list").iter();
    let text = |(index, outer): (usize, &Value)| {
        (ids(&outer["ids"]), ids(&outer["labels"]).len(), ids(&golden["locality"][index]))
    };
    all.enumerate().map(text).collect()
}

/// Returns the facts of the file with their rows.
fn facts<'f>(texts: &'f [Vec<u32>], rows: &'f [Vec<SiteRows>]) -> Vec<CapturedFact<'f>> {
    texts.iter().zip(rows).map(|(text, rows)| CapturedFact { text, rows }).collect()
}

fn texts(golden: &Value) -> Vec<Vec<u32>> {
    golden["edits"].as_array().expect("a list").iter().map(|edit| ids(&edit["ids"])).collect()
}

#[test]
fn mend_and_its_gradients_equal_the_golden() {
    let Some(golden) = golden() else { return };
    let (model, sites) = (toy_model(), toy_sites());
    let (_, rows) = captured(&golden, &model, &sites);
    for start in [false, true] {
        let wanted = &golden["mend"][if start { "start" } else { "away" }];
        let mut mend = toy_mend(&model, &sites, start);
        let texts = texts(&golden);
        let edits = mend.observe_and_edit(&facts(&texts, &rows));
        let mut sums = mend.zero_gradients();
        let (losses, by_changes) = judge(&model, &sites, &edits.changes, &judged_texts(&golden));
        mend.reverse(&edits, &by_changes, &mut sums);
        let mean = mean(&losses);
        let number = |key: &str| wanted[key].as_f64().expect("a number");
        assert!((mean.edit - number("edit_loss")).abs() < 1e-5, "{mean:?}");
        assert!((mean.divergence - number("kl")).abs() < 1e-5, "{mean:?}");
        let half = |numbers: &[f32]| numbers.iter().map(|x| f64::from(*x) / 2.0).collect::<Vec<_>>().into_iter();
        close("rates", half(&sums.rates), &wanted["gradients"]["rates"], 1e-3);
        for (shape, network) in ["fc", "proj"].iter().zip(&sums.networks) {
            for (index, layer) in network.layers.iter().enumerate() {
                for (part, by_part) in ["V", "U", "b", "scale", "shift"].iter().zip(layer.parts()) {
                    let key = format!("{shape}.{part}.{index}");
                    let gradient = &wanted["gradients"][&key];
                    if norm(numbers(gradient).into_iter()) == 0.0 {
                        assert!(by_part.iter().all(|x| *x == 0.0), "{key}");
                    } else {
                        close(&key, half(by_part), gradient, 1e-3);
                    }
                }
            }
        }
    }
}

#[test]
fn statistics_and_changes_of_mend_equal_the_golden() {
    let Some(golden) = golden() else { return };
    let (model, sites) = (toy_model(), toy_sites());
    let (_, rows) = captured(&golden, &model, &sites);
    let wanted = &golden["mend"]["away"];
    let mut mend = toy_mend(&model, &sites, false);
    // In the file, all edits have the same number of rows. The change of the edit with fewer rows ends in zeros there.
    let padded = |numbers: &[f32], count: usize| {
        wide(numbers).chain(std::iter::repeat(0.0)).take(count).collect::<Vec<_>>().into_iter()
    };
    for (edit, factors) in rows.iter().zip(wanted["factors"].as_array().expect("a list")) {
        let fact = CapturedFact { text: &[], rows: edit };
        for (site, change) in sites.iter().zip(mend.observe_and_edit(&[fact]).changes.remove(0)) {
            let (a, b) = (&factors[name(*site)]["a"], &factors[name(*site)]["b_with_rate"]);
            close("a", padded(&change.a, numbers(a).len()), a, 1e-4);
            close("b", padded(&change.b, numbers(b).len()), b, 1e-4);
        }
    }
    for (shape, statistics) in mend.shapes.iter().zip([&wanted["statistics"]["fc"], &wanted["statistics"]["proj"]]) {
        assert_eq!(Some(shape.inputs.count), statistics["n"].as_u64());
        close("mean of x", shape.inputs.mean.iter().copied(), &statistics["x_mean"], 1e-5);
        close("squares of x", shape.inputs.squares.iter().copied(), &statistics["x_s"], 1e-4);
        close("mean of delta", shape.outputs.mean.iter().copied(), &statistics["delta_mean"], 1e-5);
        close("squares of delta", shape.outputs.squares.iter().copied(), &statistics["delta_s"], 1e-4);
    }
    let again = mend.edit(&[CapturedFact { text: &[], rows: &rows[0] }]);
    let edited = changed(&model, &sites, &again.changes[0]);
    for site in &sites {
        let weight = edited.checkpoint().mlp_weight(site.layer, site.matrix).to_f32();
        close("an edited matrix", wide(&weight), &wanted["applied"][name(*site)], 1e-5);
    }
    let first = &golden["edits"][0];
    let (text, labels) = (ids(&first["ids"]), ids(&first["labels"]).len());
    let (before, _) = capture(&model, &sites, &text, labels);
    let (after, _) = capture(&edited, &sites, &text, labels);
    assert!((before - wanted["nll_before"].as_f64().expect("a number")).abs() < 1e-5);
    assert!((after - wanted["applied_nll"].as_f64().expect("a number")).abs() < 1e-5);
}

#[test]
fn ke_and_its_gradients_equal_the_golden() {
    let Some(golden) = golden() else { return };
    let (model, sites) = (toy_model(), toy_sites());
    let (_, rows) = captured(&golden, &model, &sites);
    let (wanted, ke) = (&golden["ke"], toy_ke(&model, &sites));
    let (mut sums, texts) = (ke.zero_gradients(), texts(&golden));
    let facts = facts(&texts, &rows);
    let edits = ke.edit(&facts);
    close("conditions", wide(&edits.conditions), &wanted["condition_vectors"], 1e-5);
    for (parts, of_site) in edits.parts.iter().zip(wanted["parts"].as_array().expect("a list")) {
        for (index, part) in parts.iter().enumerate() {
            close("column a", wide(&part.column_a), &of_site["colA"][index], 1e-5);
            close("column b", wide(&part.column_b), &of_site["colB"][index], 1e-5);
        }
    }
    for (index, changes) in edits.changes.iter().enumerate() {
        for (site, change) in sites.iter().zip(changes) {
            let dense = dense(change, site.shape(model.spec()));
            close("a change", dense.into_iter(), &wanted["changes"][index][name(*site)], 1e-5);
        }
    }
    let (losses, by_changes) = judge(&model, &sites, &edits.changes, &judged_texts(&golden));
    ke.reverse(&edits, &facts, &by_changes, &mut sums);
    let mean = mean(&losses);
    let number = |key: &str| wanted[key].as_f64().expect("a number");
    assert!((mean.edit - number("edit_loss")).abs() < 1e-5, "{mean:?}");
    assert!((mean.divergence - number("kl")).abs() < 1e-5, "{mean:?}");
    let parameters = wanted["parameters"].as_array().expect("a list");
    for (parameter, part) in parameters.iter().zip(sums.parts_mut()) {
        let key = parameter[0].as_str().expect("a name");
        close(key, part.iter().map(|x| f64::from(*x) / 2.0), &wanted["gradients"][key], 1e-3);
    }
}

/// In a new network, the input of the rectifier is 0 everywhere. Its gradients would all be 0 if the slope of the
/// rectifier at 0 were 0.
#[test]
fn a_new_network_learns() {
    let (model, sites) = (toy_model(), toy_sites());
    let mut mend = Mend::new(model.spec(), model.isa(), sites.clone(), 5, &mut NumpyRandomState::new(1));
    let (_, rows) = capture(&model, &sites, &[3, 7, 1, 9], 1);
    mend.observe(&rows);
    let edits = mend.observe_and_edit(&[CapturedFact { text: &[], rows: &rows }]);
    let texts = [(vec![7, 1, 9], 1, vec![1, 2, 3, 4, 5, 6])];
    let (_, by_changes) = judge(&model, &sites, &edits.changes, &texts);
    let mut sums = mend.zero_gradients();
    mend.reverse(&edits, &by_changes, &mut sums);
    for layer in sums.networks.iter().flat_map(|network| &network.layers) {
        assert!(layer.u.iter().any(|x| *x != 0.0));
        assert!(layer.v.iter().chain(&layer.scale).all(|x| *x == 0.0));
    }
}

#[test]
fn changes_of_zero_give_the_base() {
    let (model, sites) = (toy_model(), toy_sites());
    let mut mend = Mend::new(model.spec(), model.isa(), sites.clone(), 5, &mut NumpyRandomState::new(1));
    mend.rates.fill(0.0);
    let (_, rows) = capture(&model, &sites, &[5, 2, 8, 4, 6], 2);
    let edits = mend.observe_and_edit(&[CapturedFact { text: &[], rows: &rows }]);
    let (losses, _) = judge(&model, &sites, &edits.changes, &[(vec![2, 8, 4, 6], 2, vec![1, 2, 3])]);
    assert_eq!(losses[0].divergence, 0.0);
}
