//! One edit alone against the base model: its key `k*` and its value `v*`.
//!
//! - [`resolve`]: the texts of an edit as rows of tokens, and where its subject ends in each;
//! - [`value`]: the optimisation of the value;
//! - [`object`]: the result as bytes, and its address;
//! - [`known`]: the context templates, and the published numbers of known models;
//! - [`optimiser`]: Adam on one vector, in f64.

pub mod known;
pub mod object;
pub mod optimiser;
pub mod resolve;
pub mod value;

pub use object::Object;
pub use resolve::{Fact, ResolveError, Resolved};
pub use value::{Compiled, Settings, Stage, compile, compile_all, key};
