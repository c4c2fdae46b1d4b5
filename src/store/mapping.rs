//! Memory maps of entries.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// The verified payload of an entry, read in place.
#[derive(Debug)]
pub struct Mapping {
    map: memmap2::Mmap,
    length: usize,
}

impl Mapping {
    #[expect(unsafe_code, reason = "a memory map cannot be made without")]
    pub(super) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: entries are never written in place: they are replaced by renaming and removed by unlinking, and
        // both leave the pages of an open map as they are.
        let map = unsafe { memmap2::Mmap::map(file)? };
        Ok(Self { length: map.len(), map })
    }

    /// The same map without its last `count` bytes, of which it must have as many.
    pub(super) fn without_last(self, count: usize) -> Self {
        Self { length: self.length - count, map: self.map }
    }

    /// The payload as little-endian f64, in place. `None` where it is no whole number of them, or on a machine that
    /// stores numbers the other way round.
    #[expect(unsafe_code, reason = "numbers in a memory map are read in place")]
    pub fn as_f64(&self) -> Option<&[f64]> {
        // SAFETY: every pattern of 64 bits is an f64, and `align_to` looks after alignment and length.
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
