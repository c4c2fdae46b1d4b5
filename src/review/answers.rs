//! Converts model predictions to the answer rows of a report: token ids become text, byte ranges become lines.

use crate::behaviour::ask::{Prediction, PredictionPair};
use crate::behaviour::expectation::Expectation;
use crate::diagnostics::{Place, Sources};
use crate::model::Tokens;
use crate::report::{Answer, SideAnswer, Token, Verdict};

/// The judgement of an expectation.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// The verdict; `None` if the expectation is not judged.
    pub verdict: Option<Verdict>,
    /// What the expectation requires, if it fails although the answer itself is right.
    pub requirement: Option<String>,
}

/// Builds the report row of one expectation.
pub fn answer(
    tokens: &Tokens,
    sources: &Sources,
    one: &Expectation<'_>,
    pair: &PredictionPair,
    Judgement { verdict, requirement }: Judgement,
) -> Answer {
    Answer {
        asked: one.kind,
        id: one.id.to_owned(),
        prompt: one.display_prompt(),
        target: one.answers.first().map(|target| (*target).to_owned()),
        before: side_answer(tokens, &pair.before),
        after: side_answer(tokens, &pair.after),
        divergence: pair.divergence,
        verdict,
        requirement,
        place: Some(Place::new(one.file, &one.span, sources)),
    }
}

/// Converts one model's answer to the type of the report; `holds` is `None` if no answer is expected.
pub fn side_answer(tokens: &Tokens, prediction: &Prediction) -> SideAnswer {
    let token = |&(id, probability): &(u32, f64)| Token { text: tokens.piece(id), probability };
    SideAnswer {
        top: prediction.top.iter().map(token).collect(),
        probability: prediction.probability(),
        holds: (!prediction.scores.is_empty()).then(|| prediction.holds()),
    }
}
