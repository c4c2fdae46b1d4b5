//! One tensor of a model: in the map in its own type, or in memory where it was changed.

use std::borrow::Cow;
use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;

use memmap2::Mmap;

use crate::digest::{Digest, Hasher};
use crate::numeric::half::append;
use crate::numeric::{Elements, Stored, View};

/// One tensor of a model. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name in the file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The type in which it is stored.
    pub stored: Stored,
    storage: Storage,
}

#[derive(Clone, Debug)]
enum Storage {
    Mapped(Arc<Mmap>, Range<usize>),
    Owned(Arc<Vec<f32>>),
}

impl Tensor {
    /// A tensor whose bytes are `range` of `map`, which the header was checked for.
    pub(super) fn mapped(
        name: String,
        shape: Vec<usize>,
        stored: Stored,
        map: &Arc<Mmap>,
        range: Range<usize>,
    ) -> Self {
        Self { name, shape, stored, storage: Storage::Mapped(Arc::clone(map), range) }
    }

    /// The elements where they lie, row-major.
    pub fn elements(&self) -> Elements<'_> {
        match &self.storage {
            Storage::Owned(data) => Elements::Own(data),
            Storage::Mapped(map, range) => Elements::of_bytes(self.stored, &map[range.clone()]),
        }
    }

    /// The elements, widened exactly: a copy, unless it is in memory anyway.
    pub fn wide(&self) -> Cow<'_, [f32]> {
        self.elements().wide()
    }

    /// The elements as a matrix, as the file has it.
    pub fn view(&self) -> View<'_> {
        View::of(self.elements(), self.shape[0], self.shape[1])
    }

    /// Row `row` of a matrix, widened.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.shape[1]];
        self.elements().widen_into(row * self.shape[1], &mut out);
        out
    }

    /// The same tensor with other elements, each a value of the type in which it is stored.
    pub fn with_data(&self, data: Vec<f32>) -> Self {
        assert_eq!(data.len(), self.shape.iter().product::<usize>(), "elements of {}", self.name);
        Self { storage: Storage::Owned(Arc::new(data)), ..self.clone() }
    }

    /// The digest of its bytes as a file stores them.
    pub fn digest(&self) -> Digest {
        match &self.storage {
            Storage::Mapped(map, range) => Digest::of(&map[range.clone()]),
            Storage::Owned(data) => {
                let mut hasher = Hasher::default();
                let mut bytes = Vec::with_capacity(1 << 16);
                for some in data.chunks(1 << 14) {
                    bytes.clear();
                    some.iter().for_each(|x| append(self.stored, *x, &mut bytes));
                    // Hashing cannot fail.
                    let _ = hasher.write_all(&bytes);
                }
                hasher.finish()
            }
        }
    }

    /// Whether the stored bytes are the same, in the same type.
    pub(super) fn is_same_bytes(&self, other: &Self) -> bool {
        match (&self.storage, &other.storage) {
            (Storage::Mapped(a, from), Storage::Mapped(b, to)) => {
                self.stored == other.stored && a[from.clone()] == b[to.clone()]
            }
            _ => false,
        }
    }

    /// Whether this is the very same memory as another tensor's.
    pub fn is_same_memory(&self, other: &Self) -> bool {
        match (&self.storage, &other.storage) {
            (Storage::Mapped(a, from), Storage::Mapped(b, to)) => Arc::ptr_eq(a, b) && from == to,
            (Storage::Owned(a), Storage::Owned(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}
