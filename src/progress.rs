//! How long work tells how far it is, without knowing of a terminal.

/// Something that watches work go on. All methods are for one piece of work at a time.
pub trait Progress {
    /// Work of `total` units begins.
    fn begin(&self, what: &str, total: u64);
    /// The same for work that is most often over at once: a line is worth saying of it only where it is not.
    fn begin_short(&self, what: &str, total: u64) {
        self.begin(what, total);
    }
    /// So many of them are done.
    fn at(&self, position: u64);
    /// Something that can be said in a line is done.
    fn line(&self, text: &str);
    /// Work goes on without anything to say a line of: said now and then, where no bar shows it.
    fn still(&self, _: &str) {}
    /// Something that a person should know at once, wherever progress is shown.
    fn tell(&self, text: &str) {
        self.line(text);
    }
    /// The work is over, well or not.
    fn end(&self);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unseen;

impl Progress for Unseen {
    fn begin(&self, _: &str, _: u64) {}
    fn at(&self, _: u64) {}
    fn line(&self, _: &str) {}
    fn end(&self) {}
}
