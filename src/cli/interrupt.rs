//! What a person is told who stops a run with Ctrl-C.

use std::io::{IsTerminal as _, Write as _};

/// The exit code of a run that was stopped, as a shell has it.
const STOPPED: i32 = 130;

/// Says, when a person stops the run, what becomes of what was computed. Files appear whole or not at all; a temporary
/// file or folder that was being written stays, as after any kill. Programs stop a run by the signal alone.
pub(super) fn listen(keeps: bool) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    // Without a handler the system ends the run, with nothing said.
    let _ = ctrlc::set_handler(move || {
        let text = match keeps {
            true => "stopped: what was computed is kept, and the same command goes on from there",
            false => "stopped",
        };
        // A bar may stand on the line.
        let _ = writeln!(std::io::stderr(), "\n{text}");
        std::process::exit(STOPPED);
    });
}
