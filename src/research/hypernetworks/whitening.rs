//! Standardises vectors with running means and deviations (Welford 1962).
//!
//! The sums are f64, because a sum of squared deviations over many vectors is too inaccurate in f32.

/// A small number that is added to each standard deviation, as in the published code of MEND.
const EPSILON: f64 = 1e-7;

/// The mean and the summed squared deviations of the vectors that were added so far, per element. All vectors have the
/// same length.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningStatistics {
    /// The number of vectors that were added.
    pub count: u64,
    pub mean: Vec<f64>,
    /// Sum of the squared deviations from the mean, per element.
    pub squares: Vec<f64>,
}

impl RunningStatistics {
    pub fn new(width: usize) -> Self {
        Self { count: 0, mean: vec![0.0; width], squares: vec![0.0; width] }
    }

    /// Adds each row of a matrix as one vector to the mean and to the squared deviations.
    pub fn add(&mut self, rows: &[f32]) {
        for row in rows.chunks(self.mean.len()) {
            self.count += 1;
            for ((mean, square), value) in self.mean.iter_mut().zip(&mut self.squares).zip(row) {
                let before = f64::from(*value) - *mean;
                *mean += before / self.count as f64;
                *square += before * (f64::from(*value) - *mean);
            }
        }
    }

    /// Subtracts the mean from each row and divides by the standard deviation, per element. At least two vectors must
    /// have been added, because the standard deviation has the divisor n − 1.
    pub fn whiten(&self, rows: &[f32]) -> Vec<f32> {
        let scale: Vec<f64> =
            self.squares.iter().map(|square| 1.0 / ((square / (self.count - 1) as f64).sqrt() + EPSILON)).collect();
        let one = |(index, value): (usize, &f32)| {
            let column = index % self.mean.len();
            ((f64::from(*value) - self.mean[column]) * scale[column]) as f32
        };
        rows.iter().enumerate().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_statistics_equal_those_of_two_passes() {
        let rows: Vec<f32> = (0..60).map(|k| ((k * k) as f32 * 0.37).sin() + (k % 3) as f32 * 100.0).collect();
        let mut running = RunningStatistics::new(3);
        running.add(&rows);
        for column in 0..3 {
            let values: Vec<f64> = rows.iter().skip(column).step_by(3).map(|&x| f64::from(x)).collect();
            let mean = values.iter().sum::<f64>() / 20.0;
            let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
            assert!((running.mean[column] - mean).abs() < 1e-12 * mean.abs().max(1.0));
            assert!((running.squares[column] - squares).abs() < 1e-12 * squares);
        }
    }

    #[test]
    fn the_order_of_rows_does_not_change_the_statistics() {
        let (one, other) = ([1.0_f32, 2.0, 3.0, 4.0], [-5.0_f32, 0.5]);
        let of = |parts: [&[f32]; 2]| {
            let mut running = RunningStatistics::new(2);
            parts.iter().for_each(|part| running.add(part));
            running
        };
        let (forward, backward) = (of([&one, &other]), of([&other, &one]));
        for (a, b) in forward.squares.iter().chain(&forward.mean).zip(backward.squares.iter().chain(&backward.mean)) {
            assert!((a - b).abs() < 1e-12 * a.abs().max(1.0));
        }
    }
}
