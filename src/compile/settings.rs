//! Defines the settings of the value optimisation. The defaults are the numbers that ROME publishes for GPT-2 XL, with
//! two differences: the first stage has 25 evaluations instead of 20, and edits that do not converge are tried again in
//! two more stages.

use super::value::Loss;
use crate::digest::FieldHasher;
use crate::project::EndMark;

/// One stage of the schedule: an optimisation of δ, the change of the value, with Adam. Every stage starts at δ = 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    pub rate: f64,
    /// The maximum number of evaluations of the loss. The change of the value is updated after each evaluation except
    /// the last.
    pub steps: usize,
}

/// The settings of the value optimisation: the weights of the loss, the stages, and the conditions that end a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The stages in order. A stage runs only if no earlier stage converged.
    pub schedule: Vec<Stage>,
    /// The weight of `‖δ‖ / ‖v₀‖²` in the loss, where v₀ is the MLP value before the edit and δ is its change.
    pub weight_decay: f64,
    /// The maximum of `‖δ‖ / ‖v₀‖`, where v₀ is the MLP value before the edit and δ is its change.
    pub clamp: f64,
    /// The weight of the KL divergence in the loss. The divergence from the base model is measured at the subject's
    /// last token in the prompt `"{subject} is a"`.
    pub kl_factor: f64,
    /// The loss below which a stage ends.
    pub stop_loss: f64,
    /// The maximum mean negative log-likelihood of the target, in nats, at which a value has converged.
    pub converged_nll: f64,
    /// The weight w of the MLP key in the prompt without a context template, when the keys of an edit are averaged. The
    /// keys in the context templates have the total weight 1 − w, in equal shares. By default (`None`), all keys have
    /// equal weights, as published. A large w helps if the subject is at the beginning of a prompt, because that key
    /// then differs from the keys in the context templates.
    pub bare_weight: Option<f64>,
    /// A search also ends when the logit of every token of the target, in all context templates, exceeds the largest
    /// other logit by at least this number of nats. By default (`None`), no search ends for this reason, as published.
    pub margin: Option<f64>,
    /// What the edited model should give directly after the target, if the edit does not say otherwise. By default,
    /// nothing in particular, as published.
    pub end: EndMark,
}

impl Default for Settings {
    /// Returns the published numbers for GPT-2 XL, with 25 evaluations in the first stage and two more stages for edits
    /// that do not converge.
    fn default() -> Self {
        let stage = |rate, steps| Stage { rate, steps };
        Self { schedule: vec![stage(0.5, 25), stage(0.1, 120), stage(0.5, 200)], ..Self::published() }
    }
}

impl Settings {
    /// Returns the settings of the published optimisation for GPT-2 XL: one stage of twenty evaluations.
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
            end: EndMark::None,
        }
    }
}

impl Settings {
    /// Returns whether [`Loss::lead`] reaches [`Settings::margin`]. Returns false if no margin is set or the loss is
    /// not finite.
    pub fn suffices(&self, loss: &Loss) -> bool {
        self.margin.is_some_and(|margin| loss.lead >= margin && loss.total().is_finite())
    }

    /// Adds every setting to a digest, in a fixed order.
    pub fn describe(&self, canon: &mut FieldHasher) {
        canon.number("stages", self.schedule.len() as u64);
        for stage in &self.schedule {
            canon.float("rate", stage.rate).number("steps", stage.steps as u64);
        }
        canon.float("weight-decay", self.weight_decay).float("clamp", self.clamp);
        canon.float("kl-factor", self.kl_factor).float("stop-loss", self.stop_loss);
        canon.float("converged-nll", self.converged_nll);
        // Optional settings are added only if they are set, so that earlier digests stay valid.
        if let Some(weight) = self.bare_weight {
            canon.float("bare-weight", weight);
        }
        if let Some(margin) = self.margin {
            canon.float("margin", margin);
        }
        if self.end != EndMark::None {
            canon.text("end", self.end.as_str());
        }
    }
}
