//! Defines the settings of causal tracing: which states are restored, at which tokens, and over how many layers.

use std::ops::Range;

use crate::model::run::activation_cache::Component;

/// What a trace restores to its clean value: a hidden state, or the outputs of several layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RestoredKind {
    /// The residual stream after one layer.
    State,
    /// The MLP outputs of several consecutive layers.
    Mlp,
    /// The attention outputs of several consecutive layers.
    Attention,
    /// The residual stream after one layer, with the MLP outputs of all later layers fixed at their values in the
    /// corrupted run.
    MlpSevered,
    /// The residual stream after one layer, with the attention outputs of all later layers fixed at their values in the
    /// corrupted run.
    AttentionSevered,
}

impl RestoredKind {
    /// All variants, in the order of tables and JSON output.
    pub const ALL: [Self; 5] = [Self::State, Self::Mlp, Self::Attention, Self::MlpSevered, Self::AttentionSevered];
    /// The variants without severed outputs. They can be traced at all tokens from the start of the subject; the other
    /// variants are traced only at the subject's last token.
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

    /// Returns whether the outputs of several layers are restored, instead of a single hidden state.
    pub fn is_window(self) -> bool {
        matches!(self, Self::Mlp | Self::Attention)
    }

    /// Returns whether MLP or attention outputs are severed, that is, fixed at their values in the corrupted run.
    pub fn is_severed(self) -> bool {
        self.severs().is_some()
    }

    /// Returns the component (MLP or attention) whose outputs are severed, that is, fixed at their values in the
    /// corrupted run.
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
    /// The kinds of states to restore. A trace has one table of probabilities by token and layer for each kind.
    pub kinds: Vec<RestoredKind>,
    /// The number of consecutive layers whose MLP or attention outputs are restored together, at least 1.
    pub window: usize,
    /// The noise in runs whose MLP or attention outputs are severed, that is, fixed at their values in the corrupted
    /// run.
    pub severed: SeveredNoise,
    pub places: RestoredTokens,
}

/// The tokens at which states are restored. Runs with severed MLP or attention outputs restore only the subject's last
/// token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoredTokens {
    /// All tokens from the first token of the subject to the last token of the prompt.
    All,
    LastSubject,
}

impl RestoredTokens {
    /// Returns whether a trace of `kind` restores states only at the subject's last token.
    pub fn only_last_subject(self, kind: RestoredKind) -> bool {
        kind.is_severed() || self == Self::LastSubject
    }

    pub fn name(self) -> &'static str {
        if self == Self::All { "all" } else { "last-subject" }
    }
}

/// The noise of a run with severed MLP or attention outputs. These outputs are copied from a corrupted run with the
/// same or with different noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SeveredNoise {
    /// The same noise as in the corrupted run
    #[default]
    Same,
    /// The next noise of the random stream, as in the published figures
    Next,
}

impl SeveredNoise {
    pub fn name(self) -> &'static str {
        if self == Self::Same { "same" } else { "next" }
    }
}

impl TracePlan {
    /// Returns the default number of layers whose outputs are restored together: ten for models with at least 28
    /// layers, as published, and a quarter of the layers for smaller models.
    pub fn default_window(layers: usize) -> usize {
        if layers >= 28 { 10 } else { (layers / 4).max(1) }
    }

    /// Returns the layers whose outputs are restored together, a window centred at the layer `layer`. `layers` is the
    /// number of layers of the model. The window is shorter near the first and the last layer.
    pub fn window(&self, layer: usize, layers: usize) -> Range<usize> {
        let first = layer.saturating_sub(self.window / 2);
        let end = layer + self.window.div_ceil(2);
        first..end.min(layers)
    }
}
