//! One edit alone against the base model: its key `k*` and its value `v*`.
//!
//! - [`resolve`]: the texts of an edit as rows of tokens, and where its subject ends in each;
//! - [`settings`]: how values are looked for;
//! - [`value`]: the loss of an edit as a function of δ;
//! - [`search`]: the way to the δ that is kept, of one edit or of several side by side;
//! - [`object`]: the result as bytes, and its address;
//! - [`known`]: the context templates, and the published numbers of known models;
//! - [`optimiser`]: Adam on one vector, in f64.

pub mod known;
pub mod object;
pub mod optimiser;
pub mod resolve;
pub mod search;
pub mod settings;
pub mod value;

pub use object::Object;
pub use resolve::{Fact, ResolveError, Resolved};
pub use search::{Step, compile, compile_all, compile_at};
pub use settings::{Settings, Stage};
pub use value::{Compiled, keys};
