//! Compares MEND and KE with float64 results of an independent implementation. The model is a GPT-2 of 3 blocks whose
//! weights are computed by one formula. The expected results are in `../shared/tools/hypernetworks/golden.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::capture::{CapturedFact, SiteRows, capture};
use super::ke::{Ke, KeSizes};
use super::mend::Mend;
use super::objective::{JudgedFact, Loss, LossWeights, UnrelatedStates, losses_and_gradients};
use super::sites::{changed, first_layer};
use crate::model::Model;
use crate::model::load::checkpoint::MlpMatrix;
use crate::model::run::low_rank::{LowRank, Site};
use crate::numeric::Isa;
use crate::numeric::random::NumpyRandomState;
use crate::safetensors::Dtype;
use crate::safetensors::{TensorData, write};

const WEIGHTS: LossWeights = LossWeights { edit: 0.1, locality: 1.0 };

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

/// Returns the `count` elements of the tensor with the number `t`: element k is
/// `base + amplitude · sin(1.7 t + 0.61 k + 0.3)`. All weights of the tests are computed by this formula.
fn filled(count: usize, t: usize, amplitude: f64, base: f64) -> Vec<f32> {
    (0..count).map(|k| (base + amplitude * (1.7 * t as f64 + 0.61 * k as f64 + 0.3).sin()) as f32).collect()
}

pub(crate) fn toy_model() -> Model {
    let (d, f) = (4, 10);
    let mut tensors: Vec<(String, Vec<u64>, f64, f64)> =
        vec![("wte.weight".into(), vec![11, d], 0.7, 0.0), ("wpe.weight".into(), vec![16, d], 0.3, 0.0)];
    for layer in 0..3 {
        for (name, shape, amplitude, base) in [
            ("ln_1.weight", vec![d], 0.2, 1.0),
            ("ln_1.bias", vec![d], 0.1, 0.0),
            ("attn.c_attn.weight", vec![d, 3 * d], 0.5, 0.0),
            ("attn.c_attn.bias", vec![3 * d], 0.1, 0.0),
            ("attn.c_proj.weight", vec![d, d], 0.5, 0.0),
            ("attn.c_proj.bias", vec![d], 0.1, 0.0),
            ("ln_2.weight", vec![d], 0.2, 1.0),
            ("ln_2.bias", vec![d], 0.1, 0.0),
            ("mlp.c_fc.weight", vec![d, f], 0.5, 0.0),
            ("mlp.c_fc.bias", vec![f], 0.1, 0.0),
            ("mlp.c_proj.weight", vec![f, d], 0.5, 0.0),
            ("mlp.c_proj.bias", vec![d], 0.1, 0.0),
        ] {
            tensors.push((format!("h.{layer}.{name}"), shape, amplitude, base));
        }
    }
    tensors.push(("ln_f.weight".into(), vec![d], 0.2, 1.0));
    tensors.push(("ln_f.bias".into(), vec![d], 0.1, 0.0));
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .enumerate()
        .map(|(t, (_, shape, amplitude, base))| {
            let count = shape.iter().product::<u64>() as usize;
            filled(count, t, *amplitude, *base).iter().flat_map(|x| x.to_le_bytes()).collect()
        })
        .collect();
    let data: Vec<TensorData<'_>> = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, ..), data)| TensorData {
            name: format!("transformer.{name}"),
            dtype: Dtype::F32,
            shape: shape.clone(),
            data,
        })
        .collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("model.safetensors"), write(&data, &BTreeMap::new())).expect("the weights");
    let config = r#"{"model_type": "gpt2", "n_layer": 3, "n_embd": 4, "n_inner": 10, "n_head": 2, "vocab_size": 11,
        "n_positions": 16, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", "tie_word_embeddings": true}"#;
    std::fs::write(folder.path().join("config.json"), config).expect("the config");
    Model::open(folder.path(), Isa::detect()).expect("the model opens")
}

