//! Runs the prompts of a project's edits and probes on two models, and checks the answers.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ask::{Inquiry, PredictionPair, TextPair, ask};
use super::continuation::{ContinuationOptions, continuations};
use super::said::{SAID_TOKENS, SaidText, first_sentence};
use crate::behaviour::PromptKind;
use crate::diagnostics::FileId;
use crate::model::{Model, ModelError, Prompt, Tokens};
use crate::progress::NoProgress;
use crate::project::edits::consequence::{Consequence, ConsequenceSpans};
use crate::project::{Edit, JudgedBy, Prefaces, Probe, SaysRule, TestConfig};

/// The settings with which the texts that are judged are generated: greedily, at most 50 tokens.
pub const SAID: ContinuationOptions = ContinuationOptions { tokens: SAID_TOKENS, seed: None };

/// A prompt with its accepted answers, or with the expectation that the next token stays unchanged.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation<'p> {
    pub kind: PromptKind,
    /// The id of the edit or of the probe that states the expectation.
    pub id: &'p str,
    /// The edit that states the expectation; `None` if a probe states it.
    pub edit: Option<&'p Edit>,
    /// The consequence that states the expectation, with its byte ranges; `None` for any other kind of prompt.
    pub consequence: Option<(&'p Consequence, &'p ConsequenceSpans)>,
    /// The prompt with the subject filled in. It starts with a preface if the subject would otherwise be at an
    /// attention sink.
    pub prompt: String,
    /// The length in bytes of the preface at the start of `prompt`; 0 without a preface. A preface is a text that
    /// avoids an attention sink.
    pub preface: usize,
    /// Whether the prompt is a user message, to which the model's chat template is applied.
    pub chat: bool,
    /// The accepted answers, the target first; empty if the next token should stay unchanged.
    pub answers: Vec<&'p str>,
    /// The rule for the text that the model generates after the prompt, if this text decides whether the expectation is
    /// met; `None` if the probabilities decide.
    pub says: Option<SaysRule>,
    /// Whether the prompt is only reported and not checked, for example because a probe has `unchanged = false`.
    pub report_only: bool,
    /// The file that states the expectation, for diagnostics.
    pub file: FileId,
    /// The byte range of the prompt in `file`.
    pub span: Range<usize>,
}

/// The default thresholds of a project. An edit can set its own thresholds, which take precedence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// The KL divergence in nats at or above which the next token counts as changed.
    pub unchanged_kl: f64,
    /// The minimum probability of the target after the prompt of the edit.
    pub min_probability: f64,
}

/// A prompt that cannot be run, or for which a model's logits are not finite.
#[derive(Debug)]
pub struct UnrunnablePrompt {
    /// The id of the edit or of the probe that states the prompt.
    pub id: String,
    /// The file that states the prompt, for diagnostics.
    pub file: FileId,
    /// The byte range of the prompt in `file`.
    pub span: Range<usize>,
    /// The reason: an error of the tokenizer or the chat template, a prompt that exceeds the context length, or logits
    /// that overflow.
    pub error: ModelError,
}

/// Returns the expectations of all edits, and then of all probes. The conditions of the consequences are not checked
/// (see [`unmet_conditions`](super::condition::unmet_conditions)). If a subject or an alias needs a preface (a text that
/// avoids an attention sink), the preface is put before the edit's prompt, and before each paraphrase that starts with
/// this subject or alias.
pub fn expectations<'p>(edits: &[&'p Edit], probes: &'p [Probe], prefaces: &Prefaces) -> Vec<Expectation<'p>> {
    edits.iter().flat_map(|edit| of_edit(edit, prefaces)).chain(probes.iter().map(of_probe)).collect()
}

fn of_edit<'p>(edit: &'p Edit, prefaces: &Prefaces) -> Vec<Expectation<'p>> {
    let mut list = Vec::new();
    for (index, (name, span)) in edit.names().enumerate() {
        let (kind, span) = if index == 0 { (PromptKind::Edit, &edit.spans.prompt) } else { (PromptKind::Alias, span) };
        list.push(expectation(edit, kind, prefaces.of(edit, name), &edit.filled_with(name), span));
    }
    for (prompt, span) in edit.expect.paraphrase.iter().zip(&edit.spans.paraphrase) {
        list.push(expectation(edit, PromptKind::Paraphrase, prefaces.of_prompt(edit, prompt), prompt, span));
    }
    for (prompt, span) in edit.expect.unchanged.iter().zip(&edit.spans.unchanged) {
        list.push(expectation(edit, PromptKind::Unchanged, "", prompt, span));
    }
    list.extend(edit.expect.consequence.iter().zip(&edit.spans.consequence).map(|(consequence, spans)| {
        let preface = prefaces.of_prompt(edit, &consequence.prompt);
        let asked = expectation(edit, PromptKind::Consequence, preface, &consequence.prompt, &spans.prompt);
        let answers = consequence.answers().collect();
        Expectation { answers, consequence: Some((consequence, spans)), ..asked }
    }));
    list
}

