//! Computes the shares of generated texts that say the answer, as in the evaluation WILD (Yang et al. 2025): greedy
//! decoding, at most 50 tokens, the first sentence counts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::behaviour::continuation::continuations;
use crate::behaviour::expectation::SAID;
use crate::behaviour::prompt;
use crate::behaviour::said::{SaidText, first_sentence};
use crate::model::{Model, ModelError, Tokens};
use crate::numeric::Mean;
use crate::progress::Progress;
use crate::research::bench::data::Case;

/// How a prompt of a record is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SaidForm {
    /// The prompt as the record states it
    Plain,
    /// As a question: "Please answer the question:", "Q: PROMPT", "A:", as in WILD
    Qa,
}

impl SaidForm {
    fn text(self, prefix: &str, prompt: &str) -> String {
        match self {
            Self::Plain => format!("{prefix}{prompt}"),
            Self::Qa => format!("{prefix}Please answer the question:\n\nQ: {prompt}\nA:"),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Qa => "qa",
        }
    }
}

/// The shares of the generated texts of one record that say the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SaidMetrics {
    /// Whether the first sentence after the edited prompt is exactly the answer: 1 or 0.
    pub exact: f64,
    /// Whether the first sentence after the edited prompt contains the answer as whole words: 1 or 0.
    pub contains: f64,
    /// The share of paraphrases after which the first sentence contains the answer; `None` without paraphrases.
    pub paraphrase: Option<f64>,
    /// The share of neighbours after which the first sentence contains their own answer; `None` without neighbours.
    pub neighbour: Option<f64>,
    /// The share of neighbours whose first sentence is that of the base; `None` without neighbours.
    pub same: Option<f64>,
    /// Whether the text after the edited prompt repeats the answer or ends in a repeated phrase: 1 or 0.
    pub repeats: f64,
}

/// The texts after the prompts of a record: the edited prompt, the paraphrases, and the neighbours.
pub type CaseTexts = Vec<String>;

/// Generates the texts of records with a model, with the text `prefix` before every prompt. Prompts of several records
/// are generated in one batch. Reports the number of finished prompts to `progress`.
///
/// # Errors
/// If the tokenizer rejects a prompt, a prompt is longer than the context, or the logits are not finite.
pub fn texts(
    model: &Model,
    tokens: &Tokens,
    cases: &[&Case],
    (form, prefix): (SaidForm, &str),
    progress: &dyn Progress,
) -> Result<Vec<CaseTexts>, ModelError> {
    let limit = model.spec().max_positions;
    let ids = |text: String| prompt(tokens, form.text(prefix, &text).as_str().into(), limit);
    let rows: Vec<Vec<u32>> = cases.iter().flat_map(|case| prompts(case)).map(ids).collect::<Result<_, _>>()?;
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let mut found = continuations(model, tokens, &rows, SAID, progress)?.into_iter();
    Ok(cases.iter().map(|case| found.by_ref().take(prompts(case).len()).collect()).collect())
}

/// Returns the prompts of a record after which texts are generated.
pub fn prompts(case: &Case) -> Vec<String> {
    let neighbours = case.neighbours.iter().map(|one| &one.prompt);
    std::iter::once(case.filled()).chain(case.paraphrases.iter().chain(neighbours).cloned()).collect()
}

/// Judges the texts of a record. `of_base` are the texts of the unedited base.
pub fn judge(case: &Case, texts: &[String], of_base: &[String]) -> SaidMetrics {
    let share = |flags: Vec<bool>| {
        (!flags.is_empty()).then(|| flags.iter().filter(|flag| **flag).count() as f64 / flags.len() as f64)
    };
    let says = |text: &str, answer: &str| SaidText::judge(text, &[answer], &[], false);
    let own = says(&texts[0], &case.target);
    let (paraphrases, neighbours) = texts[1..].split_at(case.paraphrases.len());
    let of_neighbour = neighbours.iter().zip(&case.neighbours);
    let same = neighbours.iter().zip(&of_base[1 + case.paraphrases.len()..]);
    SaidMetrics {
        exact: f64::from(u8::from(own.exact)),
        contains: f64::from(u8::from(own.contains)),
        paraphrase: share(paraphrases.iter().map(|text| says(text, &case.target).contains).collect()),
        neighbour: share(of_neighbour.map(|(text, one)| says(text, &one.answer).contains).collect()),
        same: share(same.map(|(one, other)| first_sentence(one, &[]) == first_sentence(other, &[])).collect()),
        repeats: f64::from(u8::from(own.repeats)),
    }
}

/// The names of the columns, in the order of [`means`].
pub const COLUMNS: [&str; 6] =
    ["said exactly", "said", "said, paraphrase", "said, neighbour", "same neighbour", "repeats"];

/// Returns the mean of each column over the records; a column counts only the records that have it.
pub fn means(measured: &[SaidMetrics]) -> [Mean; 6] {
    let mean = |number: &dyn Fn(&SaidMetrics) -> Option<f64>| {
        Mean::of_population(&measured.iter().filter_map(number).collect::<Vec<_>>())
    };
    [
        mean(&|one| Some(one.exact)),
        mean(&|one| Some(one.contains)),
        mean(&|one| one.paraphrase),
        mean(&|one| one.neighbour),
        mean(&|one| one.same),
        mean(&|one| Some(one.repeats)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::research::bench::data::Neighbour;

    #[test]
    fn texts_are_judged_by_their_own_answers() {
        let neighbour = |answer: &str| Neighbour { prompt: "Berlin is in".into(), answer: answer.into() };
        let case = Case {
            subject: "Paris".into(),
            prompt: "{} is in".into(),
            target: "Peru".into(),
            was: Some("France".into()),
            paraphrases: vec!["Where is Paris? In".into(), "Paris lies in".into()],
            neighbours: vec![neighbour("Germany"), neighbour("Prussia")],
            ..Case::default()
        };
        let texts = |all: [&str; 5]| all.map(str::to_owned).to_vec();
        let said = judge(
            &case,
            &texts([" Peru.", " Peru, they say", " Chile", " Germany", " Germany. Or not"]),
            &texts(["", "", "", " Germany", " Germany"]),
        );
        let wanted = SaidMetrics {
            exact: 1.0,
            contains: 1.0,
            paraphrase: Some(0.5),
            neighbour: Some(0.5),
            same: Some(1.0),
            repeats: 0.0,
        };
        assert_eq!(said, wanted);
        assert_eq!(means(&[said, SaidMetrics::default()])[0].value, 0.5);
        assert_eq!(means(&[said, SaidMetrics::default()])[2].count, 1);
        assert!(SaidForm::Qa.text("", "Who?").ends_with("Q: Who?\nA:"));
    }
}
