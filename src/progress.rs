//! Defines the interface through which long computations report their progress. This module does not print.

/// A receiver of the progress reports of long computations. A computation calls `begin` or `begin_short` first and
/// `end` last. Only one computation reports its progress at a time.
pub trait Progress {
    /// Reports the start of a computation of `total` units, described by `what`.
    fn begin(&self, what: &str, total: u64);
    /// Reports the start of a computation that is usually short. A receiver may print nothing until the computation has
    /// taken long.
    fn begin_short(&self, what: &str, total: u64) {
        self.begin(what, total);
    }
    /// Reports that `position` units of the computation are done.
    fn set_position(&self, position: u64);
    /// Reports a finished step of the computation, described by `text`.
    fn line(&self, text: &str);
    /// Reports that the computation continues although no step is finished. A receiver without a progress bar prints
    /// the text at intervals.
    fn still(&self, _: &str) {}
    /// Reports a message to print at once, even while a progress bar is shown.
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
