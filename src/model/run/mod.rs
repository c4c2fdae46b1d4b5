//! Runs a model forward and backward.
//!
//! - [`model`]: an opened model: embeddings and logits; `linear`: its projections and norms;
//! - [`rows`]: ragged batches of texts, without padding; [`kv_cache`]: keys and values of earlier positions;
//! - `block`: attention and MLP of one block;
//! - [`forward`]: the forward pass over whole rows; [`hook`]: records the key and the value of one MLP;
//! - [`reverse`]: the hand-written reverse pass, which computes gradients of hidden states and never of weights;
//! - [`generation`]: incremental decoding with a KV cache;
//! - [`prefix_cache`]: the KV cache of prefixes that several rows share;
//! - [`suffix_pass`]: the layers above the edited layer, for evaluations in which one hidden state of each row changes;
//! - [`weight_pass`]: the layers from one MLP down-projection upward, for evaluations in which its weight changes;
//! - [`neurons`]: the inputs of one MLP's activation at one position, and their gradients;
//! - [`activation_cache`]: the activations of whole runs; [`activation_patching`]: patched runs that resume from them.

pub mod activation_cache;
pub mod activation_patching;
pub(crate) mod block;
pub mod forward;
pub mod generation;
pub mod hook;
pub mod kv_cache;
pub(crate) mod linear;
pub mod model;
pub mod neurons;
pub mod prefix_cache;
pub mod reverse;
pub mod rows;
pub mod suffix_pass;
pub mod weight_pass;
