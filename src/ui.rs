//! Writes to the terminal. The result of a command goes to stdout; findings, notes and progress go to stderr.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::diagnostics::{Diagnostic, RenderStyle, Sources, escape_controls, escape_workflow_commands, render};
use crate::progress::Progress;

/// When to use colours on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// Colours are used if stderr is a terminal and NO_COLOR is not set.
    #[default]
    Auto,
    Always,
    Never,
}

/// Which messages a command prints on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Only errors are printed.
    Quiet,
    /// Errors, warnings and progress are printed.
    Normal,
    /// Errors, warnings and progress are printed, and details such as one line for each finished step of a computation.
    Verbose,
}

/// The writer of all output of a command, to stdout and stderr.
pub struct Ui {
    style: RenderStyle,
    verbosity: Verbosity,
    /// Whether progress bars are drawn. Otherwise progress is printed as lines.
    bars: bool,
    bar: RefCell<Option<ProgressBar>>,
    /// The number of units of work that an interrupted earlier run had already done. The value is [`NO_POSITION`] until
    /// the current computation reports its first position.
    first: Arc<AtomicU64>,
    /// The current computation if it began with [`begin_short`](Progress::begin_short) and has no progress bar;
    /// otherwise `None`. Its progress is printed only if it takes longer than [`BETWEEN_LINES`].
    slow: RefCell<Option<Slow>>,
    /// The time at which the last line was printed on stderr. It is used to limit how often progress lines are printed.
    last_line: Cell<Instant>,
    write_failed: Cell<bool>,
    /// Whether the program runs in GitHub Actions, which executes some output lines as workflow commands.
    in_github_actions: bool,
}

/// The state of a short computation ([`begin_short`](Progress::begin_short)) that prints its progress as lines, because
/// there is no progress bar.
struct Slow {
    what: String,
    total: u64,
    /// The number of units of work that an interrupted earlier run had already done; `None` until the computation
    /// reports its first position.
    first: Option<u64>,
    begun: Instant,
    last_line: Instant,
}

/// The minimum time between two progress lines of one computation.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// The assumed width of the terminal, in columns, if neither the variable COLUMNS nor the terminal gives a width.
const UNKNOWN_WIDTH: usize = 100;

impl Ui {
    /// Creates the writer. Checks whether stderr is a terminal, and reads the width of the terminal and the environment
    /// variables COLUMNS, NO_COLOR and GITHUB_ACTIONS.
    pub fn new(color: Color, verbosity: Verbosity, progress: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let wanted = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()) && terminal,
        };
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let width = columns.unwrap_or_else(|| terminal_width().unwrap_or(UNKNOWN_WIDTH));
        let style = RenderStyle { color: wanted, width };
        let bars = terminal && progress && verbosity > Verbosity::Quiet;
        let in_github_actions = std::env::var_os("GITHUB_ACTIONS").is_some_and(|set| !set.is_empty());
        Self {
            style,
            verbosity,
            bars,
            bar: RefCell::new(None),
            first: Arc::new(AtomicU64::new(NO_POSITION)),
            slow: RefCell::new(None),
            last_line: Cell::new(Instant::now()),
            write_failed: Cell::new(false),
            in_github_actions,
        }
    }

    /// Returns the maximum width of the command's result, in columns. The environment variable COLUMNS sets the width.
    /// If it is not set, the width is that of the terminal, or `usize::MAX` if stdout is not a terminal.
    pub fn width(&self) -> usize {
        let set = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        set.unwrap_or_else(|| if std::io::stdout().is_terminal() { self.style.width } else { usize::MAX })
    }

    pub fn verbose(&self) -> bool {
        self.verbosity == Verbosity::Verbose
    }

    /// Writes a command's result to stdout, with exactly one line break at its end. A closed pipe is not an error.
    pub fn answer(&self, text: &str) {
        self.raw(format!("{}\n", self.escape_commands(text.trim_end_matches('\n'))).as_bytes());
    }

    /// Writes a command's result to stdout without any change. A closed pipe is not an error.
    pub fn raw(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                self.write_failed.set(true);
                self.print(&format!("error: the answer could not be written: {error}"));
            }
            _ => {}
        }
    }

    /// Returns whether writing to stdout failed. A closed pipe does not count as a failure.
    pub fn write_failed(&self) -> bool {
        self.write_failed.get()
    }

    /// Prints findings on stderr. In quiet mode, only errors are printed.
    pub fn findings(&self, findings: &[Diagnostic], sources: &Sources) {
        for finding in findings.iter().filter(|one| one.is_error() || self.verbosity > Verbosity::Quiet) {
            self.print(&format!("{}\n", render(finding, sources, self.style).trim_end()));
        }
    }

    /// Prints a line on stderr, except in quiet mode.
    pub fn note(&self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            self.print(&escape_controls(text));
        }
    }

    /// Prints a line on stderr, only in verbose mode.
    pub fn detail(&self, text: &str) {
        if self.verbosity == Verbosity::Verbose {
            self.print(&escape_controls(text));
        }
    }

    /// Escapes the workflow commands in a text if the program runs in GitHub Actions, which would execute them.
    fn escape_commands<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.in_github_actions { Cow::Owned(escape_workflow_commands(text)) } else { Cow::Borrowed(text) }
    }

    fn print(&self, text: &str) {
        self.last_line.set(Instant::now());
        // Errors of writing to stderr are ignored, because a full disk or a closed stderr must not end a build.
        let text = self.escape_commands(text);
        let write = || drop(writeln!(std::io::stderr().lock(), "{text}"));
        match &*self.bar.borrow() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Progress for Ui {
    fn begin(&self, what: &str, total: u64) {
        if self.bars {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let template = "{prefix} {wide_bar} {pos}/{len} {left}";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            // Progress is reported in bursts, so the remaining time is estimated from the average pace of the whole
            // run, not from the last steps.
            let first = Arc::clone(&self.first);
            first.store(NO_POSITION, Ordering::Relaxed);
            let style = style.with_key("left", move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let first = first.load(Ordering::Relaxed).min(state.pos());
                let steps = state.len().unwrap_or(0).saturating_sub(first);
                let said = left(state.elapsed(), state.pos() - first, steps);
                let _ = write!(out, "{:<17}", said.unwrap_or_default());
            });
            bar.set_style(style.progress_chars("=> "));
            bar.set_prefix(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(500));
            *self.bar.borrow_mut() = Some(bar);
        } else {
            self.note(&format!("{what} ({total})"));
        }
    }

    fn begin_short(&self, what: &str, total: u64) {
        if self.bars {
            self.begin(what, total);
        } else {
            let now = Instant::now();
            *self.slow.borrow_mut() =
                Some(Slow { what: what.to_owned(), total, first: None, begun: now, last_line: now });
        }
    }

    fn set_position(&self, position: u64) {
        if let Some(bar) = &*self.bar.borrow() {
            if self.first.load(Ordering::Relaxed) == NO_POSITION {
                self.first.store(beginning(bar.elapsed(), position), Ordering::Relaxed);
            }
            bar.set_position(position);
        }
        let line = self.slow.borrow_mut().as_mut().and_then(|slow| slow.line(position, Instant::now()));
        if let Some(line) = line {
            self.note(&line);
        }
    }

    fn line(&self, text: &str) {
        if !self.bars || self.verbosity == Verbosity::Verbose {
            self.note(&format!("  {text}"));
        }
    }

    fn still(&self, text: &str) {
        if !self.bars && self.last_line.get().elapsed() >= BETWEEN_LINES {
            self.note(&format!("  {text}"));
        }
    }

    fn tell(&self, text: &str) {
        self.note(&format!("  {text}"));
    }

    fn end(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
        self.slow.borrow_mut().take();
    }
}

