//! Reads and runs decoder-only language models. The weights are memory-mapped and not copied. A hook records the MLP
//! keys (inputs of the down-projection) and MLP values (outputs of the down-projection) of one layer.
//!
//! - [`arch`]: an architecture as data: tensor names, dimensions, RoPE, activation functions;
//! - [`load`]: opens a model folder;
//! - [`text`]: tokenizer and chat template;
//! - [`run`]: forward and backward passes, caches, generation.
//!
//! A batch consists of rows; a row is the tokens of one text. The results for a row depend neither on the other rows of
//! the batch nor on the number of threads.

pub mod arch;
mod error;
pub mod load;
pub mod run;
pub mod text;

pub use arch::spec::Spec;
pub use error::ModelError;
pub use load::checkpoint::Checkpoint;
pub use load::tensor::Tensor;
pub use run::model::Model;
pub use run::rows::Rows;
pub use text::chat::Prompt;
pub use text::tokens::Tokens;
