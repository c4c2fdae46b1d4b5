//! Finds subjects at an attention sink, and chooses texts (prefaces) that are put before their prompts to avoid the
//! sink.
//!
//! - [`detect`]: measures whether a subject is at a sink, and lists the prefaces to try;
//! - `prefaces`: chooses the prefaces, and warns about edits and paraphrases at a sink.

pub mod detect;
pub(crate) mod prefaces;
