//! Lets tests count the calls that change the disk, and make any of them fail.
//!
//! Every operation that creates, writes, syncs, renames or removes an entry, or a file that is written in the same way,
//! first calls [`before`] or [`writing`]. Operations that may fail without harm do not: writing the process id into the
//! store's lock file, updating the modification time of a used entry, and removing empty folders and temporary files.
//! Outside the tests of this crate, neither function has an effect.

use std::io;

/// An operation that changes the disk, or makes a change durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    /// Creates a folder, a temporary file or the store's lock file.
    Make,
    /// Writes bytes to a temporary file.
    Write,
    /// Syncs a file, or a folder after a file in it was renamed.
    Sync,
    /// Renames a temporary file to its final path.
    Rename,
    /// Removes an entry, a memo or a temporary file.
    Remove,
}

/// Returns an error if a test makes this call fail. This version, outside tests, always returns `Ok`.
///
/// # Errors
/// If a test makes the call fail; never outside tests.
#[cfg(not(test))]
#[inline]
pub(super) fn before(_: Call) -> io::Result<()> {
    Ok(())
}

/// Returns whether a test simulates that the process was killed, after which temporary files are not removed. This
/// version, outside tests, always returns false.
#[cfg(not(test))]
#[inline]
pub(super) fn kills() -> bool {
    false
}

/// Calls `write`. If a test makes the call fail, only half of the bytes are written, as on a full disk.
///
/// # Errors
/// If `write` fails, or a test makes the call fail.
pub(super) fn writing(bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
    match before(Call::Write) {
        Ok(()) => write(bytes),
        Err(error) => write(&bytes[..bytes.len() / 2]).and(Err(error)),
    }
}

#[cfg(test)]
pub(super) use counted::{Fault, before, disturbed, kills};

#[cfg(test)]
mod counted {
    use std::cell::RefCell;
    use std::io;

    use super::Call;

    /// A simulated fault.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in super::super) enum Fault {
        /// No fault; calls are only counted.
        None,
        /// The process is killed: this call and all later ones change nothing, and temporary files remain.
        Killed,
        /// The disk is full: from this call on, nothing can be created or written.
        Full,
        /// The disk reports an I/O error for this call only.
        Broken,
    }

    struct State {
        fault: Fault,
        at: usize,
        calls: Vec<Call>,
    }

    thread_local! {
        static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
    }

    /// Runs `work` with `fault` at the call with index `at` in this thread, and returns the result and the list of
    /// calls.
    pub(in super::super) fn disturbed<T>(fault: Fault, at: usize, work: impl FnOnce() -> T) -> (T, Vec<Call>) {
        STATE.set(Some(State { fault, at, calls: Vec::new() }));
        let done = work();
        (done, STATE.take().map(|state| state.calls).unwrap_or_default())
    }

    pub(in super::super) fn kills() -> bool {
        STATE.with_borrow(|state| state.as_ref().is_some_and(|state| state.fault == Fault::Killed))
    }

    pub(in super::super) fn before(call: Call) -> io::Result<()> {
        STATE.with_borrow_mut(|state| {
            let Some(State { fault, at, calls }) = state else { return Ok(()) };
            calls.push(call);
            let (past, now) = (calls.len() > *at, calls.len() == *at + 1);
            match fault {
                Fault::Killed if past => Err(io::Error::other("killed")),
                Fault::Full if past && matches!(call, Call::Make | Call::Write) => {
                    Err(io::ErrorKind::StorageFull.into())
                }
                // On a full disk, an operation that needs no space may fail too, so the selected call always fails.
                Fault::Full if now => Err(io::ErrorKind::StorageFull.into()),
                // EIO has no `ErrorKind`.
                Fault::Broken if now => Err(io::Error::from_raw_os_error(5)),
                _ => Ok(()),
            }
        })
    }
}
