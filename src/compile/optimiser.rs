//! Implements Adam for one vector in f64. Callers round the vector to f32 before they pass it to the model.

/// The state of Adam (Kingma and Ba 2015) for one vector, with β₁ = 0.9, β₂ = 0.999, ε = 1e-8, bias correction and no
/// weight decay.
pub struct Adam {
    rate: f64,
    first: Vec<f64>,
    second: Vec<f64>,
    /// β₁ᵗ and β₂ᵗ after t steps. They are updated by multiplication, because a power function can differ between
    /// platforms.
    powers: [f64; 2],
}

pub(crate) const BETA: [f64; 2] = [0.9, 0.999];
pub(crate) const EPSILON: f64 = 1e-8;

impl Adam {
    /// Returns the initial state for a vector of `width` elements and the learning rate `rate`.
    pub fn new(width: usize, rate: f64) -> Self {
        Self { rate, first: vec![0.0; width], second: vec![0.0; width], powers: [1.0, 1.0] }
    }

    /// Updates `x` by one Adam step that decreases the loss; `gradient` is the loss's gradient at `x`.
    pub fn step(&mut self, x: &mut [f64], gradient: &[f64]) {
        self.powers[0] *= BETA[0];
        self.powers[1] *= BETA[1];
        let correction = [1.0 - self.powers[0], 1.0 - self.powers[1]];
        for (index, (element, g)) in x.iter_mut().zip(gradient).enumerate() {
            let (m, v) = (&mut self.first[index], &mut self.second[index]);
            *m = BETA[0] * *m + (1.0 - BETA[0]) * g;
            *v = BETA[1] * *v + (1.0 - BETA[1]) * (g * g);
            *element -= self.rate * (*m / correction[0]) / ((*v / correction[1]).sqrt() + EPSILON);
        }
    }
}

/// Returns the Euclidean norm `‖x‖`, summed in the order of the elements.
pub fn norm(x: &[f64]) -> f64 {
    let mut total = 0.0;
    for element in x {
        total += element * element;
    }
    total.sqrt()
}

/// Scales `x` down to norm `limit` if its norm is larger.
pub fn clamp(x: &mut [f64], limit: f64) {
    let length = norm(x);
    if length > limit {
        let scale = limit / length;
        for element in x.iter_mut() {
            *element *= scale;
        }
    }
}
