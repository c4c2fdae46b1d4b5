//! Memory-maps entries.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// The verified payload of an entry, in a memory map.
#[derive(Debug)]
pub struct Mapping {
    map: memmap2::Mmap,
    length: usize,
}

impl Mapping {
    #[expect(unsafe_code, reason = "a memory map cannot be created without unsafe code")]
    pub(super) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: entries are never written in place. They are replaced by a rename and removed by unlinking, and both
        // leave the pages of an open map unchanged.
        let map = unsafe { memmap2::Mmap::map(file)? };
        Ok(Self { length: map.len(), map })
    }

    /// Returns the same map without its last `count` bytes; `count` must not exceed its length.
    pub(super) fn without_last(self, count: usize) -> Self {
        Self { length: self.length - count, map: self.map }
    }

    /// Returns the payload as little-endian f64 without copying it. `None` if its length is not a multiple of 8, or on
    /// a big-endian machine.
    #[expect(unsafe_code, reason = "numbers in a memory map are read in place")]
    pub fn as_f64(&self) -> Option<&[f64]> {
        // SAFETY: every 64-bit pattern is a valid f64, and `align_to` ensures alignment and length.
        let (before, numbers, after) = unsafe { self.align_to::<f64>() };
        (cfg!(target_endian = "little") && before.is_empty() && after.is_empty()).then_some(numbers)
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[..self.length]
    }
}
