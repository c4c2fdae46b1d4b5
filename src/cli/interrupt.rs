//! Handles Ctrl-C: prints whether the computed results are kept, and ends the process.

use std::io::{IsTerminal as _, Write as _};

/// The exit code after Ctrl-C. By the convention of shells, it is 128 plus the number of the signal, which is 2 for
/// SIGINT.
const STOPPED: i32 = 130;

/// Installs the handler for Ctrl-C if stderr is a terminal. If `stores_results` is true, the message of the handler
/// says that the computed results are kept. After Ctrl-C, a temporary file may remain, but no other file is half
/// written.
#[expect(clippy::exit, reason = "the computing thread does not check for signals, so the handler ends the process")]
pub(super) fn listen(stores_results: bool) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    // If the handler cannot be installed, Ctrl-C ends the process without a message.
    let _ = ctrlc::set_handler(move || {
        let text = if stores_results {
            "stopped: the computed results are kept, and the same command continues from there"
        } else {
            "stopped"
        };
        // The cursor may be on the line of a progress bar, so the message begins with a line break.
        let _ = writeln!(std::io::stderr(), "\n{text}");
        std::process::exit(STOPPED);
    });
}
