//! Room for numbers that threads clear for themselves.
//!
//! `vec![0.0; n]` is written by one thread from end to end before the others begin. Where each of them clears its own
//! part just before it computes it, all take part, and what was cleared is still near when it is written again.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `n` numbers, all of which `fill` clears, part by part, before it writes them.
///
/// # Panics
/// If a part was not cleared.
#[expect(unsafe_code, reason = "room is handed on before there is anything in it")]
pub(super) fn fresh(n: usize, fill: impl FnOnce(Part<'_>)) -> Vec<f32> {
    let (mut room, cleared) = (Vec::with_capacity(n), AtomicUsize::new(0));
    fill(Part { room: &mut room.spare_capacity_mut()[..n], cleared: &cleared });
    assert_eq!(cleared.into_inner(), n, "numbers of fresh room that were cleared");
    // SAFETY: parts never overlap and are cleared at most once, as clearing takes them: so `n` cleared numbers are
    // all there are.
    unsafe { room.set_len(n) };
    room
}

/// So many numbers more than are wanted leave room to begin at a line.
pub(super) const SLACK: usize = LINE / size_of::<f32>() - 1;

/// Bytes of memory that come together: a vector that lies across two lines takes two loads.
const LINE: usize = 64;

/// How many of these numbers stand before the first that begins a line; none where there is no telling. What comes of
/// them is the same wherever they lie.
pub(super) fn before_line<T>(numbers: &[T]) -> usize {
    Some(numbers.as_ptr().align_offset(LINE)).filter(|&skip| skip <= SLACK.min(numbers.len())).unwrap_or(0)
}

/// A part of fresh room.
pub(super) struct Part<'a> {
    room: &'a mut [MaybeUninit<f32>],
    cleared: &'a AtomicUsize,
}

impl<'a> Part<'a> {
    /// The first `n` numbers, and the others.
    pub(super) fn split_at(self, n: usize) -> (Self, Self) {
        let (room, rest) = self.room.split_at_mut(n);
        (Self { room, cleared: self.cleared }, Self { room: rest, cleared: self.cleared })
    }

    /// Parts of `n` numbers each, and what is left of them.
    pub(super) fn chunks(self, n: usize) -> impl Iterator<Item = Self> {
        let cleared = self.cleared;
        self.room.chunks_mut(n).map(move |room| Self { room, cleared })
    }

    /// How many of its numbers stand before a line.
    pub(super) fn before_line(&self) -> usize {
        before_line(self.room)
    }

    /// Zeros.
    #[expect(unsafe_code, reason = "what was written is there")]
    pub(super) fn clear(self) -> &'a mut [f32] {
        self.room.fill(MaybeUninit::new(0.0));
        self.cleared.fetch_add(self.room.len(), Ordering::Relaxed);
        // SAFETY: all of it was written two lines above.
        unsafe { self.room.assume_init_mut() }
    }

    /// Other numbers, as many.
    pub(super) fn copy(self, numbers: &[f32]) -> &'a mut [f32] {
        self.cleared.fetch_add(self.room.len(), Ordering::Relaxed);
        self.room.write_copy_of_slice(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_room_in_its_order() {
        let numbers = fresh(7, |part| {
            let (first, rest) = part.split_at(3);
            rest.chunks(3).enumerate().for_each(|(index, part)| part.clear().fill(index as f32 + 1.0));
            first.copy(&[8.0, 7.0, 6.0])[1] = 9.0;
        });
        assert_eq!(numbers, [8.0, 9.0, 6.0, 1.0, 1.0, 1.0, 2.0]);
        assert!(fresh(0, |part| drop(part.clear())).is_empty());
    }

    #[test]
    fn a_line_begins_where_it_is_said_to() {
        let numbers = vec![0.0_f32; 64];
        let skip = before_line(&numbers[1..]);
        assert_eq!(numbers[1 + skip..].as_ptr().addr() % LINE, 0);
        assert!(skip <= SLACK && before_line(&numbers[1 + skip..]) == 0);
        assert_eq!(before_line(&numbers[2 + skip..][..3]), 0, "no line begins in them");
    }

    #[test]
    #[should_panic(expected = "fresh room")]
    fn room_that_was_not_cleared_is_never_read() {
        fresh(7, |part| drop(part.split_at(3).0.clear()));
    }
}
