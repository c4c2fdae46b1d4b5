//! Defines the inputs on which the figures of a build depend, and the store address that they determine.

use super::statistics::LayerStatistics;
use super::{Base, Plan, Setup};
use crate::digest::{Digest, FieldHasher};
use crate::numeric::NUMERICS;
use crate::project::Lock;

/// The inputs that determine the patch and the figures of a build. Builds with equal inputs share one record in the
/// store.
pub struct BuildInputs<'a> {
    numerics: &'a str,
    base: Digest,
    settings: Digest,
    /// The layers to change, ascending, each with the digest of its second moments of the MLP keys.
    statistics: Vec<(u64, Digest)>,
    /// One entry per edit and name of its subject, sorted by edit id.
    edits: Vec<EditInputs>,
}

struct EditInputs {
    meaning: Digest,
    expectation: Digest,
    /// The address of the compiled edit in the store.
    object: Digest,
}

impl BuildInputs<'static> {
    /// Collects the inputs of the build of `plan` with these second moments.
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
    /// Collects the inputs of the build that wrote `lock`, so that its record can be found without a plan.
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

    /// Returns the address of the build's record in the store.
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
