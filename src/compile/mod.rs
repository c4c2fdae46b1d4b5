//! Compiles one edit, independently of other edits, into an MLP key `k*` and an MLP value `v*`. The key is the input of
//! the edited down-projection at the subject. The value is an output of the down-projection that makes the model
//! continue the prompt with the target.
//!
//! - [`resolve`]: tokenizes the prompts of an edit and finds the subject in each prompt;
//! - [`settings`]: the weights of the loss, the stages of a search, and the conditions that end a search;
//! - [`value`]: the loss of an edit as a function of δ, the change of the value;
//! - [`search`]: the optimisation of δ, for one edit or several edits;
//! - [`object`]: the file of a compiled edit, and its address in the store;
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
