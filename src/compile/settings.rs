//! How values are looked for: the published numbers, and the schedule that retries what they leave unconverged.

use super::value::Loss;
use crate::digest::Canon;

/// One attempt: Adam from δ = 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Adam's rate.
    pub rate: f64,
    /// Evaluations; there is one update less.
    pub steps: usize,
}

/// How values are optimised.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Attempts, each made only if the ones before did not converge.
    pub schedule: Vec<Stage>,
    /// Weight of ‖δ‖ / ‖v₀‖².
    pub weight_decay: f64,
    /// ‖δ‖ is at most this many times ‖v₀‖.
    pub clamp: f64,
    /// Weight of the drift.
    pub kl_factor: f64,
    /// A loss below this ends an attempt.
    pub stop_loss: f64,
    /// A value has converged when the target's mean negative log-likelihood is at most this.
    pub converged_nll: f64,
    /// What the bare prompt weighs in the key, the other templates sharing the rest; all alike where nothing is said, as
    /// published. A subject at the very beginning of a text has a key of its own, of which one in twenty-one says little.
    pub bare_weight: Option<f64>,
    /// The lead, in nats, that ends a search: every token of the target has at least this much more log-probability
    /// than any other token, in every template. A search goes on to `stop_loss` where nothing is said, as published.
    pub margin: Option<f64>,
}

impl Default for Settings {
    /// The published numbers for GPT-2 XL, with a schedule that retries what the first twenty-five steps leave
    /// unconverged.
    fn default() -> Self {
        let stage = |rate, steps| Stage { rate, steps };
        Self { schedule: vec![stage(0.5, 25), stage(0.1, 120), stage(0.5, 200)], ..Self::published() }
    }
}

impl Settings {
    /// Exactly the published optimisation: one attempt of twenty steps.
    pub fn published() -> Self {
        Self {
            schedule: vec![Stage { rate: 0.5, steps: 20 }],
            weight_decay: 0.5,
            clamp: 4.0,
            kl_factor: 0.0625,
            stop_loss: 0.05,
            converged_nll: 0.1,
            bare_weight: None,
            margin: None,
        }
    }
}

impl Settings {
    /// Whether the target leads by the margin, if one is set. A loss that is no number leads by nothing.
    pub fn suffices(&self, loss: &Loss) -> bool {
        self.margin.is_some_and(|margin| loss.lead >= margin && loss.total().is_finite())
    }

    /// Writes every number of the settings into a digest.
    pub fn describe(&self, canon: &mut Canon) {
        canon.number("stages", self.schedule.len() as u64);
        for stage in &self.schedule {
            canon.float("rate", stage.rate).number("steps", stage.steps as u64);
        }
        canon.float("weight-decay", self.weight_decay).float("clamp", self.clamp);
        canon.float("kl-factor", self.kl_factor).float("stop-loss", self.stop_loss);
        canon.float("converged-nll", self.converged_nll);
        // What is published means what it meant before there was a choice.
        if let Some(weight) = self.bare_weight {
            canon.float("bare-weight", weight);
        }
        if let Some(margin) = self.margin {
            canon.float("margin", margin);
        }
    }
}
