//! What a reviewer asks: is everything as it is expected, and what changes between two states of the project?
//!
//! - [`answers`]: what was said behind every prompt, as rows of a report;
//! - [`trial`]: expectations, gates and what was accepted: the verb `test`;
//! - [`bisect`]: which edit of the set breaks an expectation;
//! - [`measure`]: what two models say, from the store where they said it before;
//! - [`trials`]: edits tried at one layer after the other; [`coarse`]: at which layers; [`layers`]: which takes them best;
//! - [`side`]: a state of the project or of the model by its name: the base, a patch, a folder, a revision;
//! - [`diff`](mod@diff): two sides beside one another: facts, weights, behaviour.
//!
//! Everything ends in a [`Report`](crate::report::Report); nothing here prints.

pub mod answers;
pub mod bisect;
pub mod coarse;
mod continued;
pub mod diff;
pub mod layers;
pub mod measure;
pub mod side;
pub mod trial;
pub mod trials;
