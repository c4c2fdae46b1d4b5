//! Implements the editing methods in the tables of Meng et al. 2022 and 2023 that need no trained network.
//!
//! Editors whose changes can be stored in a patch use the solvers in [`crate::link`]. The remaining editors are
//! baselines and never produce a patch: they edit a model that is already edited, or tensors that a patch cannot store.

mod ft;
mod kn;
mod mass;
mod rome;
mod rome_released;
mod rome_sequential;

use std::collections::BTreeMap;

use super::eval_context::{EvalContext, PreparedCase};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::link::Refinement;
use crate::link::distribute::DistributeError;
use crate::model::Model;
use crate::patch::PatchError;
use crate::progress::Progress;

pub struct Edited {
    /// A copy of the base model with all edits applied.
    pub model: Model,
    /// The number of facts whose value did not converge; `None` if the editor computes no values.
    pub unconverged: Option<usize>,
}

/// The error of an editor, by whether the run can continue.
#[derive(Debug)]
pub enum EditError {
    /// These facts cannot be edited, for this reason. The run continues with the next facts.
    Facts(String),
    /// An input that all edits need failed, so the run ends.
    Stop(Failure),
}

impl From<Failure> for EditError {
    fn from(stop: Failure) -> Self {
        Self::Stop(stop)
    }
}

pub trait Editor {
    /// Returns the base model with all facts edited at once.
    ///
    /// # Errors
    /// If an input of the editor is not available, or a computed weight is not finite.
    fn edit(
        &self,
        context: &EvalContext<'_>,
        facts: &[&PreparedCase],
        progress: &dyn Progress,
    ) -> Result<Edited, EditError>;
}

/// The editors, as named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum EditorName {
    /// ROME as `build` does it: unified keys, retried values, refinement of large sets
    Rome,
    /// ROME as `build` does it, without refinement
    RomeClosed,
    /// ROME as in the released code: keys that do not match, one attempt of 20 steps
    RomeReleased,
    /// ROME, one edit after the other, each on the model that the previous edits made
    RomeSequential,
    /// MEMIT
    Memit,
    /// EMMET
    Emmet,
    /// AlphaEdit, all facts at once
    Alphaedit,
    /// Fine-tuning of one layer's MLP down-projection
    Ft,
    /// Fine-tuning with a bound on the change of every weight
    #[value(name = "ft+l", alias = "ft-l")]
    FtL,
    /// Knowledge neurons
    Kn,
}

impl EditorName {
    /// Returns the name on the command line and in tables.
    pub fn text(self) -> &'static str {
        match self {
            Self::Rome => "rome",
            Self::RomeClosed => "rome-closed",
            Self::RomeReleased => "rome-released",
            Self::RomeSequential => "rome-sequential",
            Self::Memit => "memit",
            Self::Emmet => "emmet",
            Self::Alphaedit => "alphaedit",
            Self::Ft => "ft",
            Self::FtL => "ft+l",
            Self::Kn => "kn",
        }
    }

    /// Returns the reason why this editor cannot edit any fact of the model; `None` if it can edit the model.
    pub fn refuses(self, model: &Model) -> Option<&'static str> {
        (self == Self::Kn && model.spec().family.mlp_gate.is_some()).then_some(kn::GATED)
    }

    /// Returns whether the editor is benchmarked on sets of facts; KN is only benchmarked on single facts.
    pub fn edits_batches(self) -> bool {
        self != Self::Kn
    }
}

/// Numeric settings that override the defaults of editors, by `EDITOR.SETTING`, such as `rome.refine-steps`.
pub type Overrides = BTreeMap<String, f64>;

