//! Opens small models with generated weights, and creates the texts and the editors of the tests.

#[path = "../../../tests/support/generated.rs"]
#[expect(unreachable_pub, reason = "the integration tests include this file as well")]
pub(super) mod generated;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::capture::{CapturedFact, SiteRows, capture};
use super::ke::{Ke, KeSizes};
use super::learner::{Learner, Numbers};
use super::mend::Mend;
use super::objective::{JudgedFact, Loss, LossWeights, UnrelatedStates, losses_and_gradients};
use super::sites::first_layer;
use super::stored::tensors;
use super::train::{FactText, TrainingData, TrainingFact};
use crate::model::Model;
use crate::model::load::checkpoint::MlpMatrix;
use crate::model::run::low_rank::{LowRank, Site};
use crate::numeric::Isa;
use crate::numeric::random::NumpyRandomState;
use crate::safetensors::{Dtype, TensorData, write};

pub(super) const WEIGHTS: LossWeights = LossWeights { edit: 0.1, locality: 1.0 };

/// Returns the `count` elements of the tensor with the number `t`: element k is
/// `base + amplitude · sin(1.7 t + 0.61 k + 0.3)`. All weights of the tests are computed by this formula.
pub(super) fn filled(count: usize, t: usize, amplitude: f64, base: f64) -> Vec<f32> {
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
    let element = |(t, (name, shape, amplitude, base)): (usize, (String, Vec<u64>, f64, f64))| {
        let count = shape.iter().product::<u64>() as usize;
        (format!("transformer.{name}"), (shape, filled(count, t, amplitude, base)))
    };
    let tensors = tensors.into_iter().enumerate().map(element).collect();
    let config = r#"{"model_type": "gpt2", "n_layer": 3, "n_embd": 4, "n_inner": 10, "n_head": 2, "vocab_size": 11,
        "n_positions": 16, "layer_norm_epsilon": 1e-5,
        "activation_function": "gelu_new", "tie_word_embeddings": true}"#;
    open(&serde_json::from_str(config).expect("the config is JSON"), &tensors, Isa::detect())
}

pub(super) fn toy_sites() -> Vec<Site> {
    let block = |layer| [MlpMatrix::Down, MlpMatrix::Up].map(|matrix| Site { layer, matrix });
    [1, 2].into_iter().flat_map(block).collect()
}

/// The facts with which the tests of the models in golden/families.json edit: the tokens and the number of labels.
pub(super) const FACTS: [(&[u32], usize); 2] = [(&[3, 17, 41, 9], 1), (&[5, 22, 58, 14, 36], 2)];

/// Returns the texts on which the tests measure the models that are edited with [`FACTS`].
pub(super) fn outer_texts() -> Vec<Judged> {
    vec![(vec![7, 41, 9], 1, vec![1, 28, 33, 4, 50, 6]), (vec![10, 47, 22, 58, 14, 36], 2, vec![60, 9, 38, 7, 25])]
}

/// The shape and the elements of every tensor of a checkpoint, by name.
pub(super) type Tensors = BTreeMap<String, (Vec<u64>, Vec<f32>)>;

/// Reads a JSON file of expected results in tests/reference/golden.
pub(super) fn reference(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/golden").join(name);
    serde_json::from_slice(&std::fs::read(path).expect("the golden exists")).expect("the golden is JSON")
}

/// Returns the config and the tensors of a checkpoint in golden/families.json.
pub(super) fn family_parts(name: &str) -> (Value, Tensors) {
    let mut golden = reference("families.json");
    let cases = golden["cases"].as_array_mut().expect("a list");
    let case = cases.iter_mut().find(|case| case["name"] == name).expect("a case of that name");
    (case["config"].take(), generated::family_tensors(&case["tensors"]))
}

/// Opens a checkpoint of golden/families.json.
pub(super) fn family(name: &str) -> Model {
    let (config, tensors) = family_parts(name);
    open(&config, &tensors, Isa::detect())
}

/// Opens a model with the given config and tensors.
pub(super) fn open(config: &Value, tensors: &Tensors, isa: Isa) -> Model {
    let bytes = tensors.values().map(|(_, elements)| elements.iter().flat_map(|x| x.to_le_bytes()).collect());
    let bytes: Vec<Vec<u8>> = bytes.collect();
    let data = tensors.iter().zip(&bytes).map(|((name, (shape, _)), data)| TensorData {
        name: name.clone(),
        dtype: Dtype::F32,
        shape: shape.clone(),
        data,
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let weights = write(&data.collect::<Vec<_>>(), &BTreeMap::new());
    std::fs::write(folder.path().join("model.safetensors"), weights).expect("the weights");
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("the config");
    Model::open(folder.path(), isa).expect("the model opens")
}

/// Computes the rows of [`FACTS`], each fact alone.
pub(super) fn captured_rows(model: &Model, sites: &[Site]) -> Vec<Vec<SiteRows>> {
    FACTS.map(|(text, labels)| capture(model, sites, text, labels).1).into()
}

/// Returns [`FACTS`] with their rows.
pub(super) fn captured_facts(rows: &[Vec<SiteRows>]) -> Vec<CapturedFact<'_>> {
    FACTS.iter().zip(rows).map(|((text, _), rows)| CapturedFact { text, rows }).collect()
}

/// Computes the change `aᵀ b` of a matrix with the given numbers of inputs and outputs, row-major.
pub(super) fn dense(change: &LowRank, (inputs, outputs): (usize, usize)) -> Vec<f64> {
    let mut dense = vec![0.0; inputs * outputs];
    for (a, b) in change.a.chunks(inputs).zip(change.b.chunks(outputs)) {
        for (element, sum) in dense.iter_mut().enumerate() {
            *sum += f64::from(a[element / outputs]) * f64::from(b[element % outputs]);
        }
    }
    dense
}

/// Returns all numbers of an editor, as bytes, with their names.
pub(super) fn state_bytes<L: Learner>(learner: &L) -> Vec<(String, Dtype, Vec<u8>)> {
    tensors("", learner.clone().state())
}

/// Creates the MEND editor for which the expected results were computed. If `start` is true, all parameters
/// except V are those of an untrained editor; otherwise all parameters differ from those.
pub(super) fn toy_mend(model: &Model, sites: &[Site], start: bool) -> Mend {
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
        mend.rates = [-2e-2, 1e-2, -3e-2, 1.5e-2].into_iter().cycle().take(sites.len()).collect();
    }
    mend
}