pub(super) fn toy_sites() -> Vec<Site> {
    let block = |layer| [MlpMatrix::Down, MlpMatrix::Up].map(|matrix| Site { layer, matrix });
    [1, 2].into_iter().flat_map(block).collect()
}

fn name(site: Site) -> String {
    format!("{}@{}", if site.matrix == MlpMatrix::Down { "proj" } else { "fc" }, site.layer)
}

/// Returns all numbers of a JSON value that is a number or an array, which may be nested.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(parts) => parts.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().expect("a number")],
    }
}

fn ids(value: &Value) -> Vec<u32> {
    numbers(value).into_iter().map(|id| id as u32).collect()
}

fn norm(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.map(|x| x * x).sum::<f64>().sqrt()
}

/// Checks that the norm of the difference is at most `tolerance` times the norm of the wanted numbers.
fn close(what: &str, found: impl Iterator<Item = f64>, wanted: &Value, tolerance: f64) {
    let (found, wanted): (Vec<f64>, _) = (found.collect(), numbers(wanted));
    assert_eq!(found.len(), wanted.len(), "{what}");
    let error = norm(found.iter().zip(&wanted).map(|(a, b)| a - b)) / norm(wanted.iter().copied());
    assert!(error <= tolerance, "{what}: {error:e}");
}

