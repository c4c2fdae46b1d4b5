//! Reports the progress of long work, without access to a terminal.

/// A receiver of progress reports. It handles one piece of work at a time.
pub trait Progress {
    /// Begins work of `total` units, described by `what`.
    fn begin(&self, what: &str, total: u64);
    /// Begins work that is usually short. A receiver prints lines for it only if it takes long.
    fn begin_short(&self, what: &str, total: u64) {
        self.begin(what, total);
    }
    /// Reports that `position` units are done.
    fn at(&self, position: u64);
    /// Reports one finished step.
    fn line(&self, text: &str);
    /// Reports that work continues without a finished step. A receiver without a progress bar prints such a line from
    /// time to time.
    fn still(&self, _: &str) {}
    /// Reports a message that is always shown at once, even next to a progress bar.
    fn tell(&self, text: &str) {
        self.line(text);
    }
    /// Ends the work, whether it succeeded or failed.
    fn end(&self);
}

/// A receiver that ignores all reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unseen;

impl Progress for Unseen {
    fn begin(&self, _: &str, _: u64) {}
    fn at(&self, _: u64) {}
    fn line(&self, _: &str) {}
    fn end(&self) {}
}
