//! Defines an edit (a fact that the model should state) and its digests.

use std::ops::Range;

use jiff::civil::Date;
use schemars::JsonSchema;

use super::consequence::{Consequence, ConsequenceSpans};
use crate::diagnostics::FileId;
use crate::digest::{Digest, FieldHasher};
use crate::project::edits::end::EndMark;
use crate::project::edits::says::SaysRule;

/// The placeholder for the subject in a prompt. All other characters of a prompt are read literally.
pub const PLACEHOLDER: &str = "{}";

/// The expectations that `test` checks in addition to the answer to the edit's prompt.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(rename = "ExpectTable", title = "expectations", deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expect {
    /// Full prompts, without `{}`, after which the model should also give the target.
    #[schemars(default, length(max = 256), inner(length(min = 1, max = 4096), regex(pattern = r"\S")))]
    pub paraphrase: Vec<String>,
    /// Full prompts about other facts, after which the model's answer should not change: the neighbour prompts of the
    /// edit.
    #[schemars(default, length(max = 256), inner(length(min = 1, max = 4096), regex(pattern = r"\S")))]
    pub unchanged: Vec<String>,
    /// Answers that count as correct in addition to the target, for all prompts of the edit.
    #[schemars(default, length(max = 256), inner(length(min = 1, max = 4096), regex(pattern = r"\S")))]
    pub accept: Vec<String>,
    /// The minimum probability of the target after the prompt of the edit.
    #[schemars(range(min = 0, max = 1))]
    pub min_probability: Option<f64>,
    /// The minimum share of paraphrases to which the model gives the target; all paraphrases by default.
    #[schemars(range(min = 0, max = 1))]
    pub min_paraphrase: Option<f64>,
    /// The KL divergence between the next-token distributions of base and patched model, in nats, at or above which the
    /// answer to a prompt in `unchanged` counts as changed.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub unchanged_kl: Option<f64>,
    /// The rule by which the text that the model generates after the prompts of the edit is judged. If it is set,
    /// generated text decides about this edit, whatever `by` under `[test]` says. `contains` is the default if
    /// `never-says` is set.
    pub says: Option<SaysRule>,
    /// Answers that the generated text must not contain; by default the old answer `was`.
    #[schemars(length(max = 256), inner(length(min = 1, max = 4096), regex(pattern = r"\S")))]
    pub never_says: Option<Vec<String>>,
    /// Prompts whose answers follow from the edit. They are reported, and do not fail a test unless a limit is set.
    #[schemars(default, length(max = 256))]
    pub consequence: Vec<Consequence>,
}

/// The byte ranges in `file` of an edit and of its values, for error messages. The range of a string includes the
/// quotes. A list has one range per item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditSpans {
    pub file: FileId,
    pub id: Range<usize>,
    pub subject: Range<usize>,
    pub prompt: Range<usize>,
    pub chat: Option<Range<usize>>,
    pub target: Range<usize>,
    pub was: Option<Range<usize>>,
    /// The whole `[[edit]]` table, from its header to the end of its last value.
    pub entry: Range<usize>,
    pub aliases: Vec<Range<usize>>,
    pub expires: Option<Range<usize>>,
    pub paraphrase: Vec<Range<usize>>,
    pub unchanged: Vec<Range<usize>>,
    pub accept: Vec<Range<usize>>,
    pub consequence: Vec<ConsequenceSpans>,
    pub status: Option<Range<usize>>,
}

