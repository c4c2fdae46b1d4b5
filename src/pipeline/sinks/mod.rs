//! Finds subjects that end at an attention sink at the beginning of a text, whose edits need a preface.
//!
//! - [`detect`]: measures whether a subject is at a sink, and lists the prefaces to try;
//! - `prefaces`: chooses the prefaces of a set of facts, and warns about facts and paraphrases at a sink.

pub mod detect;
pub(crate) mod prefaces;
