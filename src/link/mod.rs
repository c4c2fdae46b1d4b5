//! Combines all edits of a set into one low-rank change of the weights, with one column and one row per edit and layer.
//!
//! - [`system`]: the linear system of all edits of a layer, solved in closed form;
//! - [`layer_update`]: the change of the weight of one layer;
//! - [`refine`](mod@refine): the joint optimisation of the values of all edits;
//! - [`distribute`](mod@distribute): editors that spread a change over several layers: [`memit`], [`emmet`],
//!   [`alphaedit`].

pub mod alphaedit;
pub mod distribute;
pub mod emmet;
pub mod layer_update;
pub mod memit;
pub mod refine;
pub mod system;

pub use distribute::distribute;
pub use layer_update::LayerUpdate;
pub use refine::{Refinement, refine};
pub use system::{ClosedForm, KeySystem, LinkPair, ParallelKeys, Solution, link, residual};