/// Creates an expectation of an edit. The list of accepted answers is empty for [`PromptKind::Unchanged`], because the
/// next token should stay the same.
fn expectation<'p>(
    edit: &'p Edit,
    kind: PromptKind,
    preface: &str,
    prompt: &str,
    span: &Range<usize>,
) -> Expectation<'p> {
    Expectation {
        kind,
        id: &edit.id,
        edit: Some(edit),
        consequence: None,
        prompt: [preface, prompt].concat(),
        preface: preface.len(),
        chat: edit.chat,
        answers: if kind == PromptKind::Unchanged { Vec::new() } else { edit.answers().collect() },
        says: None,
        report_only: false,
        file: edit.spans.file,
        span: span.clone(),
    }
}

fn of_probe(probe: &Probe) -> Expectation<'_> {
    let (id, prompt) = (probe.id.as_str(), probe.prompt.clone());
    Expectation {
        kind: PromptKind::Probe,
        id,
        edit: None,
        consequence: None,
        prompt,
        preface: 0,
        chat: probe.chat,
        answers: Vec::new(),
        says: None,
        report_only: !probe.unchanged,
        file: probe.file,
        span: probe.place.clone(),
    }
}

impl Expectation<'_> {
    /// Combines the prompt and the `chat` flag into the input of the tokenizer.
    pub fn model_input(&self) -> Prompt<'_> {
        Prompt { text: &self.prompt, chat: self.chat }
    }

    /// Formats the prompt for messages. A chat prompt is shown after `user:`. A preface (a text that avoids an
    /// attention sink) is shown separately from the prompt.
    pub fn display_prompt(&self) -> String {
        match self.prompt.split_at(self.preface) {
            (_, prompt) if self.chat => format!("user: {prompt}"),
            ("", prompt) => prompt.to_owned(),
            (preface, prompt) => format!("after {preface:?}: {prompt}"),
        }
    }

    fn unrunnable(&self, error: ModelError) -> UnrunnablePrompt {
        UnrunnablePrompt { id: self.id.to_owned(), file: self.file, span: self.span.clone(), error }
    }

    /// Returns whether the later model meets the expectation. If the edit that states the expectation sets a threshold,
    /// this threshold takes precedence over `thresholds`.
    pub fn is_met(&self, pair: &PredictionPair, thresholds: Thresholds) -> bool {
        let own = self.edit.map(|edit| &edit.expect);
        if let (Some(rule), Some(texts)) = (self.says, &pair.texts) {
            return self.is_said(rule, texts) && self.is_within(pair, thresholds);
        }
        match self.kind {
            PromptKind::Edit => {
                let least = own.and_then(|own| own.min_probability).unwrap_or(thresholds.min_probability);
                pair.after.holds() && pair.after.probability().is_some_and(|found| found >= least)
            }
            PromptKind::Alias | PromptKind::Paraphrase | PromptKind::Consequence => pair.after.holds(),
            PromptKind::Unchanged | PromptKind::Probe => self.stays(pair, thresholds),
        }
    }

    /// Returns whether both models have the same top token and the divergence is below the threshold.
    fn stays(&self, pair: &PredictionPair, thresholds: Thresholds) -> bool {
        let own = self.edit.and_then(|edit| edit.expect.unchanged_kl);
        let top = |prediction: &[(u32, f64)]| prediction.first().map(|(token, _)| *token);
        top(&pair.before.top) == top(&pair.after.top) && pair.divergence < own.unwrap_or(thresholds.unchanged_kl)
    }

    /// Returns whether the numbers of a prompt whose text decides are within their limits: the divergence of a prompt
    /// that should stay unchanged, and the minimum probability of an edit, if there is one.
    pub fn is_within(&self, pair: &PredictionPair, thresholds: Thresholds) -> bool {
        match self.kind {
            PromptKind::Unchanged | PromptKind::Probe => self.stays(pair, thresholds),
            PromptKind::Edit => {
                let own = self.edit.and_then(|edit| edit.expect.min_probability);
                pair.after.probability().unwrap_or(0.0) >= own.unwrap_or(thresholds.min_probability)
            }
            PromptKind::Alias | PromptKind::Paraphrase | PromptKind::Consequence => true,
        }
    }

    /// Returns whether the text of the later model meets the rule. If the answer should stay unchanged, the first
    /// sentences of both texts must be equal.
    pub fn is_said(&self, rule: SaysRule, texts: &TextPair) -> bool {
        if self.answers.is_empty() {
            return first_sentence(&texts.before, &[]) == first_sentence(&texts.after, &[]);
        }
        self.said(&texts.after).meets(rule)
    }

    /// Judges a text that a model generates after the prompt.
    pub fn said(&self, text: &str) -> SaidText {
        SaidText::judge(text, &self.answers, &self.never_says(), self.chat)
    }

    /// Returns the answers that the model should not give any more: those of `expect.never-says`, by default `was`.
    fn never_says(&self) -> Vec<&str> {
        // The old answer of the edit may be right for a consequence, and for a prompt that should stay unchanged.
        let is_own = self.kind != PromptKind::Consequence && !self.answers.is_empty();
        let Some(edit) = self.edit.filter(|_| is_own) else { return Vec::new() };
        match &edit.expect.never_says {
            Some(never) => never.iter().map(String::as_str).collect(),
            None => edit.was.as_deref().into_iter().collect(),
        }
    }

    /// Lets the generated text decide if the edit or `[test]` says so.
    #[must_use]
    pub fn judged_by(self, test: &TestConfig) -> Self {
        let own = self.edit.map(|edit| &edit.expect);
        let stated = own.and_then(|own| own.says.or(own.never_says.as_ref().map(|_| SaysRule::Contains)));
        let of_test = test.by == Some(JudgedBy::Generation);
        let says = stated.or(of_test.then_some(test.says.unwrap_or(SaysRule::Contains)));
        // The rule of an edit is about its answers. Prompts that should stay unchanged follow `[test]`.
        let says = if self.answers.is_empty() && !of_test { None } else { says };
        Self { says, ..self }
    }
}

