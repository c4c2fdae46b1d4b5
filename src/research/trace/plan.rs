//! Defines the settings of causal tracing: which states are restored, at which tokens, and over how many layers.

use std::ops::Range;

use crate::model::run::activation_cache::Component;

/// What a trace restores to its clean value: a hidden state, or the outputs of several layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RestoredKind {
    /// The residual stream after one layer.
    State,
    /// The MLP outputs of a window of layers.
    Mlp,
    /// The attention outputs of a window of layers.
    Attention,
    /// The residual stream after one layer, with the MLP outputs of all later layers fixed at their values in the
    /// corrupted run.
    MlpSevered,
    /// The residual stream after one layer, with the attention outputs of all later layers fixed at their values in the
    /// corrupted run.
    AttentionSevered,
}

impl RestoredKind {
    /// All kinds, in the order of tables and JSON output.
    pub const ALL: [Self; 5] = [Self::State, Self::Mlp, Self::Attention, Self::MlpSevered, Self::AttentionSevered];
    /// The kinds that are traced at all tokens from the start of the subject.
    pub const TABLES: [Self; 3] = [Self::State, Self::Mlp, Self::Attention];

    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Mlp => "mlp",
            Self::Attention => "attention",
            Self::MlpSevered => "mlp-severed",
            Self::AttentionSevered => "attention-severed",
        }
    }

    /// Returns whether the outputs of a window of layers are restored, instead of a single state.
    pub fn is_window(self) -> bool {
        matches!(self, Self::Mlp | Self::Attention)
    }

    /// Returns whether MLP or attention outputs are severed. Severed kinds are traced only at the subject's last token.
    pub fn is_severed(self) -> bool {
        self.severs().is_some()
    }

    /// Returns the component whose outputs are severed; `None` if the kind severs no outputs.
    pub(crate) fn severs(self) -> Option<Component> {
        match self {
            Self::MlpSevered => Some(Component::Mlp),
            Self::AttentionSevered => Some(Component::Attention),
            _ => None,
        }
    }
}

/// The settings of causal tracing, except for the noise on the subjects.
#[derive(Clone, Debug)]
pub struct TracePlan {
    /// The kinds of restored state to trace. Each kind gives one table of probabilities by token and layer.
    pub kinds: Vec<RestoredKind>,
    /// The number of layers in a window, at least 1.
    pub window: usize,
    /// The noise in the runs with severed MLP or attention outputs.
    pub severed: SeveredNoise,
    pub places: RestoredTokens,
}

/// The tokens at which states are restored. Kinds with severed outputs restore only the subject's last token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoredTokens {
    /// All tokens from the start of the subject.
    All,
    LastSubject,
}

impl RestoredTokens {
    /// Returns whether states of this kind are restored only at the subject's last token.
    pub fn only_last_subject(self, kind: RestoredKind) -> bool {
        kind.is_severed() || self == Self::LastSubject
    }

    pub fn name(self) -> &'static str {
        if self == Self::All { "all" } else { "last-subject" }
    }
}

/// The noise of a run with severed MLP or attention outputs. The severed outputs are copied from the corrupted run,
/// which uses the first block of the random stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SeveredNoise {
    /// The noise of the corrupted run
    #[default]
    Same,
    /// New noise: the next block of the random stream, as in the published figures
    Next,
}

impl SeveredNoise {
    pub fn name(self) -> &'static str {
        if self == Self::Same { "same" } else { "next" }
    }
}

impl TracePlan {
    /// Returns the default number of layers in a window: ten for models with at least 28 layers, as published, and a
    /// quarter of the layers for smaller models.
    pub fn default_window(layers: usize) -> usize {
        if layers >= 28 { 10 } else { (layers / 4).max(1) }
    }

    /// Returns the layers of the window around `layer`, in a model of `layers` layers. The window is shorter near the
    /// first and the last layer of the model.
    pub fn window(&self, layer: usize, layers: usize) -> Range<usize> {
        let first = layer.saturating_sub(self.window / 2);
        let end = layer + self.window.div_ceil(2);
        first..end.min(layers)
    }
}
