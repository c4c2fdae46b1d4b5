//! Defines the interface through which long computations report their progress. This module does not access a terminal.

/// A receiver of the progress reports of a computation. Work starts with `begin` or `begin_short` and finishes with
/// `end`; only one piece of work is in progress at a time.
pub trait Progress {
    /// Reports the start of work of `total` units, described by `what`.
    fn begin(&self, what: &str, total: u64);
    /// Reports the start of work that is usually short. A receiver prints lines for such work only if it takes long.
    fn begin_short(&self, what: &str, total: u64) {
        self.begin(what, total);
    }
    /// Reports that `position` units are done.
    fn set_position(&self, position: u64);
    /// Reports one finished step of the work, described by `text`.
    fn line(&self, text: &str);
    /// Reports that work continues although no step is finished. A receiver without a progress bar prints the text at
    /// intervals.
    fn still(&self, _: &str) {}
    /// Reports a message that is shown at once, even if a progress bar is visible.
    fn tell(&self, text: &str) {
        self.line(text);
    }
    /// Reports the end of the work, whether it succeeded or failed.
    fn end(&self);
}

/// A receiver that ignores all reports, for work whose progress is not shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn begin(&self, _: &str, _: u64) {}
    fn set_position(&self, _: u64) {}
    fn line(&self, _: &str) {}
    fn end(&self) {}
}
