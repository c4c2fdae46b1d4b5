//! Runs a model forward and backward.
//!
//! - [`rows`]: ragged batches of texts, without padding;
//! - [`decoder`]: the forward pass, block by block, with the hook at one MLP; `block`: attention and MLP of one block;
//! - [`reverse`]: the hand-written reverse pass, which computes gradients of hidden states and never of weights;
//! - [`generation`]: incremental decoding with a KV cache;
//! - [`prefix_cache`]: the KV cache of prefixes that several rows share;
//! - [`suffix_pass`]: the layers above the edited one, for evaluations in which one hidden state of each row changes;
//! - [`weight_pass`]: the layers from one MLP down-projection upward, for evaluations in which its weight changes;
//! - [`neurons`]: the inputs of one MLP's activation at one position, and their gradients;
//! - [`activation_patching`]: activation caches of whole runs, and patched runs that resume from them.

pub mod activation_patching;
pub(crate) mod block;
pub mod decoder;
pub mod generation;
pub mod neurons;
pub mod prefix_cache;
pub mod reverse;
pub mod rows;
pub mod suffix_pass;
pub mod weight_pass;