/// The settings that can be overridden, each with a description for the help lines of errors.
pub const NUMBERS: [(&str, &str); 20] = [
    ("rome.refine-steps", "steps of refinement"),
    ("rome.refine-rate", "Adam's learning rate for it"),
    ("rome.refine-layers", "layers that it changes"),
    ("rome.refine-start", "the scale of the closed form at its start"),
    ("rome.refine-contexts", "context templates of each edit"),
    ("rome.refine-sentences", "sentences that should stay unchanged"),
    ("rome.refine-drift", "weight of their drift"),
    ("rome.refine-size", "weight of the size of the change"),
    ("rome.refine-ridge", "ridge of the link before it"),
    ("rome.refine-from", "the smallest set that is refined"),
    ("memit.weight", "λ, the weight of the second moment"),
    ("memit.layers", "layers that the change is spread over"),
    ("emmet.weight", "w, the weight of the second moment"),
    ("alphaedit.ridge", "the published L2"),
    ("alphaedit.share", "the share of the trace below which directions are free"),
    ("ft.rate", "Adam's learning rate"),
    ("ft.layer", "the layer that ft tunes; by default the project's"),
    ("ft+l.layer", "the layer that ft+l tunes"),
    ("ft+l.bound", "the maximum change of a weight"),
    ("values.clamp", "the longest δ of memit, emmet and alphaedit, in lengths of the state"),
];

/// Creates an editor with its default settings, changed by `overrides`. If `published` is true, the editor reproduces
/// the published code.
pub fn editor(name: EditorName, overrides: &Overrides, published: bool) -> Box<dyn Editor> {
    let number = |key: &str, default: f64| overrides.get(key).copied().unwrap_or(default);
    let whole = |key: &str, default: usize| overrides.get(key).map_or(default, |value| *value as usize);
    match name {
        EditorName::Rome => {
            let defaults = Refinement::default();
            let refinement = Refinement {
                steps: whole("rome.refine-steps", defaults.steps),
                rate: number("rome.refine-rate", defaults.rate),
                layers: whole("rome.refine-layers", defaults.layers),
                ridge: number("rome.refine-ridge", defaults.ridge),
                start: number("rome.refine-start", defaults.start),
                contexts: whole("rome.refine-contexts", defaults.contexts),
                sentences: whole("rome.refine-sentences", defaults.sentences),
                drift: number("rome.refine-drift", defaults.drift),
                size: number("rome.refine-size", defaults.size),
                ..defaults
            };
            let from = whole("rome.refine-from", crate::pipeline::setup::REFINED_FROM);
            Box::new(rome::Rome { refinement: Some(refinement).filter(|refinement| refinement.steps > 0), from })
        }
        EditorName::RomeClosed => Box::new(rome::Rome { refinement: None, from: 0 }),
        EditorName::RomeReleased => Box::new(rome_released::RomeReleased),
        EditorName::RomeSequential => Box::new(rome_sequential::RomeSequential),
        EditorName::Memit | EditorName::Emmet | EditorName::Alphaedit => Box::new(mass::MassEditSettings {
            kind: name,
            layers: whole("memit.layers", 0),
            clamp: overrides.get("values.clamp").copied(),
            weight: overrides.get(if name == EditorName::Memit { "memit.weight" } else { "emmet.weight" }).copied(),
            ridge: overrides.get("alphaedit.ridge").copied(),
            share: overrides.get("alphaedit.share").copied(),
            published,
        }),
        EditorName::Ft | EditorName::FtL => {
            let held = ft::Bound::Of(overrides.get("ft+l.bound").copied());
            let (bound, layer) =
                if name == EditorName::Ft { (ft::Bound::None, "ft.layer") } else { (held, "ft+l.layer") };
            let layer = overrides.get(layer).map(|layer| *layer as usize);
            Box::new(ft::FineTuning { rate: number("ft.rate", ft::RATE), layer, bound, published })
        }
        EditorName::Kn => Box::new(kn::KnowledgeNeurons { published }),
    }
}

fn refused(message: String) -> Failure {
    Failure::from(Diagnostic::new(Code::BenchRefused, message))
}

fn not_finite(error: &PatchError) -> EditError {
    EditError::Facts(error.to_string())
}

fn not_spread(error: &DistributeError) -> EditError {
    EditError::Facts(error.to_string())
}
