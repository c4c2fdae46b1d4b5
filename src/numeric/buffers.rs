//! Memory that is freed and wanted again at once.
//!
//! An evaluation takes half a gibibyte in buffers of a few mebibytes, gives all of it back, and the next one takes the
//! same. The system's allocator returns what is free at the end of its memory, and every page comes back zeroed, one
//! fault at a time: four hundredths of the time of a search for values.

/// While it lives, the process keeps what it frees, as far as its allocator can be asked to (glibc); then all of that is
/// given back. What the allocator was told before is overruled, and stays so.
pub struct Kept(());

/// See [`Kept`].
pub fn keep() -> Kept {
    glibc::keep();
    Kept(())
}

impl Drop for Kept {
    fn drop(&mut self) {
        glibc::give_back();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "calls of the C library")]
mod glibc {
    use std::sync::Once;

    /// The greatest that it lets itself be told.
    const LARGEST_BUFFER: libc::c_int = 32 << 20;

    pub(super) fn keep() {
        static ONCE: Once = Once::new();
        // SAFETY: both only set a number, which the allocator reads under its own lock; that they fail changes nothing.
        ONCE.call_once(|| unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_BUFFER);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        });
    }

    pub(super) fn give_back() {
        // SAFETY: it takes the allocator's own locks and touches only what is free.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod glibc {
    pub(super) fn keep() {}

    pub(super) fn give_back() {}
}
