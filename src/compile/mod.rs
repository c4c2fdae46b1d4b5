//! Compiles one edit alone against the base model: computes its MLP key `k*` (the input of the edited down-projection)
//! and its MLP value `v*` (the output with which the model continues the prompt with the target).
//!
//! - [`resolve`]: the texts of an edit as rows of tokens, and the position of its subject in each;
//! - [`settings`]: the weights of the loss, the schedule of attempts and the conditions that end a search;
//! - [`value`]: the loss of an edit as a function of δ;
//! - [`search`]: the optimisation of δ, for one edit or a batch of edits;
//! - [`object`]: the key and the value as bytes, and the address of an edit in the store;
//! - [`presets`]: the context templates, and the published hyper-parameters of some models;
//! - [`optimiser`]: Adam for one vector, in f64.

pub mod object;
pub mod optimiser;
pub mod presets;
pub mod resolve;
pub mod search;
pub mod settings;
pub mod value;

pub use object::Object;
pub use resolve::{Fact, ResolveError, Resolved};
pub use search::{Step, compile, compile_all, compile_at};
pub use settings::{Settings, Stage};
pub use value::{Compiled, keys};
