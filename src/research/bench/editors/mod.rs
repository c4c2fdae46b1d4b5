//! Implements the editing methods that the benchmark compares. The methods that use a trained network, MEND and KE, are
//! trained by [`crate::research::hypernetworks`].
//!
//! `ike` changes no weight: it puts the facts before every prompt.
//!
//! Methods whose result fits in a patch use the solvers in [`crate::link`]. The remaining methods are baselines and
//! never produce a patch: they edit the model several times in sequence, or change tensors that a patch cannot store.

mod ft;
mod ike;
mod kn;
mod mass;
mod rome;
mod rome_released;
mod rome_sequential;
mod trained;
pub(crate) mod ultraedit;

use std::collections::BTreeMap;

use rome::SecondMoment;

use super::eval_context::{EvalContext, PreparedCase};
use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::link::Refinement;
use crate::link::distribute::DistributeError;
use crate::model::Model;
use crate::patch::PatchError;
use crate::pipeline::Base;
use crate::progress::Progress;
use crate::research::hypernetworks::settings::{Method, TrainedOn};

pub struct Edited {
    /// A copy of the model with all edits applied.
    pub model: Model,
    /// The number of facts for which the optimisation of the value vector did not converge; `None` if the method
    /// optimises no value vectors.
    pub unconverged: Option<usize>,
    /// The text that is put before every prompt of the edited model; empty if the method changes weights.
    pub prefix: String,
}

impl Edited {
    fn new(model: Model, unconverged: Option<usize>) -> Self {
        Self { model, unconverged, prefix: String::new() }
    }
}

/// An error of an editor. The variant determines whether the benchmark continues.
#[derive(Debug)]
pub enum EditError {
    /// The facts cannot be edited; the text is the reason. The benchmark continues with the next facts.
    Facts(String),
    /// An input that all edits need, such as the second moment, is not available. The benchmark ends.
    Stop(Failure),
}

impl From<Failure> for EditError {
    fn from(stop: Failure) -> Self {
        Self::Stop(stop)
    }
}

pub trait Editor {
    /// Returns a copy of the base model in which all `facts` are edited. Within a sequence, the model with the earlier
    /// batches is edited ([`EvalContext::model`]).
    ///
    /// # Errors
    /// If the facts cannot be edited, for example because a computed weight is not finite ([`EditError::Facts`]), or if
    /// an input of all edits, such as the second moment, cannot be read or computed ([`EditError::Stop`]).
    fn edit(
        &self,
        context: &EvalContext<'_>,
        facts: &[&PreparedCase],
        progress: &dyn Progress,
    ) -> Result<Edited, EditError>;
}

/// The editing methods that can be selected on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum EditorName {
    /// ROME as in `build`: retries values that do not converge, and optimises the values of a large set jointly
    Rome,
    /// ROME as in `build`, without the joint optimisation of large sets
    RomeClosed,
    /// ROME as in its released code: two MLP keys in one update (mean over templates, prompt alone), 20 steps per value
    /// without retries
    RomeReleased,
    /// ROME with the identity matrix in place of the second moment, as in EasyEdit's settings; otherwise as rome-closed
    RomeIdentity,
    /// ROME for one fact after another, each on the model with the previous edits
    RomeSequential,
    /// MEMIT (Meng et al. 2023)
    Memit,
    /// EMMET (Gupta et al. 2024)
    Emmet,
    /// AlphaEdit (Fang et al. 2025), all facts at once
    Alphaedit,
    /// Fine-tuning of one layer's MLP down-projection
    Ft,
    /// Fine-tuning with a limit on the change of each weight
    #[value(name = "ft+l", alias = "ft-l")]
    FtL,
    /// Breadth-first fine-tuning, LocFT-BF (ICLR 2026): shuffled batches, only the matrix of one down-projection, the
    /// answer with an end token
    FtBf,
    /// UltraEdit (Gu et al. 2025): one backward pass and one linear solve per MLP matrix
    Ultraedit,
    /// Knowledge neurons (Dai et al. 2022)
    Kn,
    /// KnowledgeEditor (De Cao et al. 2021), trained on text with `bench train ke text`
    Ke,
    /// KnowledgeEditor, trained on records of zsRE
    KeZsre,
    /// KnowledgeEditor, trained on records of CounterFact
    KeCf,
    /// MEND (Mitchell et al. 2022), trained on text with `bench train mend text`
    Mend,
    /// MEND, trained on records of zsRE
    MendZsre,
    /// MEND, trained on records of CounterFact
    MendCf,
    /// In-context editing: the facts before every prompt, without demonstrations (Zheng et al. 2023)
    Ike,
}

