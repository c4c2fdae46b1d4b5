//! States how a number is made, so that numbers of different protocols are not compared.

use schemars::JsonSchema;
use serde::Serialize;

/// How a number is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Protocol {
    /// What the model does, such as `teacher-forcing` (the answer is given, and each of its tokens is scored) or
    /// `generation, greedy, 50 tokens`.
    pub protocol: &'static str,
    /// How the output becomes a number, such as `likelier than the other answer`.
    pub scorer: &'static str,
    /// The group of numbers that are comparable with each other.
    pub group: &'static str,
}

/// The name of the protocol in which the answer is given, and each of its tokens is scored.
pub const FORCED: &str = "teacher-forcing";
/// The name of the protocol in which the model continues the prompt.
pub const SAID: &str = "generation, greedy, 50 tokens";
/// The name of the protocol in which the model continues a prompt that is put as a question.
pub const SAID_QA: &str = "generation after a question, greedy, 50 tokens";
/// The name for a number that counts answers of both protocols.
pub const BOTH: &str = "teacher-forcing, or generation, greedy, 50 tokens";
