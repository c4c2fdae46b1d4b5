//! Handles Ctrl-C: prints whether the results so far are stored, and ends the run.

use std::io::{IsTerminal as _, Write as _};

/// The exit code of an interrupted run, as in shells: 128 + SIGINT (2).
const STOPPED: i32 = 130;

/// Installs the handler for Ctrl-C. `stores_results` states whether the command stores results as it computes them,
/// which the handler reports. Files are written atomically, but a temporary file or folder may remain. Without a
/// terminal, no handler is installed.
#[expect(clippy::exit, reason = "the computing thread does not check for signals, so the handler ends the process")]
pub(super) fn listen(stores_results: bool) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    // If the handler cannot be installed, Ctrl-C ends the run without a message.
    let _ = ctrlc::set_handler(move || {
        let text = if stores_results {
            "stopped: the computed results are kept, and the same command continues from there"
        } else {
            "stopped"
        };
        // The cursor may be on the line of a progress bar, so the message starts on a new line.
        let _ = writeln!(std::io::stderr(), "\n{text}");
        std::process::exit(STOPPED);
    });
}
