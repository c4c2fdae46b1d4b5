//! Numbers as they lie in memory: f32, or the bytes of a file in one of its types, widened where they are used.

use std::borrow::Cow;

use super::half::{widen_bf16, widen_f16};

/// The types in which a model stores its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// The upper half of an F32.
    BF16,
}

/// A run of numbers. Bytes are little-endian and need no alignment.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// Numbers of our own.
    Own(&'a [f32]),
    /// F32 of a file.
    F32(&'a [[u8; 4]]),
    /// F16 of a file.
    F16(&'a [[u8; 2]]),
    /// BF16 of a file.
    BF16(&'a [[u8; 2]]),
}

/// Evaluates the expression for whichever type it is: `$data` its slice, `$widen` what makes an f32 of one element.
macro_rules! with_elements {
    ($elements:expr, |$data:ident, $widen:ident| $body:expr) => {
        match $elements {
            Elements::Own($data) => {
                let $widen = |x: f32| x;
                $body
            }
            Elements::F32($data) => {
                let $widen = f32::from_le_bytes;
                $body
            }
            Elements::F16($data) => {
                let $widen = $crate::numeric::half::widen_f16;
                $body
            }
            Elements::BF16($data) => {
                let $widen = $crate::numeric::half::widen_bf16;
                $body
            }
        }
    };
}
pub(super) use with_elements;

impl<'a> Elements<'a> {
    /// The elements of a tensor's bytes; what does not fill an element at the end is left out.
    pub fn of_bytes(stored: Stored, bytes: &'a [u8]) -> Self {
        match stored {
            Stored::F32 => Self::F32(bytes.as_chunks().0),
            Stored::F16 => Self::F16(bytes.as_chunks().0),
            Stored::BF16 => Self::BF16(bytes.as_chunks().0),
        }
    }

    /// How many there are.
    pub fn len(self) -> usize {
        with_elements!(self, |data, _widen| data.len())
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// One of them.
    pub fn at(self, index: usize) -> f32 {
        with_elements!(self, |data, widen| widen(data[index]))
    }

    /// Those from `first` on; none where there are fewer.
    pub fn skip(self, first: usize) -> Self {
        match self {
            Self::Own(data) => Self::Own(data.get(first..).unwrap_or_default()),
            Self::F32(data) => Self::F32(data.get(first..).unwrap_or_default()),
            Self::F16(data) => Self::F16(data.get(first..).unwrap_or_default()),
            Self::BF16(data) => Self::BF16(data.get(first..).unwrap_or_default()),
        }
    }

    /// Writes `out.len()` of them, from `first` on.
    pub fn widen_into(self, first: usize, out: &mut [f32]) {
        let range = first..first + out.len();
        match self {
            Self::Own(data) => out.copy_from_slice(&data[range]),
            Self::F32(data) => fill(out, &data[range], f32::from_le_bytes),
            Self::F16(data) => fill(out, &data[range], widen_f16),
            Self::BF16(data) => fill(out, &data[range], widen_bf16),
        }
    }

    /// Asks for the memory of `count` of them, from `first` on, which will be read soon. Reads nothing.
    #[inline(always)]
    pub(super) fn prefetch(self, first: usize, count: usize) {
        with_elements!(self, |data, _widen| {
            let end = (first + count).min(data.len());
            if let Some(data) = data.get(first..end).filter(|data| !data.is_empty()) {
                data.iter().step_by((LINE / size_of_val(&data[0])).max(1)).for_each(prefetch);
            }
        });
    }

    /// All of them as f32.
    pub fn wide(self) -> Cow<'a, [f32]> {
        if let Self::Own(data) = self {
            return Cow::Borrowed(data);
        }
        let mut out = vec![0.0; self.len()];
        self.widen_into(0, &mut out);
        Cow::Owned(out)
    }
}

/// Bytes of memory that come together.
const LINE: usize = 64;

/// Asks for the memory of `x`.
#[inline(always)]
#[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "an instruction without a safe name"))]
fn prefetch<T>(x: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the address is that of a reference, and the instruction reads nothing and never fails.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(x).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x;
}

/// Widens all of `data` into `out`.
#[inline(always)]
pub(super) fn fill<T: Copy>(out: &mut [f32], data: &[T], widen: impl Fn(T) -> f32) {
    for (out, x) in out.iter_mut().zip(data) {
        *out = widen(*x);
    }
}
