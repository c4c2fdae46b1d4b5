//! Lets unit tests simulate failures of the operations that change the disk.
//!
//! The store and [`atomic`](super::atomic) call [`before`] or [`writing`] at every such operation, except operations
//! whose errors are ignored. Outside unit tests, neither function simulates a failure.

use std::io;

/// An operation that changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    /// Creates a folder, a temporary file or the store's lock file.
    Make,
    /// Writes bytes to a temporary file.
    Write,
    /// Syncs a file, or a folder in which a file was renamed.
    Sync,
    /// Renames a temporary file to its final path.
    Rename,
    /// Removes an entry, a memo (a cached digest) or a temporary file.
    Remove,
}

/// Called before every operation that changes the disk. In unit tests, a different version of this function can return
/// a simulated error. This version does nothing.
#[cfg(not(test))]
#[inline]
pub(super) fn before(_: Call) -> io::Result<()> {
    Ok(())
}

/// Returns whether a unit test simulates a killed process. This version, for all builds except unit tests, always
/// returns false.
#[cfg(not(test))]
#[inline]
pub(super) fn kills() -> bool {
    false
}

/// Calls `write` with `bytes`. If a test simulates an error, writes only half of the bytes and returns the error,
/// as may happen on a full disk.
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

    /// A failure that a test simulates at one selected [`Call`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in super::super) enum Fault {
        /// No failure is simulated; the calls are only recorded.
        None,
        /// The process is killed: the call that the test selects and all later calls fail, and temporary files remain.
        Killed,
        /// The disk is full: the call that the test selects fails. All later calls that create or write files also
        /// fail.
        Full,
        /// The call that the test selects fails with an I/O error; later calls succeed.
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

    /// Runs `work`, and simulates `fault` when `work` makes its call number `at`, counted from 0. A [`Call`] is an
    /// operation that changes the disk. Returns the result of `work` and all its calls.
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
                // The call that the test selects always fails, because on a full disk even an operation that needs no
                // space may fail.
                Fault::Full if now => Err(io::ErrorKind::StorageFull.into()),
                // `ErrorKind` has no variant for EIO, whose number is 5.
                Fault::Broken if now => Err(io::Error::from_raw_os_error(5)),
                _ => Ok(()),
            }
        })
    }
}