/// A fact that the model should state: one `[[edit]]` table of an edit file.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// The id that identifies the edit in locks and reports; unique in the project.
    pub id: String,
    pub subject: String,
    /// Other names of the subject. The edit is compiled once more for each alias.
    pub aliases: Vec<String>,
    /// The text up to the answer, with `{}` for the subject.
    pub prompt: String,
    /// Whether the prompts of the edit are user messages, to which the model's chat template is applied; false by
    /// default.
    pub chat: bool,
    /// The answer that the model should give after the edit.
    pub target: String,
    /// What the model should give directly after the target; `None` if `end` under `[rome]` decides.
    pub end: Option<EndMark>,
    /// The answer that the base gives before the edit; `None` if the edit does not state it.
    pub was: Option<String>,
    pub reason: Option<String>,
    /// A source in which the fact can be checked.
    pub source: Option<String>,
    /// The person or team that is responsible for the fact.
    pub owner: Option<String>,
    /// The ticket in which the change was discussed.
    pub ticket: Option<String>,
    /// The day on which the edit expires and must be reviewed again.
    pub expires: Option<Date>,
    /// The reason why the edit is parked, that is, checked but not built; `None` for an edit that is built.
    pub parked: Option<String>,
    pub expect: Expect,
    pub spans: EditSpans,
}

impl Edit {
    /// Returns the parts of the prompt before and after the placeholder `{}`.
    fn prompt_parts(&self) -> (&str, &str) {
        self.prompt.split_once(PLACEHOLDER).unwrap_or((&self.prompt, ""))
    }

    pub fn filled_prompt(&self) -> String {
        self.filled_with(&self.subject)
    }

    /// Returns the text that names the edit in messages: the id, followed by `as` and `name` if `name` is an alias.
    pub fn label(&self, name: &str) -> String {
        if name == self.subject { self.id.clone() } else { format!("{} as {name:?}", self.id) }
    }

    /// Returns the prompt with the placeholder `{}` replaced by `name`.
    pub fn filled_with(&self, name: &str) -> String {
        let (before, after) = self.prompt_parts();
        [before, name, after].concat()
    }

    pub fn before_subject(&self) -> &str {
        self.prompt_parts().0
    }

    /// Returns the prompt up to the end of the subject or alias `name`. The MLP key of the edit for this name depends
    /// on this text.
    pub fn words_to_key(&self, name: &str) -> String {
        words_to_key(&self.prompt, name)
    }

    /// Returns the subject and its aliases, each with its byte range in the edit file.
    pub fn names(&self) -> impl Iterator<Item = (&str, &Range<usize>)> {
        let aliases = self.aliases.iter().map(String::as_str).zip(&self.spans.aliases);
        std::iter::once((self.subject.as_str(), &self.spans.subject)).chain(aliases)
    }

    /// Returns the byte range of the subject in the text that [`Edit::filled_prompt`] returns.
    pub fn subject_range(&self) -> Range<usize> {
        let start = self.prompt_parts().0.len();
        start..start + self.subject.len()
    }

    /// Returns the digest of all fields that determine the weights: subject, prompt, target, `chat` and `end`.
    pub fn meaning(&self) -> Digest {
        self.meaning_of(&self.subject)
    }

    /// Returns the same digest as [`Edit::meaning`], but with the subject or alias `name` as the subject.
    pub fn meaning_of(&self, name: &str) -> Digest {
        meaning(name, &self.prompt, &self.target, (self.chat, self.end))
    }

