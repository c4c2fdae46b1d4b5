//! Memory that is freed and wanted again at once.
//!
//! An evaluation takes half a gibibyte in buffers of a few mebibytes, gives all of it back, and the next one takes the
//! same. The system's allocator returns what is free at the end of its memory, and every page comes back zeroed, one
//! fault at a time: four hundredths of the time of a search for values.

/// Has the process keep what it frees, as far as 2 GiB, where its allocator can be asked (glibc).
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(ask);
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a call of the C library")]
fn ask() {
    // The greatest that it lets itself be told.
    const LARGEST_BUFFER: libc::c_int = 32 << 20;
    // SAFETY: both only set a number, which the allocator reads under its own lock; that they fail changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_BUFFER);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}
