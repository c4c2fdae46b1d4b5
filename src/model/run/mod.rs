//! Runs a model forward and backward.
//!
//! - [`model`]: an opened model, with its embeddings and logits;
//! - `linear`: projections and norms;
//! - [`rows`]: ragged batches, which need no padding;
//! - [`kv_cache`]: attention keys and values of earlier positions;
//! - `block`: attention and MLP of one block;
//! - [`forward`]: the forward pass over whole token sequences;
//! - [`hook`]: records the MLP keys and MLP values of one layer;
//! - [`reverse`]: the hand-written backward pass, which computes gradients of hidden states;
//! - [`generation`]: incremental decoding with a KV cache;
//! - [`prefix_cache`]: the KV cache of prefixes that several token sequences share;
//! - [`suffix_pass`]: the layers above the edited layer, for evaluations in which one hidden state per token sequence
//!   changes;
//! - [`weight_pass`]: the computation from one MLP down-projection to the logits, for evaluations in which the weight
//!   of the projection changes;
//! - [`upper_pass`]: the computation from one block to the logits, for evaluations in which MLP weights of this and the
//!   later blocks change;
//! - [`neurons`]: the inputs of one MLP's activation function at one position, and their gradients;
//! - [`low_rank`]: low-rank changes of MLP matrices, which differ between the token sequences of a batch;
//! - [`logit_loss`]: losses of logits, and their gradients;
//! - [`activation_cache`]: the recorded activations of a forward pass;
//! - [`activation_patching`]: resumes recorded forward passes with some activations replaced.

pub mod activation_cache;
pub mod activation_patching;
pub(crate) mod block;
pub mod forward;
pub mod generation;
pub mod hook;
pub mod kv_cache;
pub(crate) mod linear;
pub mod logit_loss;
pub mod low_rank;
pub mod model;
pub mod neurons;
pub mod prefix_cache;
pub mod reverse;
pub mod rows;
pub mod suffix_pass;
pub mod upper_pass;
pub mod weight_pass;
