//! Measures what two models can do: both answer the same questions of a task, and their accuracies are compared.
//!
//! A task is a file of questions with known answers. [`read`](mod@read) reads the file, [`encode`](mod@encode)
//! tokenizes the questions, and [`compare`](mod@compare) asks both models and compares their answers question by
//! question. Every accuracy names its protocol, because accuracies of different protocols cannot be compared.
//!
//! The score of a question depends neither on the other questions nor on the number of threads.

pub mod compare;
pub(crate) mod encode;
mod forms;
mod protocol;
pub mod read;
pub(in crate::behaviour) mod records;
pub mod result;
pub(crate) mod score;
mod wanted;

pub use encode::EncodedTask;
pub use protocol::Protocol;
pub use result::TaskResult;

/// A question of a task with its right answer, as the task's file states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A question with several choices, one of which is right.
    Choices {
        question: String,
        choices: Vec<String>,
        /// The index of the right choice.
        right: usize,
    },
    /// A prompt that the model continues. The continuation is right if it contains one of the accepted texts.
    Prompt { prompt: String, accepted: Vec<String> },
}