impl EditorName {
    pub fn text(self) -> &'static str {
        match self {
            Self::Rome => "rome",
            Self::RomeClosed => "rome-closed",
            Self::RomeReleased => "rome-released",
            Self::RomeIdentity => "rome-identity",
            Self::RomeSequential => "rome-sequential",
            Self::Memit => "memit",
            Self::Emmet => "emmet",
            Self::Alphaedit => "alphaedit",
            Self::Ft => "ft",
            Self::FtL => "ft+l",
            Self::FtBf => "ft-bf",
            Self::Ultraedit => "ultraedit",
            Self::Kn => "kn",
            Self::Ke => "ke",
            Self::KeZsre => "ke-zsre",
            Self::KeCf => "ke-cf",
            Self::Mend => "mend",
            Self::MendZsre => "mend-zsre",
            Self::MendCf => "mend-cf",
            Self::Ike => "ike",
        }
    }

    /// Returns the reason why the editor does not support the model; `None` if the editor supports it.
    pub fn refuses(self, base: &Base) -> Option<&'static str> {
        match self {
            Self::Kn => base.model.spec().family.mlp_gate.is_some().then_some(kn::GATED),
            Self::FtBf => base.tokens.end_token().is_none().then_some(ft::NO_END),
            _ => None,
        }
    }

    /// Returns the method of a trained editor and the kind of the facts on which it is trained; `None` for editors that
    /// are not trained.
    pub fn trained(self) -> Option<(Method, TrainedOn)> {
        match self {
            Self::Ke => Some((Method::Ke, TrainedOn::Text)),
            Self::KeZsre => Some((Method::Ke, TrainedOn::Zsre)),
            Self::KeCf => Some((Method::Ke, TrainedOn::Cf)),
            Self::Mend => Some((Method::Mend, TrainedOn::Text)),
            Self::MendZsre => Some((Method::Mend, TrainedOn::Zsre)),
            Self::MendCf => Some((Method::Mend, TrainedOn::Cf)),
            _ => None,
        }
    }

    /// Returns whether the editor is benchmarked on sets of facts that are edited at once.
    pub fn edits_batches(self) -> bool {
        self != Self::Kn
    }
}

/// Numbers that replace default settings of editors. The key is the name of the setting, such as `rome.refine-steps`.
pub type Overrides = BTreeMap<String, f64>;

/// The names of the editor settings that the user can override. Each name has a description for error messages.
pub const NUMBERS: [(&str, &str); 25] = [
    ("rome.refine-steps", "steps of refinement"),
    ("rome.refine-rate", "Adam's learning rate of the refinement"),
    ("rome.refine-layers", "layers that the refinement changes"),
    ("rome.refine-start", "scale of the closed form at the start of the refinement"),
    ("rome.refine-contexts", "context templates of each edit"),
    ("rome.refine-sentences", "sentences that should stay unchanged"),
    ("rome.refine-drift", "weight of the drift on these sentences"),
    ("rome.refine-size", "weight of the size of the change"),
    ("rome.refine-ridge", "ridge of the link before the refinement"),
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
    ("ft-bf.rate", "Adam's learning rate"),
    ("ft-bf.layer", "the layer that ft-bf tunes; by default the project's"),
    ("ft-bf.epochs", "the maximum number of passes over the facts"),
    ("ultraedit.rate", "η, the size of the change"),
    ("ultraedit.layer", "the only layer that ultraedit changes; by default several late layers"),
    ("values.clamp", "the longest δ of memit, emmet and alphaedit, as a multiple of the length of the hidden state"),
];

/// Creates an editor. `overrides` replaces default settings of the editor. If `published` is true, the editor follows
/// the published code where the defaults differ from it.
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
            let refinement = Some(refinement).filter(|refinement| refinement.steps > 0);
            Box::new(rome::Rome { moment: SecondMoment::Corpus, refinement, from })
        }
        EditorName::RomeClosed => Box::new(rome::Rome { moment: SecondMoment::Corpus, refinement: None, from: 0 }),
        EditorName::RomeIdentity => Box::new(rome::Rome { moment: SecondMoment::Identity, refinement: None, from: 0 }),
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
            let loss = if published { ft::AnswerLoss::AfterPrompt } else { ft::AnswerLoss::Answer };
            Box::new(ft::FineTuning { rate: number("ft.rate", ft::RATE), layer, bound, loss, ..ft::FineTuning::rome() })
        }
        EditorName::FtBf => {
            let defaults = ft::FineTuning::breadth_first();
            let layer = overrides.get("ft-bf.layer").map(|layer| *layer as usize);
            let (rate, epochs) = (number("ft-bf.rate", defaults.rate), whole("ft-bf.epochs", defaults.epochs));
            Box::new(ft::FineTuning { rate, layer, epochs, ..defaults })
        }
        EditorName::Ultraedit => Box::new(ultraedit::UltraEdit {
            rate: overrides.get("ultraedit.rate").copied(),
            layer: overrides.get("ultraedit.layer").map(|layer| *layer as usize),
        }),
        EditorName::Ike => Box::new(ike::InContext),
        EditorName::Kn => Box::new(kn::KnowledgeNeurons { published }),
        EditorName::Ke
        | EditorName::KeZsre
        | EditorName::KeCf
        | EditorName::Mend
        | EditorName::MendZsre
        | EditorName::MendCf => Box::new(trained::Trained { name, published }),
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
