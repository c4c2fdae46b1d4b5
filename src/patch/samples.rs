use std::collections::BTreeMap;

use super::{Patch, Target};
use crate::digest::Digest;
use crate::safetensors::Dtype;
use crate::safetensors::Layout;

/// Returns a sample change of a weight with three outputs and two inputs. Two edits contribute to the change.
pub(super) fn target(layout: Layout) -> Target {
    let mut edits = vec![Digest::of(b"one"), Digest::of(b"two")];
    edits.sort_unstable();
    Target {
        base: Digest::of(b"base"),
        dtype: Dtype::F32,
        layout,
        out: 3,
        inner: 2,
        edits,
        u: vec![1.0, 2.0, 3.0, 4.0, 5.0, -6.0],
        v: vec![0.5, -1.0, 0.25, 1e-3],
    }
}

/// Returns a patch of two weights, one in each orientation.
pub(super) fn patch() -> Patch {
    let targets =
        BTreeMap::from([("h.0.w".to_owned(), target(Layout::Linear)), ("h.1.w".to_owned(), target(Layout::Conv1d))]);
    Patch::new(targets).expect("a valid sample")
}