/// Creates the KE editor for which the expected results were computed. The parameters are computed by [`filled`] in the
/// order of [`Ke::parts_mut`], except for the embedding, which is copied from the model.
pub(super) fn toy_ke(model: &Model, sites: &[Site]) -> Ke {
    let mut ke = Ke::zeros(model, sites.to_vec(), KeSizes { cells: 3, condition: 5, hidden: 4 });
    for (t, (name, numbers)) in (300..).zip(ke.state().into_iter().skip(1)) {
        let Numbers::F32(part) = numbers else { panic!("{name} is not f32") };
        *part = if name.ends_with(".g") { filled(part.len(), t, 0.3, 1.0) } else { filled(part.len(), t, 0.6, 0.0) };
    }
    ke
}

/// A text with the number of labels at its end, and an unrelated text.
pub(super) type Judged = (Vec<u32>, usize, Vec<u32>);

/// A text of a fact and an unrelated text, computed in the base.
pub(super) struct JudgedStates {
    outer: Vec<f32>,
    target: Vec<u32>,
    unrelated: UnrelatedStates,
}

pub(super) fn judged_states(model: &Model, sites: &[Site], texts: &[Judged]) -> Vec<JudgedStates> {
    let states = |(outer, labels, unrelated): &Judged| JudgedStates {
        outer: model.hidden_states(&[&outer[..outer.len() - 1]], first_layer(sites)),
        target: outer[outer.len() - labels..].to_vec(),
        unrelated: UnrelatedStates::of_texts(model, sites, &[unrelated]).remove(0),
    };
    texts.iter().map(states).collect()
}

/// Combines the texts of facts with the changes for the facts.
pub(super) fn judged<'t>(states: &'t [JudgedStates], changes: &'t [Vec<LowRank>]) -> Vec<JudgedFact<'t>> {
    let fact = |(of_fact, changed): (&'t JudgedStates, &'t Vec<LowRank>)| {
        let JudgedStates { outer, target, unrelated } = of_fact;
        JudgedFact { outer, target, unrelated, changes: changed }
    };
    states.iter().zip(changes).map(fact).collect()
}

/// Computes the loss of each fact and the gradients of its changes.
pub(super) fn judge(
    model: &Model,
    sites: &[Site],
    changes: &[Vec<LowRank>],
    texts: &[Judged],
) -> (Vec<Loss>, Vec<Vec<LowRank>>) {
    let states = judged_states(model, sites, texts);
    losses_and_gradients(model, sites, &judged(&states, changes), WEIGHTS).into_iter().unzip()
}

pub(super) fn mean(losses: &[Loss]) -> Loss {
    let count = losses.len() as f64;
    let sum = |of: fn(&Loss) -> f64| losses.iter().map(of).sum::<f64>() / count;
    Loss { edit: sum(|loss| loss.edit), divergence: sum(|loss| loss.divergence) }
}

/// Three facts for [`toy_model`], which are also the validation facts.
pub(super) fn toy_data() -> TrainingData {
    let text = |tokens: &[u32], labels| FactText { tokens: tokens.to_vec(), labels };
    let fact = |stated: &[u32], rephrased: &[u32], labels| TrainingFact {
        stated: text(stated, labels),
        rephrased: vec![text(rephrased, labels), text(stated, labels)],
    };
    let facts = vec![
        fact(&[3, 7, 1, 9], &[7, 1, 9], 1),
        fact(&[5, 2, 8, 4, 6], &[10, 2, 8, 4, 6], 2),
        fact(&[1, 4, 10, 2], &[4, 10, 2], 1),
    ];
    let unrelated = vec![vec![1, 2, 3, 4, 5, 6], vec![10, 9, 8, 7, 6, 5]];
    TrainingData { validation: facts.clone(), validation_unrelated: vec![vec![2, 4, 6]; 3], facts, unrelated }
}

/// Returns all numbers of a JSON value that is a number or an array, which may be nested.
pub(super) fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(parts) => parts.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().expect("a number")],
    }
}

pub(super) fn ids(value: &Value) -> Vec<u32> {
    numbers(value).into_iter().map(|id| id as u32).collect()
}

pub(super) fn norm(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.map(|x| x * x).sum::<f64>().sqrt()
}

/// Checks that the norm of the difference is at most `tolerance` times the norm of the wanted numbers.
pub(super) fn close(what: &str, found: impl Iterator<Item = f64>, wanted: &Value, tolerance: f64) {
    let (found, wanted): (Vec<f64>, _) = (found.collect(), numbers(wanted));
    assert_eq!(found.len(), wanted.len(), "{what}");
    let error = norm(found.iter().zip(&wanted).map(|(a, b)| a - b)) / norm(wanted.iter().copied());
    assert!(error <= tolerance, "{what}: {error:e}");
}

pub(super) fn wide(numbers: &[f32]) -> impl Iterator<Item = f64> {
    numbers.iter().map(|x| f64::from(*x))
}
