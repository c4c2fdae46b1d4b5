//! Combines all edits of a set into one low-rank change of the weights, with one column and one row per edit and layer.
//!
//! - [`system`]: the closed form: one solve for all edits of a layer;
//! - [`site`]: the change of one layer, with one column and one row per edit;
//! - [`refine`](mod@refine): joint optimisation of the columns of all edits;
//! - [`spread`](mod@spread): editors that spread a change over layers: [`memit`], [`emmet`], [`alphaedit`].

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
