//! Says what of a fact is traced: which states are restored, at which tokens, and with which windows and noise.

use std::ops::Range;

use crate::model::run::activation_cache::Component;

/// The kind of state that is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RestoredKind {
    /// The residual stream after one layer.
    State,
    /// The MLP outputs of a window of layers.
    Mlp,
    /// The attention outputs of a window of layers.
    Attention,
    /// The residual stream after one layer, while the MLP outputs of all later layers stay at their corrupted values.
    MlpSevered,
    /// The residual stream after one layer, while the attention outputs of all later layers stay at their corrupted
    /// values.
    AttentionSevered,
}

impl RestoredKind {
    /// All kinds, in the order of tables and JSON.
    pub const ALL: [Self; 5] = [Self::State, Self::Mlp, Self::Attention, Self::MlpSevered, Self::AttentionSevered];
    /// The kinds that are traced at every token.
    pub const TABLES: [Self; 3] = [Self::State, Self::Mlp, Self::Attention];

    /// Returns the name of the kind in JSON and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Mlp => "mlp",
            Self::Attention => "attention",
            Self::MlpSevered => "mlp-severed",
            Self::AttentionSevered => "attention-severed",
        }
    }

    /// Returns whether the kind restores the outputs of a window of layers instead of a single state.
    pub fn is_window(self) -> bool {
        matches!(self, Self::Mlp | Self::Attention)
    }

    /// Returns whether the kind severs MLPs or attention; such kinds are traced at the subject's last token only.
    pub fn is_severed(self) -> bool {
        self.severs().is_some()
    }

    /// Returns the part whose outputs are severed; `None` if nothing is severed.
    pub(crate) fn severs(self) -> Option<Component> {
        match self {
            Self::MlpSevered => Some(Component::Mlp),
            Self::AttentionSevered => Some(Component::Attention),
            _ => None,
        }
    }
}

/// The settings of a trace: what is restored, and where.
#[derive(Clone, Debug)]
pub struct TracePlan {
    /// The kinds to trace, each with its own table.
    pub kinds: Vec<RestoredKind>,
    /// The number of layers in a window.
    pub window: usize,
    /// The noise in the runs of the severed kinds.
    pub severed: SeveredNoise,
    /// The tokens at which states are restored.
    pub places: RestoredTokens,
}

/// The tokens at which states and windows are restored; severed kinds always use only the subject's last token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoredTokens {
    /// All tokens from the start of the subject.
    All,
    /// Only the last token of the subject.
    LastSubject,
}

impl RestoredTokens {
    /// Returns whether a kind is restored at the subject's last token only.
    pub fn only_last_subject(self, kind: RestoredKind) -> bool {
        kind.is_severed() || self == Self::LastSubject
    }

    /// Returns the name of the choice in the cache address of a trace.
    pub fn name(self) -> &'static str {
        if self == Self::All { "all" } else { "last-subject" }
    }
}

/// The noise of a run with severed outputs. The outputs are fixed at the values of an earlier corrupted run, which
/// may have the same or other noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SeveredNoise {
    /// The noise of the corrupted run: only the restored state differs from it
    #[default]
    Same,
    /// The next block of the random stream, as in the published figures
    Next,
}

impl SeveredNoise {
    /// Returns the name on the command line and in files.
    pub fn name(self) -> &'static str {
        if self == Self::Same { "same" } else { "next" }
    }
}

impl TracePlan {
    /// Returns the default number of layers in a window: ten for models with at least 28 layers, as published for
    /// models of 28 to 48 layers, otherwise a quarter of the layers. A window of all layers could not distinguish
    /// layers.
    pub fn default_window(layers: usize) -> usize {
        if layers >= 28 { 10 } else { (layers / 4).max(1) }
    }

    /// Returns the layers of the window around `layer`, in a model of `layers` layers. At the first and last layers the
    /// window is shorter.
    pub fn window(&self, layer: usize, layers: usize) -> Range<usize> {
        let first = layer.saturating_sub(self.window / 2);
        let end = layer + self.window.div_ceil(2);
        first..end.min(layers)
    }
}