fn wide(numbers: &[f32]) -> impl Iterator<Item = f64> {
    numbers.iter().map(|x| f64::from(*x))
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

/// Creates the MEND editor for which the expected results were computed. If `start` is true, all parameters
/// except V are those of an untrained editor; otherwise all parameters differ from those.
fn toy_mend(model: &Model, sites: &[Site], start: bool) -> Mend {
    let mut mend = Mend::new(model.spec(), model.isa(), sites.to_vec(), 5, &mut NumpyRandomState::new(0));
    let mut t = 100;
    for shape in &mut mend.shapes {
        for layer in &mut shape.network.layers {
            let [v, u, bias, scale, shift] = layer.parts_mut();
            *v = filled(v.len(), t, 1.0, 0.0);
            if !start {
                *u = filled(u.len(), t + 1, 0.05, 0.0);
                *bias = filled(bias.len(), t + 2, 0.2, 0.0);
                *scale = filled(scale.len(), t + 3, 0.3, 1.0);
                *shift = filled(shift.len(), t + 4, 0.2, 0.0);
            }
            t += 5;
        }
    }
    if !start {
        mend.rates = vec![-2e-2, 1e-2, -3e-2, 1.5e-2];
    }
    mend
}

/// A text with the number of labels at its end, and an unrelated text.
type Judged = (Vec<u32>, usize, Vec<u32>);

/// Computes the loss of each fact and the gradients of its changes.
fn judge(model: &Model, sites: &[Site], changes: &[Vec<LowRank>], texts: &[Judged]) -> (Vec<Loss>, Vec<Vec<LowRank>>) {
    let state = |(outer, _, unrelated): &Judged| {
        let before = model.hidden_states(&[&outer[..outer.len() - 1]], first_layer(sites));
        (before, UnrelatedStates::of_texts(model, sites, &[unrelated]).remove(0))
    };
    let states: Vec<_> = texts.iter().map(state).collect();
    let fact =
        |((changes, (outer, labels, _)), (before, unrelated)): ((&'_ Vec<LowRank>, &'_ Judged), &'_ (Vec<f32>, _))| {
            (changes.clone(), outer[outer.len() - labels..].to_vec(), before.clone(), UnrelatedStates::clone(unrelated))
        };
    let owned: Vec<_> = changes.iter().zip(texts).zip(&states).map(fact).collect();
    let facts: Vec<JudgedFact<'_>> = owned
        .iter()
        .map(|(changes, target, outer, unrelated)| JudgedFact { outer, target, unrelated, changes })
        .collect();
    losses_and_gradients(model, sites, &facts, WEIGHTS).into_iter().unzip()
}

/// Returns the texts of the file on which the edited models are measured.
fn judged_texts(golden: &Value) -> Vec<Judged> {
    let outer = golden["outer"].as_array().expect("a list").iter();
    let text = |(index, outer): (usize, &Value)| {
        (ids(&outer["ids"]), ids(&outer["labels"]).len(), ids(&golden["locality"][index]))
    };
    outer.enumerate().map(text).collect()
}

/// Returns the facts of the file with their rows.
fn facts<'f>(texts: &'f [Vec<u32>], rows: &'f [Vec<SiteRows>]) -> Vec<CapturedFact<'f>> {
    texts.iter().zip(rows).map(|(text, rows)| CapturedFact { text, rows }).collect()
}

fn texts(golden: &Value) -> Vec<Vec<u32>> {
    golden["edits"].as_array().expect("a list").iter().map(|edit| ids(&edit["ids"])).collect()
}

fn mean(losses: &[Loss]) -> Loss {
    let count = losses.len() as f64;
    let sum = |of: fn(&Loss) -> f64| losses.iter().map(of).sum::<f64>() / count;
    Loss { edit: sum(|loss| loss.edit), divergence: sum(|loss| loss.divergence) }
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
                for (part, numbers) in ["V", "U", "b", "scale", "shift"].iter().zip(layer.parts()) {
                    let key = format!("{shape}.{part}.{index}");
                    let gradient = &wanted["gradients"][&key];
                    if norm(self::numbers(gradient).into_iter()) == 0.0 {
                        assert!(numbers.iter().all(|x| *x == 0.0), "{key}");
                    } else {
                        close(&key, half(numbers), gradient, 1e-3);
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

/// Creates the KE editor for which the expected results were computed. The parameters are computed by [`filled`] in the
/// order in which the file lists them, except for the embedding, which is copied from the model.
fn toy_ke(golden: &Value, model: &Model, sites: &[Site]) -> Ke {
    let mut ke = Ke::zeros(model, sites.to_vec(), KeSizes { cells: 3, condition: 5, hidden: 4 });
    let names = golden["ke"]["parameters"].as_array().expect("a list");
    for (t, (name, part)) in (300..).zip(names.iter().zip(ke.parts_mut()).skip(1)) {
        let gain = name[0].as_str().expect("a name").ends_with(".g");
        *part = if gain { filled(part.len(), t, 0.3, 1.0) } else { filled(part.len(), t, 0.6, 0.0) };
    }
    ke
}

#[test]
fn ke_and_its_gradients_equal_the_golden() {
    let Some(golden) = golden() else { return };
    let (model, sites) = (toy_model(), toy_sites());
    let (_, rows) = captured(&golden, &model, &sites);
    let (wanted, ke) = (&golden["ke"], toy_ke(&golden, &model, &sites));
    let (mut sums, texts) = (ke.zero_gradients(), texts(&golden));
    let facts = facts(&texts, &rows);
    let edits = ke.edit(&facts);
    close("conditions", wide(&edits.conditions), &wanted["condition_vectors"], 1e-5);
    for (parts, wanted) in edits.parts.iter().zip(wanted["parts"].as_array().expect("a list")) {
        for (index, part) in parts.iter().enumerate() {
            close("column a", wide(&part.column_a), &wanted["colA"][index], 1e-5);
            close("column b", wide(&part.column_b), &wanted["colB"][index], 1e-5);
        }
    }
    for (index, changes) in edits.changes.iter().enumerate() {
        for (site, change) in sites.iter().zip(changes) {
            let (inputs, outputs) = site.shape(model.spec());
            let mut dense = vec![0.0; inputs * outputs];
            for (a, b) in change.a.chunks(inputs).zip(change.b.chunks(outputs)) {
                for (element, sum) in dense.iter_mut().enumerate() {
                    *sum += f64::from(a[element / outputs]) * f64::from(b[element % outputs]);
                }
            }
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
