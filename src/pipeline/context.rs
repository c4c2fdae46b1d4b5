//! Defines the inputs that the steps of a build share.

use super::{Base, Setup};
use crate::progress::Progress;
use crate::project::Project;
use crate::store::Store;

/// The inputs that every step of a build needs, passed to the functions as one argument.
#[derive(Clone, Copy)]
pub struct BuildContext<'a> {
    pub project: &'a Project,
    pub base: &'a Base,
    pub setup: &'a Setup,
    pub store: &'a Store,
    pub progress: &'a dyn Progress,
}

impl<'a> BuildContext<'a> {
    /// Returns a copy of the context with another setup, for example the setup of another layer.
    #[must_use]
    pub fn with_setup(self, setup: &'a Setup) -> Self {
        Self { setup, ..self }
    }
}
