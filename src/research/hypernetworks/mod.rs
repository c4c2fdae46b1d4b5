//! The editors that train a network to edit: MEND (Mitchell et al. 2022) and KnowledgeEditor (KE, De Cao et al. 2021),
//! as the ROME paper evaluates them. `build` does not use this module.
//!
//! A trained network turns the gradients for one fact into low-rank changes of a few MLP matrices. All arithmetic is
//! in numerics `portable-1`, so training gives the same network on every machine.
//!
//! - [`sites`]: the edited matrices;
//! - [`capture`]: the inputs and output gradients of these matrices for one fact;
//! - [`whitening`]: running means and deviations;
//! - [`mend_network`], [`mend`]: the editor MEND and its gradients;
//! - [`lstm`], [`normalised_layer`], [`ke`]: the editor KE and its gradients;
//! - [`learner`]: what both editors have in common;
//! - [`objective`]: the loss of a trained editor, and its gradient with respect to a change;
//! - `base_states`: the results of the unedited base that a training uses again;
//! - [`adam`]: the optimiser of the training;
//! - [`train`]: the steps of a training;
//! - [`settings`]: the numeric settings of a training;
//! - [`data`]: the facts and texts of a training;
//! - [`training_run`]: a whole training, with validation, and its resumption;
//! - [`stored`]: the file of a trained editor.

pub mod adam;
mod base_states;
pub mod capture;
pub mod data;
pub mod ke;
pub mod learner;
pub mod lstm;
pub mod mend;
pub mod mend_network;
pub mod normalised_layer;
pub mod objective;
pub mod settings;
pub mod sites;
pub mod stored;
pub mod train;
pub mod training_run;
pub mod whitening;

#[cfg(test)]
mod change_tests;
#[cfg(test)]
mod determinism_tests;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod gradient_tests;
#[cfg(test)]
mod layout_tests;
#[cfg(test)]
mod step_golden_tests;
#[cfg(test)]
pub(crate) mod toy;