/// Runs every expectation on both models, without a cache, and returns the predictions in the order of `expectations`.
///
/// # Errors
/// If prompts cannot be tokenized or exceed the context; the error lists all of them. If the logits of a model are not
/// finite for a prompt; the error has only the first of these prompts.
pub fn ask_expectations(
    before: &Model,
    after: &Model,
    tokens: &Tokens,
    expectations: &[Expectation<'_>],
) -> Result<Vec<PredictionPair>, Vec<UnrunnablePrompt>> {
    let inquiries = inquiries(tokens, before.spec().max_positions, expectations)?;
    let mut pairs = check_finite_answers(ask(before, after, &inquiries), expectations)?;
    let decided: Vec<usize> = (0..expectations.len()).filter(|index| expectations[*index].says.is_some()).collect();
    let rows: Vec<&[u32]> = decided.iter().map(|index| inquiries[*index].prompt()).collect();
    let texts = |model: &Model| {
        continuations(model, tokens, &rows, SAID, &NoProgress)
            .map_err(|error| vec![expectations[decided[0]].unrunnable(error)])
    };
    let (was, is) = (texts(before)?, texts(after)?);
    for (index, (earlier, later)) in decided.iter().zip(was.into_iter().zip(is)) {
        pairs[*index].texts = Some(TextPair { before: earlier, after: later });
    }
    Ok(pairs)
}

/// Tokenizes the expectations, and returns one [`Inquiry`] per expectation. `limit` is the context length in tokens.
///
/// # Errors
/// If prompts cannot be tokenized or exceed the context; the error lists all of them.
pub fn inquiries(
    tokens: &Tokens,
    limit: usize,
    expectations: &[Expectation<'_>],
) -> Result<Vec<Inquiry>, Vec<UnrunnablePrompt>> {
    let (mut inquiries, mut unrunnable) = (Vec::new(), Vec::new());
    for one in expectations {
        match Inquiry::new(tokens, one.model_input(), one.answers.iter().copied(), limit) {
            Ok(inquiry) => inquiries.push(inquiry),
            Err(error) => unrunnable.push(one.unrunnable(error)),
        }
    }
    if unrunnable.is_empty() { Ok(inquiries) } else { Err(unrunnable) }
}

/// The maximum number of prompts that are run and cached together, which bounds the logits in memory.
const MAX_GROUP: usize = 16;

/// Splits the prompts into groups, so that the predictions of one group can be cached together. A group contains up to
/// 16 prompts of the same edit or probe.
pub fn groups<'i>(inquiries: &'i [Inquiry], expectations: &[Expectation<'_>]) -> Vec<&'i [Inquiry]> {
    let (mut groups, mut rest) = (Vec::new(), inquiries);
    let of = |one: &Expectation<'_>| (one.edit.is_some(), one.id.to_owned(), one.file);
    for group in expectations.chunk_by(|a, b| of(a) == of(b)) {
        let (own, later) = rest.split_at(group.len());
        groups.extend(own.chunks(MAX_GROUP));
        rest = later;
    }
    groups
}

/// Returns `pairs` unchanged if all numbers in them are finite.
///
/// # Errors
/// If the logits of a model are not finite for a prompt; the error has only the first of these prompts.
pub fn check_finite_answers(
    pairs: Vec<PredictionPair>,
    expectations: &[Expectation<'_>],
) -> Result<Vec<PredictionPair>, Vec<UnrunnablePrompt>> {
    match pairs.iter().position(|pair| !pair.is_finite()) {
        Some(index) => Err(vec![expectations[index].unrunnable(ModelError::Overflow)]),
        None => Ok(pairs),
    }
}

/// The number of expectations that are met, and the number of all expectations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    pub met: usize,
    /// The number of all expectations, met or not.
    pub all: usize,
}

impl Share {
    fn count(&mut self, met: bool) {
        self.all += 1;
        self.met += usize::from(met);
    }

    /// Returns `met / all`, between 0 and 1; 1 if there are no expectations.
    pub fn value(self) -> f64 {
        if self.all == 0 { 1.0 } else { self.met as f64 / self.all as f64 }
    }
}

/// The results over all expectations of a set of edits and probes: the share of met expectations per kind of prompt,
/// and the largest KL divergence of a neighbour prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SetFigures {
    /// The share of met expectations over the prompts of all edits, including the prompts in which an alias replaces
    /// the subject.
    pub efficacy: Share,
    pub paraphrase: Share,
    /// The share of consequences that hold, among the consequences that are asked.
    pub consequence: Share,
    /// The share of neighbour prompts whose next token stays unchanged: those of `expect.unchanged`, and probes with
    /// `unchanged = true`.
    pub unchanged: Share,
    /// The largest KL divergence of a neighbour prompt, in nats; NaN if any of these divergences is NaN.
    pub neighbourhood_kl: f64,
    /// The shares of the generated texts; `None` if no text was generated.
    pub said: Option<SaidFigures>,
}

/// The shares of generated texts over all expectations whose texts were generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaidFigures {
    /// The prompts of edits, and those with an alias, after which the text is exactly an accepted answer.
    pub exact: Share,
    /// The same prompts, after which the text contains an accepted answer.
    pub contains: Share,
    /// The paraphrases after which the text contains an accepted answer.
    pub paraphrase: Share,
    /// The neighbour prompts after which both models generate the same text.
    pub same: Share,
    /// The prompts with a target after which the text of the later model repeats itself.
    pub repeats: Share,
}

impl SaidFigures {
    fn add(&mut self, one: &Expectation<'_>, texts: &TextPair) {
        let said = one.said(&texts.after);
        match one.kind {
            PromptKind::Edit | PromptKind::Alias => {
                self.exact.count(said.exact);
                self.contains.count(said.contains && !said.forbidden);
            }
            PromptKind::Paraphrase => self.paraphrase.count(said.contains && !said.forbidden),
            PromptKind::Unchanged | PromptKind::Probe => self.same.count(texts.before == texts.after),
            // Consequences have their own share, by the rule that decides.
            PromptKind::Consequence => return,
        }
        if !one.answers.is_empty() {
            self.repeats.count(said.repeats);
        }
    }
}

impl SetFigures {
    /// Computes the share of met expectations of each kind, and the largest KL divergence of a neighbour prompt. Probes
    /// with `unchanged = false` are left out.
    pub fn of<'a>(
        answered: impl IntoIterator<Item = (&'a Expectation<'a>, &'a PredictionPair)>,
        thresholds: Thresholds,
    ) -> Self {
        let mut figures = Self::default();
        for (one, pair) in answered {
            let met = one.is_met(pair, thresholds);
            if let Some(texts) = pair.texts.as_ref().filter(|_| !one.report_only) {
                figures.said.get_or_insert_default().add(one, texts);
            }
            match one.kind {
                PromptKind::Edit | PromptKind::Alias => figures.efficacy.count(met),
                PromptKind::Paraphrase => figures.paraphrase.count(met),
                PromptKind::Consequence => figures.consequence.count(met),
                PromptKind::Probe if one.report_only => {}
                PromptKind::Unchanged | PromptKind::Probe => {
                    figures.unchanged.count(met);
                    // `>` is false for NaN, which must count as the maximum.
                    if pair.divergence > figures.neighbourhood_kl || pair.divergence.is_nan() {
                        figures.neighbourhood_kl = pair.divergence;
                    }
                }
            }
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::super::AnswerScore;
    use super::super::ask::Prediction;
    use super::*;
    use crate::project::parse_files;

    fn pair(holds: bool, probability: f64, top: u32, divergence: f64) -> PredictionPair {
        let prediction = |token, held| Prediction {
            top: vec![(token, 0.5)],
            scores: vec![AnswerScore { holds: held, probability, nll: -probability.ln() }],
        };
        PredictionPair { before: prediction(1, false), after: prediction(top, holds), divergence, texts: None }
    }

    #[test]
    fn expectations_of_an_edit_and_when_they_are_met() {
        let text = "format = 1\n[[edit]]\nid = \"a\"\nsubject = \"A\"\naliases = [\"AA\"]\nprompt = \"{} is\"\ntarget = \"b\"\n\
            [edit.expect]\nparaphrase = [\"A was\"]\nunchanged = [\"C is\"]\naccept = [\"bb\"]\nunchanged-kl = 0.3\n\
            min-probability = 0.4\n[[edit.expect.consequence]]\nprompt = \"A's home is\"\nanswer = \"c\"\naccept = [\"cc\"]\n\
            kind = \"hop\"\n";
        let set = parse_files(vec![("a.toml".into(), text.into())]).expect("valid edits").0;
        let edits: Vec<&Edit> = set.edits.iter().collect();
        let file = edits[0].spans.file;
        let probe =
            |unchanged| Probe { id: "p".into(), prompt: "D is".into(), unchanged, chat: false, file, place: 0..1 };
        let probes = [probe(true), probe(false)];
        let list = expectations(&edits, &probes, &Prefaces::default());
        let kinds: Vec<_> =
            list.iter().map(|one| (one.kind.as_str(), one.prompt.as_str(), one.answers.len())).collect();
        assert_eq!(
            kinds,
            [
                ("edit", "A is", 2),
                ("alias", "AA is", 2),
                ("paraphrase", "A was", 2),
                ("unchanged", "C is", 0),
                ("consequence", "A's home is", 2),
                ("probe", "D is", 0),
                ("probe", "D is", 0)
            ]
        );
        let prefaces: Prefaces = [("a", "A", "\n")].into_iter().collect();
        let after: Vec<String> = expectations(&edits, &[], &prefaces).iter().map(Expectation::display_prompt).collect();
        assert_eq!(
            after,
            ["after \"\\n\": A is", "AA is", "after \"\\n\": A was", "C is", "after \"\\n\": A's home is"]
        );
        let thresholds = Thresholds { unchanged_kl: 0.1, min_probability: 0.0 };
        let met = |index: usize, pair| list[index].is_met(&pair, thresholds);
        assert!(
            met(0, pair(true, 0.5, 2, 9.0)) && !met(0, pair(true, 0.3, 2, 9.0)) && !met(0, pair(false, 0.9, 2, 9.0))
        );
        assert!(met(1, pair(true, 0.1, 2, 9.0)) && !met(2, pair(false, 0.4, 2, 9.0)));
        assert!(
            met(3, pair(false, 0.0, 1, 0.2)) && !met(3, pair(false, 0.0, 2, 0.2)) && !met(3, pair(false, 0.0, 1, 0.3))
        );
        assert_eq!(list[4].answers, ["c", "cc"]);
        assert!(met(4, pair(true, 0.1, 2, 9.0)) && !met(4, pair(false, 0.9, 1, 0.0)));
        assert!(!met(5, pair(false, 0.0, 1, 0.2)), "the threshold of an edit does not apply to probes");
        let pairs: Vec<_> =
            (0..7).map(|index| pair(index != 2, 0.5, if index == 6 { 2 } else { 1 }, 0.05 * index as f64)).collect();
        let figures = SetFigures::of(list.iter().zip(&pairs), thresholds);
        assert_eq!((figures.efficacy, figures.paraphrase), (Share { met: 2, all: 2 }, Share { met: 0, all: 1 }));
        assert_eq!((figures.unchanged, figures.consequence), (Share { met: 1, all: 2 }, Share { met: 1, all: 1 }));
        assert!((figures.neighbourhood_kl - 0.25).abs() < 1e-12);
        assert_eq!(Share::default().value(), 1.0);
    }
}
