//! Defines the interface through which long computations report their progress. This module does not print.

/// A receiver of the progress reports of long computations. A computation consists of units of work, such as prompts or
/// documents. It calls `begin` or `begin_short` first and `end` last. Only one computation reports its progress at a
/// time.
pub trait Progress {
    /// Reports the start of a computation with `total` units of work. `what` describes the computation to the user.
    fn begin(&self, what: &str, total: u64);
    /// Reports the start of a computation that is usually short. A receiver may delay its output, so that nothing is
    /// printed if the computation ends soon.
    fn begin_short(&self, what: &str, total: u64) {
        self.begin(what, total);
    }
    /// Reports that `position` units of work are done.
    fn set_position(&self, position: u64);
    /// Reports that a step of the computation is finished. `text` describes the step and its result.
    fn line(&self, text: &str);
    /// Reports that the computation continues, although no unit of work was finished since the last report. A receiver
    /// without a progress bar prints the given text at intervals.
    fn still(&self, _: &str) {}
    /// Reports a message that should be printed at once, even while a progress bar is shown.
    fn tell(&self, text: &str) {
        self.line(text);
    }
    /// Reports the end of the computation, whether it succeeded or failed.
    fn end(&self);
}

/// A receiver that ignores all progress reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn begin(&self, _: &str, _: u64) {}
    fn set_position(&self, _: u64) {}
    fn line(&self, _: &str) {}
    fn end(&self) {}
}
