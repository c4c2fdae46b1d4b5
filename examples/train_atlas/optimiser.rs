//! Implements AdamW (Adam with decoupled weight decay), a cosine schedule with warm-up, and clipping of the gradient
//! norm.

use crate::network::Parameter;

/// The settings of the optimiser.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Schedule {
    /// Number of training steps
    #[arg(long, default_value_t = 2400)]
    pub steps: u64,
    /// Maximum learning rate
    #[arg(long, default_value_t = 2e-3)]
    pub rate: f64,
    /// Steps until the maximum rate
    #[arg(long, default_value_t = 100)]
    pub warm_up: u64,
    /// Weight decay of matrices
    #[arg(long, default_value_t = 0.05)]
    pub decay: f64,
    /// Maximum norm of a gradient
    #[arg(long, default_value_t = 1.0)]
    pub clip: f64,
}

impl Schedule {
    /// Returns the learning rate of step `step`, counted from 0: a linear ramp, then half a cosine down to 1 % of the
    /// maximum.
    pub(crate) fn rate_at(&self, step: u64) -> f64 {
        if step < self.warm_up {
            return self.rate * (step + 1) as f64 / self.warm_up as f64;
        }
        let way = (step - self.warm_up) as f64 / (self.steps.saturating_sub(self.warm_up)).max(1) as f64;
        self.rate * (0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * way.min(1.0)).cos()))
    }
}

const BETAS: (f64, f64) = (0.9, 0.98);
const EPSILON: f64 = 1e-8;

/// Adam's first and second moments of the gradient, as flat vectors in the order of the parameters.
pub(crate) struct Moments {
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

impl Moments {
    /// Returns moments that are all zero, for `count` parameters.
    pub(crate) fn zero(count: usize) -> Self {
        Self { first: vec![0.0; count], second: vec![0.0; count] }
    }

    /// Applies one AdamW update to the parameters `flat`; `step` counts from 0.
    pub(crate) fn step(
        &mut self,
        schedule: &Schedule,
        step: u64,
        parameters: &[Parameter],
        flat: &mut [f32],
        gradient: &[f32],
    ) {
        let norm = gradient.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>().sqrt();
        let scale = if norm > schedule.clip { (schedule.clip / norm) as f32 } else { 1.0 };
        let rate = schedule.rate_at(step);
        let unbias = |beta: f64| 1.0 - beta.powf((step + 1) as f64);
        let (step_size, root) = ((rate / unbias(BETAS.0)) as f32, unbias(BETAS.1).sqrt() as f32);
        let (b1, b2) = (BETAS.0 as f32, BETAS.1 as f32);
        let mut first = 0;
        for parameter in parameters {
            let keep = if parameter.decays() { (1.0 - rate * schedule.decay) as f32 } else { 1.0 };
            for index in first..first + parameter.count() {
                let g = gradient[index] * scale;
                let (m, v) = (&mut self.first[index], &mut self.second[index]);
                *m = b1 * *m + (1.0 - b1) * g;
                *v = b2 * *v + (1.0 - b2) * g * g;
                flat[index] = keep * flat[index] - step_size * *m / (v.sqrt() / root + EPSILON as f32);
            }
            first += parameter.count();
        }
    }
}
