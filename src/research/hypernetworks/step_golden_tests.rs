//! Compares one training step of MEND and of KE with float64 results of transformers and autograd
//! (tests/reference/hypernetworks.py): on a GPT-2, and on a Llama, whose MLPs are gated and have the layout of Linear.

use serde_json::Value;

use super::adam::{ParameterAdam, norm as norm_of_all};
use super::capture::{SiteRows, capture};
use super::learner::Learner;
use super::mend::MendLearningRates;
use super::objective::Loss;
use super::sites::{BLOCKS, sites};
use super::stored::site_names;
use super::toy::{FACTS, WEIGHTS, captured_facts, captured_rows, close, dense, family, ids, judge, mean, norm};
use super::toy::{numbers, outer_texts, reference, toy_ke, toy_mend, wide};
use crate::model::Model;
use crate::model::run::low_rank::Site;

/// Adam's learning rate in the reference.
const RATE: f64 = 1e-2;

/// The expected results for one model, and what the step starts from.
struct Step {
    golden: Value,
    model: Model,
    sites: Vec<Site>,
    names: Vec<String>,
    rows: Vec<Vec<SiteRows>>,
}

fn steps() -> Vec<Step> {
    let mut all = reference("hypernetworks.json");
    let step = |golden: &mut Value| {
        let model = family(golden["name"].as_str().expect("a name"));
        let sites = sites(model.spec(), BLOCKS);
        let (names, rows) = (site_names(&sites), captured_rows(&model, &sites));
        Step { golden: golden.take(), model, sites, names, rows }
    };
    all["models"].as_array_mut().expect("a list").iter_mut().map(step).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn near(what: &str, found: f64, wanted: &Value, tolerance: f64) {
    let wanted = number(wanted);
    assert!((found - wanted).abs() <= tolerance * wanted.abs(), "{what}: {found} instead of {wanted}");
}

/// Checks a tensor of which the file has the norm and a sample of the elements.
fn close_to_sample(what: &str, found: &[f64], wanted: &Value, tolerance: f64) {
    near(what, norm(found.iter().copied()), &wanted["norm"], tolerance);
    let sample = sampled(found, wanted);
    let share = (sample.len() as f64 / found.len() as f64).sqrt();
    let error = norm(sample.iter().zip(numbers(&wanted["values"])).map(|(a, b)| a - b));
    let most = tolerance * share * number(&wanted["norm"]);
    assert!(error <= most, "{what}: the sample has an error of {error:e}, more than {most:e}");
}

/// Returns the elements that the file has of a tensor.
fn sampled(all: &[f64], wanted: &Value) -> Vec<f64> {
    let sample: Vec<f64> = all.iter().step_by(number(&wanted["every"]) as usize).copied().collect();
    assert_eq!(sample.len(), numbers(&wanted["values"]).len());
    sample
}

fn losses_are_near(losses: &[Loss], wanted: &Value) {
    let mean = mean(losses);
    near("the edit loss", mean.edit, &wanted["edit_loss"], 1e-5);
    near("the divergence", mean.divergence, &wanted["kl"], 1e-4);
    near("the loss", mean.total(WEIGHTS), &wanted["total"], 1e-5);
}

/// Compares the gradients of all parameters, summed over the facts, then runs one step of Adam and compares the
/// parameters. `names` has the name of each parameter in the file.
fn compare_step<L: Learner>(names: &[String], mut learner: L, mut sums: L::Gradients, wanted: &Value) {
    let share = 1.0 / FACTS.len() as f64;
    let trained = learner.trained(&mut sums);
    assert_eq!(trained.len(), names.len());
    let gradients: Vec<Vec<f64>> =
        trained.iter().map(|one| one.gradient.iter().map(|x| f64::from(*x) * share).collect()).collect();
    for (name, gradient) in names.iter().zip(&gradients) {
        close_to_sample(name, gradient, &wanted["gradients"][name], 1e-3);
    }
    near("the norm of all gradients", norm_of_all(&trained) * share, &wanted["norm"], 1e-3);
    let mut adam = ParameterAdam::new(trained.iter().map(|one| one.values.len()));
    adam.step(trained, share);
    let (mut compared, mut all) = (0, 0);
    for (name, one) in names.iter().zip(learner.trained(&mut sums)) {
        let (gradient, after) = (&wanted["gradients"][name], &wanted["after"][name]);
        let values: Vec<f64> = wide(one.values).collect();
        // The first step moves an element in the direction of the sign of its gradient, which rounding can change if
        // the gradient is near 0.
        let most_unclear = (1e-2 * number(&gradient["norm"]) / (values.len() as f64).sqrt()).max(1e-6);
        let pairs = sampled(&values, after).into_iter().zip(numbers(&after["values"]));
        for ((value, expected), g) in pairs.zip(numbers(&gradient["values"])).filter(|(_, g)| *g != 0.0) {
            all += 1;
            if g.abs() > most_unclear {
                compared += 1;
                assert!((value - expected).abs() < 2e-5, "{name} after the step: {value} instead of {expected}");
            }
        }
    }
    assert!(4 * compared > 3 * all, "{compared} of {all} elements were compared");
}

#[test]
fn rows_equal_those_of_autograd() {
    for step in steps() {
        assert_eq!(serde_json::json!(step.names), step.golden["sites"]);
        for (fact, (text, labels)) in FACTS.into_iter().enumerate() {
            let wanted = &step.golden["facts"][fact];
            assert_eq!((text.to_vec(), labels), (ids(&wanted["ids"]), ids(&wanted["labels"]).len()));
            near("the loss of a fact", capture(&step.model, &step.sites, text, labels).0, &wanted["loss"], 1e-6);
            for (name, rows) in step.names.iter().zip(&step.rows[fact]) {
                let of_site = &step.golden["rows"][fact][name];
                close(name, wide(&rows.x), &of_site["x"], 1e-5);
                close(name, wide(&rows.delta), &of_site["delta"], 1e-4);
            }
        }
    }
}

#[test]
fn a_step_of_mend_equals_that_of_autograd() {
    for Step { golden, model, sites, names, rows } in steps() {
        let wanted = &golden["mend"];
        let mut mend = toy_mend(&model, &sites, false);
        mend.learning = MendLearningRates { networks: RATE, rates: RATE };
        rows.iter().for_each(|rows| mend.observe(rows));
        let edits = mend.observe_and_edit(&captured_facts(&rows));
        for (changes, of_fact) in edits.changes.iter().zip(wanted["factors"].as_array().expect("a list")) {
            for (name, change) in names.iter().zip(changes) {
                close(name, wide(&change.a), &of_fact[name]["a"], 1e-4);
                close(name, wide(&change.b), &of_fact[name]["b"], 1e-4);
            }
        }
        for (shape, name) in mend.shapes.iter().zip(["up", "down"]) {
            let of_shape = &wanted["statistics"][name];
            assert_eq!(Some(shape.inputs.count), of_shape["n"].as_u64());
            close("mean of x", shape.inputs.mean.iter().copied(), &of_shape["x_mean"], 1e-5);
            close("squares of x", shape.inputs.squares.iter().copied(), &of_shape["x_s"], 1e-4);
            close("mean of delta", shape.outputs.mean.iter().copied(), &of_shape["delta_mean"], 1e-4);
            close("squares of delta", shape.outputs.squares.iter().copied(), &of_shape["delta_s"], 1e-4);
        }
        let (losses, by_changes) = judge(&model, &sites, &edits.changes, &outer_texts());
        losses_are_near(&losses, wanted);
        let mut sums = mend.zero_gradients();
        mend.reverse(&edits, &by_changes, &mut sums);
        compare_step(&mend_names(), mend, sums, wanted);
    }
}

fn mend_names() -> Vec<String> {
    let mut names = Vec::new();
    for shape in ["up", "down"] {
        for layer in 0..2 {
            names.extend(["V", "U", "b", "scale", "shift"].map(|part| format!("{shape}.{part}.{layer}")));
        }
    }
    names.push("rates".to_owned());
    names
}

#[test]
fn a_step_of_ke_equals_that_of_autograd() {
    for Step { golden, model, sites, names, rows } in steps() {
        let (wanted, facts) = (&golden["ke"], captured_facts(&rows));
        let mut ke = toy_ke(&model, &sites);
        ke.learning_rate = RATE;
        let edits = ke.edit(&facts);
        close("conditions", wide(&edits.conditions), &wanted["condition_vectors"], 1e-5);
        for (changes, of_fact) in edits.changes.iter().zip(wanted["changes"].as_array().expect("a list")) {
            for ((name, change), site) in names.iter().zip(changes).zip(&sites) {
                close_to_sample(name, &dense(change, site.shape(model.spec())), &of_fact[name], 1e-4);
            }
        }
        let (losses, by_changes) = judge(&model, &sites, &edits.changes, &outer_texts());
        losses_are_near(&losses, wanted);
        let mut sums = ke.zero_gradients();
        ke.reverse(&edits, &facts, &by_changes, &mut sums);
        compare_step(&ke_names(sites.len()), ke, sums, wanted);
    }
}

fn ke_names(sites: usize) -> Vec<String> {
    let mut names = ["emb", "lw", "lb"].map(str::to_owned).to_vec();
    for direction in ["fw", "bw"] {
        names.extend(["wi", "wh", "bi", "bh"].map(|part| format!("{direction}.{part}")));
    }
    for layer in ["one", "two"] {
        for index in 0..sites {
            names.extend(["v", "g", "b"].map(|part| format!("{layer}.{index}.{part}")));
        }
    }
    names
}
