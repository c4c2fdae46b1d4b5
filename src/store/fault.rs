//! Lets tests count the operations that change the disk, and make any of them fail.
//!
//! Every operation that creates, writes, syncs, renames or removes a file of the store, or a file written by
//! [`atomic`](super::atomic), first calls [`before`] or [`writing`]. Operations whose failure is ignored do not call
//! them: writing the process id to the store's lock file, updating the modification time of an entry, and removing
//! empty folders and stale temporary files. Outside unit tests both functions have no effect.

use std::io;

/// An operation that creates, changes or removes a file, or makes such a change durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    /// Creating a folder, a temporary file or the store's lock file.
    Make,
    /// Writing bytes to a temporary file.
    Write,
    /// Syncing a file, or a folder after a rename in it.
    Sync,
    /// Renaming a temporary file to its final path.
    Rename,
    /// Removing an entry, a memo or a temporary file.
    Remove,
}

/// Returns the error that a test simulates for this call; outside unit tests always `Ok`.
///
/// # Errors
/// If a test simulates an error for the call.
#[cfg(not(test))]
#[inline]
pub(super) fn before(_: Call) -> io::Result<()> {
    Ok(())
}

/// Returns whether a test simulates that the process is killed, so that temporary files are not removed. Outside unit
/// tests always false.
#[cfg(not(test))]
#[inline]
pub(super) fn kills() -> bool {
    false
}

/// Calls `write`. If a test simulates an error, writes only half of the bytes, as on a full disk.
///
/// # Errors
/// If `write` fails, or a test simulates an error.
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

    /// A fault that a test simulates.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in super::super) enum Fault {
        /// No fault; calls are counted only.
        None,
        /// The process is killed: this call and all later ones do nothing, and temporary files remain.
        Killed,
        /// The disk is full: this call fails, and all later calls that create or write.
        Full,
        /// This call fails with an I/O error; later calls succeed.
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

    /// Runs `work` with `fault` at the call with index `at` on this thread. Returns the result and all calls.
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
                // An operation that needs no space may also fail on a full disk, so the selected call always fails.
                Fault::Full if now => Err(io::ErrorKind::StorageFull.into()),
                // `ErrorKind` has no variant for EIO, which is 5.
                Fault::Broken if now => Err(io::Error::from_raw_os_error(5)),
                _ => Ok(()),
            }
        })
    }
}