    /// Returns the answers that count as correct: the target first, then those in `expect.accept`.
    pub fn answers(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.target.as_str()).chain(self.expect.accept.iter().map(String::as_str))
    }

    /// Returns the digest of the old answer and the expectations. `test` reads these fields, but they do not influence
    /// the weights.
    pub fn expectation(&self) -> Digest {
        let mut canon = FieldHasher::new("edit-expectation/1");
        canon.texts("was", self.was.as_deref().into_iter());
        canon.texts("paraphrase", self.expect.paraphrase.iter().map(String::as_str));
        canon.texts("unchanged", self.expect.unchanged.iter().map(String::as_str));
        canon.texts("accept", self.expect.accept.iter().map(String::as_str));
        let Expect { min_probability, min_paraphrase, unchanged_kl, .. } = self.expect;
        let numbers =
            [("min-probability", min_probability), ("min-paraphrase", min_paraphrase), ("unchanged-kl", unchanged_kl)];
        for (name, number) in numbers {
            // A missing number is hashed as an empty list, whose hash differs from that of any number.
            canon.texts(name, number.map(|number| number.to_string()).as_deref().into_iter());
        }
        // These fields are only hashed if they are set, so that digests from before they existed stay valid.
        if let Some(rule) = self.expect.says {
            canon.text("says", rule.as_str());
        }
        if let Some(never) = &self.expect.never_says {
            canon.texts("never-says", never.iter().map(String::as_str));
        }
        // Without consequences, nothing is added, so that digests from before this field existed stay valid.
        if !self.expect.consequence.is_empty() {
            canon.number("consequences", self.expect.consequence.len() as u64);
            self.expect.consequence.iter().for_each(|consequence| consequence.describe(&mut canon));
        }
        canon.finish()
    }

    /// Returns the digest of the documentation of a fact: id, reason, source, owner, ticket and expiry date.
    pub fn record(&self) -> Digest {
        let mut canon = FieldHasher::new("edit-record/1");
        canon.text("id", &self.id);
        let fields =
            [("reason", &self.reason), ("source", &self.source), ("owner", &self.owner), ("ticket", &self.ticket)];
        for (name, value) in fields {
            // A missing text is hashed as an empty list, whose hash differs from that of an empty text.
            canon.texts(name, value.as_deref().into_iter());
        }
        canon.texts("expires", self.expires.map(|day| day.to_string()).as_deref().into_iter());
        canon.finish()
    }

    /// Returns the name and the texts of every field except the id, in the order in which reports list them. A field
    /// that is not set has no texts.
    pub fn fields(&self) -> Vec<(&'static str, Vec<String>)> {
        let one = |text: &Option<String>| text.iter().cloned().collect::<Vec<_>>();
        let number = |number: Option<f64>| number.iter().map(f64::to_string).collect::<Vec<_>>();
        let expect = &self.expect;
        vec![
            ("subject", vec![self.subject.clone()]),
            ("aliases", self.aliases.clone()),
            ("prompt", vec![self.prompt.clone()]),
            ("chat", if self.chat { vec![true.to_string()] } else { Vec::new() }),
            ("target", vec![self.target.clone()]),
            ("end", self.end.iter().map(|end| end.as_str().to_owned()).collect()),
            ("was", one(&self.was)),
            ("reason", one(&self.reason)),
            ("source", one(&self.source)),
            ("owner", one(&self.owner)),
            ("ticket", one(&self.ticket)),
            ("expires", self.expires.iter().map(Date::to_string).collect()),
            ("status", self.parked.iter().map(|why| format!("parked: {why}")).collect()),
            ("expect.paraphrase", expect.paraphrase.clone()),
            ("expect.unchanged", expect.unchanged.clone()),
            ("expect.accept", expect.accept.clone()),
            ("expect.min-probability", number(expect.min_probability)),
            ("expect.min-paraphrase", number(expect.min_paraphrase)),
            ("expect.unchanged-kl", number(expect.unchanged_kl)),
            ("expect.says", expect.says.iter().map(|rule| rule.as_str().to_owned()).collect()),
            ("expect.never-says", expect.never_says.clone().unwrap_or_default()),
            ("expect.consequence", expect.consequence.iter().map(Consequence::shown).collect()),
        ]
    }
}

/// Returns the prompt up to the end of the subject. If this text and `chat` are equal for two edits, their MLP keys are
/// equal too, unless the tokenizer merges the end of a subject with the letters that follow.
pub fn words_to_key(prompt: &str, subject: &str) -> String {
    let head = prompt.split_once(PLACEHOLDER).map_or(prompt, |(head, _)| head);
    [head, subject].concat()
}

/// Returns the digest of the fields of an edit that determine the weights: subject, prompt, target, `chat` and `end`.
pub fn meaning(subject: &str, prompt: &str, target: &str, (chat, end): (bool, Option<EndMark>)) -> Digest {
    let mut canon = FieldHasher::new("edit-meaning/1");
    canon.text("subject", subject).text("prompt", prompt).text("target", target);
    // `chat` and `end` are only hashed if they are set, so that digests from before these fields existed stay valid.
    if chat {
        canon.number("chat", 1);
    }
    if let Some(end) = end {
        canon.text("end", end.as_str());
    }
    canon.finish()
}
