//! Compares the answers of two models to the same questions: the accuracies, and the interval of their difference.

use schemars::JsonSchema;
use serde::Serialize;

use crate::project::TaskForm;

/// The 0.975 quantile of the normal distribution: an interval of this many standard errors on both sides has a
/// probability of 95 %.
const QUANTILE: f64 = 1.959_963_984_540_054;

/// The accuracies of the two compared models on one task.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TaskResult {
    /// The name of the task.
    pub name: String,
    /// The form of the task's file.
    pub form: TaskForm,
    /// The scorer and what it scores, such as `likelihood, sum`. Accuracies of different protocols cannot be compared.
    pub protocol: String,
    /// The number of questions that both models were asked.
    pub questions: usize,
    /// The number of questions that are longer than the context of the model. They were not asked.
    pub left_out: usize,
    /// The accuracy of the earlier model: the share of questions that it answers right.
    pub before: f64,
    /// The accuracy of the later model.
    pub after: f64,
    /// The accuracy of the later model minus that of the earlier model.
    pub difference: f64,
    /// The lower and the upper end of the 95 % interval of the difference. It is the normal interval of the mean of the
    /// differences per question, which are -1, 0 or 1.
    pub interval: [f64; 2],
    /// The number of questions that only the later model answers right.
    pub became_right: usize,
    /// The number of questions that only the earlier model answers right.
    pub became_wrong: usize,
    /// The accuracies of the earlier and the later model by the protocol `likelihood, sum`; absent if that is the
    /// protocol, or if choices are not scored by a mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_sum: Option<[f64; 2]>,
    /// The largest allowed fall of the accuracy; absent if the project sets none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// Whether the fall of the accuracy is allowed. A fall beyond the limit is allowed with a warning if the policy only
    /// warns about this limit.
    pub pass: bool,
}

impl TaskResult {
    /// Returns the fall of the accuracy from the earlier to the later model; 0 if the accuracy does not fall.
    pub fn loss(&self) -> f64 {
        (-self.difference).max(0.0)
    }
}

/// The comparison of two lists of marks, one mark per question: whether the answer is right.
pub(super) struct PairedMarks {
    pub(super) accuracies: [f64; 2],
    pub(super) difference: f64,
    pub(super) interval: [f64; 2],
    pub(super) became_right: usize,
    pub(super) became_wrong: usize,
}

impl PairedMarks {
    /// Compares the marks of two models for the same questions. There must be at least one question. The variance of the
    /// differences is that of a sample; with one question, the interval is only the difference.
    pub(super) fn new(before: &[bool], after: &[bool]) -> Self {
        let pairs = || before.iter().zip(after);
        let count = before.len() as f64;
        let share = |marks: &[bool]| marks.iter().filter(|right| **right).count() as f64 / count;
        let became_right = pairs().filter(|(was, is)| !**was && **is).count();
        let became_wrong = pairs().filter(|(was, is)| **was && !**is).count();
        let difference = (became_right as f64 - became_wrong as f64) / count;
        // Each difference is -1, 0 or 1, so its square is 1 for the questions that changed and 0 for the others.
        let squares = (became_right + became_wrong) as f64;
        let variance = (squares - count * difference * difference).max(0.0) / (count - 1.0).max(1.0);
        let half = QUANTILE * (variance / count).sqrt();
        Self {
            accuracies: [share(before), share(after)],
            difference,
            interval: [difference - half, difference + half],
            became_right,
            became_wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_paired() {
        let before = [true, true, true, false, false, false, true, false];
        let after = [true, false, false, true, false, false, true, false];
        let found = PairedMarks::new(&before, &after);
        assert_eq!((found.became_right, found.became_wrong), (1, 2));
        assert_eq!((found.accuracies, found.difference), ([0.5, 0.375], -0.125));
        // statistics.stdev([0, -1, -1, 1, 0, 0, 0, 0]) / 8 ** 0.5 = 0.226582
        let half = 1.959_964 * 0.226_582;
        let close = |one: f64, other: f64| (one - other).abs() < 1e-5;
        assert!(close(found.interval[0], -0.125 - half) && close(found.interval[1], -0.125 + half), "{half}");
    }

    #[test]
    fn equal_marks_have_no_difference() {
        for count in [1, 2, 50] {
            let marks = vec![true; count];
            let found = PairedMarks::new(&marks, &marks);
            assert_eq!((found.difference, found.interval, found.accuracies), (0.0, [0.0, 0.0], [1.0, 1.0]));
        }
        let found = PairedMarks::new(&[true], &[false]);
        assert_eq!((found.difference, found.interval), (-1.0, [-1.0, -1.0]));
    }
}
