//! A fact: what is to be said of a subject, and what is to hold beside it.

use std::ops::Range;

use jiff::civil::Date;

use super::sources::FileId;
use crate::digest::{Canon, Digest};

/// Where a prompt takes its subject. Nothing else in a prompt is special.
pub const PLACEHOLDER: &str = "{}";

/// What should hold of the patched model beside the edit itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expect {
    /// Prompts, written out, that should give the target too.
    pub paraphrase: Vec<String>,
    /// Prompts, written out, whose answer should stay as it is.
    pub unchanged: Vec<String>,
    /// Answers that count as the target wherever it is asked for.
    pub accept: Vec<String>,
    /// The least P of the target behind the edit's own prompt.
    pub min_probability: Option<f64>,
    /// The share of the paraphrases that must hold; all where nothing is said.
    pub min_paraphrase: Option<f64>,
    /// The divergence from which one of `unchanged` counts as changed, in nats.
    pub unchanged_kl: Option<f64>,
}

/// Where an edit and its texts are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: FileId,
    /// The id.
    pub id: Range<usize>,
    /// The subject.
    pub subject: Range<usize>,
    /// The prompt.
    pub prompt: Range<usize>,
    /// Whether it is said in a chat, if written.
    pub chat: Option<Range<usize>>,
    /// The target.
    pub target: Range<usize>,
    /// What was said before, if written.
    pub was: Option<Range<usize>>,
    /// From `[[edit]]` to the end of the last value.
    pub entry: Range<usize>,
    /// Each alias.
    pub aliases: Vec<Range<usize>>,
    /// The day from which the edit is out of date, if written.
    pub expires: Option<Range<usize>>,
    /// Each expected paraphrase.
    pub paraphrase: Vec<Range<usize>>,
    /// Each prompt expected to stay unchanged.
    pub unchanged: Vec<Range<usize>>,
    /// Each accepted answer.
    pub accept: Vec<Range<usize>>,
    /// The status, if written.
    pub status: Option<Range<usize>>,
}

/// One fact to change.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// Its stable name, unique in the project.
    pub id: String,
    /// Who or what it is about.
    pub subject: String,
    /// Other names of the subject; the fact is true of each of them.
    pub aliases: Vec<String>,
    /// The sentence up to the answer, with `{}` for the subject.
    pub prompt: String,
    /// Whether a user says the prompt, and those that are expected, under the model's chat template.
    pub chat: bool,
    /// The answer that the model should give.
    pub target: String,
    /// The answer that it gives so far.
    pub was: Option<String>,
    /// Why the fact is changed.
    pub reason: Option<String>,
    /// Where it can be checked.
    pub source: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Where it was discussed.
    pub ticket: Option<String>,
    /// The day from which the fact must be looked at again.
    pub expires: Option<Date>,
    /// Why it is parked, if it is: a parked fact is kept in review and is no part of the set.
    pub parked: Option<String>,
    /// What should hold beside it.
    pub expect: Expect,
    /// Where it is written.
    pub place: Place,
}

impl Edit {
    /// The prompt around the placeholder. A set only holds prompts that have one.
    fn halves(&self) -> (&str, &str) {
        self.prompt.split_once(PLACEHOLDER).unwrap_or((&self.prompt, ""))
    }

    /// The prompt with the subject in its place.
    pub fn filled_prompt(&self) -> String {
        self.filled_with(&self.subject)
    }

    /// The edit under one of its names, for people: its id, and the alias if it is one.
    pub fn label(&self, name: &str) -> String {
        if name == self.subject { self.id.clone() } else { format!("{} as {name:?}", self.id) }
    }

    /// The prompt with another name in the subject's place.
    pub fn filled_with(&self, name: &str) -> String {
        let (before, after) = self.halves();
        [before, name, after].concat()
    }

    /// The prompt up to the subject.
    pub fn head(&self) -> &str {
        self.halves().0
    }

    /// The words on which the key of one of its names depends: those that the model reads up to the subject's end.
    pub fn words_to_key(&self, name: &str) -> String {
        words_to_key(&self.prompt, name)
    }

    /// The names of the subject, each with its place: the subject itself, then its aliases.
    pub fn names(&self) -> impl Iterator<Item = (&str, &Range<usize>)> {
        let aliases = self.aliases.iter().map(String::as_str).zip(&self.place.aliases);
        std::iter::once((self.subject.as_str(), &self.place.subject)).chain(aliases)
    }

    /// The bytes of the filled prompt that are the subject.
    pub fn subject_range(&self) -> Range<usize> {
        let start = self.halves().0.len();
        start..start + self.subject.len()
    }

    /// The digest of what the weights depend on: subject, prompt and target, and whether they are said in a chat.
    pub fn meaning(&self) -> Digest {
        self.meaning_of(&self.subject)
    }

    /// The same for one of its names: an alias means what an edit of that subject would mean.
    pub fn meaning_of(&self, name: &str) -> Digest {
        meaning(name, &self.prompt, &self.target, self.chat)
    }

    /// The answers that count as the target: the target first.
    pub fn answers(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.target.as_str()).chain(self.expect.accept.iter().map(String::as_str))
    }

    /// The digest of what is tested: the old answer and the expectations.
    pub fn expectation(&self) -> Digest {
        let mut canon = Canon::new("edit-expectation/1");
        canon.texts("was", self.was.as_deref().into_iter());
        canon.texts("paraphrase", self.expect.paraphrase.iter().map(String::as_str));
        canon.texts("unchanged", self.expect.unchanged.iter().map(String::as_str));
        canon.texts("accept", self.expect.accept.iter().map(String::as_str));
        let Expect { min_probability, min_paraphrase, unchanged_kl, .. } = self.expect;
        let numbers =
            [("min-probability", min_probability), ("min-paraphrase", min_paraphrase), ("unchanged-kl", unchanged_kl)];
        for (name, number) in numbers {
            // No number is no text, which differs from any number.
            canon.texts(name, number.map(|number| number.to_string()).as_deref().into_iter());
        }
        canon.finish()
    }

    /// The digest of what people keep beside a fact: id, reason, source, owner and ticket.
    pub fn record(&self) -> Digest {
        let mut canon = Canon::new("edit-record/1");
        canon.text("id", &self.id);
        let fields =
            [("reason", &self.reason), ("source", &self.source), ("owner", &self.owner), ("ticket", &self.ticket)];
        for (name, value) in fields {
            // An absent text is an empty list, so that it differs from an empty text.
            canon.texts(name, value.as_deref().into_iter());
        }
        canon.texts("expires", self.expires.map(|day| day.to_string()).as_deref().into_iter());
        canon.finish()
    }

    /// Every field as it is written, in the order in which people write them; a list of one for a single text.
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
        ]
    }
}

/// The words up to the end of the subject. Edits that share them have one key: of two such facts one can be had.
pub fn words_to_key(prompt: &str, subject: &str) -> String {
    let head = prompt.split_once(PLACEHOLDER).map_or(prompt, |(head, _)| head);
    [head, subject].concat()
}

/// The digest of what the weights depend on.
pub fn meaning(subject: &str, prompt: &str, target: &str, chat: bool) -> Digest {
    let mut canon = Canon::new("edit-meaning/1");
    canon.text("subject", subject).text("prompt", prompt).text("target", target);
    // What is said in no chat means what it meant before there were any.
    if chat {
        canon.number("chat", 1);
    }
    canon.finish()
}
