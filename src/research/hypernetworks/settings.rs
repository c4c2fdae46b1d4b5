//! Defines the numeric settings of a training, with the published defaults and smaller ones for small models.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ke::KeSizes;
use super::mend::{Mend, MendLearningRates, START_RATE};
use super::objective::LossWeights;
use super::sites::BLOCKS;
use super::train::TrainingSettings;
use crate::model::Spec;

/// A trained editor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// MEND (Mitchell et al. 2022)
    Mend,
    /// KnowledgeEditor (De Cao et al. 2021), as the authors of MEND implement it
    Ke,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Self::Mend => "mend",
            Self::Ke => "ke",
        }
    }
}

/// The kind of the facts on which an editor is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TrainedOn {
    /// Passages of a text, each with a continuation sampled from the base model
    Text,
    /// Records of zsRE
    Zsre,
    /// Records of CounterFact
    Cf,
}

/// Returns the name of a method trained on some kind of facts, as it is used in the tables, such as `mend-cf`.
pub fn editor_name(method: Method, on: TrainedOn) -> String {
    let method = method.name();
    match on {
        TrainedOn::Text => method.to_owned(),
        TrainedOn::Zsre => format!("{method}-zsre"),
        TrainedOn::Cf => format!("{method}-cf"),
    }
}

/// The numeric settings of the training of one method, by name without the method, such as `rank`.
pub type TrainingNumbers = BTreeMap<String, f64>;

/// The settings of a training that the user can change: the method (`None` for both), the name, whether it is a whole number of
/// at least 1, and a description for error messages.
pub const TRAINING_NUMBERS: [(Option<Method>, &str, bool, &str); 20] = [
    (None, "steps", true, "training steps"),
    (None, "every", true, "steps between two validations"),
    (None, "batch", true, "facts per step"),
    (None, "layers", true, "edited blocks at the end of the model"),
    (None, "edit-weight", false, "weight of the likelihood of the fact in the loss"),
    (None, "locality-weight", false, "weight of the divergence on unrelated text in the loss"),
    (None, "clip", false, "the largest norm of a gradient"),
    (None, "validation", true, "facts that are only used for validation"),
    (None, "texts", true, "unrelated texts"),
    (None, "locality-tokens", true, "tokens of an unrelated text"),
    (None, "passages", true, "passages of the training on text"),
    (None, "tokens", true, "sampled tokens after a passage"),
    (None, "rate", false, "Adam's learning rate of the networks"),
    (Some(Method::Mend), "rank", true, "rank of the networks"),
    (Some(Method::Mend), "scalar-rate", false, "Adam's learning rate of the rates of the matrices"),
    (Some(Method::Mend), "start", false, "the rate of each matrix before the training"),
    (Some(Method::Mend), "networks", false, "0 to keep the networks untrained, for comparison"),
    (Some(Method::Ke), "lstm", true, "cells per direction of the LSTM"),
    (Some(Method::Ke), "condition", true, "width of the condition vector"),
    (Some(Method::Ke), "hidden", true, "hidden units of the network of a matrix"),
];

/// Models with fewer parameters than this get the smaller default settings.
const SMALL: usize = 200_000_000;

/// Returns an approximate number of parameters of a model: embedding, attention and MLP matrices.
fn parameters(spec: &Spec) -> usize {
    let (d, f) = (spec.hidden_size, spec.intermediate_size);
    let matrices = if spec.family.mlp_gate.is_some() { 3 } else { 2 };
    spec.vocabulary * d + spec.layers * (4 * d * d + matrices * d * f)
}

/// Returns all settings of a training: the defaults for the model, and the changed settings in `overrides`. If
/// `published` is true, the learning rates are those of the published code.
pub fn numbers(method: Method, spec: &Spec, published: bool, overrides: &TrainingNumbers) -> TrainingNumbers {
    let small = parameters(spec) < SMALL;
    let of_size = |for_small: f64, default: f64| if small { for_small } else { default };
    let mut numbers: Vec<(&str, f64)> = vec![
        ("every", 50.0),
        ("batch", 10.0),
        ("layers", BLOCKS as f64),
        ("edit-weight", 0.1),
        ("locality-weight", 1.0),
        ("clip", 100.0),
        ("validation", 30.0),
        ("texts", 1000.0),
        ("locality-tokens", of_size(32.0, 200.0)),
        ("passages", 1000.0),
    ];
    match method {
        Method::Mend => {
            let width = spec.hidden_size + spec.intermediate_size;
            let rank = overrides.get("rank").copied().unwrap_or(of_size(256.0, 1920.0)).min(width as f64);
            let rates = MendLearningRates::for_size(rank as usize, width);
            let (networks, scalars) = if published { (1e-6, 1e-6) } else { (rates.networks, rates.rates) };
            numbers.extend([("steps", 400.0), ("tokens", 10.0), ("rank", rank), ("rate", networks)]);
            numbers.extend([("scalar-rate", scalars), ("start", START_RATE), ("networks", 1.0)]);
        }
        Method::Ke => {
            let rate = if published { super::ke::PUBLISHED_RATE } else { of_size(1e-3, super::ke::PUBLISHED_RATE) };
            numbers.extend([("steps", 300.0), ("tokens", 1.0), ("rate", rate), ("lstm", of_size(128.0, 512.0))]);
            numbers.extend([("condition", of_size(192.0, 768.0)), ("hidden", of_size(128.0, 512.0))]);
        }
    }
    let mut all: TrainingNumbers = numbers.into_iter().map(|(name, number)| (name.to_owned(), number)).collect();
    all.extend(overrides.iter().filter(|(name, _)| name.as_str() != "rank").map(|(name, x)| (name.clone(), *x)));
    all
}

/// Returns the learning rates of MEND.
pub fn mend_rates(numbers: &TrainingNumbers) -> MendLearningRates {
    let networks = if numbers["networks"] == 0.0 { 0.0 } else { numbers["rate"] };
    MendLearningRates { networks, rates: numbers["scalar-rate"] }
}

/// Sets the rates of an untrained MEND editor to the number `start`.
pub fn set_start(mend: &mut Mend, numbers: &TrainingNumbers) {
    mend.rates.fill(numbers["start"] as f32);
}

pub fn ke_sizes(numbers: &TrainingNumbers) -> KeSizes {
    let whole = |name: &str| numbers[name] as usize;
    KeSizes { cells: whole("lstm"), condition: whole("condition"), hidden: whole("hidden") }
}

pub fn training_settings(numbers: &TrainingNumbers, seed: u32) -> TrainingSettings {
    TrainingSettings {
        batch: numbers["batch"] as usize,
        weights: LossWeights { edit: numbers["edit-weight"], locality: numbers["locality-weight"] },
        clip: numbers["clip"],
        seed,
    }
}
