use std::path::PathBuf;

use crate::diagnostics::{Code, Diagnostic, Failure};
use crate::model::ModelError;
use crate::pipeline::Base;
use crate::research::trace::{KnownFact, Noise, NoiseRule, RestoredKind, RestoredTokens, SeveredNoise, TracePlan};

/// Find where in the model a fact is stored, by causal tracing
///
/// Noise on the subject's embeddings hides the subject from the model. Then one hidden state or window of layers at a
/// time is restored to its value without noise. The effect of that state is the increase in the answer's probability.
/// You can trace declared edits (their old answers), one prompt, or a file of known facts. Facts that the model does
/// not know are left out and counted.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Ids of declared edits; by default, all edits
    #[arg(value_name = "ID", conflicts_with_all = ["prompt", "facts"])]
    pub ids: Vec<String>,
    /// A prompt, with its subject written out
    #[arg(long, value_name = "TEXT", requires = "subject", conflicts_with = "facts")]
    pub prompt: Option<String>,
    /// The subject, exactly as in the prompt
    #[arg(long, value_name = "TEXT", requires = "prompt")]
    pub subject: Option<String>,
    /// The answer that the model should know; by default, the model's own answer
    #[arg(long, value_name = "TEXT", requires = "prompt")]
    pub answer: Option<String>,
    /// File of known facts: a JSON list of objects with `prompt`, `subject` and `attribute`, as in ROME's
    /// known_1000.json
    #[arg(long, value_name = "FILE")]
    pub facts: Option<PathBuf>,
    /// Maximum number of facts; by default, all (24 edits with `--suggest-layer`)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Trace this model instead of the project's; with `--prompt` or `--facts`, no project is needed
    #[arg(long, value_name = "DIR|hf:NAME")]
    pub base: Option<PathBuf>,
    /// Distribution of the noise: s3 (normal, 3 standard deviations of the subjects' embeddings), 0.1 (normal, this
    /// standard deviation), u0.2 (uniform, up to this value)
    #[arg(long, value_name = "RULE", default_value_t)]
    pub noise: NoiseRule,
    /// Number of noise samples per subject
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub samples: u16,
    /// Seed of the noise; with `--suggest-layer --facts`, also of the selection of edits
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u32,
    /// Number of layers in a window of MLPs or attentions; by default 10, or a quarter of the layers if the model has
    /// fewer than 28
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub window: Option<u16>,
    /// Measure at which layer edits work best, and show the results of tracing for comparison
    ///
    /// Each edit is built alone at a layer and tested against its expectations. In a model with more than eight layers,
    /// layers far apart are tried first, then layers around the best ones; `--layers 0-29` tries all layers of a model
    /// with thirty. The edits are those of the project, or are made from facts of `--facts` and answers of other
    /// subjects; 24 are tried by default. Results are stored, so an interrupted run can be resumed.
    #[arg(long, conflicts_with_all = ["prompt", "out", "no_severed", "base"])]
    pub suggest_layer: bool,
    /// Try only these layers: 3, or 2-5, or 0,4,8-9
    #[arg(long, value_name = "LAYERS", value_delimiter = ',', requires = "suggest_layer")]
    pub layers: Vec<Layers>,
    /// Skip the runs with severed MLP or attention outputs (outputs fixed at the values of a corrupted run)
    #[arg(long)]
    pub no_severed: bool,
    /// Noise of the runs with severed outputs (outputs fixed at the values of a corrupted run): `same` as in that
    /// corrupted run (default), or the `next` noise of the random stream, as in the published code
    #[arg(
        long,
        value_enum,
        value_name = "same|next",
        hide_possible_values = true,
        default_value_t,
        conflicts_with = "no_severed"
    )]
    pub severed_noise: SeveredNoise,
    /// New folder for figures (SVG, PNG), an HTML page, and all numbers as JSON
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Maximum number of facts for which separate figures are drawn
    #[arg(long, value_name = "N", default_value_t = 24, requires = "out")]
    pub pictures: usize,
}

impl Arguments {
    pub(super) fn limit(&self) -> Option<usize> {
        self.limit.and_then(|limit| usize::try_from(limit).ok())
    }

    /// Returns the noise and the plan of a trace. The plan states which hidden states to restore (`kinds`) at which
    /// tokens (`places`). The strength of the noise can depend on the subjects of `facts`.
    pub(super) fn rules(
        &self,
        base: &Base,
        facts: &[KnownFact],
        kinds: Vec<RestoredKind>,
        places: RestoredTokens,
    ) -> Result<(Noise, TracePlan), Failure> {
        let subjects: Vec<&str> = facts.iter().map(KnownFact::subject_text).collect();
        let noise = Noise::new(self.noise, &base.model, &base.tokens, &subjects, self.seed, usize::from(self.samples));
        let refused = |error: ModelError| Failure::from(Diagnostic::new(Code::TraceRefused, error.to_string()));
        let usual = TracePlan::default_window(base.model.spec().layers);
        let window = self.window.map_or(usual, usize::from);
        Ok((noise.map_err(refused)?, TracePlan { kinds, window, severed: self.severed_noise, places }))
    }
}

/// An item of `--layers`: one layer, or an inclusive range of layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Layers(pub std::ops::RangeInclusive<usize>);

impl std::str::FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            part.parse::<u16>()
                .map(usize::from)
                .map_err(|_| "expected a layer or a range of layers: 3 or 2-5".to_owned())
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        if first <= last {
            Ok(Self(first..=last))
        } else {
            Err(format!("the first layer {first} is greater than the last layer {last}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_numbers_or_ranges() {
        assert_eq!("3".parse(), Ok(Layers(3..=3)));
        assert_eq!("2-5".parse(), Ok(Layers(2..=5)));
        for wrong in ["", "-", "5-2", "a", "1-2-3", "99999", "-1"] {
            assert!(wrong.parse::<Layers>().is_err(), "{wrong}");
        }
    }
}
