//! Stores one tensor of a model. An unchanged tensor is memory-mapped from the file, in the dtype of the file. A
//! changed tensor is in memory as f32.

use std::borrow::Cow;
use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;

use memmap2::Mmap;

use crate::digest::{Digest, Hasher};
use crate::numeric::half::append;
use crate::numeric::{Elements, View, WeightDtype};

/// One tensor of a model. Clones share the elements, so cloning is cheap.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The name of the tensor in the weights file.
    pub name: String,
    /// The dimensions, outermost first.
    pub shape: Vec<usize>,
    pub dtype: WeightDtype,
    storage: Storage,
}

#[derive(Clone, Debug)]
enum Storage {
    Mapped(Arc<Mmap>, Range<usize>),
    Owned(Arc<Vec<f32>>),
}

impl Tensor {
    /// Creates a tensor whose bytes are `range` of `map`, a memory-mapped weights file. The header reader has checked
    /// the range.
    pub(crate) fn mapped(
        name: String,
        shape: Vec<usize>,
        stored: WeightDtype,
        map: &Arc<Mmap>,
        range: Range<usize>,
    ) -> Self {
        Self { name, shape, dtype: stored, storage: Storage::Mapped(Arc::clone(map), range) }
    }

    /// Returns the part of a memory-mapped tensor with these indices of the first dimension. It has the name of the whole
    /// tensor.
    ///
    /// # Panics
    /// If the tensor was changed, or the range is not in its first dimension.
    pub(crate) fn leading(&self, part: Range<usize>) -> Self {
        let Storage::Mapped(map, range) = &self.storage else { panic!("{} was changed", self.name) };
        assert!(part.end <= self.shape[0], "rows of {}", self.name);
        let row = range.len() / self.shape[0];
        let bytes = range.start + part.start * row..range.start + part.end * row;
        let mut shape = self.shape.clone();
        shape[0] = part.len();
        Self::mapped(self.name.clone(), shape, self.dtype, map, bytes)
    }

    /// Returns the elements in row-major order without copying them. They have the dtype of the file, or f32 if the
    /// tensor was changed.
    pub fn elements(&self) -> Elements<'_> {
        match &self.storage {
            Storage::Owned(data) => Elements::Own(data),
            Storage::Mapped(map, range) => Elements::of_bytes(self.dtype, &map[range.clone()]),
        }
    }

    /// Returns the elements as f32, without rounding. Elements that are already f32 in memory are borrowed, not copied.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        self.elements().to_f32()
    }

    /// Views a two-dimensional tensor as a matrix, oriented as in the file.
    pub fn view(&self) -> View<'_> {
        View::of(self.elements(), self.shape[0], self.shape[1])
    }

    /// Returns row `row` of a two-dimensional tensor as f32.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.shape[1]];
        self.elements().widen_into(row * self.shape[1], &mut out);
        out
    }

    /// Returns a copy of the tensor with the elements `data`. They must be exactly representable in the dtype of the
    /// file.
    ///
    /// # Panics
    /// If the number of elements does not match the shape.
    pub fn with_data(&self, data: Vec<f32>) -> Self {
        assert_eq!(data.len(), self.shape.iter().product::<usize>(), "elements of {}", self.name);
        Self { storage: Storage::Owned(Arc::new(data)), ..self.clone() }
    }

    /// Returns the digest of the elements' bytes in the dtype of the file. For a changed tensor, these are the bytes
    /// that a new file would contain.
    pub fn digest(&self) -> Digest {
        match &self.storage {
            Storage::Mapped(map, range) => Digest::of(&map[range.clone()]),
            Storage::Owned(data) => {
                let mut hasher = Hasher::default();
                let mut bytes = Vec::with_capacity(1 << 16);
                for some in data.chunks(1 << 14) {
                    bytes.clear();
                    some.iter().for_each(|x| append(self.dtype, *x, &mut bytes));
                    // Writing to a hasher never fails.
                    let _ = hasher.write_all(&bytes);
                }
                hasher.finish()
            }
        }
    }

    /// Whether both tensors are memory-mapped and have the same dtype and the same bytes.
    pub(crate) fn is_same_bytes(&self, other: &Self) -> bool {
        match (&self.storage, &other.storage) {
            (Storage::Mapped(a, from), Storage::Mapped(b, to)) => {
                self.dtype == other.dtype && a[from.clone()] == b[to.clone()]
            }
            _ => false,
        }
    }

    pub fn is_same_memory(&self, other: &Self) -> bool {
        match (&self.storage, &other.storage) {
            (Storage::Mapped(a, from), Storage::Mapped(b, to)) => Arc::ptr_eq(a, b) && from == to,
            (Storage::Owned(a), Storage::Owned(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}
