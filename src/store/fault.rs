//! The calls by which the store changes a disk, named, so that a test can count them and let any of them fail.
//!
//! Whatever makes, writes, syncs, renames or removes an entry, or a file written like one, goes through [`before`] or
//! [`writing`] first; what may fail without harm does not: the holder's number in the lock, the time of an entry in use,
//! empty folders, temporary files that are given up. Outside of the tests of this crate neither does anything.

use std::io;

/// A call that changes a disk, or makes a change durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    /// A folder, or a temporary file, or the lock.
    Make,
    /// Bytes of a temporary file.
    Write,
    /// A file, or a folder after a file in it was renamed.
    Sync,
    /// A temporary file into its place.
    Rename,
    /// An entry, or what was left of one.
    Remove,
}

/// Asks whether the system makes this call.
///
/// # Errors
/// A test wants it to fail.
#[cfg(not(test))]
#[inline]
pub(super) fn before(_: Call) -> io::Result<()> {
    Ok(())
}

/// Whether a test is about to kill the process, whose temporary files nobody tidies up then.
#[cfg(not(test))]
#[inline]
pub(super) fn kills() -> bool {
    false
}

/// Writes with `write`, of what is given a part where a test wants the write to fail: disks fill in the middle of one.
///
/// # Errors
/// Those of `write`, or a test wants one.
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

    /// What happens at a call.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in super::super) enum Fault {
        /// Nothing: calls are counted.
        None,
        /// The process is gone: this call and all that follow change nothing, and nothing is tidied up.
        Killed,
        /// The disk is full: nothing can be made or written from here on.
        Full,
        /// The disk does not answer, once.
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

    /// Runs `work` with `fault` at the call of index `at` of this thread; the calls that it made.
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
                // What needs no room may fail on a full disk as well, where it is the call that was asked for.
                Fault::Full if now => Err(io::ErrorKind::StorageFull.into()),
                // EIO has no kind of its own.
                Fault::Broken if now => Err(io::Error::from_raw_os_error(5)),
                _ => Ok(()),
            }
        })
    }
}
