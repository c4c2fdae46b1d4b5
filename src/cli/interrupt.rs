//! Prints a message if the user stops a run with Ctrl-C.

use std::io::{IsTerminal as _, Write as _};

/// The exit code of an interrupted run, as in shells: 128 + SIGINT (2).
const STOPPED: i32 = 130;

/// Installs a handler for Ctrl-C that reports whether the results so far are stored. Files are written atomically; a
/// temporary file or folder may remain, as after a kill. Without a terminal, no handler is installed.
#[expect(clippy::exit, reason = "the handler ends the run: the thread that computes does not listen")]
pub(super) fn listen(keeps: bool) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    // If the handler cannot be installed, the system ends the run without a message.
    let _ = ctrlc::set_handler(move || {
        let text = match keeps {
            true => "stopped: the computed results are kept, and the same command continues from there",
            false => "stopped",
        };
        // The cursor may be in the line of a progress bar.
        let _ = writeln!(std::io::stderr(), "\n{text}");
        std::process::exit(STOPPED);
    });
}
