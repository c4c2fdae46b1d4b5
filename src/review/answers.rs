//! Converts model predictions to the answers in a report: token ids become texts, and the byte range of a prompt in its
//! file becomes a line number.

use crate::behaviour::ask::{Prediction, PredictionPair, TextPair};
use crate::behaviour::expectation::Expectation;
use crate::diagnostics::{Place, Sources};
use crate::model::Tokens;
use crate::report::{Answer, SaidPair, SideAnswer, Token, Verdict};

/// The verdict on one expectation, and the requirement that a right answer misses.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// The verdict; `None` if the expectation is not checked, for example because a probe has `unchanged = false`.
    pub verdict: Option<Verdict>,
    /// The requirement that a right answer misses, for example a minimum probability. `None` if the answer is wrong, if
    /// it misses no requirement, or if no finding reports the miss.
    pub requirement: Option<String>,
}

/// Creates the entry of one expectation in the report, from the predictions of both models and the judgement.
pub fn answer(
    tokens: &Tokens,
    sources: &Sources,
    one: &Expectation<'_>,
    pair: &PredictionPair,
    Judgement { verdict, requirement }: Judgement,
) -> Answer {
    Answer {
        asked: one.kind,
        consequence: one.consequence.map(|(consequence, _)| consequence.kind),
        id: one.id.to_owned(),
        prompt: one.display_prompt(),
        target: one.answers.first().map(|target| (*target).to_owned()),
        before: side_answer(tokens, &pair.before),
        after: side_answer(tokens, &pair.after),
        divergence: pair.divergence,
        said: pair.texts.as_ref().map(|texts| said(one, texts)),
        verdict,
        requirement,
        place: Some(Place::new(one.file, &one.span, sources)),
    }
}

/// Judges the texts of both models by the answers of the expectation.
fn said(one: &Expectation<'_>, texts: &TextPair) -> SaidPair {
    SaidPair {
        before: one.said(&texts.before),
        after: one.said(&texts.after),
        same: texts.before == texts.after,
        rule: one.says,
    }
}

/// Converts the prediction of one model to the form of the report. The field `holds` of the result is `None` if the
/// prompt has no accepted answers.
pub fn side_answer(tokens: &Tokens, prediction: &Prediction) -> SideAnswer {
    let token = |&(id, probability): &(u32, f64)| Token { text: tokens.piece(id), probability };
    SideAnswer {
        top: prediction.top.iter().map(token).collect(),
        probability: prediction.probability(),
        holds: (!prediction.scores.is_empty()).then(|| prediction.holds()),
    }
}
