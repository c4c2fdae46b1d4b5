//! Finds subjects that end at an attention sink at the beginning of a text, whose edits need a preface.
//!
//! - [`detect`]: finds these subjects, and chooses a preface for one of them;
//! - `prefaces`: chooses the prefaces of a set of facts, and warns about facts and paraphrases at a sink.

pub mod detect;
pub(crate) mod prefaces;