impl Slow {
    /// Returns a progress line with the position and the estimated remaining time. Returns `None` if all units are
    /// done, or if the last progress line was printed less than [`BETWEEN_LINES`] ago.
    fn line(&mut self, position: u64, now: Instant) -> Option<String> {
        let first = *self.first.get_or_insert(beginning(now.duration_since(self.begun), position));
        if position >= self.total || now.duration_since(self.last_line) < BETWEEN_LINES {
            return None;
        }
        self.last_line = now;
        let (what, total) = (&self.what, self.total);
        let left = left(now.duration_since(self.begun), position.saturating_sub(first), total.saturating_sub(first));
        let left = left.map_or_else(String::new, |left| format!(", {left}"));
        Some(format!("{what}: {position} of {total}{left}"))
    }
}

/// The value of `Ui::first` before the current computation has reported its first position.
const NO_POSITION: u64 = u64::MAX;

/// Estimates how many units of work an interrupted earlier run had already done. `position` is the first position that
/// the computation reports, after the time `elapsed`. A resumed run reports the old position in the first second. A
/// later report means that this run did the work itself, so the result is 0.
fn beginning(elapsed: Duration, position: u64) -> u64 {
    if elapsed < Duration::from_secs(1) { position } else { 0 }
}

/// Formats the remaining time, estimated from the average time per unit of work. `position` of `total` units are done.
/// Returns `None` if no unit or every unit is done.
fn left(elapsed: Duration, position: u64, total: u64) -> Option<String> {
    let rest = total.checked_sub(position).filter(|rest| position > 0 && *rest > 0)?;
    let pace = elapsed.as_secs_f64() / position as f64;
    Some(format!("about {} left", lasting(pace * rest as f64)))
}

/// Formats a duration, given in seconds, as whole seconds, minutes or hours.
fn lasting(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 90.0 => format!("{} s", seconds.ceil().max(1.0)),
        seconds if seconds < 5400.0 => format!("{} min", (seconds / 60.0).round()),
        seconds => format!("{} h", (seconds / 3600.0).round()),
    }
}

fn terminal_width() -> Option<usize> {
    let (_, columns) = console::Term::stderr().size_checked()?;
    Some(usize::from(columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_work_reports_the_remaining_time() {
        let begun = Instant::now();
        let mut slow = Slow { what: "prompts".into(), total: 40, first: Some(0), begun, last_line: begun };
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(slow.line(4, at(9)), None);
        assert_eq!(slow.line(10, at(20)).as_deref(), Some("prompts: 10 of 40, about 60 s left"));
        assert_eq!(slow.line(11, at(22)), None);
        assert_eq!(slow.line(40, at(60)), None, "finished work is not reported");
        let mut resumed = Slow { what: "documents".into(), total: 100, first: None, begun, last_line: begun };
        assert_eq!(resumed.line(90, at(0)), None);
        assert_eq!(resumed.line(92, at(20)).as_deref(), Some("documents: 92 of 100, about 80 s left"));
        assert_eq!((lasting(0.0), lasting(300.0), lasting(7300.0)), ("1 s".into(), "5 min".into(), "2 h".into()));
    }
}
