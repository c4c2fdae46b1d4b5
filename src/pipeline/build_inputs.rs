//! Defines the inputs that determine the result of a build, and the address of this result in the store.

use super::statistics::LayerStatistics;
use super::{Base, Plan, Setup};
use crate::digest::{Digest, FieldHasher};
use crate::numeric::NUMERICS;
use crate::project::Lock;

/// The inputs that determine the patch and the measurements of a build. Builds with equal inputs share one
/// [`BuildRecord`](super::BuildRecord) in the store.
pub struct BuildInputs<'a> {
    numerics: &'a str,
    base: Digest,
    settings: Digest,
    /// The index of each changed layer, with the digest of the second moment of the MLP keys at this layer. The layers
    /// are ascending.
    statistics: Vec<(u64, Digest)>,
    /// The subjects and aliases of all edits, one item for each, sorted by the id of the edit.
    edits: Vec<EditInputs>,
}

struct EditInputs {
    meaning: Digest,
    expectation: Digest,
    /// The store address of the compiled edit.
    object: Digest,
}

impl BuildInputs<'static> {
    /// Collects the inputs of a build of `plan`. `statistics` are the second moments of the MLP keys of the changed
    /// layers.
    pub fn new(plan: &Plan<'_>, base: &Base, setup: &Setup, statistics: &LayerStatistics) -> Self {
        let edits = plan.edits.iter().map(|planned| EditInputs {
            meaning: planned.meaning,
            expectation: planned.edit.expectation(),
            object: planned.object,
        });
        Self {
            numerics: NUMERICS,
            base: base.locked.digest,
            settings: setup.digest(),
            statistics: statistics.iter().map(|(_, locked)| (locked.layer, locked.digest)).collect(),
            edits: edits.collect(),
        }
    }
}

impl<'a> BuildInputs<'a> {
    /// Collects the inputs of the build that wrote `lock`. With these inputs, the measurements of that build can be
    /// read from the store without a plan.
    pub fn of_lock(lock: &'a Lock) -> Self {
        let edits = lock.edits.iter().map(|edit| EditInputs {
            meaning: edit.meaning,
            expectation: edit.expectation,
            object: edit.object,
        });
        Self {
            numerics: &lock.numerics,
            base: lock.base.digest,
            settings: lock.patch.settings,
            statistics: lock.statistics.iter().map(|one| (one.layer, one.digest)).collect(),
            edits: edits.collect(),
        }
    }

    /// Returns the store address of the [`BuildRecord`](super::BuildRecord) of a build with these inputs.
    pub fn record_address(&self) -> Digest {
        let mut hasher = FieldHasher::new("build-record/3");
        hasher.text("numerics", self.numerics).digest("base", &self.base);
        hasher.digest("settings", &self.settings).number("statistics", self.statistics.len() as u64);
        for (layer, digest) in &self.statistics {
            hasher.number("layer", *layer).digest("digest", digest);
        }
        let mut edits: Vec<&EditInputs> = self.edits.iter().collect();
        edits.sort_by_key(|edit| edit.meaning);
        hasher.number("edits", edits.len() as u64);
        for EditInputs { meaning, expectation, object } in edits {
            hasher.digest("meaning", meaning).digest("expectation", expectation).digest("object", object);
        }
        hasher.finish()
    }
}
