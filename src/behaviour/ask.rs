//! Prompts and wanted answers put to two models at once.

use super::{Next, Question, Score, answer_score, prompt};
use crate::model::{Model, ModelError, Prompt, Tokens};

/// How many of the likeliest tokens are kept.
pub const TOP: usize = 3;
/// Rows whose logits are held at once: bounds memory and changes nothing.
const HELD: usize = 32;

/// A prompt, and the answers that count behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    prompt: Vec<u32>,
    answers: Vec<Question>,
}

/// What one model says.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The likeliest next tokens and their probabilities, the likeliest first.
    pub top: Vec<(u32, f64)>,
    /// One score per answer, in their order.
    pub scores: Vec<Score>,
}

/// What both say.
#[derive(Clone, Debug, PartialEq)]
pub struct Both {
    /// The earlier model.
    pub before: Told,
    /// The later model.
    pub after: Told,
    /// KL(before ‖ after) of the next token, in nats.
    pub divergence: f64,
}

impl Told {
    /// Whether one of the answers holds.
    pub fn holds(&self) -> bool {
        self.scores.iter().any(|score| score.holds)
    }

    /// Whether all of it is numbers.
    fn is_finite(&self) -> bool {
        let mut numbers = self.top.iter().map(|(_, p)| *p).chain(self.scores.iter().map(|score| score.nll));
        numbers.all(f64::is_finite)
    }

    /// P of the likeliest of the answers.
    pub fn probability(&self) -> Option<f64> {
        self.scores.iter().map(|score| score.probability).max_by(f64::total_cmp)
    }
}

impl Both {
    /// Whether both say something: weights that are numbers may make none together.
    pub fn is_finite(&self) -> bool {
        self.before.is_finite() && self.after.is_finite() && self.divergence.is_finite()
    }
}

impl Inquiry {
    /// Cuts a prompt and its answers.
    ///
    /// # Errors
    /// The tokenizer refuses a text, or one does not fit the model's context of `limit` tokens.
    pub fn new<'t>(
        tokens: &Tokens,
        text: Prompt<'_>,
        answers: impl IntoIterator<Item = &'t str>,
        limit: usize,
    ) -> Result<Self, ModelError> {
        let answers = answers.into_iter().map(|answer| Question::new(tokens, text, answer, limit));
        Ok(Self { prompt: prompt(tokens, text, limit)?, answers: answers.collect::<Result<_, _>>()? })
    }

    /// The rows to run and how many of their last positions are wanted: the prompt stands in each of them.
    fn rows(&self) -> Vec<(&[u32], usize)> {
        if self.answers.is_empty() {
            return vec![(&self.prompt, 1)];
        }
        self.answers.iter().map(|question| (question.row.as_slice(), question.answer.len())).collect()
    }
}

/// What the earlier model says to inquiries, for one later model after the other.
pub struct Before(Vec<(Told, Next)>);

impl Before {
    /// Asks the earlier model.
    pub fn of(model: &Model, inquiries: &[Inquiry]) -> Self {
        Self(batches(inquiries).flat_map(|some| tell(model, some)).collect())
    }

    /// Numbers that are kept.
    pub fn numbers(&self) -> usize {
        self.0.iter().map(|(_, next)| next.numbers()).sum()
    }

    /// What both models say to the same inquiries, in their order.
    pub fn against(&self, after: &Model, inquiries: &[Inquiry]) -> Vec<Both> {
        let now = batches(inquiries).flat_map(|some| tell(after, some));
        self.0.iter().zip(now).map(|((before, was), (after, is))| both(before.clone(), was, after, &is)).collect()
    }
}

fn both(before: Told, was: &Next, after: Told, is: &Next) -> Both {
    Both { divergence: was.divergence(is), before, after }
}

/// Puts everything to both models, in its order.
pub fn ask(before: &Model, after: &Model, inquiries: &[Inquiry]) -> Vec<Both> {
    let told = |some: &[Inquiry]| tell(before, some).into_iter().zip(tell(after, some)).collect::<Vec<_>>();
    let told = batches(inquiries).flat_map(told);
    told.map(|((before, was), (after, is))| both(before, &was, after, &is)).collect()
}

/// Inquiries in their order, as many at a time as have [`HELD`] rows: one at least, however many answers it has.
fn batches(inquiries: &[Inquiry]) -> impl Iterator<Item = &[Inquiry]> {
    let mut rest = inquiries;
    std::iter::from_fn(move || {
        let mut rows = 0;
        let fits = |one: &&Inquiry| {
            rows += one.answers.len().max(1);
            rows <= HELD
        };
        let (some, later) = rest.split_at(rest.iter().take_while(fits).count().max(1).min(rest.len()));
        rest = later;
        (!some.is_empty()).then_some(some)
    })
}

fn tell(model: &Model, inquiries: &[Inquiry]) -> Vec<(Told, Next)> {
    let rows: Vec<(&[u32], usize)> = inquiries.iter().flat_map(Inquiry::rows).collect();
    let (tokens, tails): (Vec<&[u32]>, Vec<usize>) = rows.into_iter().unzip();
    let mut logits = model.logits(&tokens, &tails).into_iter();
    let vocabulary = model.spec().vocabulary;
    let told = |inquiry: &Inquiry| {
        let mut scores = Vec::with_capacity(inquiry.answers.len());
        let mut next = None;
        for index in 0..inquiry.answers.len().max(1) {
            let logits = logits.next().expect("logits for every row");
            // Whatever answer follows, the first of these positions is the end of the prompt.
            next.get_or_insert_with(|| Next::new(logits[..vocabulary].to_vec()));
            if let Some(question) = inquiry.answers.get(index) {
                scores.push(answer_score(logits, question, vocabulary));
            }
        }
        let next = next.expect("a row for every inquiry");
        (Told { top: next.likeliest(TOP), scores }, next)
    };
    inquiries.iter().map(told).collect()
}
