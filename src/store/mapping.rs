//! Maps the files of store entries into memory, because some payloads are too large to copy.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// The verified payload of a store entry, mapped into memory.
#[derive(Debug)]
pub struct Mapping {
    map: memmap2::Mmap,
    length: usize,
}

impl Mapping {
    #[expect(unsafe_code, reason = "a memory map cannot be created without unsafe code")]
    pub(super) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: an entry is never written in place. It is replaced by a rename and removed by unlinking, and both
        // leave the pages of an open map unchanged.
        let map = unsafe { memmap2::Mmap::map(file)? };
        Ok(Self { length: map.len(), map })
    }

    /// Returns the mapping without its last `count` bytes. `count` must not exceed the length of the mapping.
    pub(super) fn without_last(self, count: usize) -> Self {
        Self { length: self.length - count, map: self.map }
    }

    /// Interprets the payload as little-endian `f64` numbers, without copying. Returns `None` if its length is not a
    /// multiple of 8, or if the machine is big-endian.
    #[expect(unsafe_code, reason = "numbers in a memory map are read in place")]
    pub fn as_f64(&self) -> Option<&[f64]> {
        // SAFETY: every 64-bit pattern is a valid `f64`, and `align_to` returns only aligned numbers.
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
