//! All edits of a set in one change of the weights.
//!
//! - [`system`]: the closed form: all edits of a layer in one solve;
//! - [`site`]: what a set does to one layer, a column and a row an edit;
//! - [`refine`](mod@refine): the columns optimised anew with all of them in place;
//! - [`spread`](mod@spread): a change spread over layers, as the mass editors do: [`memit`], [`emmet`], [`alphaedit`].

pub mod alphaedit;
pub mod emmet;
pub mod memit;
pub mod refine;
pub mod site;
pub mod spread;
pub mod system;

pub use refine::{Refinement, refine};
pub use site::Site;
pub use spread::spread;
pub use system::{Linked, Pair, Parallel, Solved, System, link, residual};
